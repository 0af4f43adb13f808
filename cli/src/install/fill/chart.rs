//! What is installed without Helm is what Helm installs, setting by setting: `HELM=helm cargo test -p isthmus --bin isthmus
//! chart -- --ignored`.

use std::{collections::BTreeMap, process::Command};

use serde_json::{Value, json};

use super::*;
use crate::install::settings;

/// What is set at once. Each setting is in one of them.
const CASES: [&[&str]; 13] = [
    &[],
    &[
        "cluster.region=r1",
        "control.leafTtlSeconds=7200",
        "control.announceSeconds=60",
        "control.replicas=3",
        "gateway.replicas=4",
        "log=debug",
        "image.pullPolicy=Never",
        "image.pullSecrets=one,other",
        "metrics.prometheusAnnotations=false",
        "rbac.aggregate=false",
        "networkPolicy.enabled=true",
    ],
    &[
        r#"control.affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}"#,
        r#"control.tolerations=[{"operator": "Exists"}]"#,
        r"control.nodeSelector.kubernetes\.io/os=linux",
        r#"control.podAnnotations={"a.example/b": "1"}"#,
        "control.podLabels.team=mesh",
        "control.podDisruptionBudget.enabled=false",
        "control.priorityClassName=system-cluster-critical",
        "control.resources.limits.cpu=2",
        r#"control.resources={"requests": {"memory": "1Gi"}}"#,
    ],
    &[
        r#"federation.affinity={"podAntiAffinity": {}}"#,
        r#"federation.tolerations=[{"key": "a", "operator": "Exists"}]"#,
        r#"federation.nodeSelector={"a": "b"}"#,
        "federation.podAnnotations.a=b",
        "federation.podLabels.team=mesh",
        "federation.podDisruptionBudget.enabled=false",
        "federation.priorityClassName=high",
        "federation.resources.requests.cpu=1",
        "federation.persistence.size=2Gi",
        "federation.persistence.storageClass=-",
        "federation.persistence.whenDeleted=Delete",
        "federation.timing.heartbeat=100",
        "federation.timing.electionMin=1000",
        "federation.timing.electionMax=2000",
    ],
    &[
        "federation.persistence.enabled=false",
        "federation.persistence.size=2Gi",
        "federation.persistence.storageClass=fast",
    ],
    &[
        r#"gateway.affinity={"podAntiAffinity": {}}"#,
        r#"gateway.tolerations=[{"key": "a", "operator": "Exists"}]"#,
        "gateway.nodeSelector.edge=yes",
        "gateway.podAnnotations.a=b",
        "gateway.podLabels.team=mesh",
        "gateway.podDisruptionBudget.enabled=false",
        "gateway.priorityClassName=high",
        "gateway.resources.limits.memory=2Gi",
        "gateway.segmentationOffload=false",
        "gateway.drainDeadlineSeconds=100",
        "gateway.service.annotations.a=b",
        "gateway.service.externalTrafficPolicy=Local",
        "gateway.service.loadBalancerClass=example.com/lb",
        "gateway.service.loadBalancerIP=192.0.2.7",
        "gateway.service.loadBalancerSourceRanges=10.0.0.0/8,2001:db8::/32",
        "gateway.service.nodePort=31443",
        "gateway.hostPort=443",
    ],
    &[
        "gateway.exposure=LoadBalancerPerProtocol",
        r#"gateway.service.annotations={"a": "b", "c": "d"}"#,
        "gateway.service.loadBalancerIP=192.0.2.7",
        "gateway.service.tcp.annotations.a=e",
        "gateway.service.tcp.loadBalancerIP=192.0.2.8",
        "gateway.service.udp.annotations.c=f",
        "gateway.service.udp.loadBalancerIP=192.0.2.9",
    ],
    &["gateway.exposure=NodePort", "gateway.service.nodePort=31443", "gateway.service.loadBalancerClass=a.example/b"],
    &["gateway.exposure=HostPort", "gateway.hostPort=443", "gateway.addresses=gw.example:443,[2001:db8::1]:15443"],
    &[
        "gateway.exposure=DialOut",
        r#"gateway.addresses=[{"host": "::1", "transports": ["tcp"]}, {"host": "a", "port": 1}]"#,
    ],
    &[
        "injection.excludedNamespaces=infra,tools",
        "injection.failurePolicy=Ignore",
        "injection.policy=enabled",
        "injection.timeoutSeconds=5",
        "injection.proxy.concurrency=4",
        "injection.proxy.holdApplicationUntilProxyStarts=false",
        "injection.proxy.rewriteAppHTTPProbers=false",
        "injection.proxy.traffic.excludeOutboundPorts=80",
        r#"injection.proxy.traffic={"interceptionMode": "TPROXY"}"#,
        "injection.resources.limits.cpu=1",
        "validation.failurePolicy=Fail",
        "istioCRDs.enabled=true",
        "crds.mcs=false",
    ],
    &["injection.istioLabels=false", "injection.policy=enabled", "validation.enabled=false", "crds.enabled=false"],
    &["injection.revision=canary", "injection.policy=enabled", "injection.enabled=true"],
];

