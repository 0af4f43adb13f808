//! A raised mesh: files written, everything spawned at once, the first cluster bootstrapped, the others joined by
//! token, and a request that crosses clusters as the proof.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use isthmus_core::name::ClusterName;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    admin, layout,
    observe::{self, Observer},
    operator,
    plan::{
        ClusterPlan, Plan, Process, Role,
        roles::{self, ADMIN_PORT, EXPLICIT_PORT},
    },
    state::{Found, Held, StateDir},
    status::{ProcessState, Status},
    supervisor::Supervisor,
    wan::network::Network,
};

/// What proves that the mesh answers: us-east has no details of its own, so the answer crossed clusters.
pub const PROOF: &str = "http://details.bookinfo.svc.clusterset.local:9080/details/0";
/// The proof of a mesh that is too small for details.
const SMALL_PROOF: &str = "http://reviews.bookinfo.svc.clusterset.local:9080/reviews/0";
/// On a slow machine, with everything starting at once.
const START_LIMIT: Duration = Duration::from_secs(90);
/// How long a token of `up` may be redeemed.
const TOKEN_TTL: Duration = Duration::from_secs(3600);
/// Processes of an earlier run that were killed let go of their ports a moment after they are gone from sight.
const LETS_GO: Duration = Duration::from_millis(500);
/// Between two tries while something starts.
const TRY_AGAIN: Duration = Duration::from_millis(25);

/// A mesh that runs.
pub struct Mesh {
    /// What runs where.
    pub plan: Plan,
    /// Where its state is.
    pub state: StateDir,
    /// Its processes.
    pub supervisor: Supervisor,
    /// The network between its clusters, where they are apart; removed after the processes.
    pub network: Option<Network>,
    begun: Instant,
    progress: Mutex<Progress>,
    observer: tokio::sync::Mutex<Observer>,
    _held: Held,
}

#[derive(Default)]
struct Progress {
    step: Option<String>,
    answered_ms: Option<u64>,
}

impl Mesh {
    /// Takes the state directory, writes all files and spawns all processes; returns without waiting for them, with
    /// what an earlier run left.
    ///
    /// # Errors
    /// When the directory is another mesh's, an address is taken, a file cannot be written, or a network between
    /// namespaces cannot be made.
    pub fn spawn(plan: Plan, state: StateDir, binary: PathBuf) -> Result<(Arc<Self>, Found)> {
        let begun = Instant::now();
        let held = state.hold()?;
        addresses_are_free(&plan)?;
        let network = Network::of(&plan)?;
        let found = state.settle(&plan)?;
        layout::write(&plan, &state)?;
        let supervisor = Supervisor::start(binary, state.clone(), plan.processes());
        let (progress, observer) = Default::default();
        let mesh = Self { plan, state, supervisor, network, begun, progress, observer, _held: held };
        Ok((Arc::new(mesh), found))
    }

    /// Bootstraps, joins, and waits until a request crosses clusters; `say` hears each step. Returns how long after
    /// the start that was.
    ///
    /// # Errors
    /// When a step is not done within a minute and a half, with what it waits for.
    pub async fn raise(&self, mut say: impl FnMut(&str)) -> Result<Duration> {
        let mut step = |text: String| {
            say(&format!("{:>4.1} s  {text}", self.begun.elapsed().as_secs_f64()));
            self.progress.lock().step = Some(text);
        };
        let Some((first, others)) = self.plan.clusters.split_first() else { bail!("a mesh without clusters") };
        step(format!("{} processes of {} started", self.plan.processes().len(), self.plan.size()));
        if !self.is_joined(first).await? {
            operator::bootstrap(member(first), &[]).await?;
            step(format!("{} bootstrapped the mesh", first.name));
        }
        for cluster in others {
            if self.is_joined(cluster).await? {
                continue;
            }
            let token = operator::create_token(member(first), cluster.name.as_str(), TOKEN_TTL).await?;
            operator::join(member(cluster), &token, &[]).await?;
            step(format!("{} joined with a token of {}", cluster.name, first.name));
        }
        let url = self.proof();
        step(format!("waiting for the first answer of {url} in {}", first.name));
        self.prove(first, url).await?;
        let after = self.begun.elapsed();
        let mut progress = self.progress.lock();
        progress.step = None;
        progress.answered_ms = Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        Ok(after)
    }

    /// Waits until the member answers, then says whether it is of a mesh already (from its disk).
    async fn is_joined(&self, cluster: &ClusterPlan) -> Result<bool> {
        let until = Instant::now() + START_LIMIT;
        loop {
            match operator::standing(member(cluster)).await {
                Ok(standing) => return Ok(standing.get("joined").and_then(Value::as_bool).unwrap_or(false)),
                Err(reason) if Instant::now() > until => {
                    let died = self.died(&cluster.name, Role::Federation);
                    return Err(
                        reason.context(format!("the federation member of {} does not start{died}", cluster.name))
                    );
                }
                Err(_) => sleep(TRY_AGAIN).await,
            }
        }
    }

