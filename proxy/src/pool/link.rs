//! Connections over a link (DESIGN.md decision 17): a request takes an idle inner connection or one is opened, up to
//! 32; only then do requests share. The remote gateway picks the endpoint of each connection; so that every endpoint
//! gets its part, connections are opened until as many endpoints are covered as there are, and requests are balanced
//! over the endpoints, not over the connections.
//!
//! Connections over a gateway that drains, this cluster's or the other's, take requests only until the first one beside
//! them is open: nothing has to wait for a handover.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
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
use crate::{
    body::Body,
    notices::{Leaving, State, Way},
    snapshot::{Vital, now},
};

/// Inner connections a (proxy, service, cluster), over all workers.
pub(crate) const MOST: usize = 32;
/// Kept open a worker while a service is in use, so that one that ends is missed by nobody.
const WARM: usize = 2;
/// The longest life of one: new endpoints get their part.
const LIFE: Duration = Duration::from_secs(600);

/// Where there is a connection, others are not tried for so long after one could not be opened.
const AFTER_FAILURE: Duration = Duration::from_millis(200);
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
    /// What it leads over.
    pub(crate) way: Way,
    pub(crate) peer: Rc<Peer>,
    /// What is known of the endpoint it leads to.
    pub(crate) vital: Arc<Vital>,
    open: Cell<u32>,
    until: Duration,
    /// The worst that was heard of its way; what was lost is not taken again when its way is back.
    heard: Cell<State>,
}

/// Counts a request on a link until it is dropped.
pub(crate) struct Using(pub(crate) Rc<Link>);

impl Drop for Using {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

impl Link {
    pub(crate) fn new(
        sender: SendRequest<Body>,
        accept: Accept,
        gateway: SocketAddr,
        way: Way,
        peer: Peer,
        vital: Arc<Vital>,
    ) -> Rc<Self> {
        let until = now() + LIFE.mul_f64(0.8 + 0.2 * fastrand::f64());
        let (sender, open, heard) = (RefCell::new(sender), Cell::new(0), Cell::new(way.state()));
        Rc::new(Self { sender, accept, gateway, way, peer: Rc::new(peer), vital, open, until, heard })
    }

    pub(crate) fn enter(self: &Rc<Self>) -> Using {
        self.open.set(self.open.get() + 1);
        Using(Rc::clone(self))
    }

    fn is_alive(&self) -> bool {
        now() < self.until && !self.sender.borrow().is_closed() && self.heard.get() != State::Lost
    }

    fn hear(&self, state: State) {
        self.heard.set(self.heard.get().max(state));
    }

