//! The mesh's DNS on 15053, as control answers it for a cluster and a sidecar for its application: names of services at
//! their addresses, everything else by the system's resolvers. A sidecar that its application's questions are led to
//! answers for the clusterset alone, and lets everything else go on as it is.

mod message;
mod server;
mod upstream;
pub mod zone;

pub use server::{Zone, serve, serve_before, serve_on};
pub use upstream::Upstream;
pub use zone::{Host, Table};

/// The port of the mesh's DNS (DESIGN.md, "Ports").
pub const PORT: u16 = 15053;
