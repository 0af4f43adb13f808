//! Values that cannot be used: each is named, with what would be right, and the pod is not injected by halves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use isthmus_inject::{Values, inject, values::ValuesError};
use serde_json::{Value, json};

fn values() -> Values {
    Values::new("mesh.example".parse().unwrap(), "us-east".parse().unwrap())
}

fn pod(annotations: &[(&str, &str)]) -> Value {
    let annotations: serde_json::Map<_, _> =
        annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    json!({ "metadata": { "annotations": annotations }, "spec": { "containers": [{ "name": "app" }] } })
}

/// Annotation, value, and words of the answer.
const WRONG: [(&str, &str, &str); 23] = [
    ("traffic.sidecar.istio.io/excludeInboundPorts", "80,x", "\"x\" is none; write numbers from 1 to 65535"),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", "0", "\"0\" is none"),
    ("traffic.sidecar.istio.io/includeOutboundPorts", "65536", "\"65536\" is none"),
    ("traffic.sidecar.istio.io/includeInboundPorts", "80-90", "\"80-90\" is none"),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", "*", "\"*\" is none"),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/33", "write CIDR blocks"),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "ten", "write CIDR blocks"),
    ("traffic.sidecar.istio.io/excludeInterfaces", "eth0;rm -rf", "write names with commas"),
    ("traffic.sidecar.istio.io/excludeInterfaces", "eth0:1", "write names with commas"),
    ("traffic.sidecar.istio.io/excludeInboundPorts", "80,,443", "\"\" is none"),
    ("sidecar.istio.io/interceptionMode", "", "write REDIRECT, TPROXY or NONE"),
    ("sidecar.istio.io/interceptionMode", "tproxy", "write REDIRECT, TPROXY or NONE"),
    ("sidecar.istio.io/proxyCPU", "lots", "write a number with a unit, such as 250m"),
    ("sidecar.istio.io/proxyMemoryLimit", "-1Gi", "is no amount"),
    ("sidecar.istio.io/proxyImage", "two words", "write registry/name:tag"),
    ("sidecar.istio.io/proxyImage", "docker.io/istio/proxyv2:1.27.0", "is Istio's sidecar"),
    ("sidecar.istio.io/rewriteAppHTTPProbers", "maybe", "is neither true nor false"),
    ("proxy.istio.io/config", "[", "is no object of YAML"),
    ("proxy.istio.io/config", "concurrency: many", "has no number of threads as concurrency"),
    ("proxy.istio.io/config", "- concurrency: 2", "is no object of YAML"),
    ("proxy.istio.io/config", "holdApplicationUntilProxyStarts: soon", "has no true or false as holdApplication"),
    ("isthmus.dev/excludeOutboundUsers", "root", "\"root\" is none; write their numbers"),
    ("isthmus.dev/concurrency", "0", "is no number of threads; write such as 2"),
];

#[test]
fn a_value_that_cannot_be_used_is_named_with_what_would_be_right() {
    for (key, value, words) in WRONG {
        let error = inject(&pod(&[(key, value)]), &values()).unwrap_err().to_string();
        let begin = format!("metadata.annotations[{key:?}]: {value:?} ");
        assert!(error.starts_with(&begin) && error.contains(words), "{key}: {error}");
    }
}

/// Istio's annotations and labels for pods (istio.io, "Resource Annotations" and "Resource Labels"), each with a value, that are
/// honoured.
const HONOURED: [(&str, &str); 16] = [
    ("proxy.istio.io/config", "{holdApplicationUntilProxyStarts: true, concurrency: 2}"),
    ("inject.istio.io/templates", "sidecar"),
    ("sidecar.istio.io/inject", "true"),
    ("sidecar.istio.io/interceptionMode", "TPROXY"),
    ("sidecar.istio.io/proxyCPU", "100m"),
    ("sidecar.istio.io/proxyCPULimit", "2"),
    ("sidecar.istio.io/proxyImage", "registry.example/isthmus:1"),
    ("sidecar.istio.io/proxyMemory", "128Mi"),
    ("sidecar.istio.io/proxyMemoryLimit", "1Gi"),
    ("sidecar.istio.io/rewriteAppHTTPProbers", "false"),
    ("traffic.sidecar.istio.io/includeInboundPorts", "*"),
    ("traffic.sidecar.istio.io/excludeInboundPorts", " 80, 443,"),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", "*"),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.0.0.0/8,fd00::/8"),
    ("traffic.sidecar.istio.io/includeOutboundPorts", ""),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", "3306"),
];

