//! Isthmus as a hop and as a pair: a real control with its CA, and real sidecars with their identities from it.
//!
//! A hop is a sidecar that forwards one plain listener; a pair is a client's sidecar and a server's, as in any cluster. Control is not
//! counted: no request passes through it.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use isthmus_core::{
    name::ClusterName,
    plan::{Form, service_address},
};
use isthmus_scenarios::{
    layout, parent,
    plan::{
        ClusterPlan, MESH_DOMAIN, Plan, Process as Planned, Tuning, WorkloadPlan,
        roles::{ADMIN_PORT, APPLICATION_PORT, METRICS_PORT},
        sidecar_of,
    },
    state::StateDir,
};
use serde_json::{Value, json};

use super::{Case, Running, WORKERS};
use crate::{
    counters::Counter,
    http::{self, Target},
    process::Process,
    yard::{Yard, address},
};

/// The cluster's number in the address plan: beside the addresses of the other contenders.
const NUMBER: u8 = 202;

/// How long control may take to say where the service is.
const START: Duration = Duration::from_secs(20);

/// The service of the pair.
const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: backend, namespace: bench}
spec:
  selector: {app: server}
  ports: [{name: http, port: 9080, targetPort: 9080}]
";

/// Starts Isthmus for `case`.
///
/// # Errors
/// A file cannot be written, a process not be started, or control says nothing.
pub fn start(case: Case, yard: &Yard) -> Result<Running> {
    let ground = Ground::lay(yard)?;
    let control = ground.start("control", |_| {})?;
    match case {
        Case::Hop => ground.hop(control),
        Case::Pair => ground.pair(control),
    }
}

/// The plan, its files, and what starts processes from them.
struct Ground<'a> {
    yard: &'a Yard,
    plan: Plan,
    state: StateDir,
    directory: PathBuf,
}

impl<'a> Ground<'a> {
    fn lay(yard: &'a Yard) -> Result<Self> {
        let directory = yard.directory("isthmus")?;
        let cluster: ClusterName = "bench".parse()?;
        let plan = plan(&cluster)?;
        let state = StateDir::at(&directory.join("state"))?;
        layout::write(&plan, &state)?;
        let config = state.config(&cluster);
        fs::remove_dir_all(&config)
            .and_then(|()| fs::create_dir_all(&config))
            .context("cannot empty the configuration")?;
        fs::write(config.join("backend.yaml"), SERVICE).context("cannot write the service")?;
        Ok(Self { yard, plan, state, directory })
    }

    fn planned(&self, name: &str) -> Result<Planned> {
        let found = self.plan.processes().into_iter().find(|process| process.name == name);
        found.with_context(|| format!("the plan has no {name}"))
    }

