//! The webhooks over real TLS, asked as the API server and an operator ask them, and by those who mean no good.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "webhook/floods.rs"]
mod floods;
#[path = "webhook/ground.rs"]
mod ground;
#[path = "webhook/injection.rs"]
mod injection;
#[path = "webhook/validation.rs"]
mod validation;
