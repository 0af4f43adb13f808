//! A mesh for a test: raised at addresses of its own, with the binary of this build, gone when the test ends.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod load;
pub mod prometheus;

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use isthmus_scenarios::{
    admin,
    mesh::{self, Mesh},
    plan::{ClusterPlan, Plan, bookinfo},
    state::StateDir,
    wan::{
        links::{Links, Scope},
        settings::Change,
    },
};
use serde_json::Value;

/// The binary under test: `ISTHMUS_BIN`, or the one of this build, built if it is not there yet.
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("ISTHMUS_BIN").map_or_else(build, PathBuf::from)).clone()
}

fn build() -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--quiet", "--package", "isthmus", "--bin", "isthmus"]);
    let test = std::env::current_exe().expect("this test has a path");
    let profile = test.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>").to_owned();
    if profile.ends_with("release") {
        command.arg("--release");
    }
    assert!(command.status().expect("cargo runs").success(), "the binary under test does not build");
    profile.join("isthmus")
}

/// A raised mesh.
pub struct Raised {
    pub mesh: Arc<Mesh>,
    pub folder: tempfile::TempDir,
}

impl Raised {
    /// Clusters numbered from `first_number` in the address plan; tests that run side by side take different ones.
    pub async fn up(first_number: u8) -> Self {
        Self::up_as(bookinfo::plan(3, first_number).expect("the demo's plan")).await
    }

    /// As [`Raised::up`], each cluster in a network namespace of its own, with real round trips between them: 30 ms from
    /// us-east to us-west, 80 from there to eu-west, 140 from us-west to it. Needs root. Numbers count apart from those
    /// of meshes on loopback.
    pub async fn up_wan(first_number: u8) -> Self {
        Self::up_as(bookinfo::apart(bookinfo::plan(3, first_number).expect("the demo's plan"))).await
    }

