//! What control learns: how the paths stand, every 500 ms and at once when one changes, and the leases heard on
//! tunnels. And the beat that judges the paths.

use std::time::{Duration, Instant};

use bytes::Bytes;
use isthmus_runtime::feed::{PathReport, Report};
use tokio::{sync::mpsc, time::MissedTickBehavior};

use crate::{context::Context, path::State, tunnel::TRANSPORT};

/// Paths are judged so often, besides each time something is learned: what is said of a silent tunnel is late by twice
/// that at most.
const JUDGE_EVERY: Duration = Duration::from_millis(25);
/// Who judges this much too late stood still itself: what it did not hear meanwhile is no silence of others.
const STALL: Duration = Duration::from_millis(200);
/// Reports are made so often, besides each change.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Judges the paths for ever.
pub async fn judge(context: Context) {
    let mut beats = tokio::time::interval(JUDGE_EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Instant::now();
    loop {
        tokio::select! {
            _ = beats.tick() => {}
            () = context.links.nudged() => {}
        }
        let now = Instant::now();
        if now.saturating_duration_since(before) > STALL {
            context.links.excuse(before, now);
        }
        before = now;
        context.links.judge(now);
    }
}

/// Reports for ever; `report` takes what is to go to control.
pub async fn report(context: Context, mut leases: mpsc::Receiver<Bytes>, report: impl Fn(Report)) {
    let mut beats = tokio::time::interval(REPORT_EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut views = context.links.views();
    loop {
        tokio::select! {
            _ = beats.tick() => beat(&context),
            Ok(()) = views.changed() => drop(views.borrow_and_update()),
            Some(lease) = leases.recv() => {
                let mut heard = vec![lease.to_vec()];
                while let Ok(lease) = leases.try_recv() {
                    heard.push(lease.to_vec());
                }
                report(Report { leases: heard, ..Report::default() });
                continue;
            }
        }
        report(Report { paths: paths(&context, Instant::now()), ..Report::default() });
    }
}

fn paths(context: &Context, now: Instant) -> Vec<PathReport> {
    let details = context.links.details(now).into_iter();
    details
        .map(|(cluster, detail)| PathReport {
            cluster: cluster.to_string(),
            state: detail.view.state.word().to_owned(),
            rtt_us: detail.view.rtt_us,
            loss_ppm: detail.loss_ppm,
            silent_ms: detail.silent_ms,
            tunnels: detail.tunnels,
            transport: TRANSPORT.to_owned(),
            why: detail.why,
        })
        .collect()
}

/// Smoothed numbers and metrics.
fn beat(context: &Context) {
    for tunnel in context.links.tunnels() {
        tunnel.beat(&context.metrics);
    }
    context.metrics.tunnels.reset();
    context.metrics.path.reset();
    for (cluster, detail) in context.links.details(Instant::now()) {
        context.metrics.tunnels.with_label_values(&[cluster.as_str()]).set(i64::from(detail.tunnels));
        for state in [State::Up, State::Draining, State::Suspect, State::Lost] {
            let gauge = context.metrics.path.with_label_values(&[cluster.as_str(), state.word()]);
            gauge.set(i64::from(state == detail.view.state));
        }
    }
}
