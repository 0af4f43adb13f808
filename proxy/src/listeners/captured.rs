//! Connections that the rules of [`capture`](crate::capture) led here: what each was for, and on with it.
//!
//! Out: to a service of the mesh it goes as to that service's own address; to a workload with a sidecar by inner TLS as
//! opaque bytes, since it is that workload that is meant and no other; to anything else unread, to where it was going. In:
//! what was for the sidecar's own port is an inner connection, everything else the application's, as it came.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use isthmus_core::{model::port_protocol, retry::Fault, statement::Protocol};
use isthmus_runtime::{listen, places::Places};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{accept, service};
use crate::{
    capture::{INBOUND, Mode, OUTBOUND},
    detect::{Rewound, Spoken, detect_within},
    dial::Dial,
    error::Error,
    inbound::{self, Caller},
    outbound::nobody,
    snapshot::{Meant, View},
    stream::{self, Pinned},
    telemetry::{Record, Reporter},
    worker::Worker,
};

/// A client that says nothing for so long waits for the server to speak first.
pub(super) const SILENCE: Duration = Duration::from_millis(300);
/// Somewhere outside is there in this time, or it is not.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A connection to the outside that is silent for so long is asked whether it lives, and so often again.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(15));
/// Ports that are this sidecar's own, whatever the rules say: a connection to one of them is none of the application's.
const OWN: [u16; 7] = [15000, OUTBOUND, INBOUND, 15020, 15021, crate::capture::DNS, super::EXPLICIT];

/// Listens for both directions, on every address.
pub(super) fn listen(worker: &Rc<Worker>, mode: Mode, acceptor: &TlsAcceptor, unproven: &Places) -> Result<(), Error> {
    let everywhere = |port, transparent| {
        let listeners = listen::tcp_everywhere(port, transparent);
        listeners.map_err(Error::io(if transparent {
            "connections cannot be taken by TPROXY; the sidecar needs the capability NET_ADMIN for it"
        } else {
            "a port is not to be had"
        }))
    };
    for listener in everywhere(OUTBOUND, false)? {
        accept(worker, listener, outbound);
    }
    for listener in everywhere(INBOUND, mode == Mode::Tproxy)? {
        let (acceptor, unproven) = (acceptor.clone(), unproven.clone());
        accept(worker, listener, move |worker, stream| {
            let (acceptor, unproven) = (acceptor.clone(), unproven.clone());
            async move {
                match destination(&stream, mode) {
                    Ok(to) if to.port() == INBOUND => inbound::serve(worker, acceptor, unproven, stream).await,
                    Ok(to) if OWN.contains(&to.port()) => refuse(&worker, &stream, "inbound", "own_port"),
                    Ok(to) => plain(worker, stream, to).await,
                    Err(_) => refuse(&worker, &stream, "inbound", "half_open"),
                }
            }
        });
    }
    Ok(())
}

/// Where a connection was going before the rules took it; its own local address when they did not.
fn destination(stream: &TcpStream, mode: Mode) -> io::Result<SocketAddr> {
    let local = stream.local_addr()?;
    if mode == Mode::Tproxy {
        return Ok(local);
    }
    let socket = SockRef::from(stream);
    let original = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    // Without a translation there is no entry to ask for.
    Ok(original.ok().and_then(|address| address.as_socket()).unwrap_or(local))
}

fn refuse(worker: &Worker, stream: &TcpStream, port: &str, reason: &str) {
    worker.telemetry.borrow().metrics.refused.with_label_values(&[port, reason]).inc();
    reset(stream);
}

/// Ends a connection as the kernel ends one that nobody takes, not as one that was served.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

async fn outbound(worker: Rc<Worker>, client: TcpStream) {
    let (Ok(to), Ok(here)) = (destination(&client, Mode::Redirect), client.local_addr()) else { return };
    if to == here {
        // Whoever dials the sidecar itself would be led here again and again.
        return refuse(&worker, &client, "outbound", "loop");
    }
    let meant = worker.shared.snapshot.load().meant(to);
    match meant {
        Meant::Service(view, scope) => service(worker, view, scope, to.port(), client, Some(SILENCE)).await,
        Meant::Workload(view, endpoint, port) => workload(worker, &view, endpoint, port, client).await,
        Meant::Nobody => refuse(&worker, &client, "outbound", "unknown_address"),
        Meant::Outside => through(worker, client, to).await,
    }
}

/// To this workload and no other.
async fn workload(worker: Rc<Worker>, view: &Arc<View>, endpoint: usize, port: u16, mut client: TcpStream) {
    let pinned = Pinned { view, endpoint, port };
    if !stream::carry_to(&worker, &pinned, &mut client).await {
        reset(&client);
    }
}

/// To where it was going, unread.
async fn through(worker: Rc<Worker>, mut client: TcpStream, to: SocketAddr) {
    let began = std::time::Instant::now();
    let parties = [Arc::clone(&worker.shared.own), nobody(&worker)];
    let called = Arc::clone(&worker.shared.passthrough);
    let record = Record::new(Reporter::Source, parties, called, to.to_string().into());
    let mut record = Record { mutual_tls: false, ..record };
    worker.telemetry.borrow().opened(&record);
    match tokio::time::timeout(CONNECT_LIMIT, Dial::outside(to).connect()).await {
        Ok(Ok(mut server)) => {
            // The application's own keepalive ends here; that the other side is gone without a word is found out for it.
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1);
            let _ = SockRef::from(&server).set_tcp_keepalive(&keepalive);
            let carried = stream::both_ways(&mut client, &mut server, || {}).await;
            (record.received, record.sent) = (carried.received, carried.sent);
            if !carried.whole {
                record.fault = Some(Fault::UpstreamConnectionTermination);
                reset(&client);
                reset(&server);
            }
        }
        _ => {
            record.fault = Some(Fault::UpstreamConnectionFailure);
            reset(&client);
        }
    }
    record.duration = began.elapsed();
    worker.telemetry.borrow_mut().closed(&record);
}

/// To the application, from somebody without a sidecar: HTTP where it is that, with its metrics and its line, else bytes.
async fn plain(worker: Rc<Worker>, client: TcpStream, to: SocketAddr) {
    let offered = worker.shared.snapshot.load().workload(to);
    let protocol = offered.as_ref().and_then(|(view, _, port)| port_protocol(&view.service, *port));
    let called = offered.map_or_else(|| Arc::clone(&worker.shared.passthrough), |(view, ..)| Arc::clone(&view.called));
    let from = client.peer_addr().ok().map(|address| address.ip());
    let caller = Caller::unknown(called, Dial::application(to, worker.shared.config.capture, from));
    match protocol.unwrap_or_default() {
        Protocol::Tcp | Protocol::Tls => opaque(worker, caller, Rewound::fresh(client)).await,
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            inbound::http(worker, caller, Rewound::fresh(client)).await
        }
        Protocol::Detect => match detect_within(client, SILENCE).await {
            Ok((Spoken::Http, client)) => inbound::http(worker, caller, client).await,
            Ok((Spoken::Opaque, client)) => opaque(worker, caller, client).await,
            Err(error) => tracing::debug!(%error, "a client left before it said anything"),
        },
    }
}

async fn opaque(worker: Rc<Worker>, caller: Caller, mut client: Rewound<TcpStream>) {
    if !inbound::tcp(worker, caller, &mut client).await {
        reset(client.stream());
    }
}
