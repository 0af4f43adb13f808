//! DNS over UDP and TCP: what is the mesh's is answered from the table, everything else by the system's resolvers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use hickory_proto::{
    op::{Edns, Metadata, OpCode, ResponseCode},
    rr::{RData, Record, rdata::SOA},
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
use tokio::net::{TcpListener, UdpSocket};

use super::zone::{self, Answer, Table};
use crate::{drain::Drain, listen};

/// A TCP connection that asks nothing in so long is closed.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers that wait on one TCP connection.
const TCP_ANSWERS: usize = 64;
/// The longest answer by UDP, bytes: no larger one crosses every network whole (DNS flag day 2020).
const LONGEST_UDP: u16 = 1232;

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
    Ok(serve_on(udp, tcp, zone, drain))
}

/// As [`serve`], on sockets that are bound already.
pub async fn serve_on(udp: UdpSocket, tcp: TcpListener, zone: Zone, drain: Drain) {
    let resolver = TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build);
    if let Err(error) = &resolver {
        tracing::warn!(%error, "the system has no resolvers; only names of the mesh are answered");
    }
    let mut server = Server::new(Handler { zone, resolver: resolver.ok() });
    server.register_socket(udp);
    server.register_listener(tcp, TCP_IDLE, TCP_ANSWERS);
    drain.closed().await;
    let _ = server.shutdown_gracefully().await;
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
                    Err(error) => absence(&error),
                },
            },
        }
    }
}

/// What the resolver did not find, with the record that says how long that may be remembered (RFC 2308).
fn absence(error: &NetError) -> Said {
    let (code, soa) = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => (none.response_code, none.soa.as_deref()),
        _ => (ResponseCode::ServFail, None),
    };
    let record = |soa: &Record<SOA>| Record::from_rdata(soa.name.clone(), soa.ttl, RData::SOA(soa.data.clone()));
    Said { code, records: vec![], authority: soa.map(record).into_iter().collect(), own: false }
}

/// Who sends an OPT record gets one back (RFC 6891, 6.1.1); its size is what our answer keeps to.
fn edns(request: &Request) -> Option<Edns> {
    let asked = request.edns.as_ref()?;
    let mut edns = Edns::new();
    edns.set_max_payload(asked.max_payload().clamp(512, LONGEST_UDP)).set_version(0);
    Some(edns)
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut out: R) -> ResponseInfo {
        let said = self.decide(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = said.code;
        metadata.authoritative = said.own;
        metadata.recursion_available = self.resolver.is_some();
        let (none, edns): (&[Record], _) = (&[], edns(request));
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let response = builder.build(metadata, &said.records, none, &said.authority, none);
        match out.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "a DNS answer could not be sent");
                hickory_proto::op::Header { metadata, counts: hickory_proto::op::HeaderCounts::default() }.into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, str::FromStr};

    use hickory_proto::{
        op::{Message, MessageType, Query},
        rr::{Name, RData, RecordType},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::dns::Host;

    const LIMIT: Duration = Duration::from_secs(10);
    const NAME: &str = "details.bookinfo.svc.clusterset.local.";

    fn asked(name: &str) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_str(name).unwrap(), RecordType::A));
        message
    }

    fn question(name: &str) -> Vec<u8> {
        asked(name).to_vec().unwrap()
    }

    fn said(bytes: &[u8]) -> (ResponseCode, Vec<Ipv4Addr>) {
        let message = Message::from_vec(bytes).unwrap();
        let address = |record: &Record| match &record.data {
            RData::A(address) => Some(address.0),
            _ => None,
        };
        (message.metadata.response_code, message.answers.iter().filter_map(address).collect())
    }

    async fn by_udp(at: SocketAddr, name: &str) -> (ResponseCode, Vec<Ipv4Addr>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&question(name), at).await.unwrap();
        let mut buffer = [0; 1500];
        let length = tokio::time::timeout(LIMIT, socket.recv(&mut buffer)).await.unwrap().unwrap();
        said(&buffer[..length])
    }

    async fn by_tcp(at: SocketAddr, name: &str) -> (ResponseCode, Vec<Ipv4Addr>) {
        let (mut stream, question) = (TcpStream::connect(at).await.unwrap(), question(name));
        stream.write_u16(u16::try_from(question.len()).unwrap()).await.unwrap();
        stream.write_all(&question).await.unwrap();
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        said(&answer)
    }

    #[tokio::test]
    async fn real_packets_are_answered_over_udp_and_tcp_and_nothing_is_denied_too_soon() {
        let any = "127.0.0.1:0".parse().unwrap();
        let (udp, tcp) = (listen::udp(any).unwrap(), listen::tcp(any).unwrap());
        let (at_udp, at_tcp) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let (zone, (trigger, drain)) = (Zone::default(), Drain::pair());
        let serving = tokio::spawn(serve_on(udp, tcp, zone.clone(), drain));
        assert_eq!(by_udp(at_udp, NAME).await.0, ResponseCode::ServFail);
        let address = Ipv4Addr::new(127, 1, 11, 16);
        let host = Host { address: Some(address), ports: vec![] };
        zone.set(Table::new([(NAME.trim_end_matches('.').to_owned(), host)]));
        assert_eq!(by_udp(at_udp, NAME).await, (ResponseCode::NoError, vec![address]));
        assert_eq!(by_tcp(at_tcp, NAME).await, (ResponseCode::NoError, vec![address]));
        let nobody = "nobody.bookinfo.svc.clusterset.local.";
        assert_eq!(by_tcp(at_tcp, nobody).await.0, ResponseCode::NXDomain);
        let mut extended = asked(NAME);
        extended.edns = Some(Edns::new());
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&extended.to_vec().unwrap(), at_udp).await.unwrap();
        let mut buffer = [0; 1500];
        let length = tokio::time::timeout(LIMIT, socket.recv(&mut buffer)).await.unwrap().unwrap();
        let answer = Message::from_vec(&buffer[..length]).unwrap();
        assert!(answer.edns.is_some(), "who sends an OPT record gets one back");
        trigger.close("the test is over");
        tokio::time::timeout(LIMIT, serving).await.unwrap().unwrap();
    }

    #[test]
    fn an_absence_elsewhere_keeps_the_record_that_says_how_long_it_may_be_remembered() {
        let name = Name::from_str("nobody.example.").unwrap();
        let query = Query::query(name.clone(), RecordType::A);
        let mut none = hickory_resolver::net::NoRecords::new(query, ResponseCode::NXDomain);
        let soa = SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, 5);
        none.soa = Some(Box::new(Record::from_rdata(name, 60, soa)));
        let said = absence(&NetError::Dns(DnsError::NoRecordsFound(none)));
        assert_eq!((said.code, said.authority.len()), (ResponseCode::NXDomain, 1));
        assert_eq!(absence(&NetError::Timeout).code, ResponseCode::ServFail);
    }
}
