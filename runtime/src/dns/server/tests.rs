//! Real packets over both transports.

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
