//! Each setting by its name in the chart, what it may be, and what that means. `values.yaml` of the chart says more.

use super::values::{SWITCH, Values, is_name, is_range};

/// A setting.
pub struct Known {
    /// Its name in the chart.
    pub name: &'static str,
    /// What it may be.
    pub values: Values,
    /// What that means.
    pub means: &'static str,
}

const fn of(name: &'static str, values: Values, means: &'static str) -> Known {
    Known { name, values, means }
}

const NAME: Values = Values::Word(is_name, "a name of a-z, 0-9 and '-'");
const NAMES: Values = Values::Words(is_name, "names of namespaces");
const RANGES: Values = Values::Words(is_range, "CIDR blocks");
const FAILS: Values = Values::OneOf(&["Fail", "Ignore"]);

/// What each role has.
macro_rules! role {
    ($role:literal) => {
        [
            of(concat!($role, ".affinity"), Values::Object, "where its pods may run"),
            of(concat!($role, ".nodeSelector"), Values::Texts, "labels of the nodes that it runs on"),
            of(concat!($role, ".podAnnotations"), Values::Texts, "added to its pods"),
            of(
                concat!($role, ".podDisruptionBudget.enabled"),
                SWITCH,
                "whether a drain of nodes evicts one pod at a time",
            ),
            of(concat!($role, ".podLabels"), Values::Texts, "added to its pods"),
            of(concat!($role, ".priorityClassName"), Values::Text, "the class that keeps it when nodes are full"),
            of(concat!($role, ".resources"), Values::Amounts, "what it asks for and may use"),
            of(concat!($role, ".tolerations"), Values::Objects, "taints of nodes that it bears"),
        ]
    };
}

const ROLES: [[Known; 8]; 3] = [role!("control"), role!("federation"), role!("gateway")];

