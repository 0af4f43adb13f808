//! DNS over UDP and TCP: what is the mesh's is answered from the table, everything else by the system's resolvers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use hickory_proto::{
    op::{Metadata, OpCode, ResponseCode},
    rr::Record,
};
use hickory_resolver::{
    TokioResolver,
    net::{DnsError, NetError},
};
use hickory_server::{
    Server,
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use super::zone::{self, Answer, Table};
use crate::{drain::Drain, listen};

/// A TCP connection that asks nothing in so long is closed.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers that wait on one TCP connection.
const TCP_ANSWERS: usize = 64;

/// The table in force; empty before the first sync. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Zone(Arc<ArcSwapOption<Table>>);

impl Zone {
    /// Puts a table in force.
    pub fn set(&self, table: Table) {
        self.0.store(Some(Arc::new(table)));
    }
}

/// Serves a zone on UDP and TCP until everything has to close.
///
/// # Errors
/// When the address cannot be bound.
pub fn serve(address: SocketAddr, zone: Zone, drain: Drain) -> std::io::Result<impl Future<Output = ()> + Send> {
    let (udp, tcp) = (listen::udp(address)?, listen::tcp(address)?);
    let resolver = TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build);
    if let Err(error) = &resolver {
        tracing::warn!(%error, "the system has no resolvers; only names of the mesh are answered");
    }
    Ok(async move {
        let mut server = Server::new(Handler { zone, resolver: resolver.ok() });
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, TCP_ANSWERS);
        drain.closed().await;
        let _ = server.shutdown_gracefully().await;
    })
}

struct Handler {
    zone: Zone,
    resolver: Option<TokioResolver>,
}

struct Said {
    code: ResponseCode,
    records: Vec<Record>,
    authority: Vec<Record>,
    own: bool,
}

impl Handler {
    async fn decide(&self, request: &Request) -> Said {
        let failed = |code| Said { code, records: vec![], authority: vec![], own: false };
        if request.metadata.op_code != OpCode::Query {
            return failed(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return failed(ResponseCode::FormErr) };
        let (name, kind) = (info.query.original().name().clone(), info.query.query_type());
        match zone::answer(self.zone.0.load().as_deref(), &name, kind) {
            Answer::Say { code, records, authority } => Said { code, records, authority, own: true },
            Answer::Elsewhere => match &self.resolver {
                None => failed(ResponseCode::Refused),
                Some(resolver) => match resolver.lookup(name, kind).await {
                    Ok(found) => Said { records: found.answers().to_vec(), ..failed(ResponseCode::NoError) },
                    Err(error) => failed(code_of(&error)),
                },
            },
        }
    }
}

fn code_of(error: &NetError) -> ResponseCode {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => none.response_code,
        _ => ResponseCode::ServFail,
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut out: R) -> ResponseInfo {
        let said = self.decide(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = said.code;
        metadata.authoritative = said.own;
        metadata.recursion_available = self.resolver.is_some();
        let none: &[Record] = &[];
        let response = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            &said.records,
            none,
            &said.authority,
            none,
        );
        match out.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "a DNS answer could not be sent");
                hickory_proto::op::Header { metadata, counts: hickory_proto::op::HeaderCounts::default() }.into()
            }
        }
    }
}
