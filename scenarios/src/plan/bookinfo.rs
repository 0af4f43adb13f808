//! Bookinfo over clusters, placed so that calls cross them: details only in us-west, reviews in all three, ratings in
//! us-east and eu-west, the page in us-east.

use std::collections::BTreeMap;

use isthmus_core::{name::InvalidName, plan::Form};

use super::{ClusterPlan, MESH_DOMAIN, Plan, Tuning, WorkloadPlan};

/// The namespace of all of it.
pub const NAMESPACE: &str = "bookinfo";
/// The most clusters `up` raises: more than that, two cores cannot keep.
pub const MOST_CLUSTERS: u8 = 9;
/// Names of the clusters, each in the region of its name.
const NAMES: [&str; MOST_CLUSTERS as usize] =
    ["us-east", "us-west", "eu-west", "eu-north", "ap-south", "ap-east", "sa-east", "af-south", "me-central"];
/// Name of the witness.
const WITNESS: &str = "witness";
const ZONES: [&str; 2] = ["a", "b"];

/// `(application, version, zone)` of the first three clusters' workloads; every cluster has a `curl` beside them.
const PLACES: [&[(&str, &str, &str)]; 3] = [
    &[("productpage", "v1", "a"), ("reviews", "v1", "a"), ("ratings", "v1", "b"), ("echo", "v1", "b")],
    &[("details", "v1", "a"), ("details", "v1", "b"), ("details", "v1", "a"), ("reviews", "v2", "b")],
    &[("reviews", "v3", "a"), ("ratings", "v1", "b"), ("echo", "v1", "a"), ("echo", "v2", "b")],
];
/// What every further cluster has.
const FURTHER: &[(&str, &str, &str)] = &[("reviews", "v1", "a")];

/// The demo over `clusters` clusters (1 to [`MOST_CLUSTERS`]), numbered in the address plan from `first_number` on.
///
/// # Errors
/// Never for the names here; they are parsed like any other.
pub fn plan(clusters: u8, first_number: u8) -> Result<Plan, InvalidName> {
    let clusters = NAMES
        .iter()
        .take(usize::from(clusters.clamp(1, MOST_CLUSTERS)))
        .enumerate()
        .map(|(index, name)| cluster(name, index, first_number))
        .collect::<Result<_, _>>()?;
    Ok(Plan { mesh: MESH_DOMAIN.parse()?, clusters, tuning: Tuning::default() })
}

/// A witness for the plan: a cluster of control and member alone, which votes and does nothing else.
///
/// # Errors
/// As [`plan`].
pub fn with_witness(mut plan: Plan) -> Result<Plan, InvalidName> {
    let number = plan.clusters.last().map_or(1, |last| last.number.saturating_add(1));
    let (name, region, zones) = (WITNESS.parse()?, WITNESS.to_owned(), vec![WITNESS.to_owned()]);
    plan.clusters.push(ClusterPlan {
        name,
        number,
        form: Form::Loopback,
        region,
        zones,
        gateways: 0,
        workloads: vec![],
    });
    Ok(plan)
}

/// The plan with so many gateways a cluster.
#[must_use]
pub fn with_gateways(mut plan: Plan, gateways: u8) -> Plan {
    for cluster in plan.clusters.iter_mut().filter(|cluster| !cluster.is_witness()) {
        cluster.gateways = gateways;
    }
    plan
}

/// The plan with every cluster in a network namespace of its own.
#[must_use]
pub fn apart(mut plan: Plan) -> Plan {
    for cluster in &mut plan.clusters {
        cluster.form = Form::Namespaces;
    }
    plan
}

fn cluster(name: &str, index: usize, first_number: u8) -> Result<ClusterPlan, InvalidName> {
    let mut workloads = vec![workload(name, "curl", "", "a", 1, "curl".into())];
    let places = PLACES.get(index).copied().unwrap_or(FURTHER);
    for (place, (app, version, zone)) in (2..).zip(places) {
        let twin =
            places.iter().take(usize::from(place - 2)).filter(|other| *other == &(*app, *version, *zone)).count();
        let tail = if twin == 0 { String::new() } else { format!("{}", twin + 1) };
        let unique = format!("{app}-{version}-{zone}{tail}");
        workloads.push(workload(name, app, version, zone, place, unique));
    }
    Ok(ClusterPlan {
        name: name.parse()?,
        number: first_number.saturating_add(u8::try_from(index).unwrap_or(u8::MAX)),
        form: Form::Loopback,
        region: name.to_owned(),
        zones: ZONES.iter().map(|zone| format!("{name}-{zone}")).collect(),
        gateways: 1,
        workloads,
    })
}

