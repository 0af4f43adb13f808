//! The echo, asked in each of its protocols without a mesh.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use isthmus_demo::{
    App, AppConfig,
    proto::{RepeatRequest, Said, echo_client::EchoClient},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// An application on an address of its own; stopped and waited for by [`Running::stop`].
struct Running {
    http: SocketAddr,
    tcp: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), isthmus_demo::Error>>,
}

async fn run(app: App, last: u8, proxy: Option<SocketAddr>) -> Running {
    let address = IpAddr::V4(Ipv4Addr::new(127, 251, 17, last));
    let config = AppConfig {
        app,
        version: "v2".into(),
        workload: "one".into(),
        cluster: "east".parse().unwrap(),
        zone: "east-a".into(),
        address,
        http_port: 9080,
        tcp_port: 9000,
        proxy,
        domain: "bookinfo.svc.clusterset.local".into(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(isthmus_demo::run(config, async move { drop(stopped.await) }));
    let http = SocketAddr::new(address, 9080);
    tokio::time::timeout(Duration::from_secs(10), async {
        while TcpStream::connect(http).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the application listens");
    Running { http, tcp: SocketAddr::new(address, 9000), stop, task }
}

impl Running {
    async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap().unwrap();
    }
}

async fn get(address: SocketAddr, path: &str, header: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n{header}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn http_grpc_and_tcp_each_say_who_answers_and_what_came() {
    let echo = run(App::Echo, 1, None).await;
    let identity = "x-forwarded-client-cert: By=spiffe://a/ns/b/sa/c;URI=spiffe://east.m/ns/x/sa/curl";
    let answer = get(echo.http, "/anything?a=b", identity).await;
    assert!(answer.contains("x-served-by: one"), "{answer}");
    assert!(answer.contains("\"peer_identity\":\"spiffe://east.m/ns/x/sa/curl\""), "{answer}");
    assert!(get(echo.http, "/status/503", "X-A: b").await.starts_with("HTTP/1.1 503"));

    let mut client = EchoClient::connect(format!("http://{}", echo.http)).await.unwrap();
    let heard = client.say(Said { text: "hello".into() }).await.unwrap().into_inner();
    assert_eq!((heard.text.as_str(), heard.cluster.as_str(), heard.version.as_str()), ("hello", "east", "v2"));
    let asked = RepeatRequest { text: "x".into(), times: 5 };
    assert_eq!(client.repeat(asked).await.unwrap().into_inner().count().await, 5);
    drop(client);

    let mut tcp = BufReader::new(TcpStream::connect(echo.tcp).await.unwrap());
    let mut greeting = String::new();
    tcp.read_line(&mut greeting).await.unwrap();
    assert!(greeting.contains("\"workload\":\"one\""), "{greeting}");
    tcp.write_all(b"back").await.unwrap();
    let mut back = [0; 4];
    tcp.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"back");
    echo.stop().await;
}

#[tokio::test]
async fn a_websocket_of_another_implementation_is_answered() {
    let echo = run(App::Echo, 2, None).await;
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/chat", echo.http)).await.unwrap();
    let first = socket.next().await.unwrap().unwrap();
    assert!(first.to_text().unwrap().contains("\"protocol\":\"websocket\""));
    for size in [0, 125, 126, 70_000] {
        let text = "w".repeat(size);
        let message = tokio_tungstenite::tungstenite::Message::text(text.clone());
        socket.send(message).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), text);
    }
    socket.close(None).await.unwrap();
    echo.stop().await;
}

#[tokio::test]
async fn the_page_stands_even_when_what_it_calls_does_not_answer() {
    let page = run(App::Productpage, 3, Some("127.251.17.99:15080".parse().unwrap())).await;
    let html = get(page.http, "/productpage", "X-A: b").await;
    assert!(html.starts_with("HTTP/1.1 200"), "{html}");
    assert!(html.contains("Sorry, product details are currently unavailable"), "{html}");
    let json = get(page.http, "/productpage", "Accept: application/json").await;
    assert!(json.contains("did not answer"), "{json}");
    page.stop().await;
}

#[tokio::test]
async fn calls_go_to_the_proxy_in_absolute_form_and_carry_the_trace_on() {
    let proxy = tokio::net::TcpListener::bind("127.251.17.5:0").await.unwrap();
    let reviews = run(App::Reviews, 4, Some(proxy.local_addr().unwrap())).await;
    let sidecar = tokio::spawn(async move {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let body = r#"{"ratings":{"Reviewer1":3},"servedBy":{"workload":"ratings-v1"}}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap()
    });
    let answer = get(reviews.http, "/reviews/7", "traceparent: 00-1-2-01").await;
    let head = sidecar.await.unwrap();
    assert!(head.starts_with("GET http://ratings.bookinfo.svc.clusterset.local:9080/ratings/7 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("traceparent: 00-1-2-01"), "{head}");
    assert!(answer.contains("\"stars\":3"), "{answer}");
    assert!(answer.contains("\"ratedBy\":{\"workload\":\"ratings-v1\"}"), "{answer}");
    reviews.stop().await;
}
