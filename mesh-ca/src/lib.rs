//! Who is who in one cluster: its own root, the leaves of its workloads, and the passes beside them.
//!
//! What a caller says about itself counts for nothing. A first leaf is for whom the enrolment token names, a renewed
//! one for whom the connection proves; of a CSR only the public key is used. The root never leaves its directory, and
//! no other cluster has a part of it: chains are accepted only under the roots of their own trust domain, so this CA
//! can vouch for this cluster and for nobody else. Of a CA that somebody brought along the same holds of the
//! certificate that signs, whoever else has its root.
//!
//! | module | promise |
//! | --- | --- |
//! | [`authority`] | [`Ca`]: opens or makes the root, issues leaves, changes what signs them |
//! | [`plugged`] | a CA that somebody brings along, as Istio's `cacerts` |
//! | [`shared`] | what replicas of control have the same |
//! | [`enrol`] | enrolments minted offline, on the CA's directory |
//! | [`token`] | what an enrolment token says, and that nobody else wrote it |
//! | [`passes`] | roots of passes, rotated so that gateways know one before it is used |
//! | [`mod@service`] | the gRPC service on 15012 |

mod anchors;
pub mod authority;
pub mod enrol;
mod error;
mod issuing;
mod leaf;
pub mod passes;
pub mod plugged;
pub mod service;
mod store;
pub mod token;

pub use authority::{Ca, ServerLeaf, Settings, shared};
pub use error::CaError;
pub use plugged::{Plugged, PluggedError};
pub use service::{Account, NotReviewed, Reviewer, service};
