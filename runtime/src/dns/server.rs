//! DNS over UDP and TCP: what is the mesh's is answered from the table, everything else by the system's resolvers.
//!
//! Bounded in what strangers can make it hold: questions under way elsewhere, and connections, of which the oldest of
//! the fullest source ends for a new one. Nothing is logged a question: there are thousands.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use hickory_proto::{
    op::ResponseCode,
    rr::{RData, Record, rdata::SOA},
};
use hickory_resolver::{
    TokioResolver,
    net::{DnsError, NetError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
};

use super::{
    message::{Asked, Read, Said, read},
    zone::{self, Answer, Table},
};
use crate::{drain::Drain, listen, places::Places};

/// A TCP connection that asks nothing in so long, or does not take its answer, is closed.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// TCP connections at once.
const MAX_CONNECTIONS: usize = 256;
/// Questions that the system's resolvers are asked at once; a further one is told to come again (SERVFAIL).
const MAX_ELSEWHERE: usize = 512;
/// Longest datagram that is read: a question has some hundred bytes.
const LONGEST_DATAGRAM: usize = 4096;
/// A socket that fails is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_millis(50);

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
pub fn serve(address: SocketAddr, zone: Zone, drain: Drain) -> io::Result<impl Future<Output = ()> + Send> {
    let (udp, tcp) = (listen::udp(address)?, listen::tcp(address)?);
    Ok(serve_on(udp, tcp, zone, drain))
}

/// As [`serve`], on sockets that are bound already.
pub async fn serve_on(udp: UdpSocket, tcp: TcpListener, zone: Zone, drain: Drain) {
    let resolver = TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build);
    if let Err(error) = &resolver {
        tracing::warn!(%error, "the system has no resolvers; only names of the mesh are answered");
    }
    let elsewhere = Semaphore::new(MAX_ELSEWHERE);
    let server = Arc::new(Server { zone, resolver: resolver.ok(), elsewhere: Arc::new(elsewhere) });
    tokio::select! {
        () = by_udp(Arc::clone(&server), Arc::new(udp)) => {}
        () = by_tcp(server, tcp, drain.clone()) => {}
        () = drain.closed() => {}
    }
}

struct Server {
    zone: Zone,
    resolver: Option<TokioResolver>,
    elsewhere: Arc<Semaphore>,
}

impl Server {
    /// What the table says; `None`: it is for others to say.
    fn own(&self, asked: &Asked) -> Option<Said> {
        match zone::answer(self.zone.0.load().as_deref(), asked.name(), asked.kind()) {
            Answer::Say { code, records, authority } => Some(Said { code, records, authority, own: true }),
            Answer::Elsewhere => None,
        }
    }

    async fn elsewhere(&self, asked: &Asked) -> Said {
        let Some(resolver) = &self.resolver else { return Said::code(ResponseCode::Refused) };
        let Ok(_place) = self.elsewhere.try_acquire() else { return Said::code(ResponseCode::ServFail) };
        match resolver.lookup(asked.name().clone(), asked.kind()).await {
            Ok(found) => Said { records: found.answers().to_vec(), ..Said::code(ResponseCode::NoError) },
            Err(error) => absence(&error),
        }
    }

    fn bytes(&self, asked: &Asked, said: Said, udp: bool) -> Vec<u8> {
        asked.answer(said, self.resolver.is_some(), udp).unwrap_or_default()
    }
}

/// What the resolver did not find, with the record that says how long that may be remembered (RFC 2308).
fn absence(error: &NetError) -> Said {
    let NetError::Dns(DnsError::NoRecordsFound(none)) = error else { return Said::code(ResponseCode::ServFail) };
    let record = |soa: &Record<SOA>| Record::from_rdata(soa.name.clone(), soa.ttl, RData::SOA(soa.data.clone()));
    Said { authority: none.soa.as_deref().map(record).into_iter().collect(), ..Said::code(none.response_code) }
}

