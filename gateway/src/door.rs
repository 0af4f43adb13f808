//! The door for new streams: open, and shut some time after the gateway said that it drains.
//!
//! Who was told goes elsewhere by itself. Who has nowhere to go yet, because all its tunnels led here, comes on until it has:
//! so the door is shut when nobody came for a while, or when [`HANDOVER`] is over.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::tunnel::HANDOVER;

/// Nobody comes any more when nobody came for so long: a sidecar in another cluster hears of a drain by two hops, and what
/// it sends meanwhile must not meet a closed door.
pub const SAID_FIRST: Duration = Duration::from_millis(500);

/// The door.
#[derive(Debug, Default)]
pub struct Door {
    shut: AtomicBool,
    passed: AtomicU64,
}

impl Door {
    /// Whether new streams are refused.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }

    /// One passes, unless it is shut; whether it did.
    pub fn pass(&self) -> bool {
        self.passed.fetch_add(1, Ordering::Relaxed);
        !self.is_shut()
    }

    /// Shuts it once nobody comes any more.
    pub async fn shut(&self) {
        let began = Instant::now();
        let mut before = None;
        while began.elapsed() < HANDOVER {
            let passed = Some(self.passed.load(Ordering::Relaxed));
            if passed == before {
                break;
            }
            before = passed;
            tokio::time::sleep(SAID_FIRST).await;
        }
        self.shut.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_shut_when_nobody_came_for_a_while_and_in_the_end_whoever_comes() {
        let (quiet, began) = (Door::default(), Instant::now());
        assert!(quiet.pass());
        quiet.shut().await;
        assert!(!quiet.pass() && began.elapsed() == SAID_FIRST);

        let (busy, began) = (Door::default(), Instant::now());
        let coming = async {
            while busy.pass() {
                tokio::time::sleep(SAID_FIRST / 2).await;
            }
        };
        tokio::join!(coming, busy.shut());
        assert!((HANDOVER..HANDOVER + SAID_FIRST).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}
