//! Whole meshes on one machine: what `isthmus up` runs and what the end-to-end tests raise.
//!
//! The same roles as in production, each a process of the one binary on its own address in 127.0.0.0/8, without root or
//! container; or, as root, with a network namespace a cluster and a network between them that can be made bad ([`wan`]). This crate decides what runs where ([`plan`]), writes each role's configuration ([`layout`]), keeps the
//! processes running ([`supervisor`]), joins the clusters by the operator's own commands ([`operator`]) and answers
//! `status`, `down` and `cluster kill` on a socket in the state directory ([`socket`]). It knows the roles only as
//! subcommands with a configuration file.
//!
//! | module | idea |
//! | --- | --- |
//! | [`plan`] | pure: clusters, zones, workloads, addresses, each role's configuration |
//! | [`state`] | the state directory: whose it is, what an earlier run left in it |
//! | [`layout`] | writes what the plan says: keys, enrolments, configuration |
//! | [`supervisor`] | spawns, restarts with back-off, kills and starts |
//! | [`parent`] | a role ends when its supervisor does |
//! | [`admin`] | asks admin endpoints and calls through a sidecar |
//! | [`operator`] | bootstrap, token, join: what the commands of these names do |
//! | [`mesh`] | all of it in order: a raised mesh |
//! | [`socket`] | how the commands reach a raised mesh |
//! | [`status`] | what `status` says |
//! | [`observe`] | looks at the running processes for it |
//! | [`wan`] | the bad network between clusters in namespaces |

pub mod admin;
pub mod layout;
pub mod mesh;
pub mod observe;
pub mod operator;
pub mod parent;
pub mod plan;
pub mod socket;
pub mod state;
pub mod status;
pub mod supervisor;
pub mod wan;
