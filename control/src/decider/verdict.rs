//! The words of a decision on a cluster: what holds of it, and what a beat changed.

use std::collections::BTreeMap;

use isthmus_core::{model::Standing, name::ClusterName};
use serde::{Deserialize, Serialize};

/// How a lease came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the own member.
    Member,
    /// By a tunnel, reported by an own gateway.
    Tunnel,
}

impl Way {
    /// As people and metrics read it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Tunnel => "tunnel",
        }
    }
}

/// What was decided of a cluster, as the feed carries it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The part of its traffic it shall get.
    pub share: f64,
    /// How it stands.
    pub standing: Standing,
    /// Round trip as [`isthmus_core::distance::Distance`] has it, microseconds.
    pub rtt_us: u64,
    /// It is dead for so long that its endpoints count no more.
    #[serde(default)]
    pub stale: bool,
}

impl Default for Verdict {
    /// Nothing is known against it.
    fn default() -> Self {
        Self { share: 1.0, standing: Standing::Unknown, rtt_us: 0, stale: false }
    }
}

/// What a beat changed.
#[derive(Debug, Default)]
pub struct Beat {
    /// Whether any verdict changed.
    pub changed: bool,
    /// Standings that moved.
    pub moved: Vec<Move>,
}

/// A standing that moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Whose.
    pub cluster: ClusterName,
    /// From.
    pub from: Standing,
    /// To.
    pub to: Standing,
    /// Why.
    pub why: &'static str,
}

/// What is kept on disk: a restarted control goes on where it was.
pub type OnDisk = BTreeMap<ClusterName, Verdict>;
