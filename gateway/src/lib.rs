//! The cluster's edge: tunnels to other clusters' gateways.
pub mod alpn;
pub mod config;
pub mod congestion;
pub mod error;
pub mod open;
pub mod path;
pub mod pick;
pub mod table;

pub use config::Config;
pub use error::Error;
