//! A pod's traffic led by its sidecar: real rules, real programs, pods that are network namespaces. Root only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

mod far;
mod mesh;
mod rules;
mod traffic;
mod world;
