//! The bad network between clusters, over real network namespaces. Needs root and TUN devices, as CI has them; without
//! them these tests fail and say so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

mod support;

#[path = "wan/network.rs"]
mod network;

#[path = "wan/mesh.rs"]
mod mesh;
