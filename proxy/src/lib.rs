//! The sidecar's data path: capture, route, authorise, balance, forward.
//!
//! ```text
//!  application ─► listeners ─► outbound ─► route, ladder, balance ─► forward ─► connect ═══► inbound ─► application
//!                     │            │                                    │          │
//!                  detect       upgrade, stream                        pool     fronted (frames of ours in front)
//! ```
//! Each worker is a thread with listeners, connections and metric handles of its own; what must mean the whole process,
//! such as an endpoint's open requests, is shared, and nothing else (DESIGN.md decision 20). Decisions are `isthmus-core`'s.
//!
//! | module | idea |
//! | --- | --- |
//! | `capture` | the rules that lead a pod's traffic here |
//! | `listeners` | where a client comes in, or is led (`captured`), and what it speaks (`detect`) |
//! | `outbound` | a request of the application: its service, its route, its record |
//! | `forward` | down the ladder until somebody answers or trying on is wrong |
//! | `dial` | plain connections, to the outside and to the own application |
//! | `connect` | inner connections, straight or through a local gateway |
//! | `pool` | connections kept; links shared as decision 17 has it |
//! | `inbound` | inner TLS ends, the application is told who calls |
//! | `stream`, `upgrade` | opaque TCP, WebSocket |
//! | `passage` | limits and what requests showed, by service and cluster |
//! | `probes` | the kubelet's questions to the application |
//! | `dns` | the application's questions |
//! | `pod` | the configuration that injection gave a pod |
//! | `notices` | what gateways say of paths, as they say it |
//! | `under_way` | what a drain waits for |
//! | `metadata` | what each side says of itself, for labels |
//! | `telemetry` | one record an exchange: metric and access-log line |
//! | `snapshot` | the picture all of it decides on; `feeding` brings it |
//! | `resting` | whether this workload stopped being ready, which callers of other clusters are told |

mod body;
pub mod capture;
mod config;
mod connect;
mod detect;
mod dial;
mod dns;
mod error;
mod feeding;
mod forward;
mod fronted;
mod inbound;
mod listeners;
mod metadata;
mod notices;
mod outbound;
mod passage;
pub mod pod;
mod pool;
pub mod probes;
mod resting;
mod snapshot;
mod stream;
mod telemetry;
mod trace;
mod under_way;
mod upgrade;
mod vital;
mod worker;

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

pub use config::{AccessLog, Config, Format, Listener};
pub use error::Error;
use isthmus_runtime::{admin::Admin, drain::Drain, enrolment, feed, metrics, readiness::Readiness};
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::broadcast::error::RecvError,
};

use crate::{
    connect::Connector,
    feeding::Dump,
    notices::State,
    pool::{Http1Pool, link::Links},
    telemetry::{Metrics, Party, Telemetry, log::Log},
    worker::{Shared, Worker},
};

/// Others have so long to hear that this workload drains, before idle connections are closed.
const SAID_FIRST: Duration = Duration::from_millis(500);

/// Inner connections over a gateway that drains are kept so long for requests to open others beside them.
const RETIRE: Duration = Duration::from_secs(1);

/// Runs a sidecar until SIGTERM or SIGINT, or until it is asked to drain on its admin port.
///
/// # Errors
/// When its address is taken, it gets no identity, or a port is not to be had.
pub fn run(config: Config) -> Result<(), Error> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::io("cannot begin"))?;
    let grace = Duration::from_secs(config.drain_deadline_seconds.into());
    let outcome = runtime.block_on(async {
        let drain = Drain::from_signals(grace).map_err(Error::io("cannot listen for signals"))?;
        serve(config, drain).await
    });
    runtime.shutdown_background();
    outcome
}

