//! Open-loop load: a request is due at its own time whether or not the last one was answered, and its latency counts
//! from when it was due, so a stall is not hidden by the requests it held back.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{net::TcpStream, task::JoinHandle};

/// What one request came to.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was due, since the load began.
    pub due: Duration,
    /// From when it was due to the answer's last byte.
    pub took: Duration,
    /// The status; 0: no answer at all.
    pub status: u16,
    /// `x-served-cluster` of the answer.
    pub cluster: String,
    /// `x-served-by` of the answer.
    pub workload: String,
    /// Why there was no answer.
    pub error: String,
}

impl Sample {
    pub fn failed(&self) -> bool {
        !(200..300).contains(&self.status)
    }
}

/// Where the load goes.
#[derive(Clone)]
pub struct Target {
    /// The sidecar's explicit proxy.
    pub proxy: SocketAddr,
    /// Absolute form.
    pub url: String,
    /// Requests a second.
    pub rate: u32,
}

/// A load that runs until it is stopped.
pub struct Load {
    begun: Instant,
    stop: Arc<std::sync::atomic::AtomicBool>,
    samples: Arc<Mutex<Vec<Sample>>>,
    pacer: JoinHandle<()>,
}

/// What is asked each time.
#[derive(Clone)]
struct Ask {
    target: Target,
    /// A GET without, a POST with.
    body: Option<Bytes>,
}

impl Load {
    /// GETs.
    pub fn start(target: Target) -> Self {
        Self::begin(Ask { target, body: None })
    }

    /// POSTs with this body.
    pub fn post(target: Target, body: &'static str) -> Self {
        Self::begin(Ask { target, body: Some(Bytes::from_static(body.as_bytes())) })
    }

    fn begin(ask: Ask) -> Self {
        let begun = Instant::now();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let samples = Arc::new(Mutex::new(Vec::new()));
        let pacer = tokio::spawn(pace(ask, begun, Arc::clone(&stop), Arc::clone(&samples)));
        Self { begun, stop, samples, pacer }
    }

    /// Time since it began.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Copies the samples due at or after `since`.
    pub fn since(&self, since: Duration) -> Vec<Sample> {
        self.samples.lock().iter().filter(|sample| sample.due >= since).cloned().collect()
    }

    /// Ends it, waits for what is under way, returns all samples.
    pub async fn finish(mut self) -> Vec<Sample> {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        (&mut self.pacer).await.expect("the pacer ends by itself");
        std::mem::take(&mut self.samples.lock())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

type Idle = Arc<Mutex<Vec<SendRequest<Full<Bytes>>>>>;

async fn pace(ask: Ask, begun: Instant, stop: Arc<std::sync::atomic::AtomicBool>, samples: Arc<Mutex<Vec<Sample>>>) {
    let idle: Idle = Idle::default();
    let every = Duration::from_secs(1) / ask.target.rate;
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut tasks = tokio::task::JoinSet::new();
    let mut due = Duration::ZERO;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        tick.tick().await;
        let (ask, idle, samples) = (ask.clone(), Arc::clone(&idle), Arc::clone(&samples));
        let this = due;
        due += every;
        tasks.spawn(async move {
            let mut sample = match tokio::time::timeout(Duration::from_secs(20), one(&ask, &idle)).await {
                Ok(Ok(sample)) => sample,
                Ok(Err(error)) => failure(format!("{error:#}")),
                Err(_) => failure("no answer within 20 s".into()),
            };
            sample.due = this;
            sample.took = begun.elapsed().saturating_sub(this);
            samples.lock().push(sample);
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

fn failure(error: String) -> Sample {
    Sample {
        due: Duration::ZERO,
        took: Duration::ZERO,
        status: 0,
        cluster: String::new(),
        workload: String::new(),
        error,
    }
}

async fn one(Ask { target, body }: &Ask, idle: &Idle) -> anyhow::Result<Sample> {
    let kept = idle.lock().pop();
    let mut sender = match kept {
        Some(sender) if sender.is_ready() => sender,
        _ => connect(target.proxy).await?,
    };
    let method = if body.is_some() { http::Method::POST } else { http::Method::GET };
    let request = http::Request::builder().method(method).uri(&target.url);
    let request = request.body(body.clone().map_or_else(Full::default, Full::new))?;
    let answer = sender.send_request(request).await?;
    let text =
        |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (cluster, workload, status) = (text("x-served-cluster"), text("x-served-by"), answer.status().as_u16());
    let body = answer.into_body().collect().await?.to_bytes();
    if sender.ready().await.is_ok() {
        idle.lock().push(sender);
    }
    let error = if status < 300 { String::new() } else { String::from_utf8_lossy(&body).into_owned() };
    Ok(Sample { cluster, workload, status, error, ..failure(String::new()) })
}

async fn connect(proxy: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(proxy).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// GETs through a sidecar's explicit proxy, one after the other, on a connection that is kept.
pub struct Client {
    proxy: SocketAddr,
    idle: Idle,
}

impl Client {
    pub fn new(proxy: SocketAddr) -> Self {
        Self { proxy, idle: Idle::default() }
    }

    pub async fn get(&self, url: &str) -> anyhow::Result<Sample> {
        let target = Target { proxy: self.proxy, url: url.into(), rate: 1 };
        let ask = Ask { target, body: None };
        let begun = Instant::now();
        let mut sample = tokio::time::timeout(Duration::from_secs(20), one(&ask, &self.idle)).await??;
        sample.took = begun.elapsed();
        Ok(sample)
    }
}

/// One GET through a sidecar's explicit proxy.
pub async fn get(proxy: SocketAddr, url: &str) -> anyhow::Result<Sample> {
    Client::new(proxy).get(url).await
}

/// How many samples each key has.
pub fn count_by<'a>(samples: &'a [Sample], key: impl Fn(&'a Sample) -> &'a str) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for sample in samples {
        *counts.entry(key(sample)).or_default() += 1;
    }
    counts
}

/// The slowest of them.
pub fn slowest(samples: &[Sample]) -> Duration {
    samples.iter().map(|sample| sample.took).max().unwrap_or_default()
}

/// DESIGN.md decision 26: who does not answer in that time is passed by.
pub const ANSWER: Duration = Duration::from_millis(250);

/// How many requests of so many a second may be answered elsewhere though nothing moved: a machine that stalls for longer than
/// there is to answer has all passed by that is under way.
pub fn passed_by(stall: Duration, rate: u32) -> usize {
    if stall > ANSWER { (stall.as_secs_f64() * f64::from(rate)) as usize } else { 0 }
}

/// A request is slow that takes longer than this, and longer than the control's slowest.
const SLOW: Duration = Duration::from_millis(250);
/// Disturbance is counted in pieces of this length.
const PIECE: Duration = Duration::from_millis(20);

/// For how long in all requests that were due failed or were slow, beside a control whose slowest took so long.
pub fn disturbed(samples: &[Sample], control: Duration) -> Duration {
    let slow = SLOW.max(control);
    let bad = samples.iter().filter(|sample| sample.failed() || sample.took > slow);
    let mut pieces: Vec<_> = bad.map(|sample| sample.due.as_millis() / PIECE.as_millis()).collect();
    pieces.sort_unstable();
    pieces.dedup();
    PIECE * u32::try_from(pieces.len()).unwrap_or(u32::MAX)
}
