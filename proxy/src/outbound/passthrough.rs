//! What is for no service of the mesh: plain hops, and hosts outside.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;
use isthmus_core::retry::Fault;

use super::{Routed, Seen, explain, respond};
use crate::{
    body::Body,
    dial::Dial,
    forward::{self, Outcome},
    telemetry::Record,
    worker::Worker,
};

/// Where a plain hop leads, and how the access log names it.
pub(crate) struct Plain {
    address: SocketAddr,
    name: Arc<str>,
}

impl Plain {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self { address, name: address.to_string().into() }
    }
}

/// A host that is no service of the mesh: through, to the host itself.
pub(super) async fn elsewhere(
    worker: &Rc<Worker>,
    seen: Seen,
    host: String,
    port: Option<u16>,
    request: Request<Incoming>,
) -> Response<Body> {
    if host.ends_with(".svc.clusterset.local") || host.ends_with(".svc.cluster.local") || host.is_empty() {
        let detail = format!("no service of this name is known in cluster {}", worker.shared.config.common.cluster);
        let outcome = Routed::failed(Fault::NoRouteFound, detail).outcome;
        let (record, measured) = seen.record(worker, &worker.shared.passthrough, &worker.shared.none);
        return respond(worker, measured, record, outcome);
    }
    let resolved = tokio::net::lookup_host((host.as_str(), port.unwrap_or(80))).await;
    let address = match resolved.map(|mut addresses| addresses.next()) {
        Ok(Some(address)) => address,
        Ok(None) => return explain(Fault::NoHealthyUpstream, &host, "the name has no address"),
        Err(error) => return explain(Fault::NoHealthyUpstream, &host, &error.to_string()),
    };
    plain(worker, seen, &Plain::to(address), request).await
}

/// Through, to this address.
pub(super) async fn plain(worker: &Rc<Worker>, seen: Seen, to: &Plain, request: Request<Incoming>) -> Response<Body> {
    let (record, measured) = seen.record(worker, &worker.shared.passthrough, &to.name);
    let outcome = match forward::plain(worker, Dial::outside(to.address), request.map(Body::Incoming)).await {
        Ok((answer, _)) => {
            // Nobody of the mesh, who could say what it is.
            let upstream = Arc::clone(&to.name);
            Outcome { answer: Ok(answer), detail: String::new(), peer: None, upstream, guard: None, late: None }
        }
        Err(failed) => Routed::failed(failed.fault, failed.detail).outcome,
    };
    respond(worker, measured, Record { mutual_tls: false, ..record }, outcome)
}
