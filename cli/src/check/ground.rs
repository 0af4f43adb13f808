//! Pure: the cluster that the mesh stands on, or is to stand on.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_kubernetes::reference::ObjectKind;
use serde_json::Value;

use super::finding::Finding;
use crate::{
    install::cluster::is,
    rollout::{list, text},
};

/// ValidatingAdmissionPolicy is there from here on.
const OLDEST: (u32, u32) = (1, 30);
/// Pods know their region and zone from here on.
const TOPOLOGY: (u32, u32) = (1, 35);
/// nf_tables can do what capture needs from here on; before that iptables is tried.
const NFT: (u32, u32) = (4, 18);

/// What was seen of it; none: it could not be asked.
#[derive(Debug, Default)]
pub struct Ground {
    /// The API server's version; none: it was not asked.
    pub version: String,
    /// What an installation needs and the user may not do: verb and plural.
    pub denied: Vec<(&'static str, String)>,
    /// Whether the mesh is there.
    pub is_installed: bool,
    /// Nodes.
    pub nodes: Option<Vec<Value>>,
    /// Storage classes.
    pub classes: Option<Vec<Value>>,
    /// Volumes.
    pub volumes: Option<Vec<Value>>,
    /// Services of all namespaces.
    pub services: Option<Vec<Value>>,
    /// Pods of all namespaces.
    pub pods: Option<Vec<Value>>,
    /// Mutating webhooks' configurations.
    pub webhooks: Option<Vec<Value>>,
    /// CustomResourceDefinitions.
    pub definitions: Option<Vec<Value>>,
}

pub fn verdicts(ground: &Ground) -> Vec<Finding> {
    let mut all = vec![version(&ground.version), permissions(&ground.denied, ground.is_installed)];
    all.extend(ground.nodes.iter().flat_map(|nodes| self::nodes(nodes)));
    if !ground.is_installed {
        let volumes = ground.volumes.as_deref().unwrap_or_default();
        all.extend(ground.classes.iter().map(|classes| storage(classes, volumes)));
        all.extend(ground.services.iter().map(|services| balancer(services)));
    }
    all.extend(ground.webhooks.iter().flatten().filter_map(istio));
    all.extend(ground.definitions.iter().flat_map(|definitions| self::definitions(definitions)));
    all
}

/// `1.35` of `v1.35.4+k3s1`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches('v').split(|one: char| !one.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn version(version: &str) -> Finding {
    const WHAT: &str = "Kubernetes";
    match release(version) {
        None => Finding::note(WHAT, format!("version {version:?} is none that is known")),
        Some(found) if found < OLDEST => {
            Finding::error(WHAT, format!("{version} is too old")).remedy("upgrade the cluster to 1.30 or later")
        }
        Some(found) if found < TOPOLOGY => Finding::note(WHAT, format!("{version} does not tell pods their region"))
            .remedy("set cluster.region at the installation"),
        Some(_) => Finding::ok(WHAT, version),
    }
}

