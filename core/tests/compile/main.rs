//! Compiling: what people wrote in one cluster is what clients in another can call, and nothing more.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails says so by a panic")]

mod clusters;
mod findings;
mod policies;
mod services;
mod support;
