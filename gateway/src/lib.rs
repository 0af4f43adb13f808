//! The cluster's edge: tunnels to other clusters' gateways, and nothing else it need not do.
//!
//! A sidecar connects to its local gateway (15444/tcp) and sends a signed header with its ClientHello behind it. The
//! gateway checks the pass ([`local`]), picks a tunnel to the wished cluster ([`links`], [`opening`]), and sends header and bytes on
//! a stream of its own. The gateway there checks that the service is exported for the sender's cluster, picks an
//! endpoint, dials it and answers ([`remote`]); from then on both carry bytes that neither can read ([`pipe`]).
//!
//! | module | promise |
//! | --- | --- |
//! | [`config`], [`error`], [`metrics`] | as in every role |
//! | [`path`], [`pick`], [`alpn`], [`congestion`] | decisions, without a socket |
//! | [`trouble`] | why a path is down, for people |
//! | [`door`] | when a gateway that drains takes no new streams any more |
//! | [`table`], [`open`] | what is in force; what is open |
//! | [`tunnel`], [`links`] | tunnels, dialled and taken; how each path stands |
//! | [`local`], [`opening`], [`notices`] | sidecars of the own cluster |
//! | [`remote`] | streams of other clusters |
//! | [`edge`] | 15443/tcp |
//! | [`reporting`] | what control learns |
//! | [`service`] | the role |

pub mod alpn;
pub mod config;
pub mod congestion;
pub mod context;
pub mod door;
pub mod edge;
pub mod error;
pub mod framed;
pub mod links;
pub mod local;
pub mod metrics;
pub mod notices;
pub mod open;
pub mod opening;
pub mod path;
pub mod pick;
pub mod pipe;
pub mod refusal;
pub mod remote;
pub mod reporting;
pub mod service;
pub mod table;
pub mod trouble;
pub mod tunnel;

pub use config::Config;
pub use error::Error;
pub use service::run;
