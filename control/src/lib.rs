//! One cluster's control plane.
pub mod api;
pub mod authority;
pub mod clients;
pub mod compiler;
pub mod config;
pub mod decider;
pub mod desk;
pub mod error;
pub mod feed;
pub mod handle;
pub mod heard;
pub mod listener;
pub mod metrics;
pub mod names;
pub mod registry;
pub mod service;
pub mod sources;
pub mod speaker;
pub mod table;
pub mod view;
pub mod voice;

pub use service::run;
