//! The words of the mesh, and the decisions on them.
//!
//! No I/O, no clock, no async: time and randomness are arguments, outputs are data. What is decided here is therefore
//! tested, fuzzed and benchmarked without a socket, and the same code decides on a laptop and in production.
//!
//! | module | idea |
//! | --- | --- |
//! | [`name`] | clusters, trust domains, services, SPIFFE ids, localities: one type each |
//! | [`owner`] | the workload that a pod is of |
//! | [`plan`] | addresses of meshes on one machine |
//! | [`statement`] | what a cluster says to the others |
//! | [`epoch`] | of two words the newer wins, whichever way it came |
//! | [`resource`] | the YAML people bring |
//! | [`compile`](mod@compile) | resources, registrations, statements and decisions to one model |
//! | [`model`] | what proxies and gateways run on, compiled |
//! | [`route`] | which route and destination a request takes |
//! | [`ladder`] | which tier: zone, region, cluster, then other clusters |
//! | [`balance`] | which endpoint of a tier |
//! | [`outlier`] | which endpoint rests |
//! | [`retry`] | what a failure means, and whether to try again |
//! | [`consent`] | whose policies bind a cluster |
//! | [`distance`] | how far another cluster is |
//! | [`failover`] | where requests go when something is wrong: policies, verbs, who is dead, shares

pub mod balance;
pub mod compile;
pub mod consent;
pub mod distance;
pub mod epoch;
pub mod failover;
pub mod ladder;
pub mod model;
pub mod name;
pub mod outlier;
pub mod owner;
pub mod plan;
pub mod resource;
pub mod retry;
pub mod route;
pub mod statement;
