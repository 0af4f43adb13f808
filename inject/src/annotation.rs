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
    words::{INJECT, ISTIO_INJECT, ISTIO_REVISION, ISTIO_TEMPLATES, OWN, STATUS},
};

/// Whatever is of Istio's domain or ours and is not read is reported, but for what only Istio's own tools look at.
const ISTIO: &str = "istio.io";
const OF_TOOLS: [&str; 3] = ["galley.istio.io/", "operator.istio.io/", "install.operator.istio.io/"];
/// Read elsewhere: whether there is a sidecar at all, and what was added.
const ELSEWHERE: [&str; 5] = [INJECT, ISTIO_INJECT, STATUS, ISTIO_REVISION, ISTIO_TEMPLATES];
/// Labels that are read: whether there is a sidecar at all, and by the sidecar itself, what metrics call it.
const LABELS: [&str; 5] =
    [INJECT, ISTIO_INJECT, ISTIO_REVISION, "service.istio.io/canonical-name", "service.istio.io/canonical-revision"];
/// Where a pod is, in words of Istio's that have no domain.
const ISTIO_LOCALITY: &str = "istio-locality";

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
    labels: BTreeMap<&'a str, &'a str>,
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
        let (all, labels) = (pod.annotations(), pod.labels());
        Self { all, labels, seen: BTreeSet::new(), problems: Vec::new(), warnings: Vec::new() }
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

    /// Reports what is said to a mesh and was not read, labels too. To be called when all has been.
    pub fn report_unread(&mut self) {
        let is_read = |name: &str| self.seen.contains(name) || ELSEWHERE.contains(&name);
        let annotations = self.all.keys().filter(|name| is_for_a_mesh(name) && !is_read(name));
        let labels = self.labels.keys().filter(|name| is_for_a_mesh(name) && !LABELS.contains(name));
        let said = |what: &str, name: &str| format!("{what} {name} is not honoured by this mesh");
        let annotations = annotations.map(|name| said("annotation", name));
        let unread: Vec<_> = annotations.chain(labels.map(|name| said("label", name))).collect();
        self.warnings.extend(unread);
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

/// Whether a label or an annotation is Istio's or ours by its domain.
fn is_for_a_mesh(name: &str) -> bool {
    let domain = name.split_once('/').map(|(domain, _)| domain);
    let is_istios =
        domain.and_then(|domain| domain.strip_suffix(ISTIO)).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let is_of_tools = OF_TOOLS.iter().any(|prefix| name.starts_with(prefix));
    name.starts_with(OWN) || name == ISTIO_LOCALITY || (is_istios && !is_of_tools)
}
