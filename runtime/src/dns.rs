//! The mesh's DNS on 15053, as control answers it for a cluster and a sidecar for its application: names of services at
//! their addresses, everything else by the system's resolvers.

mod message;
mod server;
pub mod zone;

pub use server::{Zone, serve, serve_on};
pub use zone::{Host, Table};

/// The port of the mesh's DNS (DESIGN.md, "Ports").
pub const PORT: u16 = 15053;
