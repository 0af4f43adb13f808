//! What a sidecar is told of the paths, at once and at each change: it knows which requests are safe, so it decides.

use std::time::Duration;

use bytes::BytesMut;
use isthmus_core::name::ClusterName;
use isthmus_wire::{
    frame::{self, FrameError, Kind},
    tunnel::{Notice, notice},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::MissedTickBehavior,
};

use crate::{
    context::Context,
    links::{Told, View, Views},
    path::{Seen, State},
};

/// A sidecar hears from its gateway at least so often: from one that is silent for longer it expects nothing any more.
const BEAT: Duration = Duration::from_millis(250);

/// Tells until either side closes.
pub async fn tell(context: &Context, mut tcp: TcpStream) {
    context.metrics.subscribers.inc();
    if let Err(error) = speak(context, &mut tcp).await {
        tracing::debug!(%error, "a subscriber left");
    }
    context.metrics.subscribers.dec();
}

async fn speak(context: &Context, tcp: &mut TcpStream) -> std::io::Result<()> {
    let mut views = context.links.views();
    let (mut told, mut told_draining) = (Views::default(), None);
    let mut sink = [0; 64];
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = views.borrow_and_update().clone();
        let mut out = BytesMut::new();
        let draining = context.drain.is_draining();
        let own = (told_draining != Some(draining)).then_some(draining);
        let news = news(&told, &now, own);
        news.iter().try_for_each(|notice| put(notice, &mut out)).map_err(std::io::Error::other)?;
        tcp.write_all(&out).await?;
        (told, told_draining) = (now, Some(draining));
        tokio::select! {
            changed = views.changed() => changed.map_err(std::io::Error::other)?,
            () = context.drain.draining(), if !draining => {}
            _ = beats.tick() => told_draining = None,
            // Nothing is due from a subscriber; what it says all the same is passed over.
            read = tcp.read(&mut sink) => if read? == 0 { return Ok(()) },
        }
    }
}

fn put(notice: &Notice, out: &mut BytesMut) -> Result<(), FrameError> {
    frame::put(Kind::Notice, notice, out)
}

/// What changed; `own`: also whether this gateway itself drains.
fn news(told: &Views, now: &Views, own: Option<bool>) -> Vec<Notice> {
    let mut notices = Vec::new();
    if let Some(draining) = own {
        let state = if draining { notice::State::Draining } else { notice::State::Up };
        notices.push(Notice { cluster: String::new(), state: state.into(), rtt_us: 0, tunnel: String::new() });
    }
    for (name, after) in now.iter() {
        let before = told.get(name);
        if before.map(|before| before.view) != Some(after.view) {
            notices.push(of_path(name, after.view));
        }
        notices.extend(of_tunnels(name, before, after));
    }
    let gone = told.keys().filter(|name| !now.contains_key(*name));
    notices.extend(gone.map(|name| of_path(name, View { state: State::Lost, rtt_us: 0 })));
    notices
}

fn of_path(cluster: &ClusterName, view: View) -> Notice {
    let state = match view.state {
        State::Up => notice::State::Up,
        State::Draining => notice::State::Draining,
        State::Suspect => notice::State::Suspect,
        State::Lost => notice::State::Lost,
    };
    Notice { cluster: cluster.to_string(), state: state.into(), rtt_us: view.rtt_us, tunnel: String::new() }
}

/// Tunnels that changed, came or went.
fn of_tunnels(cluster: &ClusterName, before: Option<&Told>, after: &Told) -> Vec<Notice> {
    let say = |tunnel: &String, state: notice::State| Notice {
        cluster: cluster.to_string(),
        state: state.into(),
        rtt_us: 0,
        tunnel: tunnel.clone(),
    };
    let before = before.map(|before| &before.tunnels);
    let was = |tunnel: &String| before.and_then(|before| before.get(tunnel)).copied();
    let changed = after.tunnels.iter().filter(|(tunnel, seen)| was(tunnel) != Some(**seen));
    let changed = changed.map(|(tunnel, seen)| match seen {
        Seen::Up => say(tunnel, notice::State::Up),
        Seen::Draining => say(tunnel, notice::State::Draining),
        Seen::Suspect => say(tunnel, notice::State::Suspect),
    });
    let gone = before.into_iter().flatten().filter(|(tunnel, _)| !after.tunnels.contains_key(*tunnel));
    changed.chain(gone.map(|(tunnel, _)| say(tunnel, notice::State::Lost))).collect()
}
