//! How the API server answers. What goes wrong is said once, and once more when it is over: it may last for hours, and many
//! watches find out at the same time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use kube::runtime::watcher::{self, Event};

use crate::client::causes;

/// Shared by all watches.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// It does not answer: since that concerns every kind, it is said of none.
    is_away: bool,
    /// What it refuses, and why.
    refused: BTreeMap<String, String>,
}

/// What is worth a line in the log.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Away(String),
    Back,
    Refused(String),
    Granted,
}

impl Health {
    /// A watch of `what` failed.
    pub(super) fn failed(&self, what: &str, error: &watcher::Error) {
        let word = self.0.lock().unwrap_or_else(PoisonError::into_inner).failed(what, status(error), causes(error));
        say(what, word);
    }

    /// A watch of `what` has an event.
    pub(super) fn heard<K>(&self, what: &str, event: &Event<K>) {
        // That a list begins says nothing: it is said before the API server is asked for it.
        if matches!(event, Event::Init) {
            return;
        }
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner).heard(what);
        words.into_iter().for_each(|word| say(what, Some(word)));
    }
}

fn say(what: &str, word: Option<Word>) {
    match word {
        None => {}
        Some(Word::Away(reason)) => {
            tracing::warn!(reason, "the API server does not answer; what was in force stays, and it is asked again");
        }
        Some(Word::Back) => tracing::info!("the API server answers again"),
        Some(Word::Refused(reason)) => {
            tracing::warn!(what, reason, "the API server refuses to tell of them; what was in force stays");
        }
        Some(Word::Granted) => tracing::info!(what, "the API server tells of them again"),
    }
}

impl State {
    fn failed(&mut self, what: &str, status: Option<u16>, cause: String) -> Option<Word> {
        let Some(code) = status else {
            return (!std::mem::replace(&mut self.is_away, true)).then_some(Word::Away(cause));
        };
        let reason = match code {
            // Its history was compacted, or it asks for patience: kube lists anew, and later.
            410 | 429 => return None,
            401 => format!("{cause}; it does not know this process's token or certificate"),
            403 => format!("{cause}; the role of this service account needs `list` and `watch` of {what}"),
            _ => cause,
        };
        let before = self.refused.insert(what.to_owned(), reason.clone());
        (before.as_ref() != Some(&reason)).then_some(Word::Refused(reason))
    }

    fn heard(&mut self, what: &str) -> Vec<Word> {
        let back = std::mem::take(&mut self.is_away).then_some(Word::Back);
        let granted = self.refused.remove(what).map(|_| Word::Granted);
        back.into_iter().chain(granted).collect()
    }
}

fn status(error: &watcher::Error) -> Option<u16> {
    let of = |error: &kube::Error| match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    };
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => of(error),
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::NoResourceVersion => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_server_that_is_away_is_said_once_for_all_kinds() {
        let mut state = State::default();
        assert_eq!(state.failed("pods", None, "refused".into()), Some(Word::Away("refused".into())));
        assert_eq!(state.failed("nodes", None, "reset".into()), None);
        assert_eq!(state.failed("pods", None, "reset".into()), None);
        assert_eq!(state.heard("nodes"), [Word::Back]);
        assert!(state.heard("pods").is_empty());
        assert!(state.failed("pods", None, "reset".into()).is_some());
    }

    #[test]
    fn what_is_forbidden_is_said_of_its_kind_with_what_to_do() {
        let mut state = State::default();
        let Some(Word::Refused(reason)) = state.failed("pods", Some(403), "forbidden".into()) else { panic!() };
        assert!(reason.contains("`list` and `watch` of pods"), "{reason}");
        assert_eq!(state.failed("pods", Some(403), "forbidden".into()), None);
        assert!(state.heard("nodes").is_empty(), "nodes say nothing of pods");
        assert_eq!(state.heard("pods"), [Word::Granted]);
        assert_eq!(state.failed("pods", Some(410), "gone".into()), None, "a compacted history is listed anew");
    }
}
