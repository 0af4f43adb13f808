//! The controls that are asked: the one named, or all of the mesh on this machine. Who does not answer is named.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::future::join_all;
use isthmus_scenarios::admin;
use serde::{Serialize, de::DeserializeOwned};

use crate::{args::Place, reach::Reach};

/// A control answers at once, or it is stuck; the others' answers must not wait for it.
pub const LIMIT: Duration = Duration::from_secs(3);

pub use crate::reach::Control;

/// Those that are asked, in the mesh's order.
#[derive(Debug)]
pub struct Controls(pub Vec<Control>);

/// One that did not answer.
#[derive(Clone, Debug, Serialize)]
pub struct Silent {
    /// Its cluster.
    pub cluster: String,
    /// Why.
    pub why: String,
}

/// What they said.
#[derive(Debug)]
pub struct Answers<T> {
    /// By cluster, in the mesh's order.
    pub said: Vec<(String, T)>,
    /// Those that said nothing.
    pub silent: Vec<Silent>,
}

impl Controls {
    /// # Errors
    /// As [`Reach::controls`].
    pub async fn of(reach: &Reach, place: &Place) -> Result<Self> {
        Ok(Self(reach.controls(place).await?))
    }

    /// All that can be asked, though something is done or taken back at one place alone; those of a control that is named by
    /// its address are not known.
    ///
    /// # Errors
    /// As [`Reach::controls`].
    pub async fn all(reach: &Reach, place: &Place) -> Result<Self> {
        let everywhere = Place::default();
        Self::of(reach, if place.control.is_some() { place } else { &everywhere }).await
    }

    /// Asks all of them at once.
    ///
    /// # Errors
    /// When none answers.
    pub async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<Answers<T>> {
        let asked = join_all(self.0.iter().map(|control| read(control, path))).await;
        let mut answers = Answers { said: vec![], silent: vec![] };
        for (control, answer) in self.0.iter().zip(asked) {
            let cluster = control.name.clone();
            match answer {
                Ok(said) => answers.said.push((cluster, said)),
                Err(why) => answers.silent.push(Silent { cluster, why: format!("{why:#}") }),
            }
        }
        if answers.said.is_empty() {
            bail!(nobody(&answers.silent));
        }
        Ok(answers)
    }
}

async fn read<T: DeserializeOwned>(control: &Control, path: &str) -> Result<T> {
    let answer = tokio::time::timeout(LIMIT, admin::read(control.admin, path));
    let answer = answer.await.with_context(|| format!("nothing came within {LIMIT:?}"))??;
    serde_json::from_value(answer).context("its answer is none that this release knows; it may be of another")
}

/// That none of them answered, with why of the first.
pub fn nobody(silent: &[Silent]) -> String {
    let why = silent.first().map_or_else(String::new, |one| format!("{}: {}; ", one.cluster, one.why));
    format!("no control answers ({why}`isthmus status` says what runs)")
}

/// A line for each that did not answer.
pub fn told(silent: &[Silent]) -> String {
    let line = |one: &Silent| format!("! the control of {} does not answer: {}\n", one.cluster, one.why);
    silent.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_does_not_answer_is_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let controls = Controls(vec![Control { name: "eu".into(), admin: free }]);
        let said = controls.ask::<Vec<u8>>("/api/verbs").await.unwrap_err().to_string();
        assert!(said.starts_with("no control answers (eu: ") && said.contains("isthmus status"), "{said}");
        let silent = [Silent { cluster: "eu".into(), why: "refused".into() }];
        assert_eq!(told(&silent), "! the control of eu does not answer: refused\n");
    }
}
