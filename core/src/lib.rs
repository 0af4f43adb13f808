//! The words of the mesh, and the decisions on them.
//!
//! No I/O, no clock, no async: time and randomness are arguments, outputs are data. What is decided here is therefore
//! tested, fuzzed and benchmarked without a socket, and the same code decides on a laptop and in production.
//!
//! | module | idea |
//! | --- | --- |
//! | [`name`] | clusters, trust domains, services, SPIFFE ids, localities: one type each |
//! | [`statement`] | what a cluster says to the others |
//! | [`model`] | what proxies and gateways run on, compiled |

pub mod model;
pub mod name;
pub mod statement;
