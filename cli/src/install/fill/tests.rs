//! Each name and each setting is where the chart would have put it.

use super::*;

fn release(settings: &[&str]) -> Release {
    let settings: Vec<Setting> = settings.iter().map(|text| text.parse().unwrap()).collect();
    Release::new("us-east", "mesh.example", Some("reg.example/isthmus:1".into()), &settings)
}

fn made(settings: &[&str]) -> Vec<Object> {
    objects(&release(settings), true).unwrap()
}

fn document(objects: &[Object], kind: &str, name: &str) -> Value {
    let found = objects.iter().find(|object| object.is(kind, name));
    found.unwrap_or_else(|| panic!("no {kind} {name}")).document.clone()
}

fn workloads(objects: &[Object]) -> Vec<Value> {
    objects.iter().filter(|object| is_workload(object)).map(|object| object.document.clone()).collect()
}

fn file(objects: &[Object], name: &str) -> String {
    document(objects, "ConfigMap", "isthmus")["data"][name].as_str().unwrap().to_owned()
}

#[test]
fn names_and_images_are_put_in_and_every_object_says_whose_it_is() {
    let objects = made(&[]);
    let map = document(&objects, "ConfigMap", "isthmus");
    let data = ["cluster", "mesh", "image"].map(|key| map["data"][key].as_str().unwrap().to_owned());
    assert_eq!(data, ["us-east", "mesh.example", "reg.example/isthmus:1"]);
    let recorded: Release = serde_json::from_str(map["metadata"]["annotations"][ANNOTATION].as_str().unwrap()).unwrap();
    assert_eq!(recorded, release(&[]));
    let workloads = workloads(&objects);
    assert_eq!(workloads.len(), 3);
    for workload in workloads {
        assert_eq!(workload["spec"]["template"]["spec"]["containers"][0]["image"], "reg.example/isthmus:1");
    }
    for object in &objects {
        assert_eq!(
            object.document["metadata"]["labels"]["app.kubernetes.io/managed-by"], MANAGER,
            "{}",
            object.reference
        );
    }
    let others = super::objects(&release(&[]), false).unwrap();
    assert!(
        document(&others, "Namespace", "isthmus-system")["metadata"]["labels"]
            .get("app.kubernetes.io/managed-by")
            .is_none()
    );
    assert!(!serde_json::to_string(&others[0].document).unwrap().contains("CLUSTER_NAME"));
}