/// The same, until `drain` says so, on the current Tokio runtime; workers have threads of their own.
///
/// # Errors
/// As [`run`].
pub async fn serve(config: Config, drain: Drain) -> Result<(), Error> {
    let admin = Admin::bind(&config.common, "proxy")?;
    let registry = metrics::registry("proxy")?;
    let metrics = Metrics::new(&registry)?;
    let log = Log::open(&config.access_log)?;
    let readiness = Readiness::new();
    let fed = readiness.needs("feed");
    drain.close_after(Duration::from_secs(config.drain_deadline_seconds.into()));
    let (traces, to_trace) = trace::channel();
    let dump = Dump::default();
    let admin = admin.router(trace::routes(traces)).config_dump({
        let dump = Arc::clone(&dump);
        move || feeding::told(&dump)
    });
    let admin = admin.health(probes::routes(&config.probes, config.application, config.capture));
    let certificates = admin.certificates();
    let ports = tokio::spawn(admin.serve(registry, readiness.clone(), drain.clone()));
    let identity = enrolment::enrol(&config.common, &drain).await?;
    certificates.add_leaf(&identity);
    let own = metadata::own(&config);
    let party = Party::new(own.clone(), Some(&identity.spiffe()));
    let connector = Connector::new(identity.clone(), &own);
    let shared = Shared::new(config.clone(), connector, party, drain.clone());
    let (name, node) = (config.common.name.clone(), config.node.clone());
    let hello = feed::Hello { role: feed::Role::Proxy, name, node };
    let cache = config.common.state_dir.join("feed");
    let (updates, reporter) = feed::subscribe(&identity, &config.control, hello, cache, drain.clone());
    tokio::spawn(feeding::follow(Arc::clone(&shared), updates, dump, fed));
    tokio::spawn(feeding::register(config.clone(), readiness.clone(), reporter.clone(), drain.clone()));
    tokio::spawn(feeding::report(Arc::clone(&shared), metrics.clone(), reporter, drain.clone()));
    tokio::spawn(notices::keep(Arc::clone(&shared), drain.clone()));
    tokio::spawn(dns::serve(Arc::clone(&shared), drain.clone()));
    let workers = workers(&shared, &metrics, &log, &drain, to_trace)?;
    tokio::select! {
        () = drain.closed() => {}
        () = done(&shared) => drain.trigger().close("nothing is under way any more"),
    }
    drop(workers);
    ports.abort();
    Ok(())
}

/// Ends when the process drains, could say so, and nothing is under way.
async fn done(shared: &Shared) {
    shared.drain.draining().await;
    tokio::time::sleep(SAID_FIRST).await;
    shared.under_way.nothing().await;
}

type Workers = Vec<std::thread::JoinHandle<()>>;

fn workers(
    shared: &Arc<Shared>,
    metrics: &Metrics,
    log: &Log,
    drain: &Drain,
    traces: trace::Requests,
) -> Result<Workers, Error> {
    let mut traces = Some(traces);
    let mut threads = vec![];
    for number in 0..shared.config.workers.max(1) {
        let (shared, metrics, log, drain) = (Arc::clone(shared), metrics.clone(), log.clone(), drain.clone());
        let traces = traces.take();
        let named = std::thread::Builder::new().name(format!("worker-{number}"));
        let thread = named.spawn(move || {
            let worker = Worker {
                number,
                shared,
                http1: Http1Pool::default(),
                links: Links::default(),
                http2: RefCell::default(),
                inner_http2: RefCell::default(),
                telemetry: RefCell::new(Telemetry::new(metrics, log)),
            };
            if let Err(error) = work(Rc::new(worker), &drain, traces) {
                tracing::error!(%error, "a worker cannot go on; the process ends");
                drain.trigger().close("a worker failed");
            }
        });
        threads.push(thread.map_err(Error::io("cannot begin a worker"))?);
    }
    Ok(threads)
}

fn work(worker: Rc<Worker>, drain: &Drain, traces: Option<trace::Requests>) -> Result<(), Error> {
    let mut builder = Builder::new_current_thread();
    let local = builder.enable_all().build_local(LocalOptions::default());
    local.map_err(Error::io("cannot begin a worker"))?.block_on(async {
        if let Some(traces) = traces {
            tokio::task::spawn_local(trace::serve(Rc::clone(&worker), traces));
        }
        tokio::task::spawn_local(sweep(Rc::clone(&worker)));
        tokio::task::spawn_local(leave(Rc::clone(&worker)));
        listeners::run(Rc::clone(&worker), drain.clone()).await?;
        drain.closed().await;
        Ok(())
    })
}

/// Drops connections that closed while nobody asked for them.
async fn sweep(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(Duration::from_secs(30)).await;
        worker.http1.sweep();
    }
}

/// Inner connections over a way that is lost are let go of at once. Over one that drains they have [`RETIRE`] to be
/// replaced by requests; then those that nobody uses end.
async fn leave(worker: Rc<Worker>) {
    let mut leaving = worker.shared.notices.leaving();
    loop {
        let state = match leaving.recv().await {
            Ok(left) => {
                worker.links.hear(&left);
                left.state
            }
            Err(RecvError::Lagged(_)) => {
                worker.links.look();
                State::Draining
            }
            Err(RecvError::Closed) => return,
        };
        let worker = Rc::clone(&worker);
        tokio::task::spawn_local(async move {
            if state == State::Draining {
                tokio::time::sleep(RETIRE).await;
            }
            worker.links.retire(state);
        });
    }
}
