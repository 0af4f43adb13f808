//! What each side says of itself in front of its first byte, for labels and never for authorization (DESIGN.md decision 21),
//! and what is taken for it of who has not said anything.

use isthmus_core::name;
use isthmus_wire::tunnel::Metadata;

use crate::config::Config;

/// What this workload says of itself, for labels: Istio's canonical service and revision, by the labels and in the order that
/// Istio looks for them.
pub(crate) fn own(config: &Config) -> Metadata {
    let label = |names: &[&str]| {
        let all = names.iter().filter_map(|name| config.labels.get(*name));
        all.into_iter().find(|value| !value.is_empty()).cloned()
    };
    let canonical = label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let revision = label(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    Metadata {
        workload: config.workload().to_owned(),
        namespace: config.namespace.clone(),
        app: label(&["app", "app.kubernetes.io/name"]).unwrap_or_default(),
        version: label(&["version", "app.kubernetes.io/version"]).unwrap_or_default(),
        canonical_service: canonical.unwrap_or_else(|| config.workload().to_owned()),
        canonical_revision: revision.unwrap_or_default(),
        cluster: config.common.cluster.to_string(),
        zone: config.common.locality.zone.clone(),
    }
}

/// What is known of an endpoint that has not said what it is. A pod's own name is nothing for labels: there would be a set of
/// them for every pod that ever was.
pub(crate) fn assumed(endpoint: &str, namespace: &str, cluster: String, zone: String) -> Metadata {
    let is_pod = name::pod_of(endpoint, namespace).is_some();
    let workload = if is_pod { String::new() } else { endpoint.to_owned() };
    Metadata { workload, namespace: namespace.to_owned(), cluster, zone, ..Metadata::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(workload: Option<&str>, labels: &[(&str, &str)]) -> Metadata {
        let labels: std::collections::BTreeMap<_, _> = labels.iter().copied().collect();
        let common = json!({"mesh": "mesh.test", "cluster": "us-east", "locality": {"region": "r", "zone": "z"},
            "name": "reviews-v1-7c9-x2.shop", "address": "127.42.1.1", "state_dir": "/s"});
        let config = json!({"common": common, "control": "c:1", "workload": workload, "namespace": "shop",
            "service_account": "reviews", "labels": labels, "application": "127.42.1.1"});
        own(&serde_json::from_value(config).unwrap())
    }

    #[test]
    fn a_pod_says_the_workload_that_it_is_of_and_else_its_own_name() {
        let said = of(Some("reviews-v1"), &[]);
        assert_eq!((said.workload.as_str(), said.canonical_service.as_str()), ("reviews-v1", "reviews-v1"));
        assert_eq!(of(None, &[]).workload, "reviews-v1-7c9-x2");
    }

    #[test]
    fn canonical_names_are_looked_for_in_istios_order() {
        let (mut labels, mut found) = (vec![], vec![]);
        for (name, value) in [
            ("app", "a"),
            ("version", "1"),
            ("app.kubernetes.io/name", "b"),
            ("app.kubernetes.io/version", "2"),
            ("service.istio.io/canonical-name", "c"),
            ("service.istio.io/canonical-revision", "3"),
        ] {
            labels.push((name, value));
            let said = of(Some("w"), &labels);
            found.push(format!("{}-{}", said.canonical_service, said.canonical_revision));
            assert_eq!(said.app, "a");
        }
        assert_eq!(found, ["a-", "a-1", "b-1", "b-2", "c-2", "c-3"]);
        assert_eq!(of(Some("w"), &[("app", "")]).canonical_service, "w");
    }

    #[test]
    fn of_a_silent_pod_no_name_is_assumed_and_of_a_silent_host_its_own() {
        let workload = |id: &str| assumed(id, "shop", "us-east".into(), String::new()).workload;
        assert_eq!(
            (workload("reviews-v1-7c9-x2.shop").as_str(), workload("reviews-v1-b").as_str()),
            ("", "reviews-v1-b")
        );
    }
}
