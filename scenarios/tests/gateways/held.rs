//! Connections that are held open and say a word again and again, and new ones that are opened all the time.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinHandle, JoinSet},
};
use tokio_tungstenite::{client_async, tungstenite::Message};

/// Where all of them lead.
const ECHO: &str = "echo.bookinfo.svc.clusterset.local";
/// Between two words on a held connection.
const WORD_EVERY: Duration = Duration::from_millis(50);
/// A word that does not come back within so long is lost, and the connection with it.
const LOST: Duration = Duration::from_secs(10);

/// Connections that are held.
pub struct Held {
    began: Instant,
    stop: Arc<AtomicBool>,
    all: Vec<(&'static str, JoinHandle<Option<Instant>>)>,
}

/// What became of them.
#[derive(Debug)]
pub struct Ended {
    /// Those that lived to the end, by kind.
    pub lived: Vec<&'static str>,
    /// Those that were closed, by kind, and when since they began.
    pub closed: Vec<(&'static str, Duration)>,
}

impl Held {
    /// Opens so many of each kind.
    pub async fn open(proxy: SocketAddr, of_each: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut all = Vec::new();
        for _ in 0..of_each {
            let tcp = tcp(proxy).await.expect("a TCP connection opens");
            all.push(("tcp", tokio::spawn(hold(tcp, Arc::clone(&stop)))));
        }
        for _ in 0..of_each {
            let socket = websocket(proxy).await.expect("a WebSocket opens");
            all.push(("websocket", tokio::spawn(hold(socket, Arc::clone(&stop)))));
        }
        Self { began: Instant::now(), stop, all }
    }

    /// Time since they were open.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends those that live.
    pub async fn finish(self) -> Ended {
        self.stop.store(true, Ordering::Relaxed);
        let mut ended = Ended { lived: vec![], closed: vec![] };
        for (kind, task) in self.all {
            match task.await.expect("it ends by itself") {
                Some(at) => ended.closed.push((kind, at - self.began)),
                None => ended.lived.push(kind),
            }
        }
        ended
    }
}

/// Says a word and waits until it comes back.
trait Talk: Send + 'static {
    fn word(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Talks until it is told to stop, or no word comes back any more: then when that was.
async fn hold(mut talk: impl Talk, stop: Arc<AtomicBool>) -> Option<Instant> {
    while !stop.load(Ordering::Relaxed) {
        let word = tokio::time::timeout(LOST, talk.word()).await;
        if !word.is_ok_and(|word| word.is_ok()) {
            return Some(Instant::now());
        }
        tokio::time::sleep(WORD_EVERY).await;
    }
    None
}

struct Tcp(TcpStream);

impl Talk for Tcp {
    async fn word(&mut self) -> anyhow::Result<()> {
        let mut back = [0; 4];
        self.0.write_all(b"word").await?;
        self.0.read_exact(&mut back).await?;
        ensure!(&back == b"word", "{back:?}");
        Ok(())
    }
}

struct Socket(tokio_tungstenite::WebSocketStream<TcpStream>);

impl Talk for Socket {
    async fn word(&mut self) -> anyhow::Result<()> {
        self.0.send(Message::text("word")).await?;
        let back = self.0.next().await.context("it was closed")??;
        ensure!(back == Message::text("word"), "{back}");
        Ok(())
    }
}

/// Opaque TCP; the server speaks first, so the whole way is there when this returns.
async fn tcp(proxy: SocketAddr) -> anyhow::Result<Tcp> {
    let mut stream = connect(proxy, &format!("{ECHO}:9000")).await?;
    line(&mut stream).await?;
    Ok(Tcp(stream))
}

async fn websocket(proxy: SocketAddr) -> anyhow::Result<Socket> {
    let stream = connect(proxy, &format!("{ECHO}:9080")).await?;
    let (mut socket, _) = client_async(format!("ws://{ECHO}:9080/chat"), stream).await?;
    let greeting = socket.next().await.context("no greeting")??;
    ensure!(greeting.is_text(), "{greeting}");
    Ok(Socket(socket))
}

/// A CONNECT through the explicit proxy.
async fn connect(proxy: SocketAddr, target: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    stream.set_nodelay(true)?;
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await?;
    let head = line(&mut stream).await?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    while line(&mut stream).await? != "\r\n" {}
    Ok(stream)
}

async fn line(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut line = vec![];
    while line.last() != Some(&b'\n') {
        line.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// A new stream: when it was due since the first, and how long it took to be there; `Err`: it was refused or broke.
pub type Stream = (Duration, Result<Duration, String>);

/// New streams, one after the other at a steady pace, each closed as soon as the other end has spoken.
pub struct Streams {
    began: Instant,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<Stream>>,
}

impl Streams {
    pub fn start(proxy: SocketAddr, rate: u32) -> Self {
        let (began, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn(open_on(proxy, rate, began, Arc::clone(&stop)));
        Self { began, stop, task }
    }

    /// Time since it began.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub async fn finish(self) -> Vec<Stream> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("it ends by itself")
    }
}

async fn open_on(proxy: SocketAddr, rate: u32, began: Instant, stop: Arc<AtomicBool>) -> Vec<Stream> {
    let every = Duration::from_secs(1) / rate;
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let all = Arc::new(Mutex::new(Vec::new()));
    let (mut tasks, mut due) = (JoinSet::new(), Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let (this, all) = (due, Arc::clone(&all));
        due += every;
        tasks.spawn(async move {
            let opened = tokio::time::timeout(LOST, tcp(proxy)).await.unwrap_or_else(|_| Err(anyhow::anyhow!("late")));
            let took = opened.map(|_| began.elapsed().saturating_sub(this)).map_err(|error| format!("{error:#}"));
            all.lock().push((this, took));
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
    std::mem::take(&mut all.lock())
}
