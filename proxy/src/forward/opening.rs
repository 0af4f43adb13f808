//! An inner connection through a local gateway: for a link, or for one stream alone.

use std::{collections::BTreeSet, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use isthmus_core::{ladder::Tier, name::SpiffeId};
use isthmus_wire::tunnel::{Accept, Header};

use super::{Target, http2};
use crate::{
    connect::{ConnectError, Inner, LinkTo, Linked},
    fronted::Arrived,
    metadata,
    pool::{
        Peer,
        link::{Link, LinkKey},
    },
    snapshot::Remotes,
    worker::Worker,
};

/// Least time a stream through the gateways has to be answered (DESIGN.md decision 26).
const ANSWER_LEAST: Duration = Duration::from_millis(250);

/// An inner connection, what its other end says of itself, and how it was accepted by which local gateway.
pub(crate) type Streamed = (Linked, Arrived, Accept, SocketAddr);

/// All that opening needs, without the request it is for.
pub(crate) struct Opening {
    key: LinkKey,
    header: Header,
    identities: BTreeSet<SpiffeId>,
    remotes: Arc<Remotes>,
}

impl Opening {
    /// For a target in a tier, at endpoints other than those to `avoid` if there are any.
    pub(crate) fn new(target: &Target<'_>, tier: &Tier, key: &LinkKey, avoid: Vec<String>) -> Self {
        let labels = target.subset.and_then(|subset| target.view.service.subsets.get(subset));
        let header = Header {
            namespace: key.service.namespace().to_owned(),
            service: key.service.name().to_owned(),
            port: u32::from(key.port),
            labels: labels.map(|subset| subset.labels.clone().into_iter().collect()).unwrap_or_default(),
            avoid,
            cluster: key.cluster.to_string(),
            traceparent: target.traceparent.to_owned(),
            unready_too: tier.unready_too,
            ..Header::default()
        };
        let remotes = Arc::clone(&target.view.remotes);
        Self { key: key.clone(), header, identities: tier.identities.clone(), remotes }
    }

    /// Opens a link and puts it into the worker's.
    pub(super) async fn open(self, worker: &Rc<Worker>) -> Result<Rc<Link>, ConnectError> {
        let key = self.key.clone();
        // On a task of its own: a request that is cancelled must not leave an opening announced for ever.
        let worker = Rc::clone(worker);
        let opening = tokio::task::spawn_local(async move {
            let opened = self.connect(&worker).await;
            let told = opened.as_ref().map(Rc::clone).map_err(ToString::to_string);
            worker.links.opened(&key, told);
            opened
        });
        opening.await.unwrap_or_else(|_| Err(ConnectError::Shared("the opening was cut short".into())))
    }

    async fn connect(self, worker: &Rc<Worker>) -> Result<Rc<Link>, ConnectError> {
        let (stream, arrived, accept, gateway) = self.stream(worker, Inner::Http2).await?;
        let (cluster, zone) = (self.key.cluster.to_string(), accept.zone.clone());
        let assumed = metadata::assumed(&accept.endpoint_id, self.namespace(), cluster, zone);
        let identity = isthmus_runtime::tls::peer_spiffe(stream.stream().get_ref().1.peer_certificates());
        let peer = Peer::new(Some(arrived), identity, assumed);
        let sender = http2::handshake(stream).await.map_err(|error| ConnectError::Unreachable {
            to: self.key.cluster.to_string(),
            source: std::io::Error::other(error),
        })?;
        let way = worker.shared.notices.way(gateway, &self.key.cluster, &accept.tunnel);
        let vital = self.remotes.of(&self.key.cluster, &accept.endpoint_id);
        Ok(Link::new(sender, accept, gateway, way, peer, vital))
    }

    /// The namespace of its service.
    pub(crate) fn namespace(&self) -> &str {
        self.key.service.namespace()
    }

    /// An inner connection of any kind through a local gateway; through another one when that is what fails.
    pub(crate) async fn stream(&self, worker: &Rc<Worker>, inner: Inner) -> Result<Streamed, ConnectError> {
        let gateway_to = |not| worker.shared.gateway_to(&self.key.cluster, not);
        let first = gateway_to(None).ok_or(ConnectError::NoGateway)?;
        match self.through(worker, first, inner).await {
            Err(failed) if failed.is_of_gateway() => match gateway_to(Some(first)) {
                Some(second) => self.through(worker, second, inner).await,
                None => Err(failed),
            },
            streamed => streamed,
        }
    }

    async fn through(&self, worker: &Rc<Worker>, gateway: SocketAddr, inner: Inner) -> Result<Streamed, ConnectError> {
        let shared = &worker.shared;
        let rtt = shared.notices.rtt(gateway, &self.key.cluster);
        let answer_within = ANSWER_LEAST.max(rtt * 3);
        let mut header = self.header.clone();
        header.avoid.extend(self.remotes.ejected(&self.key.cluster));
        header.deadline_ms = u32::try_from(answer_within.as_millis()).unwrap_or(u32::MAX);
        let to = LinkTo { gateway, header, identities: &self.identities, inner, answer_within };
        let (stream, arrived, accept) = match shared.connector.link(to, &self.key.service).await {
            Err(ConnectError::Imposter { endpoint, reason }) => {
                self.distrust(&endpoint, &reason);
                return Err(ConnectError::Imposter { endpoint, reason });
            }
            linked => linked?,
        };
        Ok((stream, arrived, accept, gateway))
    }

    /// An endpoint without an identity of its service is avoided from now on: the remote gateway does not see who it
    /// is, and it would pick it again and again, since it never has a connection open.
    fn distrust(&self, endpoint: &str, reason: &str) {
        let LinkKey { service, cluster, .. } = &self.key;
        if self.remotes.of(cluster, endpoint).reject() {
            tracing::warn!(%service, %cluster, endpoint, reason, "an endpoint is not who it should be; it gets nothing");
        }
    }
}