/// Those that are not, and what is misspelt; whoever brings one reads so.
const TOLD: [(&str, &str); 30] = [
    ("ambient.istio.io/bypass-inbound-capture", "true"),
    ("ambient.istio.io/dns-capture", "false"),
    ("istio.io/reroute-virtual-interfaces", "net1"),
    ("prometheus.istio.io/merge-metrics", "true"),
    ("proxy.istio.io/overrides", "{}"),
    ("readiness.status.sidecar.istio.io/applicationPorts", "80"),
    ("readiness.status.sidecar.istio.io/failureThreshold", "3"),
    ("readiness.status.sidecar.istio.io/initialDelaySeconds", "1"),
    ("readiness.status.sidecar.istio.io/periodSeconds", "2"),
    ("sidecar.istio.io/agentLogLevel", "debug"),
    ("sidecar.istio.io/bootstrapOverride", "map"),
    ("sidecar.istio.io/componentLogLevel", "x:debug"),
    ("sidecar.istio.io/controlPlaneAuthPolicy", "NONE"),
    ("sidecar.istio.io/discoveryAddress", "istiod:15012"),
    ("sidecar.istio.io/enableCoreDump", "true"),
    ("sidecar.istio.io/extraStatTags", "a"),
    ("sidecar.istio.io/logLevel", "debug"),
    ("sidecar.istio.io/nativeSidecar", "false"),
    ("sidecar.istio.io/proxyImageType", "distroless"),
    ("sidecar.istio.io/statsCompression", "gzip"),
    ("sidecar.istio.io/statsHistogramBuckets", "{}"),
    ("sidecar.istio.io/statsInclusionPrefixes", "a"),
    ("sidecar.istio.io/statsInclusionRegexps", "a"),
    ("sidecar.istio.io/statsInclusionSuffixes", "a"),
    ("sidecar.istio.io/userVolume", "[]"),
    ("sidecar.istio.io/userVolumeMount", "[]"),
    ("status.sidecar.istio.io/port", "0"),
    ("traffic.sidecar.istio.io/kubevirtInterfaces", "net1"),
    ("isthmus.dev/excludeOutboundPort", "80"),
    ("traffic.sidecar.istio.io/excludeOutboundPort", "80"),
];

#[test]
fn each_word_that_istios_users_have_is_honoured_or_told() {
    let said = |annotations: &[(&str, &str)]| inject(&pod(annotations), &values()).unwrap().warnings;
    for word in HONOURED {
        assert_eq!(said(&[word]), Vec::<String>::new(), "{word:?}");
    }
    for word in TOLD {
        assert_eq!(said(&[word]), [format!("annotation {} is not honoured by this mesh", word.0)]);
    }
    // What only tools of Istio's look at is theirs, and what looks alike is nobody's.
    let others = ["galley.istio.io/analyze-suppress", "notistio.io/a", "istio.io.example/a", "prometheus.io/scrape"];
    assert_eq!(said(&others.map(|name| (name, "*"))), Vec::<String>::new());
}

#[test]
fn labels_that_are_not_honoured_are_told_too() {
    let mut pod = pod(&[]);
    pod["metadata"]["labels"] = json!({
        "app": "a",
        "istio-locality": "a.b",
        "istio.io/rev": "default",
        "isthmus.dev/injekt": "true",
        "security.istio.io/tlsMode": "disabled",
        "service.istio.io/canonical-name": "a",
        "service.istio.io/canonical-revision": "1",
        "sidecar.istio.io/inject": "true",
        "topology.istio.io/network": "n1",
    });
    let told = ["isthmus.dev/injekt", "istio-locality", "security.istio.io/tlsMode", "topology.istio.io/network"];
    let injected = inject(&pod, &values()).unwrap();
    assert_eq!(injected.warnings, told.map(|name| format!("label {name} is not honoured by this mesh")));
    assert_eq!(inject(&injected.pod, &values()).unwrap().warnings, injected.warnings, "our own label is known");
}

