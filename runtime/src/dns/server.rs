//! DNS over UDP and TCP: what is the mesh's is answered from the table, everything else by the system's resolvers, or for
//! captured workloads goes on to its nameservers as it is.
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
    upstream::Upstream,
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
#[derive(Clone, Debug)]
pub struct Zone {
    table: Arc<ArcSwapOption<Table>>,
    domains: &'static [&'static str],
}

impl Default for Zone {
    /// Of all [`zone::DOMAINS`].
    fn default() -> Self {
        Self { table: Arc::default(), domains: &zone::DOMAINS }
    }
}

impl Zone {
    /// Of the clusterset's domain alone: names of the cluster are left to the cluster's own DNS.
    #[must_use]
    pub fn of_set() -> Self {
        Self { table: Arc::default(), domains: &zone::SET }
    }

    /// Puts a table in force.
    pub fn set(&self, table: Table) {
        self.table.store(Some(Arc::new(table)));
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
    let others = match resolver {
        Ok(resolver) => Others::Resolver(Box::new(resolver)),
        Err(error) => {
            tracing::warn!(%error, "the system has no resolvers; only names of the mesh are answered");
            Others::None
        }
    };
    run(udp, tcp, Server::new(zone, others), drain).await;
}

/// Serves a zone on UDP and TCP until everything has to close; all other questions go on as they are.
///
/// # Errors
/// When the address cannot be bound.
pub fn serve_before(
    address: SocketAddr,
    zone: Zone,
    upstream: Option<Upstream>,
    drain: Drain,
) -> io::Result<impl Future<Output = ()> + Send> {
    let (udp, tcp) = (listen::udp(address)?, listen::tcp(address)?);
    let others = upstream.map_or(Others::None, Others::Upstream);
    Ok(run(udp, tcp, Server::new(zone, others), drain))
}

async fn run(udp: UdpSocket, tcp: TcpListener, server: Server, drain: Drain) {
    let server = Arc::new(server);
    tokio::select! {
        () = by_udp(Arc::clone(&server), Arc::new(udp)) => {}
        () = by_tcp(server, tcp, drain.clone()) => {}
        () = drain.closed() => {}
    }
}

/// Who knows the names that are not the mesh's.
enum Others {
    None,
    /// Questions are asked anew.
    Resolver(Box<TokioResolver>),
    /// Questions go on as they are.
    Upstream(Upstream),
}

struct Server {
    zone: Zone,
    others: Others,
    elsewhere: Semaphore,
}

/// What becomes of a message.
enum Then {
    Nothing,
    Say(Vec<u8>),
    /// It is for others to say.
    Elsewhere(Option<Box<Asked>>),
}

impl Server {
    fn new(zone: Zone, others: Others) -> Self {
        Self { zone, others, elsewhere: Semaphore::new(MAX_ELSEWHERE) }
    }

    fn then(&self, message: &[u8], udp: bool) -> Then {
        match (read(message), &self.others) {
            (Read::Nothing, _) => Then::Nothing,
            // What this does not understand others may.
            (Read::Wrong(_), Others::Upstream(_)) => Then::Elsewhere(None),
            (Read::Wrong(said), _) => Then::Say(said),
            (Read::Asked(asked), _) => match self.own(&asked) {
                Some(said) => Then::Say(self.bytes(&asked, said, udp)),
                None => Then::Elsewhere(Some(asked)),
            },
        }
    }

    /// What others say; empty: nothing can be said.
    async fn others(&self, message: &[u8], asked: Option<&Asked>, udp: bool) -> Vec<u8> {
        let code = |code| asked.map(|asked| self.bytes(asked, Said::code(code), udp)).unwrap_or_default();
        let Ok(_place) = self.elsewhere.try_acquire() else { return code(ResponseCode::ServFail) };
        match (&self.others, asked) {
            (Others::Upstream(upstream), _) => {
                let answer = if udp { upstream.by_udp(message).await } else { upstream.by_tcp(message).await };
                answer.unwrap_or_else(|| code(ResponseCode::ServFail))
            }
            (Others::Resolver(resolver), Some(asked)) => {
                let said = match resolver.lookup(asked.name().clone(), asked.kind()).await {
                    Ok(found) => Said { records: found.answers().to_vec(), ..Said::code(ResponseCode::NoError) },
                    Err(error) => absence(&error),
                };
                self.bytes(asked, said, udp)
            }
            _ => code(ResponseCode::Refused),
        }
    }

    /// What the table says; `None`: it is for others to say.
    fn own(&self, asked: &Asked) -> Option<Said> {
        match zone::answer(self.zone.table.load().as_deref(), self.zone.domains, asked.name(), asked.kind()) {
            Answer::Say { code, records, authority } => Some(Said { code, records, authority, own: true }),
            Answer::Elsewhere => None,
        }
    }

    fn bytes(&self, asked: &Asked, said: Said, udp: bool) -> Vec<u8> {
        asked.answer(said, !matches!(self.others, Others::None), udp).unwrap_or_default()
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
        let message = buffer.get(..length).unwrap_or_default();
        let answer = match server.then(message, true) {
            Then::Nothing => continue,
            Then::Say(said) => said,
            Then::Elsewhere(asked) if server.elsewhere.available_permits() == 0 => {
                let said = || Said::code(ResponseCode::ServFail);
                asked.map(|asked| server.bytes(&asked, said(), true)).unwrap_or_default()
            }
            Then::Elsewhere(asked) => {
                let (server, socket, message) = (Arc::clone(&server), Arc::clone(&socket), message.to_vec());
                tokio::spawn(async move {
                    send(&socket, from, &server.others(&message, asked.as_deref(), true).await).await;
                });
                continue;
            }
        };
        send(&socket, from, &answer).await;
    }
}

/// An asker that is gone is its own affair.
async fn send(socket: &UdpSocket, to: SocketAddr, answer: &[u8]) {
    if !answer.is_empty() {
        let _ = socket.send_to(answer, to).await;
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
        let answer = match server.then(&bytes, false) {
            Then::Nothing => return Ok(()),
            Then::Say(said) => said,
            Then::Elsewhere(asked) => server.others(&bytes, asked.as_deref(), false).await,
        };
        if answer.is_empty() {
            return Ok(());
        }
        let mut framed = u16::try_from(answer.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        tokio::time::timeout(TCP_IDLE, stream.write_all(&framed)).await??;
    }
}

#[cfg(test)]
mod tests;
