//! A client that says exactly what it is told to, and an application that says who it is.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Says `bytes` and reads until the other side closes.
pub async fn say(to: SocketAddr, bytes: &[u8]) -> Result<String, String> {
    let exchange = async {
        let mut tcp = TcpStream::connect(to).await?;
        tcp.write_all(bytes).await?;
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let within = tokio::time::timeout(Duration::from_secs(30), exchange).await;
    within.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())
}

/// Status line and body of a GET.
pub async fn get(to: SocketAddr, target: &str) -> Result<(String, String), String> {
    ask("GET", to, target).await
}

/// Status line and body of the answer.
pub async fn ask(method: &str, to: SocketAddr, target: &str) -> Result<(String, String), String> {
    let head = format!("{method} {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let answer = say(to, head.as_bytes()).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {answer:?}"))?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}

/// A GET that must answer 200; its body.
pub async fn ok(to: SocketAddr, target: &str) -> Result<String, String> {
    let (status, body) = get(to, target).await?;
    if status.contains(" 200") { Ok(body) } else { Err(format!("{status}: {body}")) }
}

/// An application that answers every request with its name, those of `/fail` with 500, and those of `/grpc/…` as a server of
/// gRPC: with the status that is said, at the end of the answer, or in its head where there is nothing else (`/grpc/head/…`).
pub async fn application(at: SocketAddr, name: &'static str) {
    Gate::open().application(at, name).await;
}

/// Where an application's answers wait.
#[derive(Clone)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
    came: Arc<watch::Sender<usize>>,
}

impl Gate {
    pub fn open() -> Self {
        Self { open: Arc::new(watch::Sender::new(true)), came: Arc::new(watch::Sender::new(0)) }
    }

    /// Answers wait from now on, or go on.
    pub fn set(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// Requests that came so far.
    pub fn count(&self) -> usize {
        *self.came.borrow()
    }

    /// Waits until so many requests came.
    pub async fn came(&self, count: usize) {
        let mut came = self.came.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(60), came.wait_for(|came| *came >= count)).await;
        assert!(waited.is_ok(), "{} of {count} requests came", self.count());
    }

    /// An application behind it.
    pub async fn application(&self, at: SocketAddr, name: &'static str) {
        let listener = TcpListener::bind(at).await.unwrap();
        let gate = self.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(gate.clone().answer(tcp, name));
            }
        });
    }

    async fn answer(self, mut tcp: TcpStream, name: &'static str) {
        let (mut buffer, mut heard, mut open) = ([0; 4096], Vec::new(), self.open.subscribe());
        while let Ok(read @ 1..) = tcp.read(&mut buffer).await {
            heard.extend_from_slice(&buffer[..read]);
            while let Some(end) = heard.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<_> = heard.drain(..end + 4).collect();
                self.came.send_modify(|came| *came += 1);
                let _ = open.wait_for(|open| *open).await;
                let head = String::from_utf8_lossy(&head);
                let answer = answer_to(head.split(' ').nth(1).unwrap_or_default(), name);
                if tcp.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn answer_to(path: &str, name: &str) -> String {
    let ok = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n";
    let length = name.len();
    match path.split('/').collect::<Vec<_>>()[..] {
        [_, "grpc", "head", status] => format!("{ok}grpc-status: {status}\r\ncontent-length: 0\r\n\r\n"),
        [_, "grpc", status] => format!(
            "{ok}transfer-encoding: chunked\r\ntrailer: grpc-status\r\n\r\n{length:x}\r\n{name}\r\n0\r\ngrpc-status: \
             {status}\r\n\r\n"
        ),
        [_, "fail"] => format!("HTTP/1.1 500 Broken\r\ncontent-length: {length}\r\n\r\n{name}"),
        _ => format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}"),
    }
}
