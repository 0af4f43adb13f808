//! Questions that go on to the nameservers of the system as they came, and answers that come back as they are: for
//! workloads whose own questions were captured, and who shall see what they would have seen.
//!
//! A question that came by UDP goes on by UDP; an answer that is cut says so itself, and its asker comes again by TCP.

use std::{io, net::SocketAddr, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

/// A nameserver has so long; then the next is asked. Resolvers wait for five seconds in all (resolv.conf(5)).
const ANSWER: Duration = Duration::from_secs(2);
/// Nameservers that are asked (resolv.conf(5), `MAXNS`).
const MOST: usize = 3;
/// Where nameservers listen.
const PORT: u16 = 53;
/// In the third byte: this is an answer (RFC 1035, 4.1.1).
const IS_ANSWER: u8 = 0x80;

/// The nameservers, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstream(Vec<SocketAddr>);

impl Upstream {
    /// Those that a file like `/etc/resolv.conf` names.
    ///
    /// # Errors
    /// When it cannot be read, or names none.
    pub fn read(file: &Path) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
        let upstream = Self::parse(&std::fs::read_to_string(file).map_err(named)?);
        if upstream.0.is_empty() {
            return Err(named(io::Error::new(io::ErrorKind::NotFound, "it names no nameserver")));
        }
        Ok(upstream)
    }

    fn parse(text: &str) -> Self {
        let nameserver = |line: &str| {
            let mut words = line.split_whitespace();
            let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
            Some(SocketAddr::new(address.parse().ok()?, PORT))
        };
        Self(text.lines().filter_map(nameserver).take(MOST).collect())
    }

    /// The answer to a question that came by UDP; `None`: nobody gave one.
    pub(super) async fn by_udp(&self, question: &[u8]) -> Option<Vec<u8>> {
        for server in &self.0 {
            if let Ok(Ok(answer)) = tokio::time::timeout(ANSWER, datagram(*server, question)).await {
                return Some(answer);
            }
        }
        None
    }

    /// The answer to a question that came by TCP.
    pub(super) async fn by_tcp(&self, question: &[u8]) -> Option<Vec<u8>> {
        for server in &self.0 {
            if let Ok(Ok(answer)) = tokio::time::timeout(ANSWER, stream(*server, question)).await {
                return Some(answer);
            }
        }
        None
    }
}

/// A socket a question: its port and the asker's own id keep the answers of others out.
async fn datagram(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut answer).await?;
        answer.truncate(length);
        if answers(&answer, question) {
            return Ok(answer);
        }
        answer.resize(usize::from(u16::MAX), 0);
    }
}

async fn stream(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = u16::try_from(question.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
    framed.extend_from_slice(question);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if answers(&answer, question) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Whether it is an answer, and of the same id.
fn answers(answer: &[u8], question: &[u8]) -> bool {
    let is_answer = answer.get(2).is_some_and(|flags| flags & IS_ANSWER != 0);
    is_answer && answer.get(..2).is_some() && answer.get(..2) == question.get(..2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_as_resolvers_read_them() {
        let text = "# made by kubelet\nsearch a.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\n\
                    nameserver\tfd00::a # second\noptions ndots:5\nnameserver nonsense\nnameserver 1.1.1.1\nnameserver 9.9.9.9\n";
        let expected = ["10.96.0.10:53", "[fd00::a]:53", "1.1.1.1:53"].map(|address| address.parse().unwrap());
        assert_eq!(Upstream::parse(text), Upstream(expected.to_vec()));
        let missing = Upstream::read(Path::new("/nowhere/resolv.conf")).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/resolv.conf: "), "{missing}");
    }

    #[tokio::test]
    async fn an_answer_comes_back_byte_for_byte_and_what_is_none_is_passed_over() {
        let server = UdpSocket::bind("127.71.0.2:0").await.unwrap();
        let question = [7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let upstream = Upstream(vec![server.local_addr().unwrap()]);
        let serve = async {
            let mut asked = [0; 64];
            let (length, from) = server.recv_from(&mut asked).await.unwrap();
            for said in [[7, 8, 0x01, 1], [9, 9, 0x81, 2], [7, 8, 0x81, 3]] {
                server.send_to(&said, from).await.unwrap();
            }
            asked[..length].to_vec()
        };
        let (answer, asked) = tokio::join!(upstream.by_udp(&question), serve);
        assert_eq!((answer, asked.as_slice()), (Some(vec![7, 8, 0x81, 3]), question.as_slice()));
    }

    #[tokio::test]
    async fn a_nameserver_that_is_not_there_is_left_for_the_next_by_udp_and_tcp() {
        let gone = std::net::UdpSocket::bind("127.71.0.3:0").unwrap().local_addr().unwrap();
        let tcp = tokio::net::TcpListener::bind("127.71.0.4:0").await.unwrap();
        let there = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(there).await.unwrap();
        let upstream = Upstream(vec![gone, there]);
        let serve = async {
            let mut asked = [0; 64];
            let (_, from) = udp.recv_from(&mut asked).await.unwrap();
            udp.send_to(&[7, 8, 0x81, 3], from).await.unwrap();
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = usize::from(stream.read_u16().await.unwrap());
            stream.read_exact(&mut asked[..length]).await.unwrap();
            stream.write_all(&[0, 4, 7, 8, 0x81, 4]).await.unwrap();
        };
        let ask = async { (upstream.by_udp(&[7, 8, 1]).await, upstream.by_tcp(&[7, 8, 1]).await) };
        let (answers, ()) = tokio::join!(ask, serve);
        assert_eq!(answers, (Some(vec![7, 8, 0x81, 3]), Some(vec![7, 8, 0x81, 4])));
    }
}
