//! Pure: what is installed, whether it runs, and of which release it is.

use serde_json::Value;

use super::{finding::Finding, gather::Installed};
use crate::{
    install::release::VERSION,
    rollout::{self, Seen, list, named, text},
};

/// What belongs to every installation.
const WORKLOADS: [&str; 3] = ["isthmus-control", "isthmus-federation", "isthmus-gateway"];

pub fn verdicts(installed: &Installed) -> Vec<Finding> {
    let mut all: Vec<_> = WORKLOADS.iter().map(|name| workload(name, &installed.seen)).collect();
    all.extend(images(installed));
    all.extend(exposure(&installed.services));
    all
}

fn workload(name: &str, seen: &Seen) -> Finding {
    let Some(found) = seen.workloads.iter().find(|one| text(one, "/metadata/name") == name) else {
        return Finding::error(name, "it is not there").remedy("`isthmus upgrade`, or `helm upgrade`, brings it back");
    };
    match rollout::lacks(found, seen) {
        None => Finding::ok(named(found), "all of it is ready"),
        Some(lacks) => Finding::error(named(found), lacks).remedy(format!(
            "`kubectl -n isthmus-system describe pods -l app.kubernetes.io/component={}` says more",
            name.trim_start_matches("isthmus-")
        )),
    }
}

/// One release: of this program, of the roles, of the sidecars to come.
fn images(installed: &Installed) -> Vec<Finding> {
    const WHAT: &str = "Release";
    let told = text(&installed.map, "/metadata/labels/app.kubernetes.io~1version");
    let sidecars = text(&installed.map, "/data/image");
    let mut all = vec![];
    for pod in &installed.seen.pods {
        let image = list(pod, "/spec/containers").first().map_or("", |container| text(container, "/image"));
        if image != sidecars {
            let name = text(pod, "/metadata/name");
            all.push(
                Finding::warning(WHAT, format!("{name} runs {image}, and sidecars are to run {sidecars}"))
                    .remedy("`isthmus upgrade` or `helm upgrade` with one image for all of them"),
            );
        }
    }
    if told != VERSION {
        let why = format!("{told} is installed, and this program is of {VERSION}");
        all.push(Finding::warning(WHAT, why).remedy("upgrade what is installed, or use the program of its release"));
    } else if all.is_empty() {
        all.push(Finding::ok(WHAT, format!("{told}, image {sidecars}")));
    }
    all
}

/// Other clusters need an address where a load balancer was to give one.
fn exposure(services: &[Value]) -> Vec<Finding> {
    let is_gateways = |service: &&Value| {
        text(service, "/metadata/namespace") == "isthmus-system"
            && text(service, "/metadata/labels/app.kubernetes.io~1component") == "gateway"
            && text(service, "/spec/type") == "LoadBalancer"
    };
    let of = |service: &Value| {
        let ingress = list(service, "/status/loadBalancer/ingress");
        let what = named(service);
        let addresses: Vec<_> = ingress.iter().map(|one| [text(one, "/ip"), text(one, "/hostname")].concat()).collect();
        if addresses.is_empty() {
            return Finding::error(what, "no load balancer gave it an address, so no other cluster finds this one").remedy(
                "does the cluster have one? (`kubectl -n isthmus-system describe service`) Else set gateway.exposure to \
                 NodePort or DialOut",
            );
        }
        Finding::ok(what, format!("others reach it at {}", addresses.join(", ")))
    };
    services.iter().filter(is_gateways).map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::finding::Severity;

    #[test]
    fn what_is_missing_and_what_does_not_run_is_an_error() {
        let mut seen = Seen::default();
        assert!(workload("isthmus-control", &seen).why.contains("not there"));
        seen.workloads =
            vec![json!({ "kind": "Deployment", "metadata": { "name": "isthmus-control" }, "spec": { "replicas": 1 } })];
        let finding = workload("isthmus-control", &seen);
        assert_eq!(finding.why, "0 of 1 are as they were applied");
        assert!(finding.severity == Severity::Error && finding.remedy.unwrap().contains("component=control"));
        seen.workloads[0]["status"] = json!({ "updatedReplicas": 1, "readyReplicas": 1, "replicas": 1 });
        assert_eq!(workload("isthmus-control", &seen).severity, Severity::Ok);
    }

    #[test]
    fn releases_that_differ_are_told() {
        let installed = |version: &str, image: &str| Installed {
            map: json!({ "metadata": { "labels": { "app.kubernetes.io/version": version } }, "data": { "image": "i:1" } }),
            seen: Seen {
                pods: vec![json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "image": image }] } })],
                ..Seen::default()
            },
            ..Installed::default()
        };
        let judged = |version: &str, image: &str| -> Vec<_> {
            images(&installed(version, image)).iter().map(|finding| finding.severity).collect()
        };
        assert_eq!(judged(VERSION, "i:1"), [Severity::Ok]);
        assert_eq!(judged(VERSION, "i:0"), [Severity::Warning]);
        assert_eq!(judged("0.0.1", "i:1"), [Severity::Warning]);
    }

    #[test]
    fn a_gateway_without_an_address_is_an_error() {
        let service = |ingress: Value| {
            json!({
                "kind": "Service", "metadata": { "name": "isthmus-gateway", "namespace": "isthmus-system", "labels": { "app.kubernetes.io/component": "gateway" } },
                "spec": { "type": "LoadBalancer" }, "status": { "loadBalancer": { "ingress": ingress } },
            })
        };
        assert_eq!(exposure(&[service(json!([]))])[0].severity, Severity::Error);
        assert!(exposure(&[service(json!([{ "ip": "10.0.0.1" }]))])[0].why.ends_with("10.0.0.1"));
    }
}