    /// As it is planned.
    pub async fn up_as(plan: Plan) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the mesh");
        let state = StateDir::at(folder.path()).expect("a state directory");
        let (mesh, _) = Mesh::spawn(plan, state, binary()).expect("the mesh begins");
        let raised = Self { mesh, folder };
        if let Err(reason) = raised.mesh.raise(|step| eprintln!("{step}")).await {
            raised.print_logs();
            panic!("the mesh does not come up: {reason:#}");
        }
        raised
    }

    /// The links of a mesh raised by [`Raised::up_wan`].
    pub fn links(&self) -> &Links {
        &self.mesh.network.as_ref().expect("the mesh was raised by up_wan").links
    }

    /// Changes what one cluster's packets to another meet, from this instant on; the other way stays as it is.
    pub fn link(&self, from: &str, to: &str, change: Change) {
        self.links().change(&scope(from, Some(to), true), &change).expect("a link can be like this");
    }

    /// Changes all links of a cluster, both ways.
    pub fn links_of(&self, cluster: &str, change: Change) {
        self.links().change(&scope(cluster, None, false), &change).expect("links can be like this");
    }

    /// Cuts the network between two clusters, both ways.
    pub fn cut(&self, one: &str, other: &str) {
        self.links().change(&scope(one, Some(other), false), &Change::cut()).expect("the clusters are there");
    }

    /// Makes every link what it was when the mesh was raised.
    pub fn heal(&self) {
        self.links().heal(&Scope::default()).expect("every link is meant");
    }

    pub fn cluster(&self, name: &str) -> &ClusterPlan {
        self.mesh.plan.cluster(name).unwrap_or_else(|| panic!("no cluster {name}"))
    }

    /// The explicit proxy of a cluster's `curl`.
    pub fn curl(&self, cluster: &str) -> SocketAddr {
        let cluster = self.cluster(cluster);
        SocketAddr::new(cluster.address_of(cluster.client().expect("every cluster has curl")), 15080)
    }

    pub fn control(&self, cluster: &str) -> SocketAddr {
        mesh::control(self.cluster(cluster))
    }

    pub fn member(&self, cluster: &str) -> SocketAddr {
        mesh::member(self.cluster(cluster))
    }

    /// Where a cluster's `curl` finds a service: its address and its first port, as the cluster's DNS has them.
    pub async fn service_address(&self, cluster: &str, service: &str) -> SocketAddr {
        let names = admin::read(self.control(cluster), "/api/dns").await.expect("control answers");
        let host = format!("{service}.bookinfo.svc.clusterset.local");
        let named = names.as_array().and_then(|all| all.iter().find(|one| one["name"] == host.as_str()));
        let found = named.unwrap_or_else(|| panic!("{cluster} has no {host}: {names}"));
        let address = found["addresses"][0].as_str().and_then(|text| text.parse().ok()).expect("an address");
        SocketAddr::new(address, u16::try_from(found["ports"][0].as_u64().expect("a port")).expect("a port"))
    }

    /// The address of a gateway process.
    pub fn gateway(&self, cluster: &str, process: &str) -> std::net::IpAddr {
        let found = self.cluster(cluster).gateways().find(|(name, _)| name == process);
        found.unwrap_or_else(|| panic!("{cluster} has no {process}")).1
    }

    /// The metrics of a process: of `control`, `federation`, `gateway`, `gateway-2`, or a workload's sidecar.
    pub async fn metrics(&self, cluster: &str, process: &str) -> String {
        let plan = self.cluster(cluster);
        let at = plan.addresses();
        let address = match process {
            "control" => at.control(),
            "federation" => at.federation(),
            gateway if gateway.starts_with("gateway") => self.gateway(cluster, gateway),
            workload => plan.address_of(plan.workload(workload).unwrap_or_else(|| panic!("no {workload}"))),
        };
        let request = http::Request::get("/metrics").header("host", "x").body(Default::default()).expect("a request");
        let scrape = admin::exchange(SocketAddr::new(address, 15020), request, Duration::from_secs(20)).await;
        let scraped = scrape.unwrap_or_else(|error| panic!("{process} of {cluster} is not scraped: {error:#}"));
        String::from_utf8(scraped.body.to_vec()).expect("metrics are text")
    }

    /// How `from` sees `of`: one object of control's `/api/clusters`.
    pub async fn view(&self, from: &str, of: &str) -> anyhow::Result<Value> {
        let all = admin::read(self.control(from), "/api/clusters").await?;
        let found = all.as_array().and_then(|all| all.iter().find(|one| one["name"] == of).cloned());
        found.ok_or_else(|| anyhow::anyhow!("{from} does not know {of}: {all}"))
    }

    /// Waits until `from` sees `of` in this standing.
    pub async fn wait_standing(&self, from: &str, of: &str, standing: &str, limit: Duration) {
        eventually(&format!("{from} sees {of} {standing}"), limit, || async {
            let view = self.view(from, of).await?;
            anyhow::ensure!(view["standing"] == standing, "{view}");
            Ok(())
        })
        .await;
    }

    /// A mesh that is just raised measures its own start; only then are the clusters as near as they are.
    pub async fn wait_near(&self, from: &str, of: &str, limit: Duration) {
        eventually(&format!("{from} has measured how near {of} is"), limit, || async {
            let view = self.view(from, of).await?;
            anyhow::ensure!(view["rtt_us"].as_u64().is_some_and(|rtt| (1..5_000).contains(&rtt)), "{view}");
            Ok(())
        })
        .await;
    }

    pub async fn kill(&self, cluster: &str, only: &[&str]) {
        let only: Vec<_> = only.iter().map(ToString::to_string).collect();
        let name = &self.cluster(cluster).name;
        self.mesh.supervisor.kill(name, &only).await.expect("the processes are there to be killed");
    }

    /// Lets processes drain and begin again, one after the other; returns once they are ready.
    pub async fn restart(&self, cluster: &str, only: &[&str]) {
        let only: Vec<_> = only.iter().map(ToString::to_string).collect();
        self.mesh.restart(&self.cluster(cluster).name, &only).await.expect("they drain and begin again");
    }

    pub fn start(&self, cluster: &str, only: &[&str]) {
        let only: Vec<_> = only.iter().map(ToString::to_string).collect();
        self.mesh.supervisor.revive(&self.cluster(cluster).name, &only).expect("what was killed starts again");
    }

    /// Waits until a process runs and says that it is ready.
    pub async fn wait_ready(&self, cluster: &str, process: &str) {
        let name = &self.cluster(cluster).name;
        eventually(&format!("{process} of {cluster} is ready"), Duration::from_secs(90), || async {
            anyhow::ensure!(self.mesh.is_ready(name, process).await, "not yet");
            Ok(())
        })
        .await;
    }

    /// Where a cluster's configuration files are.
    pub fn config_dir(&self, cluster: &str) -> PathBuf {
        self.mesh.state.config(&self.cluster(cluster).name)
    }

    /// The ends of all logs, for the story of a failure.
    pub fn print_logs(&self) {
        let Ok(clusters) = std::fs::read_dir(self.folder.path().join("clusters")) else { return };
        for log in
            clusters.flatten().flat_map(|cluster| std::fs::read_dir(cluster.path().join("logs"))).flatten().flatten()
        {
            let text = std::fs::read_to_string(log.path()).unwrap_or_default();
            let tail: Vec<_> = text.lines().rev().take(15).collect();
            if !tail.is_empty() {
                eprintln!("--- {}", log.path().display());
                tail.into_iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

fn scope(one: &str, other: Option<&str>, one_way: bool) -> Scope {
    let name = |text: &str| text.parse().expect("a cluster's name");
    Scope { one: Some(name(one)), other: other.map(name), one_way }
}

/// Waits until `check` is content; panics with its last complaint after `limit`.
pub async fn eventually<F, C>(what: &str, limit: Duration, mut check: C)
where
    C: FnMut() -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let until = Instant::now() + limit;
    loop {
        match check().await {
            Ok(()) => return,
            Err(reason) if Instant::now() > until => panic!("not within {limit:?}: {what}: {reason:#}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// URL of a path of a Bookinfo service.
pub fn url(service: &str, path: &str) -> String {
    format!("http://{service}.bookinfo.svc.clusterset.local:9080{path}")
}