/// A setting as Helm takes it.
fn typed(setting: &Setting) -> [String; 2] {
    let Setting { key, value } = setting;
    let is_entry = key != setting.name();
    let listed = ["image.pullSecrets", "injection.excludedNamespaces", "gateway.service.loadBalancerSourceRanges"];
    let (how, value) = match key.as_str() {
        _ if is_entry => ("--set-string", value.replace(',', r"\,")),
        "gateway.addresses" => {
            let all = settings::addresses(value).unwrap();
            let one =
                |one: &settings::Address| json!({ "host": one.host, "port": one.port, "transports": one.transports });
            ("--set-json", json!(all.iter().map(one).collect::<Vec<_>>()).to_string())
        }
        key if listed.contains(&key) => ("--set-json", json!(setting.words()).to_string()),
        _ if value.starts_with(['{', '[']) => ("--set-json", value.clone()),
        "federation.persistence.size" | "cluster.region" => ("--set-string", value.clone()),
        _ => ("--set", value.clone()),
    };
    [how.to_owned(), format!("{key}={value}")]
}

fn of_helm(settings: &[Setting]) -> BTreeMap<String, Value> {
    let helm = std::env::var("HELM").expect("HELM names the program");
    let mut command = Command::new(helm);
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/isthmus");
    command.args(["template", "isthmus", chart, "--namespace", "isthmus-system", "--set", "cluster.name=us-east"]);
    command
        .args(["--set", "mesh.domain=mesh.example,image.repository=reg.example/isthmus,image.tag=v1,crds.keep=false"]);
    command.args(settings.iter().flat_map(typed));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{settings:?}: {}", String::from_utf8_lossy(&output.stderr));
    let documents: Vec<Value> = yaml(&String::from_utf8(output.stdout).unwrap());
    documents.into_iter().filter(|document| !document.is_null()).map(bare).collect()
}

fn yaml(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple_with_options(text, serde_saphyr::options! { strict_booleans: true }).unwrap()
}

/// Without what tells who applied it; files of the ConfigMap as what they say.
fn bare(mut document: Value) -> (String, Value) {
    let name = isthmus_kubernetes::reference::Reference::of(&document).unwrap().to_string();
    let remove = |document: &mut Value, place: &str, key: &str| {
        let found = document.pointer_mut(place).and_then(Value::as_object_mut);
        let is_empty = found.is_some_and(|all| {
            all.remove(key);
            all.is_empty()
        });
        if let (true, Some((above, last))) = (is_empty, place.rsplit_once('/')) {
            document.pointer_mut(above).and_then(Value::as_object_mut).unwrap().remove(last);
        }
    };
    remove(&mut document, "/metadata/labels", "app.kubernetes.io/managed-by");
    remove(&mut document, "/metadata/annotations", ANNOTATION);
    remove(&mut document, "/spec/template/metadata/annotations", "isthmus.dev/configuration");
    let files = document.pointer_mut("/data").and_then(Value::as_object_mut);
    for (_, text) in files.into_iter().flatten().filter(|(name, _)| name.ends_with(".yaml")) {
        *text = json!(yaml(text.as_str().unwrap()));
    }
    (name, document)
}

#[test]
#[ignore = "needs Helm, which HELM names"]
fn what_is_set_here_is_what_the_chart_makes_of_it() {
    for case in CASES {
        let settings: Vec<Setting> = case.iter().map(|text| text.parse().unwrap()).collect();
        let release = Release::new("us-east", "mesh.example", Some("reg.example/isthmus:v1".into()), &settings);
        let is_namespace = |object: &Object| object.reference.kind.kind == "Namespace";
        let made = objects(&release, true).unwrap().into_iter().filter(|object| !is_namespace(object));
        let ours: BTreeMap<_, _> = made.map(|object| bare(object.document)).collect();
        let helms = of_helm(&settings);
        assert_eq!(Vec::from_iter(ours.keys()), Vec::from_iter(helms.keys()), "{case:?}");
        for (name, document) in &helms {
            let text = |value: &Value| serde_json::to_string_pretty(value).unwrap();
            assert_eq!(text(&ours[name]), text(document), "{name} with {case:?}");
        }
    }
}

#[test]
fn each_setting_is_in_one_of_the_cases() {
    let settings = CASES.iter().flat_map(|case| case.iter()).map(|text| text.parse::<Setting>().unwrap());
    let set: std::collections::BTreeSet<_> = settings.map(|setting| setting.name()).collect();
    let missing: Vec<_> = settings::names().filter(|name| !set.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}