const OWN: [Known; 50] = [
    of("cluster.region", Values::Text, "the region, where nodes do not tell pods theirs"),
    of("control.announceSeconds", Values::Whole(30, 86_400), "how long another authority is announced before it signs"),
    of("control.leafTtlSeconds", Values::Whole(600, 2_592_000), "how long a workload's leaf lives"),
    of("control.replicas", Values::Whole(1, 100), "how many replicas of control; one of them speaks for the cluster"),
    of("crds.enabled", SWITCH, "whether our kinds are brought and upgraded"),
    of(
        "crds.mcs",
        SWITCH,
        "whether ServiceExport and ServiceImport are brought, and not by another implementation of MCS",
    ),
    of("federation.persistence.enabled", SWITCH, "whether the member has a disk; false only for tests"),
    of("federation.persistence.size", Values::Text, "the size of the member's disk, such as 1Gi"),
    of("federation.persistence.storageClass", Values::Text, "its class; -: none, for volumes made by hand"),
    of(
        "federation.persistence.whenDeleted",
        Values::OneOf(&["Retain", "Delete"]),
        "what becomes of it with the member",
    ),
    of(
        "federation.timing.electionMax",
        Values::Whole(200, 600_000),
        "the longest silence before an election, milliseconds",
    ),
    of(
        "federation.timing.electionMin",
        Values::Whole(100, 600_000),
        "the shortest silence before an election, milliseconds",
    ),
    of(
        "federation.timing.heartbeat",
        Values::Whole(50, 600_000),
        "how often members are told of the leader, milliseconds",
    ),
    of("gateway.addresses", Values::Addresses, "what other clusters are told instead of a Service's address"),
    of("gateway.drainDeadlineSeconds", Values::Whole(1, 3600), "how long open streams have to end"),
    of(
        "gateway.exposure",
        Values::OneOf(&["LoadBalancer", "LoadBalancerPerProtocol", "NodePort", "HostPort", "DialOut"]),
        "how other clusters reach the gateways",
    ),
    of("gateway.hostPort", Values::Whole(1, 65_535), "the port of nodes, of HostPort"),
    of("gateway.replicas", Values::Whole(1, 1000), "how many gateways"),
    of("gateway.segmentationOffload", SWITCH, "whether packets are handed to the kernel in batches"),
    of("gateway.service.annotations", Values::Texts, "for the cloud's controller"),
    of("gateway.service.externalTrafficPolicy", Values::OneOf(&["Cluster", "Local"]), "which nodes pass packets on"),
    of("gateway.service.loadBalancerClass", Values::Text, "the load balancer's class"),
    of("gateway.service.loadBalancerIP", Values::Text, "the address to ask for, where the cloud still reads it"),
    of("gateway.service.loadBalancerSourceRanges", RANGES, "clients that may connect"),
    of("gateway.service.nodePort", Values::Whole(1, 65_535), "the port, of NodePort"),
    of("gateway.service.tcp.annotations", Values::Texts, "of the Service for TCP alone"),
    of("gateway.service.tcp.loadBalancerIP", Values::Text, "of the Service for TCP alone"),
    of("gateway.service.udp.annotations", Values::Texts, "of the Service for UDP alone"),
    of("gateway.service.udp.loadBalancerIP", Values::Text, "of the Service for UDP alone"),
    of("image.pullPolicy", Values::OneOf(&["Always", "IfNotPresent", "Never"]), "when images are pulled"),
    of("image.pullSecrets", Values::Words(|name| !name.is_empty(), "names of Secrets"), "for a private registry"),
    of("injection.enabled", SWITCH, "whether pods get sidecars by a webhook"),
    of("injection.excludedNamespaces", NAMES, "namespaces whose pods never get a sidecar, beside Kubernetes' own"),
    of("injection.failurePolicy", FAILS, "what becomes of pods that want a sidecar while control is away"),
    of("injection.istioLabels", SWITCH, "whether Istio's labels ask for a sidecar of ours; false beside an Istio"),
    of(
        "injection.policy",
        Values::OneOf(&["disabled", "enabled"]),
        "what becomes of pods of which nobody says anything",
    ),
    of("injection.proxy.concurrency", Values::Whole(1, 1024), "threads of a sidecar"),
    of("injection.proxy.holdApplicationUntilProxyStarts", SWITCH, "whether applications wait for their sidecar"),
    of("injection.proxy.rewriteAppHTTPProbers", SWITCH, "whether probes are asked through the sidecar"),
    of("injection.proxy.traffic", Values::Texts, "what is captured, in the words of traffic.sidecar.istio.io"),
    of("injection.resources", Values::Amounts, "what a sidecar asks for and may use"),
    of("injection.revision", NAME, "the revision that istio.io/rev names"),
    of("injection.timeoutSeconds", Values::Whole(1, 30), "how long the API server waits for the webhook"),
    of("istioCRDs.enabled", SWITCH, "whether Istio's VirtualService and DestinationRule are brought"),
    of("log", Values::Text, "the log filter of every role, such as info"),
    of("metrics.prometheusAnnotations", SWITCH, "whether pods of the roles say where their metrics are"),
    of("networkPolicy.enabled", SWITCH, "whether NetworkPolicies allow the roles' ports, and only them"),
    of("rbac.aggregate", SWITCH, "whether view, edit and admin hold for our kinds"),
    of("validation.enabled", SWITCH, "whether objects are also looked at by a webhook when they are applied"),
    of("validation.failurePolicy", FAILS, "what becomes of our objects while control is away"),
];

/// Of the chart's values those that are no settings, and what is in their place.
pub const ELSEWHERE: [(&str, &str); 6] = [
    ("cluster.name", "the name is --cluster NAME of `install`"),
    ("crds.keep", "what stays is said at the end: --keep-crds of `uninstall`"),
    ("image.digest", "the image is --image NAME@DIGEST"),
    ("image.repository", "the image is --image NAME:TAG"),
    ("image.tag", "the image is --image NAME:TAG"),
    ("mesh.domain", "the mesh is --mesh DOMAIN of `install`"),
];

/// All settings.
pub fn all() -> impl Iterator<Item = &'static Known> {
    static ALL: ([[Known; 8]; 3], [Known; 50]) = (ROLES, OWN);
    ALL.0.iter().flatten().chain(&ALL.1)
}

/// The setting of this name, or the map that it is an entry of and where in it. A dot in a key of an entry is written `\.`.
pub fn find(key: &str) -> Option<(&'static Known, Vec<String>)> {
    all().find_map(|known| {
        let rest = key.strip_prefix(known.name)?;
        if rest.is_empty() {
            return Some((known, vec![]));
        }
        let path = rest.strip_prefix('.').filter(|_| known.values.has_entries())?;
        let parts: Vec<_> = path.replace("\\.", "\0").split('.').map(|part| part.replace('\0', ".")).collect();
        parts.iter().all(|part| !part.is_empty()).then_some((known, parts))
    })
}

/// All names, as they are told.
pub fn listed() -> String {
    let mut names: Vec<_> = all().map(|known| known.name).collect();
    names.sort_unstable();
    names.join(", ")
}

/// What is in the place of a value that is no setting.
pub fn elsewhere(key: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(name, _)| *name == key).map(|(_, instead)| *instead)
}
