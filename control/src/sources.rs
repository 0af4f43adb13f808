//! The sources of objects: a directory of Kubernetes-shaped YAML, or the API server of a cluster. Both tell the desk the same
//! thing, and what is compiled of it does not tell them apart.

pub mod book;
pub mod cluster;
pub mod directory;
pub mod files;
mod imports;
mod verdicts;

use std::{collections::BTreeMap, sync::Arc};

use isthmus_kubernetes::Facts;

use crate::compiler::Objects;
use book::Fault;

/// What the source has in force now. A *file* is what is refused as one: a file of the directory by its name, an object of
/// the API server as `Service/bookinfo/reviews`.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Whether anything is known: all of it was listed once, now or in an earlier run. Until then nothing is in force,
    /// which is not the same as an empty directory.
    pub known: bool,
    /// Grows with each telling, where somebody asks what came of it.
    pub revision: u64,
    /// By file.
    pub in_force: BTreeMap<String, Arc<Objects>>,
    /// Each file: whether some content of it is in force, and its faults.
    pub files: Vec<(String, bool, Vec<Fault>)>,
    /// What Kubernetes shows of workloads and gateways; a directory says nothing of them.
    pub facts: Option<Arc<Facts>>,
}
