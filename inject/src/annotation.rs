//! An annotation by our name or Istio's, and the problem with its value.
//!
//! Our name comes before Istio's: a pod that runs in both meshes, one after the other, can say both.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    str::FromStr,
};

use crate::{
    view::Pod,
    words::{INJECT, ISTIO_INJECT, OWN, STATUS},
};

/// Prefixes of annotations that are about the sidecar; whatever begins so and is not read is reported.
const ABOUT_SIDECARS: [&str; 4] = [OWN, "sidecar.istio.io/", "traffic.sidecar.istio.io/", "proxy.istio.io/"];
/// Read elsewhere: whether there is a sidecar at all, and what was added.
const ELSEWHERE: [&str; 3] = [INJECT, ISTIO_INJECT, STATUS];

/// An annotation's name after the prefix, which it has in common with Istio's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    istio: Option<&'static str>,
    name: &'static str,
}

impl Key {
    /// One that Istio has under `sidecar.istio.io/`.
    #[must_use]
    pub const fn sidecar(name: &'static str) -> Self {
        Self { istio: Some("sidecar.istio.io/"), name }
    }

    /// One that Istio has under `traffic.sidecar.istio.io/`.
    #[must_use]
    pub const fn traffic(name: &'static str) -> Self {
        Self { istio: Some("traffic.sidecar.istio.io/"), name }
    }

    /// One that Istio has as a field of `proxy.istio.io/config`.
    #[must_use]
    pub const fn own(name: &'static str) -> Self {
        Self { istio: None, name }
    }

    /// The whole names, ours first.
    fn names(self) -> impl Iterator<Item = String> {
        [Some(OWN), self.istio].into_iter().flatten().map(move |prefix| format!("{prefix}{}", self.name))
    }
}

/// An annotation whose value cannot be used. The pod is not injected: with half of its wishes it would do something
/// else than its owner believes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata.annotations[{key:?}]: {value:?} {reason}")]
pub struct Problem {
    /// The annotation.
    pub key: String,
    /// What it says.
    pub value: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// A pod's annotations while they are read: what was wrong with them is kept until all are.
#[derive(Debug)]
pub struct Annotations<'a> {
    all: BTreeMap<&'a str, &'a str>,
    seen: BTreeSet<String>,
    /// Values that cannot be used.
    pub problems: Vec<Problem>,
    /// What is not honoured, in a sentence each.
    pub warnings: Vec<String>,
}

impl<'a> Annotations<'a> {
    /// Those of a pod.
    #[must_use]
    pub fn of(pod: Pod<'a>) -> Self {
        Self { all: pod.annotations(), seen: BTreeSet::new(), problems: Vec::new(), warnings: Vec::new() }
    }

    /// What `key` says. A value that cannot be used becomes a problem, and is as if it were not there.
    pub fn read<T: FromStr<Err: Display>>(&mut self, key: Key) -> Option<T> {
        let (name, text) = self.find(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.push(Problem { key: name, value: text.to_owned(), reason: error.to_string() });
                None
            }
        }
    }

    /// Says that the value of `key` does not go together with something else.
    pub fn refuse(&mut self, key: Key, reason: String) {
        if let Some((key, value)) = self.find(key) {
            self.problems.push(Problem { key, value: value.to_owned(), reason });
        }
    }

    /// The text of an annotation by its whole name.
    pub fn text(&mut self, name: &str) -> Option<&'a str> {
        let text = self.all.get(name).copied()?;
        self.seen.insert(name.to_owned());
        Some(text)
    }

    /// Reports what is about sidecars and was not read. To be called when all has been.
    pub fn report_unread(&mut self) {
        let is_unread = |name: &str| {
            ABOUT_SIDECARS.iter().any(|prefix| name.starts_with(prefix))
                && !self.seen.contains(name)
                && !ELSEWHERE.contains(&name)
        };
        let unread: Vec<_> = self.all.keys().filter(|name| is_unread(name)).collect();
        self.warnings.extend(unread.iter().map(|name| format!("annotation {name} is not honoured by this mesh")));
    }

    fn find(&mut self, key: Key) -> Option<(String, &'a str)> {
        let mut found = None;
        for name in key.names() {
            if let Some(text) = self.text(&name) {
                found.get_or_insert((name, text));
            }
        }
        found
    }
}