    /// Starts one process with its planned configuration, changed by `change`.
    fn start(&self, name: &str, change: impl FnOnce(&mut Value)) -> Result<Process> {
        let planned = self.planned(name)?;
        let mut config =
            self.plan.configuration(&self.state, &planned).with_context(|| format!("no configuration for {name}"))?;
        change(&mut config);
        let path = self.directory.join(format!("{name}.yaml"));
        // JSON is YAML.
        fs::write(&path, config.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        let mut command = Command::new(&self.yard.tools.isthmus);
        command
            .args([planned.role.subcommand(), "--config"])
            .arg(&path)
            .env(parent::PARENT, std::process::id().to_string());
        Process::start(name, &self.directory, &mut command)
    }

    fn sidecar(&self, workload: &str, change: impl FnOnce(&mut Value)) -> Result<Process> {
        self.start(&sidecar_of(workload), |config| {
            set(config, "workers", json!(WORKERS));
            set(config, "access_log", json!({ "format": "off" }));
            change(config);
        })
    }

    fn counter(&self, workload: &str) -> Result<Counter> {
        let address = SocketAddr::new(self.planned(&sidecar_of(workload))?.address, METRICS_PORT);
        Ok(Counter::isthmus(Target { address, host: address.to_string() }))
    }

    fn hop(&self, control: Process) -> Result<Running> {
        let entry = SocketAddr::from((address(4, 1), 8080));
        let plain = json!([{ "address": entry, "upstream": self.yard.backend }]);
        let proxy = self.sidecar("client", |config| set(config, "listeners", plain))?;
        let target = Target { address: entry, host: "backend".to_owned() };
        Ok(Running { target, measured: vec![proxy], aside: vec![control], counters: vec![self.counter("client")?] })
    }

    fn pair(&self, control: Process) -> Result<Running> {
        let backend = self.yard.backend.ip();
        let server = self.sidecar("server", |config| {
            set(config, "application", json!(backend));
            set(config, "probe", json!(APPLICATION_PORT));
        })?;
        let client = self.sidecar("client", |_| {})?;
        let mut running = Running {
            target: Target { address: self.yard.backend, host: "backend.bench.svc.cluster.local:9080".to_owned() },
            measured: vec![server, client],
            aside: vec![control],
            counters: vec![self.counter("server")?, self.counter("client")?],
        };
        running.target.address = SocketAddr::new(self.entry(&mut running)?, APPLICATION_PORT);
        Ok(running)
    }

    /// Where the client's sidecar listens for the service, once control has numbered it.
    fn entry(&self, running: &mut Running) -> Result<IpAddr> {
        let control = SocketAddr::new(self.planned("control")?.address, ADMIN_PORT);
        let client = self.planned(&sidecar_of("client"))?.address;
        let asked = Target { address: control, host: control.to_string() };
        let deadline = Instant::now() + START;
        loop {
            running.aside.iter_mut().chain(&mut running.measured).try_for_each(Process::check)?;
            let answer = http::get(&asked, "/api/services").unwrap_or_default();
            if let Some(found) = index(&answer).and_then(|index| service_address(client, index)) {
                return Ok(IpAddr::V4(found));
            }
            if Instant::now() > deadline {
                bail!("control names no address for the service within {START:?}; its last answer: {answer}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn set(config: &mut Value, key: &str, value: Value) {
    if let Some(object) = config.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

/// `address_index` of the service, in an answer with head and body.
fn index(answer: &str) -> Option<u16> {
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let rows: Vec<Value> = serde_json::from_str(body).ok()?;
    let row = rows.iter().find(|row| row.get("service").and_then(Value::as_str) == Some("bench/backend"))?;
    u16::try_from(row.get("address_index")?.as_u64()?).ok()
}

fn plan(name: &ClusterName) -> Result<Plan> {
    let workload = |name: &str, index| WorkloadPlan {
        name: name.to_owned(),
        index,
        namespace: "bench".to_owned(),
        service_account: name.to_owned(),
        zone: "bench-a".to_owned(),
        labels: [("app".to_owned(), name.to_owned())].into(),
        app: None,
    };
    let cluster = ClusterPlan {
        name: name.clone(),
        number: NUMBER,
        form: Form::Loopback,
        region: "bench".to_owned(),
        zones: vec!["bench-a".to_owned()],
        gateways: 1,
        workloads: vec![workload("client", 1), workload("server", 2)],
    };
    Ok(Plan {
        mesh: MESH_DOMAIN.parse()?,
        clusters: vec![cluster],
        tuning: Tuning { log: "warn".to_owned(), ..Tuning::default() },
    })
}

#[cfg(test)]
mod tests {
    use isthmus_scenarios::plan::Role;

    use super::*;

    #[test]
    fn the_service_is_found_in_what_control_answers() {
        let rows =
            json!([{ "service": "a/b", "address_index": 16 }, { "service": "bench/backend", "address_index": 17 }]);
        assert_eq!(index(&format!("HTTP/1.1 200 OK\r\n\r\n{rows}")), Some(17));
        assert_eq!(index("HTTP/1.1 200 OK\r\n\r\n[]"), None);
    }

    #[test]
    fn everything_that_a_pair_starts_is_planned() {
        let plan = plan(&"bench".parse().unwrap()).unwrap();
        let names: Vec<_> = plan.processes().into_iter().filter(|p| p.role != Role::App).map(|p| p.name).collect();
        assert!(["control", "client.sidecar", "server.sidecar"].iter().all(|name| names.iter().any(|n| n == name)));
    }
}