#[test]
fn each_setting_is_where_the_role_reads_it() {
    let objects = made(&[
        "cluster.region=r1",
        "federation.persistence.size=2Gi",
        "federation.persistence.storageClass=-",
        "control.replicas=3",
        "gateway.replicas=3",
    ]);
    let claim = &document(&objects, "StatefulSet", "isthmus-federation")["spec"]["volumeClaimTemplates"][0]["spec"];
    assert_eq!(
        (claim["storageClassName"].as_str(), claim["resources"]["requests"]["storage"].as_str()),
        (Some(""), Some("2Gi"))
    );
    for deployment in ["isthmus-control", "isthmus-gateway"] {
        assert_eq!(document(&objects, "Deployment", deployment)["spec"]["replicas"], 3);
    }
    for workload in workloads(&objects) {
        let variables = workload["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
        assert!(variables.contains(&json!({ "name": "ISTHMUS_REGION", "value": "r1" })));
    }
    let objects = made(&["image.pullPolicy=Never", "injection.failurePolicy=Ignore", "log=debug"]);
    let webhooks = document(&objects, "MutatingWebhookConfiguration", "isthmus-injection");
    assert!(webhooks["webhooks"].as_array().unwrap().iter().all(|webhook| webhook["failurePolicy"] == "Ignore"));
    assert!(
        workloads(&objects)
            .iter()
            .all(|one| one["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] == "Never")
    );
    assert!(
        ["control.yaml", "federation.yaml", "gateway.yaml"]
            .iter()
            .all(|name| file(&objects, name).contains("log: \"debug\""))
    );
    let read = values(&document(&objects, "ConfigMap", "isthmus")).unwrap();
    assert_eq!(read.image_pull_policy, isthmus_inject::values::PullPolicy::Never);
}

#[test]
fn what_control_would_refuse_is_refused_before_anything_is_applied() {
    let release = Release::new("us-east", "mesh.example", Some("no image".into()), &[]);
    let error = super::objects(&release, true).unwrap_err().to_string();
    assert!(error.contains("injection.image"), "{error}");
}

#[test]
fn gateways_are_exposed_as_it_is_set() {
    let services = |exposure: &str| {
        let objects = made(&[&format!("gateway.exposure={exposure}")]);
        let of_gateways = |object: &&Object| {
            object.reference.kind.kind == "Service" && object.reference.name.starts_with("isthmus-gateway")
        };
        let named = |object: &Object| (object.reference.name.clone(), object.document["spec"].clone());
        objects.iter().filter(of_gateways).map(named).collect::<Vec<_>>()
    };
    let one = services("NodePort");
    assert_eq!((one[0].0.as_str(), one[0].1["type"].as_str(), one.len()), ("isthmus-gateway", Some("NodePort"), 1));
    let both = services("LoadBalancerPerProtocol");
    let protocols: Vec<_> = both
        .iter()
        .map(|(name, spec)| {
            let ports = spec["ports"].as_array().unwrap();
            (name.as_str(), ports.len(), ports[0]["protocol"].as_str())
        })
        .collect();
    assert_eq!(protocols, [("isthmus-gateway-udp", 1, Some("UDP")), ("isthmus-gateway-tcp", 1, Some("TCP"))]);
    assert_eq!(services("DialOut"), vec![]);
    assert_eq!(services("HostPort"), vec![]);
}

#[test]
fn the_gateways_addresses_are_told_by_each_who_tells_others() {
    let objects = made(&["gateway.addresses=gw.example:32000,[::1]:1"]);
    let listed = r#"["gw.example:32000","[::1]:1"]"#;
    let by_transport = format!("advertise_gateways: {{udp: {listed}, tcp: {listed}}}\n");
    assert!(file(&objects, "control.yaml").contains(&by_transport));
    assert!(file(&objects, "federation.yaml").contains(&format!("advertise: {listed}\n")));
}

#[test]
fn pods_are_replaced_when_what_they_read_changes_and_no_others() {
    let said = |settings: &[&str]| -> Vec<String> {
        let annotation = "/spec/template/metadata/annotations/isthmus.dev~1configuration";
        workloads(&made(settings))
            .iter()
            .map(|one| one.pointer(annotation).unwrap().as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(said(&[]), said(&["gateway.replicas=5"]));
    assert!(said(&[]).iter().zip(said(&["log=debug"])).all(|(before, after)| *before != after));
}

#[test]
fn ports_of_nodes_are_the_tunnels_alone_and_are_free_before_they_are_taken_again() {
    let gateway = |objects: &[Object]| document(objects, "Deployment", "isthmus-gateway");
    let ports = |gateway: &Value| {
        let ports = gateway["spec"]["template"]["spec"]["containers"][0]["ports"].as_array().unwrap().clone();
        ports.iter().filter_map(|port| port.get("hostPort").map(|host| (port["name"].clone(), host.clone()))).collect()
    };
    let by_node: Vec<_> = ports(&gateway(&made(&["gateway.exposure=HostPort"])));
    assert_eq!(by_node, [(json!("tunnel-udp"), json!(15443)), (json!("tunnel-tcp"), json!(15443))]);
    let rolled = gateway(&made(&["gateway.exposure=HostPort"]))["spec"]["strategy"]["rollingUpdate"].clone();
    assert_eq!(rolled, json!({ "maxSurge": 0, "maxUnavailable": 1 }));
    assert_eq!(ports(&gateway(&made(&[]))), []);
    let allowed = |settings: &[&str]| {
        let namespace = document(&made(settings), "Namespace", SYSTEM_NAMESPACE);
        namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"].clone()
    };
    assert_eq!(allowed(&["gateway.exposure=HostPort"]), "privileged", "pod security forbids ports of nodes otherwise");
    assert_eq!(allowed(&[]), "restricted");
}

/// Names of webhooks, and every label that their selectors look at.
fn asked(objects: &[Object]) -> (Vec<String>, Vec<String>) {
    let webhooks = document(objects, "MutatingWebhookConfiguration", "isthmus-injection")["webhooks"].clone();
    let all = webhooks.as_array().unwrap();
    let name = |webhook: &Value| webhook["name"].as_str().unwrap().split('.').next().unwrap().to_owned();
    let said = all.iter().flat_map(|webhook| {
        let of = |selector: &str| webhook[selector]["matchExpressions"].as_array().unwrap().clone();
        [of("namespaceSelector"), of("objectSelector")].concat()
    });
    (all.iter().map(name).collect(), said.map(|one| one["key"].as_str().unwrap().to_owned()).collect())
}

#[test]
fn beside_an_istio_only_our_own_label_asks() {
    let (webhooks, labels) = asked(&made(&["injection.istioLabels=false"]));
    assert_eq!(webhooks, ["namespace", "both", "pod"]);
    assert!(labels.iter().all(|label| ["isthmus.dev/inject", "kubernetes.io/metadata.name"].contains(&label.as_str())));
    let (webhooks, _) = asked(&made(&["injection.istioLabels=true"]));
    assert_eq!(webhooks.len(), 7);
}

#[test]
fn excluded_namespaces_are_neither_asked_about_nor_injected() {
    let objects = made(&["injection.excludedNamespaces=infra,tools"]);
    let webhooks = document(&objects, "MutatingWebhookConfiguration", "isthmus-injection")["webhooks"].clone();
    for webhook in webhooks.as_array().unwrap() {
        let by_name = &webhook["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(by_name["operator"], "NotIn");
        let names = by_name["values"].as_array().unwrap();
        assert!(["kube-system", "infra", "tools"].iter().all(|name| names.contains(&json!(name))), "{by_name}");
    }
    let read = values(&document(&objects, "ConfigMap", "isthmus")).unwrap();
    assert_eq!(Vec::from_iter(read.excluded_namespaces), ["infra", "tools"]);
}

#[test]
fn kinds_and_webhooks_are_there_or_not_as_it_is_set() {
    let there = |objects: &[Object], kind: &str, name: &str| objects.iter().any(|object| object.is(kind, name));
    let (definition, route) = (base::DEFINITION, "virtualservices.networking.istio.io");
    assert!(!there(&made(&[]), definition, route));
    let objects = made(&["istioCRDs.enabled=true", "crds.mcs=false"]);
    assert!(there(&objects, definition, route) && there(&objects, definition, "meshclusters.isthmus.dev"));
    assert!(!there(&objects, definition, "serviceexports.multicluster.x-k8s.io"));
    let kinds: Vec<_> = objects.iter().map(|object| object.reference.kind.kind == base::DEFINITION).collect();
    let (first, last) = (kinds.iter().position(|is| *is).unwrap(), kinds.iter().rposition(|is| *is).unwrap());
    assert!(kinds[first..=last].iter().all(|is| *is), "they come one after the other, before what needs them");
    let file_of = |settings: &[&str]| file(&made(settings), "control.yaml");
    assert!(file_of(&["injection.enabled=false"]).contains("injection: /etc"), "there is something to look at yet");
    let off = ["injection.enabled=false", "injection.failurePolicy=Ignore", "validation.enabled=false"];
    assert!(!file_of(&off).contains("injection:"));
    assert!(made(&off).iter().all(|object| !object.reference.kind.kind.ends_with("WebhookConfiguration")));
}