    fn proof(&self) -> &'static str {
        let has_details = |cluster: &ClusterPlan| cluster.workload("details").is_some();
        if self.plan.clusters.iter().any(has_details) { PROOF } else { SMALL_PROOF }
    }

    async fn prove(&self, first: &ClusterPlan, url: &str) -> Result<()> {
        let client = first.client().with_context(|| format!("{} has no client workload", first.name))?;
        let proxy = SocketAddr::new(first.address_of(client), EXPLICIT_PORT);
        let until = Instant::now() + START_LIMIT;
        loop {
            let got = admin::through(proxy, url, Duration::from_secs(5)).await;
            match got {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) if Instant::now() > until => {
                    bail!("{url} answers {}: {}", answer.status, String::from_utf8_lossy(&answer.body).trim())
                }
                Err(reason) if Instant::now() > until => return Err(reason.context(format!("{url} does not answer"))),
                _ => sleep(TRY_AGAIN).await,
            }
        }
    }

    fn died(&self, cluster: &ClusterName, role: Role) -> String {
        let of_role = |p: &&crate::status::ProcessStatus| p.cluster == *cluster && p.role == role;
        let processes = self.supervisor.processes();
        let exit = processes.iter().find(of_role).and_then(|process| process.last_exit.clone());
        exit.map_or_else(String::new, |exit| format!(" ({exit})"))
    }

    /// Restarts processes of a cluster one after the other, as for an upgrade: each drains first, and the next one's
    /// turn comes when it is ready again. How many there were.
    ///
    /// # Errors
    /// When there is no such process, one does not run, or is not ready again within a minute and a half.
    pub async fn restart(&self, cluster: &ClusterName, only: &[String]) -> Result<usize> {
        let names = self.supervisor.names(cluster, only)?;
        for name in &names {
            self.supervisor.restart(cluster, name).await?;
            let until = Instant::now() + START_LIMIT;
            while !self.is_ready(cluster, name).await {
                if Instant::now() > until {
                    bail!("{name} of {cluster} was restarted and is not ready; its log says why, see `isthmus status`");
                }
                sleep(TRY_AGAIN).await;
            }
        }
        Ok(names.len())
    }

    /// Whether a process runs and says that it is ready; an application says nothing, so it is when it runs.
    pub async fn is_ready(&self, cluster: &ClusterName, name: &str) -> bool {
        let processes = self.supervisor.processes();
        let Some(process) = processes.iter().find(|one| one.cluster == *cluster && one.name == name) else {
            return false;
        };
        process.state == ProcessState::Running && observe::ready(process).await.unwrap_or(process.role == Role::App)
    }

    /// The mesh as it is now.
    pub async fn status(&self) -> Status {
        let clusters = self.observer.lock().await.look(&self.plan, self.supervisor.processes()).await;
        let progress = self.progress.lock();
        Status {
            mesh: self.plan.mesh.to_string(),
            state_dir: self.state.path().display().to_string(),
            pid: std::process::id(),
            up_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            answered_ms: progress.answered_ms,
            coming_up: progress.step.clone(),
            clusters,
            network: self.network.as_ref().map(|network| network.links.rows()).unwrap_or_default(),
        }
    }
}

/// The admin address of a cluster's federation member.
#[must_use]
pub fn member(cluster: &ClusterPlan) -> SocketAddr {
    SocketAddr::new(cluster.addresses().federation(), ADMIN_PORT)
}

/// The admin address of a cluster's control.
#[must_use]
pub fn control(cluster: &ClusterPlan) -> SocketAddr {
    SocketAddr::new(cluster.addresses().control(), ADMIN_PORT)
}

/// Every process would say so by itself, but one line before anything is spawned is clearer than forty in logs.
fn addresses_are_free(plan: &Plan) -> Result<()> {
    let until = Instant::now() + LETS_GO;
    while let Some((process, address, kind, reason)) = taken(plan) {
        if Instant::now() > until {
            bail!(
                "{address} ({kind}), which {} of {} needs, is not free ({reason}); another program or another mesh has \
                 it: end that one (a mesh: `isthmus down --state-dir DIR`), or raise this one at other addresses with \
                 --first-number",
                process.name,
                process.cluster
            );
        }
        std::thread::sleep(TRY_AGAIN);
    }
    Ok(())
}

/// The first address of the plan that something else holds, and for which process it is meant.
fn taken(plan: &Plan) -> Option<(Process, SocketAddr, &'static str, std::io::Error)> {
    // In a namespace that is made for them alone they are free.
    plan.processes().into_iter().filter(|process| process.namespace().is_none()).find_map(|process| {
        let (tcp, udp) = roles::ports(process.role);
        let at = |port: &u16| SocketAddr::new(process.address, *port);
        let tcp = tcp.iter().map(|port| (at(port), "TCP", TcpListener::bind(at(port)).err()));
        let udp = udp.iter().map(|port| (at(port), "UDP", UdpSocket::bind(at(port)).err()));
        let (address, kind, reason) =
            tcp.chain(udp).find_map(|(address, kind, taken)| Some((address, kind, taken?)))?;
        Some((process, address, kind, reason))
    })
}
