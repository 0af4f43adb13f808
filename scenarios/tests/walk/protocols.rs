//! Every protocol crosses clusters, by clients that nobody here wrote: curl, tonic, tungstenite.

use std::{net::SocketAddr, process::Command, time::Duration};

use futures_util::{SinkExt, StreamExt};
use isthmus_demo::proto::{RepeatRequest, Said, echo_client::EchoClient};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::{
    PATIENCE,
    support::{Raised, eventually, load::get},
};

/// Who calls; us-west has no echo of its own.
const CALLER: &str = "spiffe://us-west.mesh.local/ns/bookinfo/sa/bookinfo-curl";
const ECHO: &str = "echo.bookinfo.svc.clusterset.local";

pub async fn every_protocol_crosses(mesh: &Raised) {
    let (proxy, address) = (mesh.curl("us-west"), mesh.service_address("us-west", "echo").await);
    http(&proxy.to_string());
    grpc(SocketAddr::new(address.ip(), 9090)).await;
    let direct = TcpStream::connect(address).await.expect("the sidecar listens for the service");
    websocket(direct).await;
    websocket(connect(proxy, &format!("{ECHO}:9080")).await).await;
    server_first(TcpStream::connect((address.ip(), 9000)).await.expect("the sidecar listens for it")).await;
    server_first(connect(proxy, &format!("{ECHO}:9000")).await).await;
}

/// A service whose ports say nothing of what is spoken on them, offered by us-east and called from us-west.
pub async fn protocols_are_told_apart_where_nobody_declared_them(mesh: &Raised) {
    let service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: any\n  namespace: bookinfo\nspec:\n  selector:\n    app: echo\n  ports:\n    - name: one\n      port: 7000\n      targetPort: 9080\n    - name: two\n      port: 7001\n      targetPort: 9000\n---\napiVersion: multicluster.x-k8s.io/v1alpha1\nkind: ServiceExport\nmetadata:\n  name: any\n  namespace: bookinfo\n";
    let file = mesh.mesh.state.config(&mesh.cluster("us-east").name).join("any.yaml");
    std::fs::write(&file, service).expect("the file is written");
    let name = "http://any.bookinfo.svc.clusterset.local:7000/x";
    eventually("the new service answers in another cluster", PATIENCE, || async {
        let got = get(mesh.curl("us-west"), name).await?;
        anyhow::ensure!(got.status == 200, "{got:?}");
        Ok(())
    })
    .await;
    let address = mesh.service_address("us-west", "any").await;
    let plain = curl(&[&format!("http://{address}/x")]);
    assert_eq!((&plain["protocol"], &plain["cluster"]), (&"http/1.1".into(), &"us-east".into()), "{plain}");
    let second = curl(&["--http2-prior-knowledge", &format!("http://{address}/x")]);
    assert_eq!((&second["protocol"], &second["peer_identity"]), (&"http/2".into(), &CALLER.into()), "{second}");
    grpc(address).await;
    websocket(TcpStream::connect(address).await.expect("the sidecar listens for it")).await;
    client_first(TcpStream::connect((address.ip(), 7001)).await.expect("the sidecar listens for it")).await;
    std::fs::remove_file(&file).expect("the file is removed");
}

fn curl(args: &[&str]) -> Value {
    let ran = Command::new("curl").args(["-sS", "--max-time", "20"]).args(args).output().expect("curl is installed");
    let said = String::from_utf8_lossy(&ran.stdout);
    serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("curl {args:?}: {said}{}", String::from_utf8_lossy(&ran.stderr)))
}

