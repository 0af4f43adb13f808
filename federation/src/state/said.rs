//! What one cluster said, as the log keeps it: the last signed statement under each key, an end like any other, and
//! the one that began the epoch. So everything that is kept can be shown, and verified again.

use isthmus_core::{
    epoch::{self, Book, Outcome},
    statement::{Content, Version},
};
use isthmus_wire::{federation::SignedStatement, signing};
use prost::Message;

use super::Blob;

/// What one cluster said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    book: Book<Last>,
    epoch: Option<Blob>,
}

/// The last statement under a key.
#[derive(Clone, Debug, PartialEq)]
enum Last {
    /// It says this.
    Says(Blob),
    /// It ended what was said.
    Ended(Blob),
}

impl Last {
    fn blob(&self) -> &Blob {
        let (Self::Says(blob) | Self::Ended(blob)) = self;
        blob
    }
}

impl Said {
    /// Takes a statement that means `meant`.
    pub(super) fn offer(&mut self, statement: &SignedStatement, blob: &Blob, meant: epoch::Said<()>) -> Outcome {
        let version = version(statement);
        match meant {
            epoch::Said::Epoch(keys) => {
                let outcome = self.book.offer(&statement.key, version, epoch::Said::Epoch(keys));
                if outcome == Outcome::Applied {
                    self.epoch = Some(blob.clone());
                }
                outcome
            }
            epoch::Said::Value(()) => self.set(&statement.key, version, Last::Says(blob.clone())),
            epoch::Said::Gone => self.set(&statement.key, version, Last::Ended(blob.clone())),
        }
    }

    fn set(&mut self, key: &str, version: Version, last: Last) -> Outcome {
        self.book.offer(key, version, epoch::Said::Value(last))
    }

    /// Whether this, or something newer, is known under its key.
    pub(super) fn has(&self, statement: &SignedStatement) -> bool {
        self.book.version(&statement.key).is_some_and(|held| held >= version(statement))
    }

    /// The highest version of anything here.
    pub(super) fn highest(&self) -> Version {
        self.book.highest()
    }

    /// All that is kept, the epoch's beginning first.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.epoch.iter().chain(self.book.iter().map(|(_, _, last)| last.blob()))
    }

    /// What is in force.
    pub(super) fn in_force(&self) -> impl Iterator<Item = &Blob> {
        self.book.iter().filter_map(|(_, _, last)| match last {
            Last::Says(blob) => Some(blob),
            Last::Ended(_) => None,
        })
    }

    /// Whether everything here is as new as it is in `older`, or was ended by a newer epoch.
    pub(super) fn is_as_new_as(&self, older: &Self) -> bool {
        let epoch = |said: &Self| said.book.version("epoch").unwrap_or_default();
        let newer_epoch = epoch(self).epoch > epoch(older).epoch;
        epoch(self) >= epoch(older)
            && older
                .book
                .iter()
                .all(|(key, version, _)| self.book.version(key).map_or(newer_epoch, |held| held >= version))
    }
}

/// A statement as it is stored.
pub(super) fn decode(blob: &Blob) -> Option<SignedStatement> {
    SignedStatement::decode(blob.0.as_slice()).ok()
}

/// A statement's version.
#[must_use]
pub fn version(statement: &SignedStatement) -> Version {
    Version { epoch: statement.epoch, number: statement.number }
}

/// What a statement does with its key; `None`: it is forged, or its content is not under its own key.
#[must_use]
pub fn meaning(statement: &SignedStatement, key: &[u8]) -> Option<epoch::Said<()>> {
    signing::verify_statement(statement, key).ok()?;
    let content: Content = serde_json::from_slice(&statement.content).ok()?;
    if content.key() != statement.key {
        return None;
    }
    Some(match content {
        Content::Epoch { keys } => epoch::Said::Epoch(keys),
        Content::Gone { .. } => epoch::Said::Gone,
        _ => epoch::Said::Value(()),
    })
}
