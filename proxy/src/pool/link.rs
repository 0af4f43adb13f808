//! Connections over a link (DESIGN.md decision 17): a request takes an idle inner connection or one is opened, up to
//! 32; only then do requests share. The remote gateway picks the endpoint of each connection; so that every endpoint
//! gets its part, connections are opened until as many endpoints are covered as there are, and requests are balanced
//! over the endpoints, not over the connections.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use hyper::client::conn::http2::SendRequest;
use isthmus_core::{
    balance::{self, Load},
    name::{ClusterName, ServiceName},
};
use isthmus_wire::tunnel::Accept;
use tokio::sync::Notify;

use super::Peer;
use crate::{body::Body, snapshot::now};

/// Inner connections a (proxy, service, cluster), over all workers.
pub(crate) const MOST: usize = 32;
/// The longest life of one: new endpoints get their part.
const LIFE: Duration = Duration::from_secs(600);

/// The longest a request waits for an opening of another one.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What connections of a link are for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct LinkKey {
    pub(crate) service: ServiceName,
    pub(crate) port: u16,
    pub(crate) subset: Option<String>,
    pub(crate) cluster: ClusterName,
}

/// An inner connection to an endpoint of another cluster.
pub(crate) struct Link {
    pub(crate) sender: RefCell<SendRequest<Body>>,
    pub(crate) accept: Accept,
    pub(crate) gateway: SocketAddr,
    pub(crate) peer: Rc<Peer>,
    open: Cell<u32>,
    until: Duration,
}

/// Counts a request on a link until it is dropped.
pub(crate) struct Using(pub(crate) Rc<Link>);

impl Drop for Using {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

impl Link {
    pub(crate) fn new(sender: SendRequest<Body>, accept: Accept, gateway: SocketAddr, peer: Peer) -> Rc<Self> {
        let until = now() + LIFE.mul_f64(0.8 + 0.2 * fastrand::f64());
        let (sender, open) = (RefCell::new(sender), Cell::new(0));
        Rc::new(Self { sender, accept, gateway, peer: Rc::new(peer), open, until })
    }

    pub(crate) fn enter(self: &Rc<Self>) -> Using {
        self.open.set(self.open.get() + 1);
        Using(Rc::clone(self))
    }

    fn is_alive(&self) -> bool {
        now() < self.until && !self.sender.borrow().is_closed()
    }
}

/// The connections of one key.
#[derive(Default)]
pub(crate) struct Bundle {
    links: Vec<Rc<Link>>,
    opening: usize,
    /// Requests that wait for an opening under way.
    ended: Rc<Notify>,
    /// When an opening last failed, and why.
    failed: Option<(Duration, String)>,
}

/// What to do for a request.
pub(crate) struct Choice {
    /// Take this one.
    pub(crate) link: Option<Rc<Link>>,
    /// Open another one, at endpoints other than these.
    pub(crate) open: Option<Vec<String>>,
}

/// A worker's links.
#[derive(Default)]
pub(crate) struct Links(RefCell<HashMap<LinkKey, Bundle>>);

impl Links {
    /// Chooses for a request to a place with `usable` endpoints; `most` connections are this worker's part.
    pub(crate) fn choose(&self, key: &LinkKey, usable: u32, most: usize, random: u64) -> Choice {
        let mut all = self.0.borrow_mut();
        let bundle = all.entry(key.clone()).or_default();
        bundle.links.retain(|link| link.is_alive());
        bundle.choose(usable as usize, most, random)
    }

    /// An opening announced by [`Choice::open`] ended.
    pub(crate) fn opened(&self, key: &LinkKey, link: Result<Rc<Link>, String>) {
        if let Some(bundle) = self.0.borrow_mut().get_mut(key) {
            bundle.opening = bundle.opening.saturating_sub(1);
            match link {
                Ok(link) => bundle.links.push(link),
                Err(reason) => bundle.failed = Some((now(), reason)),
            }
            bundle.ended.notify_waiters();
        }
    }

    /// Waits until an opening under way ends: many requests at once need no connection each. Says why it failed.
    pub(crate) async fn ended(&self, key: &LinkKey) -> Result<(), String> {
        let began = now();
        let ended = self.0.borrow().get(key).map(|bundle| Rc::clone(&bundle.ended));
        if let Some(ended) = ended {
            let _ = tokio::time::timeout(LONGEST_WAIT, ended.notified()).await;
        }
        let all = self.0.borrow();
        let failed = all.get(key).filter(|bundle| bundle.links.is_empty()).and_then(|bundle| bundle.failed.clone());
        match failed {
            Some((at, reason)) if at >= began => Err(reason),
            _ => Ok(()),
        }
    }

    /// A path was lost: what leads over it is used no more.
    pub(crate) fn drop_path(&self, gateway: SocketAddr, cluster: &ClusterName) {
        for (key, bundle) in self.0.borrow_mut().iter_mut() {
            if key.cluster == *cluster {
                bundle.links.retain(|link| link.gateway != gateway);
            }
        }
    }
}

impl Bundle {
    fn choose(&mut self, usable: usize, most: usize, random: u64) -> Choice {
        let endpoints: Vec<&str> = self
            .links
            .iter()
            .map(|link| link.accept.endpoint_id.as_str())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let open_at = |id: &str| -> u32 {
            self.links.iter().filter(|link| link.accept.endpoint_id == id).map(|link| link.open.get()).sum()
        };
        let load = |index: usize| Load { weight: 1, open: endpoints.get(index).map_or(0, |id| open_at(id)) };
        let chosen = balance::pick(endpoints.len(), load, random).and_then(|index| endpoints.get(index).copied());
        let of_chosen = self.links.iter().filter(|link| Some(link.accept.endpoint_id.as_str()) == chosen);
        let link = of_chosen.min_by_key(|link| link.open.get()).cloned();
        let uncovered = endpoints.len() + self.opening < usable.min(most);
        let busy = link.as_ref().is_none_or(|link| link.open.get() > 0) && self.opening == 0;
        let room = self.links.len() + self.opening < most;
        let open = ((uncovered || busy) && room).then(|| {
            // Beyond covering all, the remote gateway picks the one with the fewest connections by itself.
            if uncovered { endpoints.iter().map(|id| (*id).to_owned()).collect() } else { vec![] }
        });
        self.opening += usize::from(open.is_some());
        Choice { link, open }
    }
}
