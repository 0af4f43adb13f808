//! Services, their ports, addresses and endpoints.

use std::collections::BTreeMap;

use isthmus_core::{
    compile::{Compiled, finding::Kind},
    model::{EndpointState, Resource},
    name::ServiceName,
    statement::Content,
};

use crate::support::{Cluster, DETAILS, found, service};

#[test]
fn a_service_keeps_its_address_when_others_come_before_it() {
    let west = Cluster::new("west", &[DETAILS], &["a"]);
    let given = west.compile().indexes;
    let more = DETAILS.replace("name: details", "name: aaa");
    let mut grown = Cluster::new("west", &[&more, DETAILS], &["a"]);
    grown.setting.region = "west".into();
    grown.indexes.clone_from(&given);
    let compiled = grown.compile();
    let details = ServiceName::new("bookinfo", "details").unwrap();
    assert_eq!(compiled.indexes[&details], given[&details]);
    assert_eq!(compiled.indexes.len(), 2);
}

#[test]
fn a_named_target_port_is_each_pods_own_and_who_has_none_is_named() {
    let named = DETAILS.replace("port: 9080}", "port: 9080, targetPort: web}");
    let mut west = Cluster::new("west", &[&named], &["a", "a"]);
    for (workload, port) in west.workloads.iter_mut().zip([9080, 9081]) {
        workload.ports.insert("web".into(), port);
    }
    let targets = |cluster: &Cluster| match cluster.compile().resources.remove("endpoints/bookinfo/details") {
        Some(Resource::Endpoints(endpoints)) => {
            endpoints.local.iter().map(|endpoint| endpoint.targets.get(&9080).copied()).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(targets(&west), [Some(9080), Some(9081)]);
    assert!(west.compile().findings.is_empty());
    west.workloads[1].ports.clear();
    assert_eq!(targets(&west), [Some(9080), None]);
    let findings = west.compile().findings;
    assert!(findings[0].reason.contains("details-1") && findings[0].reason.contains("\"web\""), "{findings:?}");
}

#[test]
fn a_udp_port_is_worth_a_word_only_where_its_service_is_exported() {
    let both = DETAILS.replace("port: 9080}", "port: 9080}, {name: dns, port: 53, protocol: UDP}");
    let (service_only, _) = both.split_once("---").unwrap();
    for (text, findings) in [(service_only, 0), (both.as_str(), 1)] {
        let compiled = Cluster::new("west", &[text], &["a"]).compile();
        assert_eq!(compiled.findings.len(), findings, "{:?}", compiled.findings);
        assert_eq!(service(&compiled).ports.len(), 1);
    }
}

#[test]
fn who_writes_neither_true_nor_false_of_a_global_name_is_told_and_the_name_stays_at_home() {
    let service = |value: &str| {
        let annotated = format!("namespace: bookinfo, annotations: {{isthmus.dev/global: '{value}'}}");
        DETAILS.replacen("namespace: bookinfo", &annotated, 1)
    };
    for (value, is_global, count) in [("true", true, 0), ("false", false, 0), ("yes", false, 1), ("True", false, 1)] {
        let compiled = Cluster::new("west", &[&service(value)], &["a"]).compile();
        assert_eq!((compiled.findings.len(), self::service(&compiled).global), (count, is_global), "{value}");
    }
    let namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: bookinfo, labels: {isthmus.dev/global: 'on'}}}";
    let compiled = Cluster::new("west", &[DETAILS, namespace], &["a"]).compile();
    assert_eq!(found(&compiled), [(Kind::Invalid, "metadata.labels[isthmus.dev/global]")]);
    assert!(compiled.findings[0].reason.starts_with("\"on\" is neither"));
}

const SLICE: &str = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: details-1, namespace: bookinfo, labels: {kubernetes.io/service-name: details}}
addressType: IPv4
endpoints:
  - {addresses: [127.0.0.1], conditions: {ready: true, serving: true, terminating: false}}
  - {addresses: [192.0.2.1], conditions: {}}
ports: [{name: http, port: 8080, protocol: TCP}]
";