async fn by_udp(server: Arc<Server>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; LONGEST_DATAGRAM];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(TRY_AGAIN).await;
            continue;
        };
        let answer = match read(buffer.get(..length).unwrap_or_default()) {
            Read::Nothing => continue,
            Read::Wrong(said) => said,
            Read::Asked(asked) => match server.own(&asked) {
                Some(said) => server.bytes(&asked, said, true),
                None if server.elsewhere.available_permits() == 0 => {
                    server.bytes(&asked, Said::code(ResponseCode::ServFail), true)
                }
                None => {
                    let (server, socket) = (Arc::clone(&server), Arc::clone(&socket));
                    tokio::spawn(async move {
                        let said = server.elsewhere(&asked).await;
                        let _ = socket.send_to(&server.bytes(&asked, said, true), from).await;
                    });
                    continue;
                }
            },
        };
        // An asker that is gone is its own affair.
        let _ = socket.send_to(&answer, from).await;
    }
}

async fn by_tcp(server: Arc<Server>, listener: TcpListener, drain: Drain) {
    let places = Places::new(MAX_CONNECTIONS);
    loop {
        let (stream, from) = listen::accept(&listener).await;
        let (server, place, drain) = (Arc::clone(&server), places.take(from.ip()), drain.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = place.unless_needed(converse(&server, stream)) => {}
                () = drain.closed() => {}
            }
        });
    }
}

/// Question after question, each behind its length (RFC 1035, 4.2.2), until the other side has asked all.
async fn converse(server: &Server, mut stream: TcpStream) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    loop {
        let asking = async {
            let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut bytes).await?;
            io::Result::Ok(bytes)
        };
        let bytes = tokio::time::timeout(TCP_IDLE, asking).await??;
        let answer = match read(&bytes) {
            Read::Nothing => return Ok(()),
            Read::Wrong(said) => said,
            Read::Asked(asked) => {
                let said = match server.own(&asked) {
                    Some(said) => said,
                    None => server.elsewhere(&asked).await,
                };
                server.bytes(&asked, said, false)
            }
        };
        let mut framed = u16::try_from(answer.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        tokio::time::timeout(TCP_IDLE, stream.write_all(&framed)).await??;
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, str::FromStr};

    use hickory_proto::{
        op::{Message, MessageType, OpCode, Query},
        rr::{Name, RData, Record, RecordType},
    };

    use super::*;
    use crate::dns::Host;

    const LIMIT: Duration = Duration::from_secs(10);
    const NAME: &str = "details.bookinfo.svc.clusterset.local.";

    fn question(name: &str) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_str(name).unwrap(), RecordType::A));
        message.to_vec().unwrap()
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
        trigger.close("the test is over");
        tokio::time::timeout(LIMIT, serving).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_flood_of_connections_and_bytes_that_are_no_dns_keeps_nobody_from_an_answer() {
        let any = "127.0.0.1:0".parse().unwrap();
        let (udp, tcp) = (listen::udp(any).unwrap(), listen::tcp(any).unwrap());
        let (at_udp, at_tcp) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let (zone, drain) = (Zone::default(), Drain::new());
        tokio::spawn(serve_on(udp, tcp, zone, drain));
        let mut flood = vec![];
        for turn in 0..MAX_CONNECTIONS * 2 {
            let mut stream = TcpStream::connect(at_tcp).await.unwrap();
            stream.write_all(&[0xff; 7][..turn % 7]).await.unwrap();
            flood.push(stream);
        }
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for length in 0..200 {
            let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(length).collect();
            socket.send_to(&noise, at_udp).await.unwrap();
        }
        assert_eq!(by_udp(at_udp, NAME).await.0, ResponseCode::ServFail);
        assert_eq!(by_tcp(at_tcp, NAME).await.0, ResponseCode::ServFail);
    }

    #[test]
    fn an_absence_elsewhere_keeps_the_record_that_says_how_long_it_may_be_remembered() {
        let name = Name::from_str("nobody.example.").unwrap();
        let query = hickory_proto::op::Query::query(name.clone(), RecordType::A);
        let mut none = hickory_resolver::net::NoRecords::new(query, ResponseCode::NXDomain);
        let soa = SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, 5);
        none.soa = Some(Box::new(Record::from_rdata(name, 60, soa)));
        let said = absence(&NetError::Dns(DnsError::NoRecordsFound(none)));
        assert_eq!((said.code, said.authority.len()), (ResponseCode::NXDomain, 1));
        assert_eq!(absence(&NetError::Timeout).code, ResponseCode::ServFail);
    }
}
