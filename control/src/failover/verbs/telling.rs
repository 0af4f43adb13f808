//! What becomes of verbs, as the history tells it.

use isthmus_core::{failover::verb::Ended, name::ClusterName, resource::duration::written};

use super::Counted;
use crate::failover::history::{Event, VERB};

/// What became of one.
pub(super) enum Tale<'a> {
    /// It is in force from now on, or is known and binds nothing `here`.
    Began {
        /// The own cluster.
        here: &'a ClusterName,
    },
    /// As its writer says.
    Ended,
    /// By the own count.
    Over,
    /// The same was done again.
    Replaced,
    /// Its writer says it no more, and has not said why: that was too long ago.
    Unsaid,
    /// Its writer is no member any more.
    Left,
    /// A drill that this cluster stopped for itself.
    GivenUp(&'a str),
}

pub(super) fn tell(one: &Counted, tale: &Tale<'_>, at_ms: u64) -> Event {
    let writer = &one.writer;
    let did = format!("{} at {writer}", one.verb.by);
    let reason = one.verb.reason.clone();
    let (what, why, by) = match tale {
        Tale::Began { .. } if one.binds => (format!("began for {}", written(one.verb.lasts)), reason, did),
        Tale::Began { here } => {
            let free = format!("{writer} is none of the operators of {here}");
            let why = if reason.is_empty() { free } else { format!("{reason} ({free})") };
            (format!("began for {}, but not here", written(one.verb.lasts)), why, did)
        }
        Tale::Ended => ended(one.verb.ended.as_ref(), writer),
        Tale::Over => ("its time was over".into(), String::new(), String::new()),
        Tale::Replaced => ("replaced".into(), "the same was done again".into(), String::new()),
        Tale::Unsaid => ("ended".into(), format!("{writer} does not say it any more"), String::new()),
        Tale::Left => ("ended".into(), format!("{writer} is no member any more"), String::new()),
        Tale::GivenUp(why) => ("given up".into(), (*why).to_owned(), did),
    };
    Event { at_ms, kind: VERB.into(), of: one.verb.deed.to_string(), what, why, by }
}

fn ended(ended: Option<&Ended>, writer: &ClusterName) -> (String, String, String) {
    match ended {
        Some(Ended { by: Some(by), reason }) => ("taken back".into(), reason.clone(), format!("{by} at {writer}")),
        _ => ("its time was over".into(), String::new(), String::new()),
    }
}
