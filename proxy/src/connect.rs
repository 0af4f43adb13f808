//! Inner connections: to an endpoint of the own cluster straight, to another cluster through a local gateway.

use std::{collections::BTreeSet, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use isthmus_core::{
    model::Endpoint,
    name::{ServiceName, SpiffeId},
};
use isthmus_runtime::{
    identity::Identity,
    pass,
    tls::{self, Accept},
};
use isthmus_wire::{
    frame::{self, Kind},
    tunnel::{Answer, Header, Metadata, Reason, Refuse, answer},
};
use parking_lot::Mutex;
use prost::Message;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::fronted::{Arrived, Fronted};

/// What is spoken inside, by ALPN. Each says that metadata records are exchanged first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Inner {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Opaque bytes.
    Tcp,
}

impl Inner {
    pub(crate) const ALL: [Self; 3] = [Self::Http2, Self::Http1, Self::Tcp];

    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"isthmus-http1/1",
            Self::Http2 => b"isthmus-h2/1",
            Self::Tcp => b"isthmus-tcp/1",
        }
    }
}

/// Why there is no inner connection; nothing of the request was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no connection to {to}: {source}")]
    Unreachable { to: String, source: io::Error },
    #[error("{to} did not answer within {within:?}")]
    Timeout { to: String, within: Duration },
    #[error("endpoint {endpoint} is not who it should be: {reason}")]
    Imposter { endpoint: String, reason: String },
    #[error("gateway refuses: {} ({})", .0.detail, reason_word(.0))]
    Refused(Refuse),
    #[error("{0}")]
    Shared(String),
    #[error("no local gateway has a usable path to the cluster")]
    NoGateway,
}

impl ConnectError {
    /// Whether it is the local gateway that fails, so that another one may do better.
    pub(crate) fn is_of_gateway(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(refuse) => matches!(refuse.reason(), Reason::Draining | Reason::NoTunnel),
            _ => false,
        }
    }
}

fn reason_word(refuse: &Refuse) -> &'static str {
    refuse.reason().as_str_name()
}

/// A plain connection inside inner TLS, metadata frames around it.
pub(crate) type Inside<S> = Fronted<TlsStream<S>>;
pub(crate) type Direct = Inside<TcpStream>;
pub(crate) type Linked = Inside<Fronted<TcpStream>>;

/// Who may answer, what is spoken, and the configuration for both.
type Kept = (BTreeSet<SpiffeId>, Inner, Arc<ClientConfig>);

/// Makes inner connections; one a process, shared by workers.
pub(crate) struct Connector {
    identity: Identity,
    metadata: Bytes,
    /// One configuration a set of identities that may answer.
    configs: Mutex<Vec<Kept>>,
}

/// Where a stream through a gateway goes.
pub(crate) struct LinkTo<'a> {
    pub(crate) gateway: SocketAddr,
    pub(crate) header: Header,
    pub(crate) identities: &'a BTreeSet<SpiffeId>,
    pub(crate) inner: Inner,
    /// Limit of the gateway's answer.
    pub(crate) answer_within: Duration,
}

/// A local gateway takes a connection within so long, or another one is asked.
const GATEWAY_LIMIT: Duration = Duration::from_millis(250);
/// An accepted stream has so long to finish its handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(1);
/// What stands for the configurations kept: groups of a mesh's services.
const CONFIGS: usize = 512;