/// By absolute form and by CONNECT, HTTP/1.1 and HTTP/2.
fn http(proxy: &str) {
    let echo = format!("http://{ECHO}:9080/x?y=z");
    let plain = curl(&["-x", proxy, "-H", "x-mine: 1", &echo]);
    for (key, value) in
        [("protocol", "http/1.1"), ("path", "/x?y=z"), ("peer_identity", CALLER), ("host", &format!("{ECHO}:9080"))]
    {
        assert_eq!(plain[key], value, "{plain}");
    }
    assert_eq!(plain["headers"]["x-mine"], "1");
    for own in ["workload", "version", "cluster", "zone"] {
        assert!(plain[own].as_str().is_some_and(|text| !text.is_empty()), "{own}: {plain}");
    }
    let posted = curl(&["-x", proxy, "-H", "transfer-encoding: chunked", "-d", "some words", &echo]);
    assert_eq!((&posted["method"], &posted["body"]), (&"POST".into(), &"some words".into()), "{posted}");
    let tunnelled = curl(&["-x", proxy, "--proxytunnel", &echo]);
    assert_eq!(tunnelled["peer_identity"], CALLER, "{tunnelled}");
    let second = curl(&["-x", proxy, "--proxytunnel", "--http2-prior-knowledge", &echo]);
    assert_eq!((&second["protocol"], &second["peer_identity"]), (&"http/2".into(), &CALLER.into()), "{second}");
    let forged =
        curl(&["-x", proxy, "-H", "x-forwarded-client-cert: URI=spiffe://us-east.mesh.local/ns/a/sa/root", &echo]);
    assert!(!forged.to_string().contains("sa/root"), "what a client says of itself is not passed on: {forged}");
}

/// One answer, a stream of them, a conversation, and an error with its status.
async fn grpc(address: SocketAddr) {
    let mut client = EchoClient::connect(format!("http://{address}")).await.expect("the sidecar listens");
    let heard = client.say(Said { text: "hello".into() }).await.expect("echo answers").into_inner();
    assert_eq!((heard.text.as_str(), heard.peer_identity.as_str()), ("hello", CALLER));
    assert_ne!(heard.cluster, "us-west");
    let repeated = client.repeat(RepeatRequest { text: "again".into(), times: 50 }).await.expect("echo answers");
    assert_eq!(repeated.into_inner().filter(|heard| std::future::ready(heard.is_ok())).count().await, 50);
    let words = futures_util::stream::iter(["one", "two", "three"].map(|text| Said { text: text.into() }));
    let chat = client.chat(words).await.expect("echo answers").into_inner();
    let heard: Vec<_> = chat.map(|heard| heard.expect("a word comes back").text).collect().await;
    assert_eq!(heard, ["one", "two", "three"]);
    let refused = client.repeat(RepeatRequest { text: String::new(), times: u32::MAX }).await.expect_err("too many");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
}

/// A WebSocket to the echo, and what it received.
pub async fn switched(stream: TcpStream) -> (WebSocketStream<TcpStream>, Value) {
    let (mut socket, _) = client_async(format!("ws://{ECHO}:9080/chat"), stream).await.expect("echo switches");
    let received = match socket.next().await {
        Some(Ok(Message::Text(text))) => serde_json::from_str(&text).expect("JSON"),
        other => panic!("{other:?}"),
    };
    (socket, received)
}

async fn websocket(stream: TcpStream) {
    let (mut socket, received) = switched(stream).await;
    assert_eq!(
        (&received["protocol"], &received["peer_identity"]),
        (&"websocket".into(), &CALLER.into()),
        "{received}"
    );
    for message in [Message::text("hello"), Message::binary(vec![7; 100_000])] {
        socket.send(message.clone()).await.expect("it is open");
        assert_eq!(socket.next().await.expect("it is open").expect("it comes back"), message);
    }
    socket.close(None).await.expect("it is open");
    while let Some(Ok(message)) = socket.next().await {
        assert!(message.is_close(), "{message}");
    }
}

/// A CONNECT through the explicit proxy.
async fn connect(proxy: SocketAddr, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).await.expect("the explicit proxy listens");
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.expect("open");
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// Where the port is declared TCP the server may speak first.
async fn server_first(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    greeted(&mut stream).await;
    echoed(stream).await;
}

/// Where nothing is declared the client's first bytes tell.
async fn client_first(mut stream: TcpStream) {
    stream.write_all(b"hello").await.expect("it is open");
    let mut stream = BufReader::new(stream);
    greeted(&mut stream).await;
    echoed(stream).await;
}

async fn greeted(stream: &mut BufReader<TcpStream>) {
    let mut line = String::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_line(&mut line)).await;
    read.expect("the server speaks").expect("it is open");
    let greeting: Value = serde_json::from_str(&line).expect("JSON");
    assert!(greeting["workload"].as_str().is_some_and(|name| name.starts_with("echo-")), "{greeting}");
}

async fn echoed(mut stream: BufReader<TcpStream>) {
    stream.write_all(b" world").await.expect("it is open");
    stream.shutdown().await.expect("it is open");
    let mut all = String::new();
    stream.read_to_string(&mut all).await.expect("it ends well");
    assert!(all == " world" || all == "hello world", "{all}");
}
