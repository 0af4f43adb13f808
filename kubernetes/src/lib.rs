//! Kubernetes as a source of the same objects as a directory of files has, and of what only Kubernetes knows: which pods
//! there are and how they are, where the gateways are, whose a token is.
//!
//! ```text
//! API server ─► watch (a task a kind) ─► Told ─► Seen ─┬─► documents: name → text, for the parser that files have
//!               paged, resumed, backed off             └─► Facts: pods, gateways, zones
//! ```
//! The only crate that knows kube. What arrives is cut down to what somebody reads at once ([`arrived`]); what is made of
//! it is pure ([`seen`], [`facts`]). An API server that is gone, slow, or back with its history compacted changes nothing:
//! a kind is replaced only by a whole list of it, and a failing watch tells nothing.
//!
//! | module | idea |
//! | --- | --- |
//! | [`client`], [`calls`] | how the API server is reached, and what it is asked |
//! | [`kind`] | the kinds that are read, and which of them need a CustomResourceDefinition |
//! | [`watch`] | a task a kind |
//! | [`arrived`], [`pod`], [`node`] | an object as the API server has it, to the little of it that is read |
//! | [`seen`] | all that was seen |
//! | [`facts`] | what follows from it: pods, gateways, zones |
//! | [`leader`] | which of several replicas writes |
//! | [`status`] | what is said of an object in its status |
//! | [`events`] | what befell an object, where people look |
//! | [`review`] | whose a service account token is |
//! | [`exposed`] | where other clusters reach the gateways |
//! | [`bundle`] | by what the API server believes the webhooks |
//! | [`namespaces`] | namespaces as they are now, for who answers at once or writes into each |
//! | [`imports`] | ServiceImports, by the leader |
//! | [`vault`] | files that every replica must have the same, in a Secret |
//! | [`roots`] | whom pods believe, in every namespace |
//! | `owner` | whom what is written there belongs to |
//! | [`objects`], [`mod@reference`] | for commands: objects of any kind as documents |
//! | [`user`], [`forward`] | for commands: a context as kubectl finds it, a port of a pod on this machine |

pub mod arrived;
pub mod bundle;
pub mod calls;
pub mod client;
pub mod events;
pub mod exposed;
pub mod facts;
pub mod forward;
pub mod imports;
pub mod kind;
pub mod leader;
pub mod namespaces;
pub mod node;
pub mod objects;
mod owner;
pub mod pod;
pub mod reference;
pub mod review;
pub mod roots;
pub mod seen;
pub mod status;
pub mod user;
pub mod vault;
pub mod watch;

pub use client::Access;
pub use facts::Facts;
pub use kind::Kind;
pub use kube::Client;
pub use seen::Seen;
