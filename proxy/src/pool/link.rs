//! Connections over a link (DESIGN.md decision 17): a request takes an idle inner connection or one is opened, up to
//! 32; only then do requests share. The remote gateway picks the endpoint of each connection; so that every endpoint
//! gets its part, connections are opened until as many endpoints are covered as there are, and requests are balanced
//! over the endpoints, not over the connections.

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
use tokio::sync::{Notify, watch};

use super::Peer;
use crate::{
    body::Body,
    notices::Path,
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
    /// How the path stands that it leads over.
    pub(crate) path: watch::Receiver<Path>,
    pub(crate) peer: Rc<Peer>,
    /// What is known of the endpoint it leads to.
    pub(crate) vital: Arc<Vital>,
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
    pub(crate) fn new(
        sender: SendRequest<Body>,
        accept: Accept,
        gateway: SocketAddr,
        path: watch::Receiver<Path>,
        peer: Peer,
        vital: Arc<Vital>,
    ) -> Rc<Self> {
        let until = now() + LIFE.mul_f64(0.8 + 0.2 * fastrand::f64());
        let (sender, open) = (RefCell::new(sender), Cell::new(0));
        Rc::new(Self { sender, accept, gateway, path, peer: Rc::new(peer), vital, open, until })
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
    /// Endpoints that were `tried` already are taken only when there is no other.
    pub(crate) fn choose(&self, key: &LinkKey, usable: u32, most: usize, tried: &[Arc<Vital>], random: u64) -> Choice {
        let mut all = self.0.borrow_mut();
        let bundle = all.entry(key.clone()).or_default();
        bundle.links.retain(|link| link.is_alive());
        bundle.choose(usable as usize, most, tried, random)
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
    fn choose(&mut self, usable: usize, most: usize, tried: &[Arc<Vital>], random: u64) -> Choice {
        let mut covered: Vec<&Arc<Vital>> = vec![];
        for link in &self.links {
            if !covered.iter().any(|one| Arc::ptr_eq(one, &link.vital)) {
                covered.push(&link.vital);
            }
        }
        let fit = |vital: &Arc<Vital>| !vital.is_ejected() && !tried.iter().any(|one| Arc::ptr_eq(one, vital));
        let fitting: Vec<_> = covered.iter().copied().filter(|vital| fit(vital)).collect();
        let candidates = if fitting.is_empty() { &covered } else { &fitting };
        let open_at = |vital: &Arc<Vital>| -> u32 {
            self.links.iter().filter(|link| Arc::ptr_eq(&link.vital, vital)).map(|link| link.open.get()).sum()
        };
        let load = |index: usize| Load { weight: 1, open: candidates.get(index).map_or(0, |vital| open_at(vital)) };
        let chosen = balance::pick(candidates.len(), load, random).and_then(|index| candidates.get(index));
        let of_chosen = self.links.iter().filter(|link| chosen.is_some_and(|vital| Arc::ptr_eq(&link.vital, vital)));
        let link = of_chosen.min_by_key(|link| link.open.get()).cloned();
        let uncovered = covered.len() + self.opening < usable.min(most);
        let cold = self.links.len() + self.opening < WARM;
        let busy = link.as_ref().is_none_or(|link| link.open.get() > 0) && self.opening == 0;
        let room = self.links.len() + self.opening < most;
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
}
