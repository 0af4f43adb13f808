//! A new leaf at half the life of the old one.

use std::time::{Duration, SystemTime};

use super::asking::{Asker, NotIssued};
use crate::{
    backoff::Backoff,
    drain::Drain,
    identity::{Identity, Leaf},
};

/// A clock may jump, a laptop may sleep: so often the wall clock is looked at.
const LOOK: Duration = Duration::from_secs(30);
/// Never more often than this, whatever clocks and lives say.
const AT_LEAST: Duration = Duration::from_millis(100);
/// Waits between failed tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

pub(super) async fn keep_fresh(asker: Asker, identity: Identity, drain: Drain) {
    tokio::select! {
        () = forever(&asker, &identity) => {}
        () = drain.closed() => {}
    }
}

async fn forever(asker: &Asker, identity: &Identity) {
    loop {
        wait_until(due(&identity.leaf(), SystemTime::now(), fastrand::f64()), || asker.look_at_roots(identity)).await;
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut warned = false;
        while let Err(reason) = renew(asker, identity).await {
            if !std::mem::replace(&mut warned, true) {
                let left = identity.leaf().not_after.duration_since(SystemTime::now()).unwrap_or_default();
                tracing::warn!(
                    reason,
                    ca = asker.enrolment.control,
                    seconds_left = left.as_secs(),
                    "the leaf is not renewed; it serves on until it expires, and the CA is asked again"
                );
            }
            tokio::time::sleep(backoff.next()).await;
            asker.look_at_roots(identity);
        }
        if warned {
            tracing::info!("the leaf is renewed again");
        }
    }
}

async fn renew(asker: &Asker, identity: &Identity) -> Result<(), String> {
    // A leaf that is over proves nothing: then the token has to do, if it still does.
    let valid = identity.leaf().is_valid(SystemTime::now());
    let issued = asker.ask(valid.then_some(identity)).await.map_err(|error| match error {
        NotIssued::Refused(reason) | NotIssued::NoAnswer(reason) => reason,
    })?;
    asker.renew(identity, issued).map_err(|error| error.to_string())?;
    tracing::debug!(id = %identity.spiffe(), "leaf renewed");
    Ok(())
}

/// Half of what is left of the leaf, ±10 % so that a cluster's leaves do not march in step. `dice`: 0 to 1.
fn due(leaf: &Leaf, now: SystemTime, dice: f64) -> SystemTime {
    let left = leaf.not_after.duration_since(now).unwrap_or_default();
    now + left.mul_f64(0.5 * (0.9 + 0.2 * dice)).max(AT_LEAST)
}

async fn wait_until(time: SystemTime, look: impl Fn()) {
    while let Ok(left) = time.duration_since(SystemTime::now())
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(LOOK)).await;
        look();
    }
}