fn local(compiled: &Compiled) -> &[isthmus_core::model::Endpoint] {
    match compiled.resources.get("endpoints/bookinfo/details") {
        Some(Resource::Endpoints(endpoints)) => &endpoints.local,
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_a_service_without_a_selector_what_slices_name_and_is_of_the_mesh_are_the_endpoints() {
    let bare = DETAILS.replace("  selector: {app: details}\n", "");
    let west = Cluster::new("west", &[&bare, SLICE], &["a"]);
    let compiled = west.compile();
    let [endpoint] = local(&compiled) else { panic!("{compiled:?}") };
    assert_eq!((endpoint.id.as_str(), &endpoint.targets), ("details-0", &BTreeMap::from([(9080, 8080)])));
    assert!(compiled.contents.iter().any(|content| matches!(content, Content::Summary(_))), "others hear of it");
    let details = ServiceName::new("bookinfo", "details").unwrap();
    assert_eq!(compiled.orders[&details].order.tiers.len(), 1, "the own cluster has it");
    let none = [
        ("a selector decides", vec![DETAILS.to_owned(), SLICE.replace("127.0.0.1", "127.0.0.2")]),
        ("a workload of another namespace", vec![bare.replace("bookinfo", "shop"), SLICE.replace("bookinfo", "shop")]),
        ("a port of another name", vec![bare.clone(), SLICE.replace("name: http", "name: grpc")]),
        ("another protocol", vec![bare.clone(), SLICE.replace("TCP", "UDP")]),
        ("a name", vec![bare.clone(), SLICE.replace("127.0.0.1", "details.example").replace("IPv4", "FQDN")]),
        ("of no Service", vec![bare.clone(), SLICE.replace("kubernetes.io/service-name", "app")]),
    ];
    for (why, files) in none {
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        let compiled = Cluster::new("west", &files, &["a"]).compile();
        let of_slices = compiled.resources.values().filter_map(|resource| match resource {
            Resource::Endpoints(endpoints) => {
                Some(endpoints.local.iter().filter(|one| one.targets.values().any(|port| *port == 8080)))
            }
            _ => None,
        });
        assert_eq!(of_slices.flatten().count(), 0, "{why}");
    }
}

#[test]
fn ports_of_an_endpoint_may_be_parted_over_slices_and_one_that_is_not_ready_may_be_published() {
    let bare = DETAILS.replace("  selector: {app: details}\n", "");
    let two = bare.replace("port: 9080}", "port: 9080}, {name: grpc, port: 9081}");
    let grpc = SLICE.replace("details-1", "details-2").replace("http, port: 8080", "grpc, port: 8081");
    let compiled = Cluster::new("west", &[&two, SLICE, &grpc], &["a"]).compile();
    assert_eq!(local(&compiled)[0].targets, BTreeMap::from([(9080, 8080), (9081, 8081)]));
    let unready = SLICE.replace("ready: true", "ready: false");
    let published = bare.replace("spec:\n  ports", "spec:\n  publishNotReadyAddresses: true\n  ports");
    for (service, state) in [(&bare, EndpointState::Unready), (&published, EndpointState::Ready)] {
        assert_eq!(local(&Cluster::new("west", &[service, &unready], &["a"]).compile())[0].state, state);
    }
}

#[test]
fn an_external_name_is_no_service_of_the_mesh() {
    let external = "apiVersion: v1\nkind: Service\nmetadata: {name: details, namespace: bookinfo}\nspec: {type: ExternalName, externalName: api.example}\n";
    let compiled = Cluster::new("west", &[external], &[]).compile();
    assert!(!compiled.resources.contains_key("service/bookinfo/details"));
}

#[test]
fn endpoints_of_a_service_that_publishes_them_early_count_as_ready() {
    let early = DETAILS.replace("  selector:", "  publishNotReadyAddresses: true\n  selector:");
    for (text, state) in [(DETAILS, EndpointState::Unready), (&early, EndpointState::Ready)] {
        let mut west = Cluster::new("west", &[text], &["a"]);
        west.workloads[0].state = EndpointState::Unready;
        let Some(Resource::Endpoints(endpoints)) = west.compile().resources.remove("endpoints/bookinfo/details") else {
            panic!()
        };
        assert_eq!(endpoints.local[0].state, state);
    }
}
