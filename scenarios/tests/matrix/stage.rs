//! The mesh that rows are played on: us-west asks, eu-west and us-east answer; and how it is put in order again.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::ensure;
use http::{Request, header};
use isthmus_scenarios::{
    admin,
    plan::{ClusterPlan, Plan, WorkloadPlan, bookinfo},
};
use serde_json::{Value, json};

use crate::{
    network,
    row::Ground,
    support::{Raised, eventually},
};

/// For whatever must come about sooner or later.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Whose clients ask.
pub const HERE: &str = "us-west";
/// Who answers ratings first: as near as us-east, and before it by name.
pub const FIRST: &str = "eu-west";
/// Who answers next.
pub const NEXT: &str = "us-east";
/// Control and member alone, which vote.
pub const WITNESS: &str = "witness";
/// Who sees whom.
const SIGHTS: [(&str, &str); 6] =
    [(HERE, FIRST), (HERE, NEXT), (FIRST, NEXT), (NEXT, FIRST), (FIRST, HERE), (NEXT, HERE)];
/// The policy file that rows write.
const POLICY: &str = "rehearsal.yaml";

/// The mesh of one ground.
pub struct Stage {
    pub mesh: Raised,
    pub ground: Ground,
    /// Whether a row had anybody left since controls began.
    left: AtomicBool,
}

impl Stage {
    pub async fn raise(ground: Ground) -> Self {
        let mesh = match ground {
            Ground::Processes => {
                let mut plan = bookinfo::plan(3, 180).expect("the demo's plan");
                // An unoptimised build has many requests under way when an endpoint dies; of two deaths in a row some would
                // fail for want of retries that a service may have.
                let reviews = u8::from(!cfg!(debug_assertions));
                for (name, app, more) in [(FIRST, "ratings", 2), (HERE, "reviews", reviews)] {
                    let cluster = plan.clusters.iter_mut().find(|one| one.name.as_str() == name).expect("it is there");
                    more_endpoints(cluster, app, more);
                }
                Raised::up_as(witnessed(plan)).await
            }
            Ground::Network => Raised::up_wan(190).await,
        };
        Self { mesh, ground, left: AtomicBool::new(false) }
    }

    pub async fn end(self) {
        self.mesh.mesh.supervisor.stop().await;
    }

    /// Starts whatever is down.
    pub fn revive(&self) {
        let plan = &self.mesh.mesh.plan;
        plan.clusters.iter().for_each(|cluster| self.mesh.start(cluster.name.as_str(), &[]));
    }

    /// Everything runs, nobody is left, drained or bad: each row begins so.
    pub async fn in_order(&self) {
        if self.ground == Ground::Network {
            self.mesh.heal();
        }
        for cluster in [FIRST, NEXT, HERE] {
            let control = self.mesh.control(cluster);
            eventually("control answers", PATIENCE, || async { admin::read(control, "/version").await.map(drop) })
                .await;
            for verb in self.rows(cluster, "/api/verbs").await {
                if verb["writer"] == cluster {
                    self.take_back(cluster, verb["name"].as_str().unwrap()).await;
                }
            }
            self.no_policy(cluster).await;
        }
        for (from, to) in SIGHTS {
            self.mesh.wait_standing(from, to, "alive", PATIENCE).await;
        }
        if self.left.swap(false, Ordering::Relaxed) {
            self.forget().await;
        }
        let first = if self.ground == Ground::Network { network::FIRST } else { FIRST };
        self.until_served_by(first, 1.0).await;
    }

    /// A row had somebody left, or nobody.
    pub fn remember(&self, somebody: bool) {
        self.left.fetch_or(somebody, Ordering::Relaxed);
    }

    /// Who is left again within minutes is returned to later each time, and rows come one after the other; a control that
    /// begins anew remembers no flap.
    async fn forget(&self) {
        for cluster in [FIRST, NEXT, HERE] {
            self.mesh.kill(cluster, &["control"]).await;
            self.mesh.start(cluster, &["control"]);
        }
        for (from, to) in SIGHTS {
            eventually(&format!("{from} sees {to} for itself"), PATIENCE, || async {
                let view = self.mesh.view(from, to).await?;
                ensure!(view["why"] == "path and lease hold", "{view}");
                Ok(())
            })
            .await;
        }
    }

    /// Waits until ratings are sent from here to this cluster in this part, and its share is whole.
    pub async fn until_served_by(&self, cluster: &str, part: f64) {
        eventually(&format!("{HERE} sends {part} of ratings to {cluster}"), PATIENCE, || async {
            let place = self.place("bookinfo/ratings", cluster).await?;
            let got = place["part"].as_f64().unwrap_or_default();
            ensure!((got - part).abs() < 0.01, "{place}");
            Ok(())
        })
        .await;
    }