impl Connector {
    pub(crate) fn new(identity: Identity, metadata: &Metadata) -> Self {
        let metadata = frame::encode(Kind::Metadata, metadata).unwrap_or_default();
        Self { identity, metadata, configs: Mutex::new(vec![]) }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn metadata(&self) -> Bytes {
        self.metadata.clone()
    }

    fn config(&self, identities: &BTreeSet<SpiffeId>, inner: Inner) -> Arc<ClientConfig> {
        let mut configs = self.configs.lock();
        if let Some((_, _, config)) = configs.iter().find(|(ids, kind, _)| *kind == inner && ids == identities) {
            return Arc::clone(config);
        }
        let config = tls::client_config(&self.identity, Accept::Exactly(identities.clone()), &[inner.alpn()]);
        if configs.len() >= CONFIGS {
            configs.clear();
        }
        configs.push((identities.clone(), inner, Arc::clone(&config)));
        config
    }

    /// To an endpoint of the own cluster.
    pub(crate) async fn direct(
        &self,
        endpoint: &Endpoint,
        service: &ServiceName,
        port: u16,
        inner: Inner,
        within: Duration,
    ) -> Result<(Direct, Arrived), ConnectError> {
        let to = || endpoint.address.to_string();
        let unreachable = |source: io::Error| match tls::refusal(&source) {
            Some(reason) => ConnectError::Imposter { endpoint: to(), reason: reason.to_string() },
            None => ConnectError::Unreachable { to: to(), source },
        };
        let config = self.config(&BTreeSet::from([endpoint.identity.clone()]), inner);
        let connecting = async {
            let stream = TcpStream::connect(endpoint.address).await?;
            stream.set_nodelay(true)?;
            TlsConnector::from(config).connect(server_name(service, port)?, stream).await
        };
        match tokio::time::timeout(within, connecting).await {
            Ok(connected) => Ok(self.front(connected.map_err(unreachable)?)),
            Err(_) => Err(ConnectError::Timeout { to: to(), within }),
        }
    }

    /// Through a local gateway to another cluster.
    pub(crate) async fn link(
        &self,
        to: LinkTo<'_>,
        service: &ServiceName,
    ) -> Result<(Linked, Arrived, isthmus_wire::tunnel::Accept), ConnectError> {
        let gateway = to.gateway.to_string();
        let unreachable = |source| ConnectError::Unreachable { to: gateway.clone(), source };
        let port = u16::try_from(to.header.port).unwrap_or_default();
        let config = self.config(to.identities, to.inner);
        let opening = self.signed(&to.header).ok_or(ConnectError::NoGateway)?;
        let connecting = tokio::time::timeout(GATEWAY_LIMIT, TcpStream::connect(to.gateway));
        let stream = connecting.await.map_err(io::Error::from).flatten().map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let (fronted, answered) = Fronted::new(stream, opening, Kind::Answer, accepted);
        let name = server_name(service, port).map_err(unreachable)?;
        let handshake = TlsConnector::from(config).connect(name, fronted);
        tokio::pin!(handshake);
        // The limit is on the answer; once it is there, the handshake has a limit of its own.
        let timeout = |within| ConnectError::Timeout { to: gateway.clone(), within };
        let shaken = match tokio::time::timeout(to.answer_within, &mut handshake).await {
            Ok(shaken) => shaken,
            Err(_) if answered.get().is_none() => return Err(timeout(to.answer_within)),
            Err(_) => tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await.map_err(|_| timeout(HANDSHAKE_LIMIT))?,
        };
        let answer = answered.get().cloned();
        match (shaken, answer.and_then(|bytes| Answer::decode(bytes).ok()).and_then(|answer| answer.answer)) {
            (_, Some(answer::Answer::Refuse(refuse))) => Err(ConnectError::Refused(refuse)),
            (Ok(stream), Some(answer::Answer::Accept(accept))) => {
                let (inside, metadata) = self.front(stream);
                Ok((inside, metadata, accept))
            }
            (Err(error), Some(answer::Answer::Accept(accept))) => Err(match tls::refusal(&error) {
                Some(reason) => ConnectError::Imposter { endpoint: accept.endpoint_id, reason: reason.to_string() },
                None => unreachable(error),
            }),
            (Err(error), None) => Err(unreachable(error)),
            (Ok(_), None) => Err(unreachable(io::ErrorKind::InvalidData.into())),
        }
    }

    fn signed(&self, header: &Header) -> Option<Bytes> {
        let leaf = self.identity.leaf();
        let signed = pass::sign_header(leaf.pass.as_ref()?, header.encode_to_vec());
        frame::encode(Kind::SignedHeader, &signed).ok()
    }

    /// A frame that asks a local gateway for notices.
    pub(crate) fn subscription(&self) -> Option<Bytes> {
        let leaf = self.identity.leaf();
        let signed = pass::sign_header(leaf.pass.as_ref()?, vec![]);
        frame::encode(Kind::Subscribe, &signed).ok()
    }

    fn front<S>(&self, stream: TlsStream<S>) -> (Inside<S>, Arrived) {
        Fronted::new(stream, self.metadata(), Kind::Metadata, |_| Ok(()))
    }
}

/// Stops the handshake at once when the gateway refuses.
fn accepted(bytes: &Bytes) -> io::Result<()> {
    match Answer::decode(bytes.clone()).map(|answer| answer.answer) {
        Ok(Some(answer::Answer::Accept(_))) => Ok(()),
        Ok(Some(answer::Answer::Refuse(refuse))) => {
            let kind = match refuse.reason() {
                Reason::Timeout => io::ErrorKind::TimedOut,
                _ => io::ErrorKind::ConnectionRefused,
            };
            Err(io::Error::new(kind, refuse.detail))
        }
        Ok(None) => Err(io::Error::new(io::ErrorKind::InvalidData, "an answer that says nothing")),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

/// `<port>.<service>.<namespace>.svc.clusterset.local`: tells the inbound side which port is meant.
fn server_name(service: &ServiceName, port: u16) -> io::Result<ServerName<'static>> {
    ServerName::try_from(format!("{port}.{}", service.clusterset_host())).map_err(io::Error::other)
}

/// The service and port that an inner connection is for.
pub(crate) fn parse_server_name(name: &str) -> Option<(ServiceName, u16)> {
    let (port, host) = name.split_once('.')?;
    Some((ServiceName::from_host(host)?.0, port.parse().ok()?))
}
