//! A state as it is stored and sent: not what the log made, but what it made it of. Reading it plays everything again
//! through the same checks, so a snapshot can hold nothing that the log would have refused, whoever sends it.

use serde::{Deserialize, Serialize};

use super::{Answer, Blob, Command, State, said};

/// What a state is made of.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Evidence {
    /// Every change of the membership, in order.
    deeds: Vec<Command>,
    /// Every statement in force, and the ends that older ones must not pass.
    statements: Vec<Blob>,
}

impl From<State> for Evidence {
    fn from(state: State) -> Self {
        let statements = state.said.values().flat_map(said::Said::blobs).cloned().collect();
        Self { deeds: state.deeds, statements }
    }
}

impl TryFrom<Evidence> for State {
    type Error = String;

    fn try_from(evidence: Evidence) -> Result<Self, String> {
        let mut state = Self::default();
        for deed in evidence.deeds {
            let told = deed.to_string();
            match state.apply(deed) {
                (Answer::Refused(reason), _) => {
                    return Err(format!("{told} does not follow from what is before it: {reason}"));
                }
                (Answer::Done, changes) if changes.is_empty() => return Err(format!("{told} changes nothing")),
                (Answer::Done, _) => {}
            }
        }
        for blob in &evidence.statements {
            if state.say(std::slice::from_ref(blob)).is_empty() {
                let whose = said::decode(blob)
                    .map_or_else(|| "unreadable".into(), |said| format!("{} of {}", said.key, said.cluster));
                return Err(format!("a statement in it is not signed by its cluster, or not in force: {whose}"));
            }
        }
        Ok(state)
    }
}

impl State {
    /// Whether this state can come after `before`: the membership's history goes on from there and no cluster's word
    /// goes back.
    ///
    /// # Errors
    /// What of `before` is missing.
    pub fn follows(&self, before: &Self) -> Result<(), String> {
        if self.deeds.len() < before.deeds.len() {
            let (here, there) = (self.deeds.len(), before.deeds.len());
            return Err(format!("it has {here} changes of the membership, but there were {there} already"));
        }
        self.agrees_with(&before.deeds)?;
        for (cluster, older) in &before.said {
            let members = before.member(cluster).zip(self.member(cluster));
            let speaks = members.is_some_and(|(was, is)| was.federation_key == is.federation_key && !is.ejected);
            if speaks && !self.said.get(cluster).is_some_and(|said| said.is_as_new_as(older)) {
                return Err(format!("what {cluster} said goes back"));
            }
        }
        Ok(())
    }

    /// Whether the membership's history here and in `deeds` is the same, as far as both go.
    ///
    /// # Errors
    /// Where they part.
    pub fn agrees_with(&self, deeds: &[Command]) -> Result<(), String> {
        match self.deeds.iter().zip(deeds).position(|(held, known)| held != known) {
            Some(at) => Err(format!("change {} of the membership is not the one this member knows", at + 1)),
            None => Ok(()),
        }
    }
}