    fn is_lasting(&self) -> bool {
        self.heard.get() == State::Up
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

/// What a request asks for.
pub(crate) struct Ask<'a> {
    /// Usable endpoints of the place.
    pub(crate) usable: u32,
    /// Connections that are this worker's part.
    pub(crate) most: usize,
    /// Endpoints that it was tried at already: taken only when there is no other.
    pub(crate) tried: &'a [Arc<Vital>],
    /// Remote gateways that it was lost with: the same.
    pub(crate) lost: &'a [String],
    /// Whether a new connection has a way to lead over; asked only when those there are go away.
    pub(crate) has_way: &'a dyn Fn() -> bool,
    /// Chance.
    pub(crate) random: u64,
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
    /// Chooses for a request.
    pub(crate) fn choose(&self, key: &LinkKey, ask: &Ask<'_>) -> Choice {
        let mut all = self.0.borrow_mut();
        let bundle = all.entry(key.clone()).or_default();
        bundle.links.retain(|link| link.is_alive());
        bundle.choose(ask)
    }

    /// Whether there is no connection and none is being opened: then one is announced, as by [`Choice::open`].
    pub(crate) fn lacks(&self, key: &LinkKey) -> bool {
        let mut all = self.0.borrow_mut();
        let bundle = all.entry(key.clone()).or_default();
        bundle.links.retain(|link| link.is_alive());
        let lacks = bundle.links.is_empty() && bundle.opening == 0;
        bundle.opening += usize::from(lacks);
        lacks
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

    /// Something that connections lead over is lost or drains.
    pub(crate) fn hear(&self, left: &Leaving) {
        self.each(|key, link| {
            if left.means(link.gateway, &key.cluster, &link.accept.tunnel) {
                link.hear(left.state);
            }
        });
    }

    /// Asks the ways of all connections how they stand: something was missed, or is known here before it was heard.
    pub(crate) fn look(&self) {
        self.each(|_, link| link.hear(link.way.state()));
    }

    /// Lets go of what is in this state or a worse one: each ends with its last request.
    pub(crate) fn retire(&self, state: State) {
        for bundle in self.0.borrow_mut().values_mut() {
            bundle.links.retain(|link| link.heard.get() < state);
        }
    }

    fn each(&self, tell: impl Fn(&LinkKey, &Link)) {
        for (key, bundle) in self.0.borrow().iter() {
            bundle.links.iter().for_each(|link| tell(key, link));
        }
    }
}

impl Bundle {
    fn choose(&mut self, ask: &Ask<'_>) -> Choice {
        let lasts = self.links.iter().any(|link| link.is_lasting());
        if lasts || !(ask.has_way)() {
            self.links.retain(|link| link.is_lasting());
        }
        let link = self.least_used(ask);
        // What goes away soon counts for nothing when it is decided whether to open another one.
        let (held, covered) = if lasts { (self.links.len(), endpoints(&self.links)) } else { (0, vec![]) };
        let uncovered = covered.len() + self.opening < (ask.usable as usize).min(ask.most);
        let cold = held + self.opening < WARM;
        let busy = link.as_ref().is_none_or(|link| link.open.get() > 0) && self.opening == 0;
        let room = held + self.opening < ask.most;
        let failed_lately = self.failed.as_ref().is_some_and(|(at, _)| now() < *at + AFTER_FAILURE);
        let wanted = (uncovered || cold || busy) && (link.is_none() || !failed_lately);
        let open = (wanted && room).then(|| {
            // Beyond covering all, the remote gateway picks the one with the fewest connections by itself.
            let avoided = covered.iter().filter(|vital| uncovered || vital.is_ejected());
            avoided.map(|vital| vital.upstream.to_string()).collect()
        });
        self.opening += usize::from(open.is_some());
        Choice { link, open }
    }

    /// The connection for a request: requests are balanced over endpoints, and of one over its connections.
    fn least_used(&self, ask: &Ask<'_>) -> Option<Rc<Link>> {
        let safe: Vec<_> = self.links.iter().filter(|link| !ask.lost.contains(&link.accept.gateway)).cloned().collect();
        let links = if safe.is_empty() { &self.links } else { &safe };
        let covered = endpoints(links);
        let fit = |vital: &Arc<Vital>| !vital.is_ejected() && !ask.tried.iter().any(|one| Arc::ptr_eq(one, vital));
        let fitting: Vec<_> = covered.iter().filter(|vital| fit(vital)).cloned().collect();
        let candidates = if fitting.is_empty() { &covered } else { &fitting };
        let leads = |link: &Rc<Link>, vital: &Arc<Vital>| Arc::ptr_eq(&link.vital, vital);
        let open_at =
            |vital: &Arc<Vital>| links.iter().filter(|link| leads(link, vital)).map(|link| link.open.get()).sum();
        let load = |index: usize| Load { weight: 1, open: candidates.get(index).map_or(0, open_at) };
        let chosen = balance::pick(candidates.len(), load, ask.random).and_then(|index| candidates.get(index))?;
        links.iter().filter(|link| leads(link, chosen)).min_by_key(|link| link.open.get()).cloned()
    }
}

/// The endpoints that connections lead to, each once.
fn endpoints(links: &[Rc<Link>]) -> Vec<Arc<Vital>> {
    let mut all: Vec<Arc<Vital>> = vec![];
    for link in links {
        if !all.iter().any(|one| Arc::ptr_eq(one, &link.vital)) {
            all.push(Arc::clone(&link.vital));
        }
    }
    all
}
