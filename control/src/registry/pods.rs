//! A registered workload as Kubernetes has it. That there is a sidecar is the sidecar's word; where and how its pod is, the
//! kubelet's. Without its pod it is none.

use isthmus_core::model::EndpointState;
use isthmus_inject::words::INJECTED;
use isthmus_kubernetes::facts::{Workload, Workloads};

use super::Registered;

/// The registered pod, if it is there: the same name, the same service account, and the address that the sidecar takes
/// connections at. A pod of a StatefulSet that was made anew has its name from the old one, but not its address.
#[must_use]
pub fn pod<'a>(registered: &Registered, workloads: &'a Workloads) -> Option<&'a Workload> {
    let pod = workloads.registered(registered.identity.namespace(), &registered.workload)?;
    let is_same = pod.service_account == registered.identity.service_account()
        && pod.addresses.contains(&registered.inbound.ip());
    is_same.then_some(pod)
}

/// The workloads that are there, as their pods are.
#[must_use]
pub fn standing(registered: Vec<Registered>, workloads: &Workloads) -> Vec<Registered> {
    registered.into_iter().filter_map(|one| pod(&one, workloads).map(|pod| as_pod(one.clone(), pod))).collect()
}

/// Whether all sidecars that should have registered have: those of pods that the kubelet sees ready, and so them too. A control that
/// begins without a memory knows of no endpoint, and none is not what it may tell.
#[must_use]
pub fn are_all_there(registered: &[Registered], workloads: &Workloads) -> bool {
    let awaited = |pod: &Workload| pod.labels.contains_key(INJECTED) && pod.state == EndpointState::Ready;
    let there = registered.iter().filter_map(|one| pod(one, workloads)).filter(|pod| awaited(pod)).count();
    there >= workloads.iter().filter(|pod| awaited(pod)).count()
}

fn as_pod(registered: Registered, pod: &Workload) -> Registered {
    let state = match (registered.state, pod.state) {
        // It knows first that it drains.
        (EndpointState::Draining, _) => EndpointState::Draining,
        // The kubelet saw it ready before its node was lost; nobody says that it is not.
        (EndpointState::Unknown, EndpointState::Ready) => EndpointState::Unknown,
        (_, seen) => seen,
    };
    let mut locality = pod.locality.clone();
    if locality.zone.is_empty() && locality.region.is_empty() {
        locality = registered.locality;
    }
    Registered { labels: pod.labels.clone(), locality, state, ..registered }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use isthmus_core::name::Locality;
    use isthmus_kubernetes::{Facts, Kind, Seen, arrived::Arrived, seen::Told};
    use serde_json::{Value, json};

    use super::*;

    fn facts(pods: &[Value]) -> Facts {
        let arrived = |object: &Value| Arrived::of(Kind::Pod, serde_json::from_value(object.clone()).unwrap()).unwrap();
        let mut seen = Seen::default();
        seen.take(Told::All(Kind::Pod, pods.iter().map(arrived).collect()));
        Facts::of(&seen, "isthmus-system")
    }

    fn reviews(ip: &str, ready: &str) -> Value {
        let labels =
            json!({"app": "reviews", "topology.kubernetes.io/region": "east", "topology.kubernetes.io/zone": "east-a"});
        json!({
            "metadata": {"name": "reviews-1", "namespace": "shop", "labels": labels},
            "spec": {"serviceAccountName": "reviews"},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
        })
    }

    fn registered(id: &str, state: EndpointState) -> Registered {
        Registered {
            workload: id.parse().unwrap(),
            identity: "spiffe://east.mesh.test/ns/shop/sa/reviews".parse().unwrap(),
            labels: BTreeMap::new(),
            inbound: "10.0.0.1:15006".parse().unwrap(),
            locality: Locality::default(),
            state,
            weight: 1,
        }
    }

    fn seen(id: &str, state: EndpointState, pods: &[Value]) -> Option<Registered> {
        standing(vec![registered(id, state)], &facts(pods).workloads).pop()
    }

    #[test]
    fn an_endpoint_is_where_and_how_its_pod_is() {
        for id in ["reviews-1", "reviews-1.shop"] {
            let endpoint = seen(id, EndpointState::Ready, &[reviews("10.0.0.1", "True")]).unwrap();
            assert_eq!((endpoint.locality.zone.as_str(), endpoint.state), ("east-a", EndpointState::Ready));
            assert_eq!(endpoint.labels["app"], "reviews");
        }
    }

    #[test]
    fn the_kubelet_decides_on_readiness_and_the_sidecar_only_on_draining() {
        use EndpointState::{Draining, Ready, Unknown, Unready};
        let state = |own, ready| seen("reviews-1", own, &[reviews("10.0.0.1", ready)]).unwrap().state;
        assert_eq!(state(Ready, "False"), Unready);
        assert_eq!(state(Unready, "True"), Ready);
        assert_eq!(state(Draining, "True"), Draining);
        assert_eq!((state(Unknown, "True"), state(Unknown, "False")), (Unknown, Unready));
    }

    #[test]
    fn sidecars_are_awaited_whose_pods_are_ready_and_no_others() {
        let injected = |mut pod: Value| {
            pod["metadata"]["labels"][INJECTED] = "1.0".into();
            pod
        };
        let there = |pods: &[Value], registered: &[Registered]| are_all_there(registered, &facts(pods).workloads);
        let one = [registered("reviews-1", EndpointState::Ready)];
        let ready = [injected(reviews("10.0.0.1", "True"))];
        assert!(!there(&ready, &[]) && there(&ready, &one));
        assert!(!there(&[injected(reviews("10.0.0.2", "True"))], &one), "it registered at another address");
        assert!(there(&[injected(reviews("10.0.0.1", "False"))], &[]), "its sidecar may not be up yet");
        assert!(there(&[reviews("10.0.0.1", "True")], &[]), "it has none");
    }

    #[test]
    fn without_its_pod_an_endpoint_is_none() {
        assert_eq!(seen("reviews-1", EndpointState::Ready, &[]), None, "it was deleted");
        let anew = [reviews("10.0.0.2", "True")];
        assert_eq!(seen("reviews-1", EndpointState::Ready, &anew), None, "another pod has its name");
        let mut other = reviews("10.0.0.1", "True");
        other["spec"]["serviceAccountName"] = "thief".into();
        assert_eq!(seen("reviews-1", EndpointState::Ready, &[other]), None, "another identity has its address");
    }
}
