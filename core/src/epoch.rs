//! A book of what one cluster said: the highest version wins, whichever way it came (DESIGN.md decision 12).
//!
//! A version is (epoch, number). An epoch begins with its full set of keys: what an older epoch said under a key that
//! is not in the set is gone, what it said under one that is stays until the new epoch says it anew. A key that is gone
//! is remembered with its version, so that an older statement that comes late does not bring it back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::statement::{Content, Version};

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is what the cluster says now.
    Applied,
    /// Something as new or newer is known.
    Stale,
}

/// What the writer of a statement does with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said<T> {
    /// Says this.
    Value(T),
    /// Takes it back.
    Gone,
    /// Begins an epoch; these are all the keys it holds.
    Epoch(Vec<String>),
}

/// What one cluster said, by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book<T = Content> {
    entries: BTreeMap<String, (Version, Option<T>)>,
    /// The version of the last epoch's beginning.
    epoch: Version,
    /// The keys of that beginning.
    keys: Vec<String>,
}

impl<T> Default for Book<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), epoch: Version::default(), keys: vec![] }
    }
}

impl<T> Book<T> {
    /// Takes a statement of the book's cluster, already verified.
    pub fn offer(&mut self, key: &str, version: Version, said: Said<T>) -> Outcome {
        match said {
            Said::Epoch(keys) => self.begin(version, keys),
            Said::Value(value) => self.set(key, version, Some(value)),
            Said::Gone => self.set(key, version, None),
        }
    }

    fn set(&mut self, key: &str, version: Version, value: Option<T>) -> Outcome {
        let known = self.entries.get(key).map(|(known, _)| *known);
        // Said before an epoch that no longer lists the key.
        let overtaken = version.epoch < self.epoch.epoch && !self.keys.iter().any(|listed| listed == key);
        if overtaken || known.is_some_and(|known| known >= version) {
            return Outcome::Stale;
        }
        self.entries.insert(key.to_owned(), (version, value));
        Outcome::Applied
    }

    fn begin(&mut self, version: Version, keys: Vec<String>) -> Outcome {
        if version <= self.epoch {
            return Outcome::Stale;
        }
        self.entries.retain(|key, (said, _)| said.epoch >= version.epoch || keys.contains(key));
        self.epoch = version;
        self.keys = keys;
        Outcome::Applied
    }

    /// What is said under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&T> {
        self.entries.get(key).and_then(|(_, value)| value.as_ref())
    }

    /// The version under a key, of what is said or of its end.
    #[must_use]
    pub fn version(&self, key: &str) -> Option<Version> {
        if key == "epoch" {
            return (self.epoch != Version::default()).then_some(self.epoch);
        }
        self.entries.get(key).map(|(version, _)| *version)
    }

    /// All that is said now, in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Version, &T)> {
        self.entries.iter().filter_map(|(key, (version, value))| Some((key.as_str(), *version, value.as_ref()?)))
    }

    /// The highest version of anything in the book.
    #[must_use]
    pub fn highest(&self) -> Version {
        self.entries.values().map(|(version, _)| *version).max().unwrap_or_default().max(self.epoch)
    }
}

impl Book<Content> {
    /// Takes a statement by its content.
    pub fn apply(&mut self, version: Version, content: Content) -> Outcome {
        let key = content.key();
        match content {
            Content::Epoch { keys } => self.offer(&key, version, Said::Epoch(keys)),
            Content::Gone { .. } => self.offer(&key, version, Said::Gone),
            content => self.offer(&key, version, Said::Value(content)),
        }
    }
}

/// The epoch a writer begins with: one above the highest found on its disk, in its lease, and held under its name.
#[must_use]
pub fn next_epoch(found: impl IntoIterator<Item = u64>) -> u64 {
    found.into_iter().max().unwrap_or(0).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(epoch: u64, number: u64) -> Version {
        Version { epoch, number }
    }

    #[test]
    fn an_epoch_ends_what_it_does_not_list_and_late_words_of_older_ones_stay_unheard() {
        let mut book = Book::default();
        assert_eq!(book.offer("a", at(1, 1), Said::Value(1)), Outcome::Applied);
        assert_eq!(book.offer("b", at(1, 2), Said::Value(2)), Outcome::Applied);
        assert_eq!(book.offer("epoch", at(2, 1), Said::Epoch(vec!["a".into()])), Outcome::Applied);
        assert_eq!(book.get("a"), Some(&1));
        assert_eq!(book.get("b"), None);
        assert_eq!(book.offer("b", at(1, 9), Said::Value(9)), Outcome::Stale);
        assert_eq!(book.offer("a", at(2, 2), Said::Gone), Outcome::Applied);
        assert_eq!(book.offer("a", at(2, 1), Said::Value(7)), Outcome::Stale);
        assert_eq!(book.highest(), at(2, 2));
    }

    proptest! {
        /// Whatever the order of arrival, and however often, the book ends the same.
        #[test]
        fn the_order_of_arrival_does_not_matter(
            words in proptest::collection::vec((0u64..3, 0u64..20, 0usize..4), 1..30),
            seed in any::<u64>(),
        ) {
            // One writer: a version says one thing, and an epoch's beginning is the first word of its epoch.
            let mut statements: Vec<(String, Version, Said<u64>)> = vec![];
            for (epoch, number, kind) in words {
                let version = at(epoch + 1, number + 1);
                if statements.iter().any(|(_, known, _)| *known == version) { continue; }
                let key = ["a", "b", "c", "a"][kind].to_owned();
                let said = if kind == 3 { Said::Gone } else { Said::Value(number) };
                statements.push((key, version, said));
            }
            for epoch in 1..4 {
                statements.push(("epoch".into(), at(epoch, 0), Said::Epoch(vec!["a".into(), "c".into()])));
            }
            let play = |order: &[usize]| {
                let mut book = Book::default();
                for index in order {
                    let (key, version, said) = statements[*index].clone();
                    book.offer(&key, version, said);
                }
                let said: Vec<_> = book.iter().map(|(key, version, value)| (key.to_owned(), version, *value)).collect();
                said
            };
            let straight: Vec<usize> = (0..statements.len()).collect();
            let mut shuffled = straight.clone();
            fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
            prop_assert_eq!(play(&straight), play(&shuffled));
        }
    }
}