fn workload(cluster: &str, app: &str, version: &str, zone: &str, index: u8, name: String) -> WorkloadPlan {
    let mut labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
    let client = version.is_empty();
    if !client {
        labels.insert("version".into(), version.into());
    }
    WorkloadPlan {
        name,
        index,
        namespace: NAMESPACE.into(),
        service_account: format!("bookinfo-{app}"),
        zone: format!("{cluster}-{zone}"),
        labels,
        app: (!client).then(|| app.to_owned()),
    }
}

/// A configuration file of the demo, and the application beside which it belongs; `None`: in every cluster.
pub struct Example {
    /// The application that makes a cluster want it.
    pub app: Option<&'static str>,
    /// Its name.
    pub file: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// The demo's configuration, as in `deploy/examples/bookinfo`.
pub const EXAMPLES: [Example; 6] = [
    Example {
        app: Some("productpage"),
        file: "productpage.yaml",
        text: include_str!("../../../deploy/examples/bookinfo/productpage.yaml"),
    },
    Example {
        app: Some("details"),
        file: "details.yaml",
        text: include_str!("../../../deploy/examples/bookinfo/details.yaml"),
    },
    Example {
        app: Some("reviews"),
        file: "reviews.yaml",
        text: include_str!("../../../deploy/examples/bookinfo/reviews.yaml"),
    },
    Example {
        app: Some("ratings"),
        file: "ratings.yaml",
        text: include_str!("../../../deploy/examples/bookinfo/ratings.yaml"),
    },
    Example { app: Some("echo"), file: "echo.yaml", text: include_str!("../../../deploy/examples/bookinfo/echo.yaml") },
    Example {
        app: None,
        file: "reviews-routes.yaml",
        text: include_str!("../../../deploy/examples/bookinfo/reviews-routes.yaml"),
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn calls_of_the_demo_cross_clusters_and_two_cores_can_keep_it() {
        let plan = plan(3, 1).unwrap();
        let homes = |app: &str| {
            let has = |cluster: &&ClusterPlan| cluster.workloads.iter().any(|w| w.app.as_deref() == Some(app));
            plan.clusters.iter().filter(has).map(|cluster| cluster.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(homes("details"), ["us-west"]);
        assert_eq!(homes("reviews"), ["us-east", "us-west", "eu-west"]);
        assert_eq!(homes("ratings"), ["us-east", "eu-west"]);
        assert!(plan.processes().len() <= 45, "{}", plan.processes().len());
    }

    #[test]
    fn apart_every_process_has_the_namespace_of_its_cluster_and_no_address_on_loopback() {
        let plan = apart(with_witness(plan(2, 40).unwrap()).unwrap());
        assert!(plan.is_apart());
        for process in plan.processes() {
            assert!(!process.address.is_loopback(), "{process:?}");
            assert!(process.namespace().is_some_and(|name| name.ends_with(process.cluster.as_str())), "{process:?}");
        }
        assert_eq!(plan.processes()[0].namespace().as_deref(), Some("isthmus-40-us-east"));
    }

    #[test]
    fn no_two_processes_share_a_name_and_no_two_workloads_an_address() {
        let plan = with_gateways(plan(MOST_CLUSTERS, 1).unwrap(), 2);
        let processes = plan.processes();
        let names = processes.iter().map(|p| (p.cluster.clone(), p.name.clone())).collect::<BTreeSet<_>>();
        assert_eq!(names.len(), processes.len());
        let admins = processes.iter().filter(|p| p.role != super::super::Role::App).collect::<Vec<_>>();
        assert_eq!(admins.iter().map(|p| p.address).collect::<BTreeSet<_>>().len(), admins.len());
    }
}
