//! A worker's connections: HTTP/1.1 one request at a time, and links to other clusters that requests may share.

pub(crate) mod link;

use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
};

use hyper::client::conn::http1::SendRequest;
use isthmus_core::name::{ServiceName, SpiffeId};
use isthmus_wire::tunnel::Metadata;
use prost::Message;

use crate::{
    body::Body,
    dial::{Dial, From},
    fronted::Arrived,
    telemetry::Party,
};

/// Idle connections kept to one place.
const MOST_IDLE: usize = 256;

/// Whom a connection leads to: what it says of itself, once it has.
pub(crate) struct Peer {
    arrived: Option<Arrived>,
    identity: Option<SpiffeId>,
    /// What is known before it has said anything.
    assumed: Metadata,
    party: OnceCell<Arc<Party>>,
    assumed_party: OnceCell<Arc<Party>>,
}

impl Peer {
    pub(crate) fn new(arrived: Option<Arrived>, identity: Option<SpiffeId>, assumed: Metadata) -> Self {
        Self { arrived, identity, assumed, party: OnceCell::new(), assumed_party: OnceCell::new() }
    }

    /// Whether it has said who it is.
    pub(crate) fn is_known(&self) -> bool {
        self.arrived.as_ref().is_some_and(|arrived| arrived.get().is_some())
    }

    /// For labels.
    pub(crate) fn party(&self) -> Arc<Party> {
        let said = || {
            let bytes = self.arrived.as_ref()?.get()?.clone();
            let metadata = Metadata::decode(bytes).ok()?;
            // A record may say nothing of its cluster; the connection knows it.
            let cluster =
                if metadata.cluster.is_empty() { self.assumed.cluster.clone() } else { metadata.cluster.clone() };
            Some(Arc::new(Party::new(Metadata { cluster, ..metadata }, self.identity.as_ref())))
        };
        if let Some(party) = self.party.get() {
            return Arc::clone(party);
        }
        match said() {
            Some(party) => Arc::clone(self.party.get_or_init(|| party)),
            None => Arc::clone(
                self.assumed_party.get_or_init(|| Arc::new(Party::new(self.assumed.clone(), self.identity.as_ref()))),
            ),
        }
    }
}

/// Where an HTTP/1.1 connection leads.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) from: From,
    /// Service and port inside; none: a plain hop.
    pub(crate) inside: Option<(ServiceName, u16)>,
}

impl Place {
    /// A service's port, inside.
    pub(crate) fn inside(address: SocketAddr, service: ServiceName, port: u16) -> Self {
        Self { address, from: From::Any, inside: Some((service, port)) }
    }

    /// A plain hop.
    pub(crate) fn plain(dial: Dial) -> Self {
        Self { address: dial.to, from: dial.from, inside: None }
    }
}

/// An HTTP/1.1 connection.
pub(crate) struct Http1 {
    pub(crate) sender: SendRequest<Body>,
    pub(crate) peer: std::rc::Rc<Peer>,
}

/// A worker's HTTP/1.1 connections.
#[derive(Default)]
pub(crate) struct Http1Pool(RefCell<HashMap<Place, Vec<Http1>>>);

impl Http1Pool {
    /// An idle connection; those that closed are dropped on the way.
    pub(crate) fn take(&self, place: &Place) -> Option<Http1> {
        let mut pool = self.0.borrow_mut();
        let idle = pool.get_mut(place)?;
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let one = idle.get(at)?;
            if one.sender.is_closed() {
                idle.swap_remove(at);
            } else if one.sender.is_ready() {
                return Some(idle.swap_remove(at));
            }
        }
        None
    }

    /// Keeps a connection; it may still carry the rest of its answer.
    pub(crate) fn give(&self, place: Place, connection: Http1) {
        let mut pool = self.0.borrow_mut();
        let idle = pool.entry(place).or_default();
        if idle.len() < MOST_IDLE && !connection.sender.is_closed() {
            idle.push(connection);
        }
    }

    /// Drops what closed, in every place.
    pub(crate) fn sweep(&self) {
        self.0.borrow_mut().retain(|_, idle| {
            idle.retain(|one| !one.sender.is_closed());
            !idle.is_empty()
        });
    }
}
