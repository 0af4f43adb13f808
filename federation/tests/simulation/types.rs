//! Raft's types in virtual time: those of production, on a runtime whose clock and dice follow a seed.

use std::{cell::RefCell, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use isthmus_federation::{
    raft::{LeaderId, Node},
    state::{Answer, Command},
};
use openraft::rt::{AsyncRuntime, Instant as _};
use openraft_rt_sim::{SimInstant, SimRuntime};

use crate::machine::Watched;

openraft::declare_raft_types!(
    /// The types.
    pub Virtual:
        D = Command,
        R = Answer,
        Node = Node,
        LeaderId = LeaderId,
        AsyncRuntime = SimRuntime,
);

/// A simulated member's Raft.
pub type Raft = openraft::Raft<Virtual, Watched>;

/// Waits in virtual time.
pub async fn sleep(duration: Duration) {
    SimRuntime::sleep(duration).await;
}

/// Waits so many milliseconds.
pub async fn millis(count: u64) {
    sleep(Duration::from_millis(count)).await;
}

thread_local! {
    /// What a task of this story panicked with.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Goes on by itself. A panic in it is not lost, see [`panicked`].
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(SimRuntime::spawn(async move {
        if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            PANIC.set(Some(said.unwrap_or_else(|| "a panic without words".into())));
        }
    }));
}

/// What a task panicked with, if one did since the last time.
pub fn panicked() -> Option<String> {
    PANIC.take()
}

/// At most so long; `None`: it took longer.
pub async fn within<T>(limit: Duration, task: impl Future<Output = T> + Send) -> Option<T> {
    SimRuntime::timeout(limit, task).await.ok()
}

/// Since the story began.
pub fn now() -> Duration {
    SimInstant::now().elapsed_since_start()
}
