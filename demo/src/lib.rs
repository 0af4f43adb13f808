//! Applications to raise beside a sidecar: Bookinfo's four, and an echo. They know nothing of the mesh.
//!
//! Each is one process on one address, calls others through its sidecar's explicit proxy, and passes trace headers on,
//! as any well-behaved application does. Every answer names its server (`x-served-by`, `x-served-cluster`,
//! `x-served-zone`), and every application answers the gRPC echo, so that a test can count endpoints over any protocol.
//!
//! | module | idea |
//! | --- | --- |
//! | [`config`] | which application, where, beside which sidecar |
//! | [`bookinfo`] | productpage, details, reviews v1/v2/v3, ratings; paths as in Istio's sample |
//! | [`echo`] | says what it received over HTTP/1.1, HTTP/2, gRPC, WebSocket and TCP |
//! | [`fault`] | does badly on request |
//! | [`outbound`] | calls through the sidecar |
//! | [`server`] | listening, serving, draining |

pub mod bookinfo;
pub mod config;
pub mod echo;
pub mod error;
pub mod fault;
pub mod outbound;
pub mod reply;
pub mod server;

pub use config::{App, AppConfig};
pub use error::Error;

/// The gRPC echo's messages, client and server.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("isthmus.demo.v1");
}

/// Runs one application until `stop` completes; then takes nothing new and finishes what it has, for a second at most.
///
/// # Errors
/// When an address cannot be bound.
pub async fn run(config: AppConfig, stop: impl Future<Output = ()>) -> Result<(), Error> {
    server::run(config, stop).await
}
