//! Refusals, and their one word in metrics and logs.

use isthmus_wire::tunnel::{Reason, Refuse};

/// Longest detail that is sent, characters.
const MAX_DETAIL: usize = 500;

/// A refusal.
#[must_use]
pub fn refuse(reason: Reason, detail: &str) -> Refuse {
    let detail = detail.chars().take(MAX_DETAIL).collect();
    Refuse { reason: reason.into(), detail, retry_after_ms: 0 }
}

/// The one word of a reason.
#[must_use]
pub fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Unspecified => "unspecified",
        Reason::NoEndpoint => "no_endpoint",
        Reason::NotExported => "not_exported",
        Reason::Overloaded => "overloaded",
        Reason::Draining => "draining",
        Reason::NoTunnel => "no_tunnel",
        Reason::Forbidden => "forbidden",
        Reason::Timeout => "timeout",
    }
}
