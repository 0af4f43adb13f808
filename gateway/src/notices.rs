//! What a sidecar is told of the paths, at once and at each change: it knows which requests are safe, so it decides.

use std::collections::BTreeMap;

use bytes::BytesMut;
use isthmus_core::name::ClusterName;
use isthmus_wire::{
    frame::{self, FrameError, Kind},
    tunnel::{Notice, notice},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    context::Context,
    links::{View, Views},
    path::State,
};

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
    let (mut told, mut draining, mut first) = (Views::default(), false, true);
    let mut sink = [0; 64];
    loop {
        let now = views.borrow_and_update().clone();
        let mut out = BytesMut::new();
        let news = news(&told, &now, first || draining, context.drain.is_draining());
        news.iter().try_for_each(|notice| put(notice, &mut out)).map_err(std::io::Error::other)?;
        tcp.write_all(&out).await?;
        (told, first, draining) = (now, false, context.drain.is_draining());
        tokio::select! {
            changed = views.changed() => changed.map_err(std::io::Error::other)?,
            () = context.drain.draining(), if !draining => draining = true,
            // Nothing is due from a subscriber; what it says all the same is passed over.
            read = tcp.read(&mut sink) => if read? == 0 { return Ok(()) },
        }
    }
}

fn put(notice: &Notice, out: &mut BytesMut) -> Result<(), FrameError> {
    frame::put(Kind::Notice, notice, out)
}

/// What changed; `own`: also how this gateway itself is.
fn news(told: &Views, now: &Views, own: bool, draining: bool) -> Vec<Notice> {
    let mut notices = Vec::new();
    if own {
        let state = if draining { notice::State::Draining } else { notice::State::Up };
        notices.push(Notice { cluster: String::new(), state: state.into(), rtt_us: 0 });
    }
    let changed = now.iter().filter(|(name, view)| told.get(*name) != Some(*view));
    notices.extend(changed.map(|(name, view)| notice(name, *view)));
    let gone: BTreeMap<_, _> = told.iter().filter(|(name, _)| !now.contains_key(*name)).collect();
    notices.extend(gone.into_keys().map(|name| notice(name, View { state: State::Lost, rtt_us: 0 })));
    notices
}

fn notice(cluster: &ClusterName, view: View) -> Notice {
    let state = match view.state {
        State::Up => notice::State::Up,
        State::Draining => notice::State::Draining,
        State::Suspect => notice::State::Suspect,
        State::Lost => notice::State::Lost,
    };
    Notice { cluster: cluster.to_string(), state: state.into(), rtt_us: view.rtt_us }
}
