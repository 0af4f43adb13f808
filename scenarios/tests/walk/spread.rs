//! 1,000 requests to a remote service of three endpoints reach each of them alike, whatever they are spoken in.

use std::{collections::BTreeMap, net::SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use isthmus_demo::proto::{Said, echo_client::EchoClient};
use tokio::net::TcpStream;

use crate::support::{
    Raised,
    load::{Client, count_by},
    url,
};

const REQUESTS: usize = 1000;
/// One after the other, so that the dice of the balancer are all that differs: 250 is five deviations from a third.
const ALIKE: std::ops::RangeInclusive<usize> = 250..=420;
/// Many at once go where least is open, and a machine that stalls an endpoint shifts them; but none is left out.
const AT_ONCE: usize = 8;
const EACH: usize = 50;
const NONE_LEFT_OUT: usize = 40;

pub async fn requests_reach_every_endpoint_of_another_cluster_alike(mesh: &Raised) {
    let address = mesh.service_address("us-east", "details").await;
    let by_http1 = by_http1(mesh).await;
    let by_http2 = by_http2(address).await;
    let by_grpc = by_grpc(address).await;
    println!("{REQUESTS} requests over three remote endpoints: HTTP/1.1 {by_http1:?}");
    println!("HTTP/2 {by_http2:?}");
    println!("gRPC {by_grpc:?}");
    for counts in [by_http1, by_http2, by_grpc] {
        assert_eq!(counts.len(), 3, "{counts:?}");
        assert!(counts.values().all(|count| ALIKE.contains(count)), "{counts:?}");
    }
    let at_once = at_once(address).await;
    println!("HTTP/2, {AT_ONCE} at once {at_once:?}");
    assert_eq!(at_once.len(), 3, "{at_once:?}");
    assert!(at_once.values().all(|count| *count >= NONE_LEFT_OUT), "{at_once:?}");
}

/// Through the explicit proxy.
async fn by_http1(mesh: &Raised) -> BTreeMap<String, usize> {
    let client = Client::new(mesh.curl("us-east"));
    let mut samples = vec![];
    for _ in 0..REQUESTS {
        let sample = client.get(&url("details", "/details/0")).await.expect("details answer");
        assert_eq!(sample.status, 200, "{sample:?}");
        samples.push(sample);
    }
    count_by(&samples, |sample| &sample.workload).into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// At the service's own address.
async fn by_http2(address: SocketAddr) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut sender = http2(address).await;
    for _ in 0..REQUESTS {
        *counts.entry(ask(&mut sender).await).or_default() += 1;
    }
    counts
}

async fn at_once(address: SocketAddr) -> BTreeMap<String, usize> {
    let mut askers = tokio::task::JoinSet::new();
    let sender = http2(address).await;
    for _ in 0..AT_ONCE {
        let mut sender = sender.clone();
        askers.spawn(async move {
            let mut served = vec![];
            for _ in 0..EACH {
                served.push(ask(&mut sender).await);
            }
            served
        });
    }
    let mut counts = BTreeMap::new();
    for workload in askers.join_all().await.into_iter().flatten() {
        *counts.entry(workload).or_default() += 1;
    }
    counts
}

async fn http2(address: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("the sidecar listens for the service");
    stream.set_nodelay(true).expect("a socket");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut SendRequest<Empty<Bytes>>) -> String {
    let request = http::Request::get(url("details", "/details/0")).body(Empty::new()).expect("a request");
    let answer = sender.send_request(request).await.expect("details answer");
    assert_eq!(answer.status(), 200);
    let by = answer.headers()["x-served-by"].to_str().expect("a name").to_owned();
    answer.into_body().collect().await.expect("the whole answer");
    by
}

/// Every application answers the echo of gRPC.
async fn by_grpc(address: SocketAddr) -> BTreeMap<String, usize> {
    let mut client = EchoClient::connect(format!("http://{address}")).await.expect("the sidecar listens");
    let mut counts = BTreeMap::new();
    for _ in 0..REQUESTS {
        let heard = client.say(Said { text: "hello".into() }).await.expect("details answer").into_inner();
        assert_eq!((heard.text.as_str(), heard.cluster.as_str()), ("hello", "us-west"));
        *counts.entry(heard.workload).or_default() += 1;
    }
    counts
}
