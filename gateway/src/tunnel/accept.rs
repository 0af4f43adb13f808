//! Takes tunnels that peers dial: a gateway's identity, of a cluster of the mesh, and a hello, before any stream.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_core::name::SpiffeId;
use isthmus_runtime::tls;
use rustls_pki_types::CertificateDer;
use tokio::sync::OwnedSemaphorePermit;

use super::{Label, Tunnel, code, control::Channel};
use crate::{context::Context, remote};

/// Handshake and hello within so long.
const LIMIT: Duration = Duration::from_secs(5);
/// With fewer free handshakes than this a dialler first proves its address.
const RETRY_BELOW: usize = 128;

/// Takes tunnels until the endpoint closes.
pub async fn accept_all(context: Context) {
    while let Some(incoming) = context.endpoint.accept().await {
        let busy = context.limits.handshakes.available_permits() < RETRY_BELOW;
        let Ok(permit) = context.limits.handshakes.clone().try_acquire_owned() else {
            count(&context, "overloaded");
            incoming.refuse();
            continue;
        };
        if busy && incoming.may_retry() && !incoming.remote_address_validated() {
            let _ = incoming.retry();
            continue;
        }
        tokio::spawn(take(context.clone(), incoming, permit));
    }
}

fn count(context: &Context, outcome: &str) {
    context.metrics.incoming.with_label_values(&[outcome]).inc();
}

async fn take(context: Context, incoming: quinn::Incoming, permit: OwnedSemaphorePermit) {
    let from = incoming.remote_address();
    match tokio::time::timeout(LIMIT, greet(&context, incoming)).await {
        Ok(Ok((tunnel, channel))) => {
            drop(permit);
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
    Ok((Arc::new(Tunnel::new(label, hello.gateway, connection, Instant::now())), channel))
}

/// The identity that the handshake verified.
fn peer(connection: &quinn::Connection) -> Option<SpiffeId> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    tls::peer_spiffe(Some(&chain))
}

async fn serve(context: &Context, tunnel: &Arc<Tunnel>, channel: Channel) {
    context.links.up(tunnel.clone());
    let streams = async {
        while let Ok(stream) = tunnel.connection.accept_bi().await {
            tokio::spawn(remote::serve(context.clone(), tunnel.clone(), stream));
        }
    };
    tokio::select! {
        () = streams => {}
        reason = channel.converse(context, tunnel) => {
            tracing::debug!(tunnel = tunnel.label.id, %reason, "a peer's tunnel ended");
        }
    }
    tunnel.close(code::PROTOCOL, "the control stream ended");
    tunnel.count(&context.metrics);
    context.links.down(tunnel);
}
