//! What is told of one exchange: who, whom, what, and how it ended.

use std::{borrow::Cow, sync::Arc, time::Duration};

use isthmus_core::{
    name::{ServiceName, SpiffeId},
    retry::Fault,
};
use isthmus_wire::tunnel::Metadata;

use super::head::Head;

/// Which side tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reporter {
    Source,
    Destination,
}

impl Reporter {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// One end of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Party {
    pub(crate) metadata: Metadata,
    pub(crate) principal: String,
}

impl Party {
    pub(crate) fn new(metadata: Metadata, id: Option<&SpiffeId>) -> Self {
        Self { metadata, principal: id.map_or_else(String::new, ToString::to_string) }
    }

    fn labels(&self) -> [&str; 8] {
        let known = |text: &'_ str| -> &'static str { if text.is_empty() { "unknown" } else { "" } };
        let or = |text| -> &str { if known(text).is_empty() { text } else { "unknown" } };
        let m = &self.metadata;
        [
            or(&m.workload),
            or(&m.namespace),
            or(&self.principal),
            or(&m.app),
            or(&m.version),
            or(&m.cluster),
            or(&m.canonical_service),
            if m.canonical_revision.is_empty() { "latest" } else { &m.canonical_revision },
        ]
    }
}

/// The service called, as labels have it.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) host: Arc<str>,
    name: Arc<str>,
    namespace: Arc<str>,
}

impl Called {
    pub(crate) fn service(service: &ServiceName) -> Self {
        let (name, namespace) = (service.name().into(), service.namespace().into());
        Self { host: service.clusterset_host().into(), name, namespace }
    }

    /// What is no service of the mesh (Istio's word for it).
    pub(crate) fn passthrough() -> Self {
        let name: Arc<str> = "PassthroughCluster".into();
        Self { host: Arc::clone(&name), name, namespace: "unknown".into() }
    }
}

/// Everything that a line and a metric say of one request or connection.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) reporter: Reporter,
    pub(crate) source: Arc<Party>,
    pub(crate) destination: Arc<Party>,
    pub(crate) called: Arc<Called>,
    pub(crate) mutual_tls: bool,
    pub(crate) protocol: &'static str,
    pub(crate) code: u16,
    pub(crate) grpc_status: String,
    pub(crate) fault: Option<Fault>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) duration: Duration,
    /// None: opaque bytes.
    pub(crate) head: Option<Head>,
    pub(crate) upstream: Arc<str>,
    pub(crate) route: Cow<'static, str>,
}

impl Record {
    /// Of a connection, or of a request before anything is known of its end.
    pub(crate) fn new(
        reporter: Reporter,
        [source, destination]: [Arc<Party>; 2],
        called: Arc<Called>,
        upstream: Arc<str>,
    ) -> Self {
        Self {
            reporter,
            source,
            destination,
            called,
            mutual_tls: true,
            protocol: "tcp",
            code: 0,
            grpc_status: String::new(),
            fault: None,
            received: 0,
            sent: 0,
            duration: Duration::ZERO,
            head: None,
            upstream,
            route: Cow::Borrowed(""),
        }
    }

    /// The same, of this request.
    pub(crate) fn request(self, head: Head, protocol: &'static str, received: u64) -> Self {
        Self { head: Some(head), protocol, received, ..self }
    }

    /// What the head says, if there is one.
    pub(crate) fn said(&self, pick: fn(&Head) -> &str) -> &str {
        self.head.as_ref().map_or("", pick)
    }

    pub(crate) fn flag(&self) -> &'static str {
        self.fault.map_or("-", Fault::flag)
    }

    pub(super) fn labels<'a>(&'a self, code: &'a str) -> Vec<&'a str> {
        let mut labels = Vec::with_capacity(super::REQUEST_LABELS.len());
        labels.push(self.reporter.word());
        labels.extend(self.source.labels());
        labels.extend(self.destination.labels());
        labels.extend([&*self.called.host, &*self.called.name, &*self.called.namespace]);
        // Istio: the client's side does not know whether the connection was secured.
        let policy = match (self.reporter, self.mutual_tls) {
            (Reporter::Source, _) => "unknown",
            (Reporter::Destination, true) => "mutual_tls",
            (Reporter::Destination, false) => "none",
        };
        labels.extend([self.protocol, self.flag(), policy]);
        if self.protocol != "tcp" {
            labels.extend([code, &self.grpc_status]);
        }
        labels
    }
}
