//! The end of a process: first *draining* (nothing new, what runs may finish), then *closed* (everything ends now).
//!
//! A [`Drain`] is cheap to clone and works across runtimes. The first SIGTERM or SIGINT drains, the second or the end
//! of the grace period closes; a role whose work is done sooner ends sooner.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// How long what runs may take to finish, before everything is closed.
pub const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Draining(Arc<str>),
    Closed(Arc<str>),
}

/// Tells when the process drains and when it closes.
#[derive(Clone, Debug)]
pub struct Drain {
    phase: watch::Receiver<Phase>,
    sender: Arc<watch::Sender<Phase>>,
}

/// Starts the drain.
#[derive(Clone, Debug)]
pub struct DrainTrigger(Arc<watch::Sender<Phase>>);

impl Drain {
    /// A drain that nobody has triggered.
    #[must_use]
    pub fn new() -> Self {
        let (sender, phase) = watch::channel(Phase::Running);
        Self { phase, sender: Arc::new(sender) }
    }

    /// A drain with its trigger.
    #[must_use]
    pub fn pair() -> (DrainTrigger, Self) {
        let drain = Self::new();
        (drain.trigger(), drain)
    }

    /// A drain that SIGTERM and SIGINT trigger, and that closes `grace` after it began; must be called inside a Tokio
    /// runtime that lives as long as the role.
    ///
    /// # Errors
    /// When the system takes no signal handler.
    pub fn from_signals(grace: Duration) -> io::Result<Self> {
        let drain = Self::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let trigger = drain.trigger();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if trigger.is_draining() {
                    trigger.close(&format!("{name} again"));
                } else {
                    trigger.drain(name);
                }
            }
        });
        drain.close_after(grace);
        Ok(drain)
    }

    /// Closes `grace` after the drain began; must be called inside a Tokio runtime.
    pub fn close_after(&self, grace: Duration) {
        let (drain, trigger) = (self.clone(), self.trigger());
        tokio::spawn(async move {
            drain.draining().await;
            tokio::time::sleep(grace).await;
            trigger.close("the grace period is over");
        });
    }

    /// What starts it.
    #[must_use]
    pub fn trigger(&self) -> DrainTrigger {
        DrainTrigger(self.sender.clone())
    }

    /// Ends when the drain begins; at once when it has begun.
    pub async fn draining(&self) {
        self.reached(|phase| *phase != Phase::Running).await;
    }

    /// Ends when everything has to end; at once when it has.
    pub async fn closed(&self) {
        self.reached(|phase| matches!(phase, Phase::Closed(_))).await;
    }

    /// The future's output, or `None` when the drain begins first.
    pub async fn unless<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            output = future => Some(output),
            () = self.draining() => None,
        }
    }

    async fn reached(&self, enough: impl Fn(&Phase) -> bool) {
        // The sender lives as long as `self`, so this ends only when the phase is reached.
        let _ = self.phase.clone().wait_for(|phase| enough(phase)).await;
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() != Phase::Running
    }

    /// Whether everything has to end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Closed(_))
    }

    /// Why it drains.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match &*self.phase.borrow() {
            Phase::Running => None,
            Phase::Draining(reason) | Phase::Closed(reason) => Some(reason.to_string()),
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl DrainTrigger {
    /// Begins the drain; the first reason stays.
    pub fn drain(&self, reason: &str) {
        let began = self.0.send_if_modified(|phase| {
            let first = *phase == Phase::Running;
            if first {
                *phase = Phase::Draining(reason.into());
            }
            first
        });
        if began {
            tracing::info!(reason, "draining");
        }
    }

    /// Ends everything now.
    pub fn close(&self, reason: &str) {
        self.0.send_if_modified(|phase| {
            let first = !matches!(phase, Phase::Closed(_));
            if first {
                *phase = Phase::Closed(reason.into());
            }
            first
        });
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() != Phase::Running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_closes_when_its_grace_is_over_and_keeps_its_first_reason() {
        let (trigger, drain) = Drain::pair();
        drain.close_after(Duration::from_millis(30));
        assert!(!drain.is_draining());
        trigger.drain("first");
        trigger.drain("second");
        drain.draining().await;
        assert_eq!(drain.reason().as_deref(), Some("first"));
        assert!(!drain.is_closed());
        drain.closed().await;
        assert!(drain.unless(std::future::pending::<()>()).await.is_none());
    }
}