#[test]
fn a_port_of_the_sidecars_in_a_container_is_told() {
    let mut pod = pod(&[]);
    let ports =
        json!([{ "containerPort": 15014 }, { "containerPort": 15021 }, { "containerPort": 15053, "protocol": "UDP" }]);
    pod["spec"]["containers"][0]["ports"] = ports;
    let said =
        |port: u16| format!("container app has port {port}, on which the sidecar listens: let it have another one");
    let injected = inject(&pod, &values()).unwrap();
    assert_eq!(injected.warnings, [said(15021), said(15053)]);
    assert_eq!(inject(&injected.pod, &values()).unwrap().warnings, injected.warnings, "the sidecar's own are known");
}

#[test]
fn all_that_is_wrong_is_said_at_once_and_a_request_above_its_limit_is_wrong() {
    let pod = pod(&[
        ("sidecar.istio.io/proxyCPU", "2"),
        ("sidecar.istio.io/proxyCPULimit", "500m"),
        ("isthmus.dev/excludeInboundPorts", "web"),
    ]);
    let error = inject(&pod, &values()).unwrap_err().to_string();
    assert!(error.contains("proxyCPU\"]: \"2\" is more than the limit 500m"), "{error}");
    assert!(error.contains("; metadata.annotations[\"isthmus.dev/excludeInboundPorts\"]"), "{error}");
}

#[test]
fn names_that_injection_needs_are_not_taken_from_their_owner() {
    for (field, item) in
        [("containers", "isthmus-proxy"), ("initContainers", "isthmus-capture"), ("volumes", "isthmus-token")]
    {
        let mut pod = pod(&[]);
        pod["spec"][field] = json!([{ "name": item }]);
        let error = inject(&pod, &values()).unwrap_err().to_string();
        assert!(error.contains(item) && error.contains("give it another"), "{error}");
    }
    let mut pod = pod(&[]);
    pod["spec"]["containers"] = json!([{ "name": "istio-proxy", "image": "auto" }]);
    assert!(inject(&pod, &values()).unwrap_err().to_string().contains("say by annotations"));
    pod["spec"]["containers"] = json!({ "name": "app" });
    assert_eq!(
        inject(&pod, &values()).unwrap_err().to_string(),
        "spec.containers is an object, not a list: this is no pod"
    );
}

#[test]
fn values_are_read_from_their_section_and_what_is_wrong_with_them_is_named() {
    let good = "injection:\n  mesh: mesh.example\n  cluster: us-east\n  policy: enabled\n  proxy:\n    traffic: {excludeOutboundIPRanges: 169.254.169.254}\nother: {x: 1}\n";
    let values = Values::from_mesh_yaml(good).unwrap();
    assert_eq!(values.trust_domain().to_string(), "us-east.mesh.example");
    assert_eq!(values.proxy.traffic.arguments(), ["--exclude-outbound-ip-ranges=169.254.169.254/32"]);
    for (wrong, field, words) in [
        ("policy: enabled -> policy: on", "injection.policy", ""),
        ("cluster: us-east -> cluster: US", "injection.cluster", "a cluster name"),
        ("policy: enabled -> polcy: enabled", "injection", "polcy"),
        ("policy: enabled -> image: a b", "injection.image", "registry/name:tag"),
        ("policy: enabled -> resources: {requests: {cpu: many}}", "injection.resources.requests", "250m"),
        ("policy: enabled -> resources: {requests: {cpu: 2}, limits: {cpu: 1}}", "injection.resources", "more than"),
        ("169.254.169.254 -> nowhere", "injection.proxy.traffic.excludeOutboundIPRanges", "CIDR"),
    ] {
        let (from, to) = wrong.split_once(" -> ").unwrap();
        let ValuesError { field: at, reason } = Values::from_mesh_yaml(&good.replace(from, to)).unwrap_err();
        assert!(at.starts_with(field) && reason.contains(words), "{wrong}: {at}: {reason}");
    }
}
