//! Takes tunnels that peers dial: a gateway's identity, of a cluster of the mesh, and a hello, before any stream.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_core::name::SpiffeId;
use isthmus_runtime::{places::Place, tls};
use rustls_pki_types::CertificateDer;

use super::{Label, Tunnel, code, control::Channel};
use crate::{context::Context, remote};

/// Handshake and hello within so long.
const LIMIT: Duration = Duration::from_secs(5);
/// With more handshakes going on than this a dialler first proves its address.
const RETRY_ABOVE: usize = 128;

/// Takes tunnels until the endpoint closes.
pub async fn accept_all(context: Context) {
    while let Some(incoming) = context.endpoint.accept().await {
        let busy = context.limits.handshakes.taken() > RETRY_ABOVE;
        if busy && incoming.may_retry() && !incoming.remote_address_validated() {
            let _ = incoming.retry();
            continue;
        }
        let place = context.limits.handshakes.take(incoming.remote_address().ip());
        tokio::spawn(take(context.clone(), incoming, place));
    }
}

fn count(context: &Context, outcome: &str) {
    context.metrics.incoming.with_label_values(&[outcome]).inc();
}

async fn take(context: Context, incoming: quinn::Incoming, place: Place) {
    let from = incoming.remote_address();
    let greeted = place.unless_needed(tokio::time::timeout(LIMIT, greet(&context, incoming))).await;
    drop(place);
    let Some(greeted) = greeted else { return count(&context, "displaced") };
    match greeted {
        Ok(Ok((tunnel, channel))) => {
            count(&context, "up");
            serve(&context, &tunnel, channel).await;
        }
        Ok(Err((outcome, reason))) => {
            count(&context, outcome);
            tracing::debug!(%from, reason, "no tunnel is taken");
        }
        Err(_) => count(&context, "late"),
    }
}

type Refused = (&'static str, String);

async fn greet(context: &Context, incoming: quinn::Incoming) -> Result<(Arc<Tunnel>, Channel), Refused> {
    let from = incoming.remote_address();
    let connecting = incoming.accept().map_err(|error| ("handshake", error.to_string()))?;
    let connection = connecting.await.map_err(|error| ("handshake", error.to_string()))?;
    let peer = peer(&connection).ok_or_else(|| ("handshake", "the peer shows no identity".to_owned()))?;
    if context.drain.is_draining() {
        // Whoever dials again may be led to another gateway.
        connection.close(code::DRAINED, b"this gateway drains");
        return Err(("draining", "this gateway drains".to_owned()));
    }
    let domain = peer.trust_domain().clone();
    let Some(cluster) = context.table.snapshot().cluster_of(&domain).map(|cluster| cluster.name.clone()) else {
        connection.close(code::UNKNOWN_CLUSTER, b"no cluster of the mesh has this trust domain");
        return Err(("unknown_cluster", format!("{peer} is of no cluster this gateway knows")));
    };
    let stream = connection.accept_bi().await.map_err(|error| ("no_hello", error.to_string()))?;
    let mut channel = Channel::new(stream);
    let hello = match channel.greet(context).await {
        Ok(hello) => hello,
        Err(error) => {
            connection.close(code::PROTOCOL, error.to_string().as_bytes());
            return Err(("no_hello", error.to_string()));
        }
    };
    let label = Label { id: format!("{cluster}/{from}/in"), cluster, trust_domain: domain, dialled: false };
    Ok((Arc::new(Tunnel::new(label, hello.gateway, (context.endpoint.clone(), connection), Instant::now())), channel))
}

/// The identity that the handshake verified.
fn peer(connection: &quinn::Connection) -> Option<SpiffeId> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    tls::peer_spiffe(Some(&chain))
}

async fn serve(context: &Context, tunnel: &Arc<Tunnel>, channel: Channel) {
    context.links.up(tunnel.clone());
    tokio::select! {
        () = remote::serve_all(context, tunnel) => {}
        reason = channel.converse(context, tunnel) => {
            tracing::debug!(tunnel = tunnel.label.id, %reason, "a peer's tunnel ended");
        }
    }
    tunnel.close(code::PROTOCOL, "the control stream ended");
    tunnel.count(&context.metrics);
    context.links.down(tunnel);
}
