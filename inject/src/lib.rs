//! What makes a pod one of the mesh: whether it is asked for, and what is then added to it.
//!
//! Pure functions on documents, for the webhook and for `isthmus inject` alike: a pod that goes through either comes
//! out the same. Documents stay [`serde_json::Value`]: only what is looked at has a type, so a field that this build
//! has never heard of passes through untouched.
//!
//! ```text
//!                     labels, annotations           Settings                containers, volumes, probes
//! pod ──► decide ──► Inject ──────────► settings ──────────────► inject ──────────────────────────────► pod
//!           ├──────► Skip: nobody asked, or somebody said no
//!           └──────► Refuse: asked for, and cannot work; the pod is as it was without, and people are told why
//! ```
//! What must always hold: nothing the user wrote is lost, but for probes, whose originals the pod keeps in its status
//! annotation; to inject an injected pod again is to inject it once; what an older release added is taken out exactly
//! before this one adds its own.
//!
//! | module | idea |
//! | --- | --- |
//! | [`words`] | labels, annotations, names and ports that others may rely on |
//! | [`values`] | what the operator sets for a whole cluster |
//! | [`view`] | a document as a pod |
//! | [`mod@decide`] | whether, and why not |
//! | [`annotation`] | an annotation by our name or Istio's, and the problem with its value |
//! | [`settings`] | what a pod's annotations and the values make together |
//! | [`traffic`], [`resources`], [`quantity`], `image` | parts of that: what is captured; what the sidecar may use |
//! | [`probe`] | the kubelet's probes, asked through the sidecar |
//! | [`container`], [`volume`], `added` | what is added |
//! | [`status`] | what was added, so that it can be taken out |
//! | [`mod@inject`] | all of it together, and back |
//! | [`mod@patch`] | the difference as RFC 6902 |
//! | [`workload`], [`manifest`] | where pods are in other objects, and in a file of them |

mod added;
pub mod annotation;
pub mod container;
pub mod decide;
mod image;
pub mod inject;
pub mod manifest;
pub mod patch;
pub mod probe;
pub mod quantity;
pub mod resources;
pub mod settings;
pub mod status;
pub mod traffic;
pub mod values;
pub mod view;
pub mod volume;
pub mod words;
pub mod workload;

pub use decide::{Decision, Namespace, decide};
pub use inject::{Injected, inject, inject_into, remove};
pub use patch::patch;
pub use values::Values;