    /// A place of a service, as control here sees it.
    pub async fn place(&self, service: &str, cluster: &str) -> anyhow::Result<Value> {
        let rows = admin::read(self.mesh.control(HERE), "/api/failover").await?;
        let row = rows.as_array().and_then(|rows| rows.iter().find(|row| row["service"] == service));
        let places = row.and_then(|row| row["places"].as_array());
        let place = places.and_then(|places| places.iter().find(|place| place["cluster"] == cluster));
        place.cloned().ok_or_else(|| anyhow::anyhow!("no place {cluster} of {service}: {rows}"))
    }

    pub async fn rows(&self, cluster: &str, path: &str) -> Vec<Value> {
        let rows = admin::read(self.mesh.control(cluster), path).await.expect("control answers");
        rows.as_array().cloned().unwrap_or_default()
    }

    /// Does a verb in a cluster; what control says of it.
    pub async fn wish(&self, cluster: &str, deed: Value) -> Value {
        let wish = json!({ "deed": deed, "by": "the rehearsal", "reason": "a row", "for": "1h" });
        let done = admin::send(self.mesh.control(cluster), "/api/verbs", &wish, Duration::from_secs(10)).await;
        done.expect("control does it")
    }

    pub async fn take_back(&self, cluster: &str, name: &str) {
        let control = self.mesh.control(cluster);
        let request = Request::delete(format!("/api/verbs/{name}"))
            .header(header::HOST, control.to_string())
            .body(Default::default())
            .unwrap();
        let answer = admin::exchange(control, request, Duration::from_secs(10)).await.expect("control answers");
        assert!(answer.status.is_success(), "{name}: {}", String::from_utf8_lossy(&answer.body));
    }

    /// Writes a FailoverPolicy for ratings in a cluster and waits until it binds here.
    pub async fn policy(&self, cluster: &str, spec: &str) {
        let text = format!(
            "apiVersion: isthmus.dev/v1alpha1\nkind: FailoverPolicy\nmetadata: {{name: rehearsal, namespace: bookinfo}}\n\
             spec:\n  services: {{names: [ratings]}}\n{spec}"
        );
        std::fs::write(self.mesh.config_dir(cluster).join(POLICY), text).expect("the policy is written");
        self.until_policy_binds(true).await;
    }

    /// Takes a cluster's policy for ratings away, if it has one, and waits until it binds here no more.
    pub async fn no_policy(&self, cluster: &str) {
        let file = self.mesh.config_dir(cluster).join(POLICY);
        if file.exists() {
            std::fs::remove_file(file).expect("the policy goes");
            self.until_policy_binds(false).await;
        }
    }

    async fn until_policy_binds(&self, wanted: bool) {
        eventually("the policy binds, or does not", PATIENCE, || async {
            let rows = self.rows(HERE, "/api/failover").await;
            let row = rows.iter().find(|row| row["service"] == "bookinfo/ratings").cloned().unwrap_or_default();
            let binds = row["policies"][0].as_str().is_some_and(|policy| policy.contains("rehearsal"));
            ensure!(binds == wanted, "{row}");
            Ok(())
        })
        .await;
    }

    /// Tells an application to do badly, or well again with `{}`.
    pub async fn fault(&self, cluster: &str, app: &str, wrong: Value) {
        let plan = self.mesh.cluster(cluster);
        for workload in plan.workloads.iter().filter(|one| one.app.as_deref() == Some(app)) {
            let address = std::net::SocketAddr::new(plan.address_of(workload), 9080);
            admin::send(address, "/fault", &wrong, Duration::from_secs(10)).await.expect("the application listens");
        }
    }

    /// Names of a cluster's applications of this kind, without their sidecars.
    pub fn applications(&self, cluster: &str, app: &str) -> Vec<String> {
        let workloads = self.mesh.cluster(cluster).workloads.iter();
        workloads.filter(|one| one.app.as_deref() == Some(app)).map(|one| format!("{}.app", one.name)).collect()
    }
}

/// With a witness before the cluster that answers first, so that it votes in its place: without the other two voters
/// there is no quorum, and yet two members live between which endpoints can flow.
fn witnessed(plan: Plan) -> Plan {
    let mut plan = bookinfo::with_witness(plan).expect("its name");
    let at = |plan: &Plan, name: &str| plan.clusters.iter().position(|one| one.name.as_str() == name);
    let (witness, first) = (at(&plan, WITNESS).expect("it is there"), at(&plan, FIRST).expect("it is there"));
    plan.clusters.swap(witness, first);
    plan
}

/// So many more endpoints of an application.
fn more_endpoints(cluster: &mut ClusterPlan, app: &str, more: u8) {
    let one = cluster.workloads.iter().find(|one| one.app.as_deref() == Some(app)).expect("it has one").clone();
    for more in 1..=more {
        let index = cluster.workloads.iter().map(|one| one.index).max().unwrap_or_default() + 1;
        cluster.workloads.push(WorkloadPlan { name: format!("{app}-more-{more}"), index, ..one.clone() });
    }
}
