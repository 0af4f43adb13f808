//! One cluster's control plane: sources → model → feed, what is said to the other clusters, and what is decided of
//! them.
//!
//! ```text
//! objects ► source ─┐                                   ┌─► feed ──► proxies, gateways
//! sidecars ─► feed ─┤ registrations, reports            │   (snapshots by version; each stream takes what it lacks)
//! member ─► listener┤ what others say, leases ──► desk ─┼─► voice ─► member (signed statements, a lease a second)
//! every 500 ms ─────┘ decisions                         └─► names (DNS), api (rows for people)
//! ```
//! One task, the desk, owns every input and is the only one that compiles. All others tell it, or take what it hands
//! out. What each of them decides is a state machine without I/O, whose time is an argument.
//!
//! What must always hold: nothing good is replaced by nothing. A bad file, a lost feed, a member that is away, an
//! empty disk of somebody else and a restart of control leave in force what was; each has its file in the state
//! directory, written whole or not at all.
//!
//! | module | idea |
//! | --- | --- |
//! | [`config`], [`error`], [`metrics`] | what control is told; why it cannot begin; what it counts |
//! | [`service`] | the process: opens, starts, ends |
//! | [`sources`] | a directory of YAML, hot, or an API server; the file book keeps each file's last good content |
//! | [`whereabouts`], [`address`] | where the own gateways, member and zones are, by name or as Kubernetes shows |
//! | [`registry`] | who registered what, under which identity, and whose feed is lost |
//! | [`heard`], [`listener`] | what other clusters say, verified; its watch |
//! | [`speaker`], [`voice`], [`turn`] | what this cluster says, signed and numbered; its stream to the member; which replica speaks |
//! | [`replicas`] | what one replica's clients say, told to the others |
//! | [`decider`] | paths and leases to standings and shares |
//! | [`failover`] | each service's shares, what operators do, limits, history |
//! | [`compiler`] | all inputs to `isthmus_core::compile` and back |
//! | [`desk`], [`handle`], [`table`] | the owner of it all; how to talk to it; versions and deltas |
//! | [`feed`], [`clients`] | the server on 15012; who is on it, and what each refused |
//! | [`authority`], [`plugged`], [`keeping`] | the certificate authority beside it; the one that somebody brings along; the same in all replicas |
//! | [`cluster`] | on Kubernetes: key material as Secrets, roots in every namespace, whose a token is |
//! | [`names`] | the cluster's DNS |
//! | [`webhook`] | the server on 15017: pods get their sidecar, wrong objects their reason |
//! | [`api`], [`view`] | what people see |

pub mod address;
pub mod api;
pub mod authority;
pub mod clients;
pub mod cluster;
pub mod compiler;
pub mod config;
pub mod decider;
pub mod desk;
pub mod error;
pub mod failover;
pub mod feed;
pub mod handle;
pub mod heard;
pub mod keeping;
pub mod listener;
pub mod metrics;
pub mod names;
pub mod plugged;
pub mod registry;
pub mod replicas;
pub mod service;
pub mod sources;
pub mod speaker;
pub mod table;
pub mod turn;
pub mod view;
pub mod voice;
pub mod webhook;
pub mod whereabouts;

pub use config::Config;
pub use error::Error;
pub use service::run;