fn permissions(denied: &[(&'static str, String)], is_installed: bool) -> Finding {
    const WHAT: &str = "Permissions";
    if denied.is_empty() {
        return Finding::ok(WHAT, "you may do all that an installation does");
    }
    // Kinds of which the same is denied, together.
    let mut verbs = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (verb, plural) in denied {
        verbs.entry(plural).or_default().insert(verb);
    }
    let mut kinds = BTreeMap::<Vec<&str>, Vec<&str>>::new();
    verbs.into_iter().for_each(|(plural, verbs)| kinds.entry(verbs.into_iter().collect()).or_default().push(plural));
    let said = kinds.iter().map(|(verbs, kinds)| format!("{} of {}", verbs.join(", "), kinds.join(", ")));
    let why = format!("denied to you: {}", said.collect::<Vec<_>>().join("; "));
    let finding = if is_installed { Finding::note(WHAT, why) } else { Finding::error(WHAT, why) };
    finding.remedy("an installation and an upgrade need them: ask for cluster-admin, or ask whoever has it to do them")
}

fn nodes(nodes: &[Value]) -> Vec<Finding> {
    let wrong: Vec<_> = nodes.iter().filter_map(node).collect();
    match nodes.len() {
        0 => vec![Finding::warning("Nodes", "there are none").remedy("add one: the mesh and its pods run on nodes")],
        all if wrong.is_empty() => vec![Finding::ok("Nodes", format!("{all} ready, their kernels can capture"))],
        _ => wrong,
    }
}

fn node(node: &Value) -> Option<Finding> {
    let what = format!("Node {}", text(node, "/metadata/name"));
    let info = |key: &str| text(node, &format!("/status/nodeInfo/{key}"));
    if info("operatingSystem") == "windows" {
        return Some(Finding::note(what, "pods on Windows get no sidecar"));
    }
    if !is(node, "Ready") {
        return Some(Finding::warning(what, "it is not ready").remedy("`kubectl describe node` says why"));
    }
    if release(info("kubeletVersion")).is_some_and(|kubelet| kubelet < OLDEST) {
        let why = format!("its kubelet {} does not know sidecar containers for certain", info("kubeletVersion"));
        return Some(Finding::error(what, why).remedy("upgrade the node to 1.30 or later"));
    }
    let kernel = info("kernelVersion");
    release(kernel).is_some_and(|kernel| kernel < NFT).then(|| {
        Finding::warning(what, format!("its kernel {kernel} may lack nf_tables; capture tries iptables there"))
            .remedy("upgrade the kernel to 4.18 or later")
    })
}

/// The member wants a disk.
fn storage(classes: &[Value], volumes: &[Value]) -> Finding {
    const WHAT: &str = "Storage";
    const DEFAULT: &str = "/metadata/annotations/storageclass.kubernetes.io~1is-default-class";
    if let Some(class) = classes.iter().find(|class| text(class, DEFAULT) == "true") {
        return Finding::ok(WHAT, format!("the default class is {}", text(class, "/metadata/name")));
    }
    let free = volumes.iter().filter(|volume| text(volume, "/status/phase") == "Available").count();
    if free > 0 {
        return Finding::note(WHAT, format!("no class is the default one; {free} volumes are free"))
            .remedy("set federation.persistence.storageClass: - for volumes made by hand");
    }
    let names: Vec<_> = classes.iter().map(|class| text(class, "/metadata/name")).collect();
    let there = if names.is_empty() { "there is none".into() } else { format!("there are {}", names.join(", ")) };
    Finding::warning(WHAT, format!("no class is the default one ({there}), so the member would wait for its disk"))
        .remedy("set federation.persistence.storageClass, or make one of them the default")
}

/// Whether one is here shows only by what it did.
fn balancer(services: &[Value]) -> Finding {
    const WHAT: &str = "Load balancer";
    let wanted = || services.iter().filter(|service| text(service, "/spec/type") == "LoadBalancer");
    let has_address = |service: &&Value| !list(service, "/status/loadBalancer/ingress").is_empty();
    if let Some(service) = wanted().find(has_address) {
        let name = text(service, "/metadata/name");
        return Finding::ok(WHAT, format!("one is here: Service {name} has an address of it"));
    }
    let why = match wanted().count() {
        0 => "no Service asks for one, so it shows only when the gateways do".into(),
        count => format!("{count} Services ask for one, and none has an address"),
    };
    Finding::note(WHAT, why).remedy("where there is none, set gateway.exposure to NodePort or DialOut")
}

/// Istio's injector would inject the same pods, unless its namespaces are others.
fn istio(configuration: &Value) -> Option<Finding> {
    let is_istios = |webhook: &Value| text(webhook, "/name").ends_with("sidecar-injector.istio.io");
    list(configuration, "/webhooks").iter().any(is_istios).then(|| {
        let name = text(configuration, "/metadata/name");
        let why = format!("MutatingWebhookConfiguration {name} is Istio's, and injects pods by the same labels");
        Finding::warning("Istio", why).remedy(format!(
            "where Istio runs, set injection.istioLabels=false (--set of `install`, `upgrade` or Helm); where it is gone: \
             `kubectl delete mutatingwebhookconfiguration {name}`"
        ))
    })
}

/// Kinds that others brought, or nobody.
fn definitions(definitions: &[Value]) -> Vec<Finding> {
    let find = |name: &str| definitions.iter().find(|one| text(one, "/metadata/name") == name);
    let ours = |one: &Value| text(one, "/metadata/labels/app.kubernetes.io~1part-of") == "isthmus";
    let mut all = vec![];
    for name in ["serviceexports.multicluster.x-k8s.io", "serviceimports.multicluster.x-k8s.io"] {
        all.extend(find(name).filter(|one| !ours(one)).map(|_| {
            Finding::note(format!("CRD {name}"), "another implementation of MCS brought it")
                .remedy("set crds.mcs=false at the installation where that one stays")
        }));
    }
    if find("virtualservices.networking.istio.io").is_none() {
        all.push(
            Finding::note("CRDs of Istio", "there are none, so routes cannot be written")
                .remedy("set istioCRDs.enabled=true at the installation, or the next upgrade, where routes are wanted"),
        );
    }
    all
}

/// What an installation does to objects of a kind.
pub fn needed(kind: &ObjectKind) -> impl Iterator<Item = (&'static str, String)> {
    let plural = kind.plural();
    ["get", "list", "create", "patch", "delete"].into_iter().map(move |verb| (verb, plural.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::finding::Severity;

    #[test]
    fn releases_are_judged_by_what_they_can_do() {
        let judged = ["v1.29.9", "v1.30.0+k3s1", "v1.35.4", "next"].map(|text| version(text).severity);
        assert_eq!(judged, [Severity::Error, Severity::Note, Severity::Ok, Severity::Note]);
        let denied = [("create", "roles".to_owned()), ("create", "pods".to_owned()), ("get", "roles".to_owned())];
        let finding = permissions(&denied, false);
        assert_eq!(finding.severity, Severity::Error);
        assert_eq!(finding.why, "denied to you: create of pods; create, get of roles");
        assert_eq!(permissions(&denied, true).severity, Severity::Note);
        assert_eq!(permissions(&[], false).severity, Severity::Ok);
    }

    #[test]
    fn nodes_are_named_with_what_they_lack() {
        let of = |kernel: &str, kubelet: &str, ready: &str| {
            node(&json!({
                "metadata": { "name": "n1" },
                "status": { "nodeInfo": { "kernelVersion": kernel, "kubeletVersion": kubelet },
                            "conditions": [{ "type": "Ready", "status": ready }] },
            }))
        };
        assert_eq!(of("6.1.0-13", "v1.35.0", "True"), None);
        assert!(of("3.10.0-1160", "v1.35.0", "True").unwrap().why.contains("nf_tables"));
        assert_eq!(of("6.1.0", "v1.28.1", "True").unwrap().severity, Severity::Error);
        assert_eq!(of("6.1.0", "v1.35.0", "False").unwrap().severity, Severity::Warning);
    }

    #[test]
    fn a_disk_and_an_address_are_looked_for_before_they_are_missed() {
        let class = |default: &str| json!({ "metadata": { "name": "fast", "annotations": { "storageclass.kubernetes.io/is-default-class": default } } });
        assert_eq!(storage(&[class("true")], &[]).severity, Severity::Ok);
        assert!(storage(&[class("false")], &[]).why.contains("there are fast"));
        assert_eq!(storage(&[], &[json!({ "status": { "phase": "Available" } })]).severity, Severity::Note);
        let service = |ingress: Value| json!({ "spec": { "type": "LoadBalancer" }, "status": { "loadBalancer": { "ingress": ingress } } });
        assert_eq!(balancer(&[service(json!([{ "ip": "a" }]))]).severity, Severity::Ok);
        assert!(balancer(&[service(json!([]))]).why.contains("none has an address"));
    }

    #[test]
    fn what_istio_left_and_what_others_brought_is_told() {
        let left = json!({ "metadata": { "name": "istio-sidecar-injector" }, "webhooks": [{ "name": "namespace.sidecar-injector.istio.io" }] });
        assert!(istio(&left).unwrap().remedy.unwrap().contains("istio-sidecar-injector"));
        assert_eq!(istio(&json!({ "webhooks": [{ "name": "namespace.injection.isthmus.dev" }] })), None);
        let mcs = json!({ "metadata": { "name": "serviceexports.multicluster.x-k8s.io" } });
        let told: Vec<_> = definitions(&[mcs]).into_iter().map(|finding| finding.what).collect();
        assert_eq!(told, ["CRD serviceexports.multicluster.x-k8s.io", "CRDs of Istio"]);
    }
}
