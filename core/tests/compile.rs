//! Compiling: what people wrote in one cluster is what clients in another can call, and nothing more.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails says so by a panic")]

use std::{collections::BTreeMap, sync::Arc};

use isthmus_core::{
    compile::{Compiled, Inputs, Other, Setting, Workload, compile, finding::Kind},
    consent,
    model::{EndpointState, Resource, Service, Standing},
    name::{ClusterName, Locality, ServiceName},
    resource::{Object, parse_documents},
    statement::{Content, Gateways},
};

const DETAILS: &str = "
apiVersion: v1
kind: Service
metadata: {name: details, namespace: bookinfo}
spec:
  selector: {app: details}
  ports: [{name: http, port: 9080}]
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceExport
metadata: {name: details, namespace: bookinfo}
";
const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: details, namespace: bookinfo}
spec: {host: details, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: details, namespace: bookinfo}
spec:
  hosts: [details]
  http: [{route: [{destination: {host: details, subset: v1}, weight: 90}, {destination: {host: details, subset: v9}, weight: 10}], timeout: 2s}]
";

struct Cluster {
    setting: Setting,
    objects: Vec<Object>,
    workloads: Vec<Workload>,
    others: BTreeMap<ClusterName, Other>,
    operators: Vec<ClusterName>,
    indexes: BTreeMap<ServiceName, u16>,
}

impl Cluster {
    fn new(name: &str, files: &[&str], zones: &[&str]) -> Self {
        let cluster: ClusterName = name.parse().unwrap();
        let setting = Setting {
            mesh: "mesh.local".parse().unwrap(),
            cluster,
            region: name.into(),
            zones: vec![],
            nodes: BTreeMap::new(),
            gateways: vec![],
            advertise: Gateways::both(vec![format!("{name}:15443")]),
            member: None,
            roots: vec![format!("{name} root")],
        };
        let objects = files.iter().flat_map(|text| parse_documents("f.yaml", text)).map(Result::unwrap).collect();
        let workloads = zones.iter().enumerate().map(|(index, zone)| workload(name, index, zone)).collect();
        let (others, operators, indexes) = Default::default();
        Self { setting, objects, workloads, others, operators, indexes }
    }

    fn compile(&self) -> Compiled {
        compile(&Inputs {
            setting: &self.setting,
            objects: self.objects.iter().map(|object| ("f.yaml", object)).collect(),
            workloads: &self.workloads,
            others: &self.others,
            indexes: &self.indexes,
            operators: &self.operators,
            born: &BTreeMap::new(),
            pins: &BTreeMap::new(),
        })
    }

    fn hears(&mut self, other: &Self) {
        let contents = other.compile().contents.into_iter().map(Arc::new).collect();
        let trust_domain = other.setting.cluster.trust_domain(&other.setting.mesh);
        let (roots, standing) = (other.setting.roots.clone(), Standing::Alive);
        let heard = Other { trust_domain, roots, contents, share: 1.0, standing, rtt_us: 0, stale: false };
        self.others.insert(other.setting.cluster.clone(), heard);
    }
}

fn workload(cluster: &str, index: usize, zone: &str) -> Workload {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Workload {
        id: format!("details-{index}").parse().unwrap(),
        identity: format!("spiffe://{cluster}.mesh.local/ns/bookinfo/sa/details").parse().unwrap(),
        labels: [label("app", "details"), label("version", "v1"), label("pod-template-hash", &format!("h{index}"))]
            .into(),
        address: "127.0.0.1:15006".parse().unwrap(),
        locality: Locality { region: cluster.into(), zone: zone.into() },
        state: EndpointState::Ready,
        weight: 1,
        ports: BTreeMap::new(),
    }
}

fn service(compiled: &Compiled) -> &Service {
    match compiled.resources.get("service/bookinfo/details") {
        Some(Resource::Service(service)) => service,
        other => panic!("{other:?}"),
    }
}

fn remote_usable(compiled: &Compiled) -> u32 {
    let Some(Resource::Endpoints(endpoints)) = compiled.resources.get("endpoints/bookinfo/details") else { return 0 };
    endpoints.remote.values().flatten().map(|group| group.usable).sum()
}

#[test]
fn a_node_is_where_it_says_and_else_in_the_region_of_its_cluster() {
    let mut east = Cluster::new("east", &[], &[]);
    let at = |region: &str, zone: &str| Locality { region: region.into(), zone: zone.into() };
    let nodes = [("n1", at("", "east-a")), ("n2", at("elsewhere", "east-b")), ("n3", at("", ""))];
    east.setting.nodes = nodes.map(|(name, locality)| (name.to_owned(), locality)).into();
    let told = |east: &Cluster| -> Vec<_> {
        let compiled = east.compile();
        let node = |resource: &Resource| match resource {
            Resource::Node(node) => Some((node.name.clone(), node.locality.clone())),
            _ => None,
        };
        compiled.resources.values().filter_map(node).collect()
    };
    let expected = [("n1", at("east", "east-a")), ("n2", at("elsewhere", "east-b")), ("n3", at("east", ""))];
    assert_eq!(told(&east), expected.map(|(name, locality)| (name.to_owned(), locality)));
    east.setting.region = String::new();
    assert_eq!(told(&east).len(), 2, "of the third nothing is known");
}

#[test]
fn an_exported_service_is_called_from_a_cluster_that_has_no_word_of_it() {
    let west = Cluster::new("west", &[DETAILS], &["a", "a", "b"]);
    let summaries = west.compile().contents.iter().filter(|one| matches!(one, Content::Summary(_))).count();
    assert_eq!(summaries, 2, "one a zone: the hash of the revision makes no group");
    let mut east = Cluster::new("east", &[], &[]);
    east.hears(&west);
    let compiled = east.compile();
    assert!(service(&compiled).clusterset && service(&compiled).exported.is_none());
    assert_eq!(service(&compiled).ports[0].port, 9080);
    assert_eq!(remote_usable(&compiled), 3);
    let Some(Resource::Trust(trust)) = compiled.resources.get("trust") else { panic!() };
    assert_eq!(trust.roots[&"west.mesh.local".parse().unwrap()], ["west root"]);
    assert_eq!(compiled, east.compile(), "equal inputs, equal outputs");
}

#[test]
fn consent_is_needed_on_both_sides() {
    let only_north = format!("{}spec: {{consumers: [north]}}\n", DETAILS.trim_start());
    let west = Cluster::new("west", &[&only_north], &["a"]);
    let mut east = Cluster::new("east", &[], &[]);
    east.hears(&west);
    assert_eq!(remote_usable(&east.compile()), 0, "not exported for east");
    let strict =
        "apiVersion: isthmus.dev/v1alpha1\nkind: MeshCluster\nmetadata: {name: north}\nspec: {consent: strict}\n";
    let mut north = Cluster::new("north", &[strict], &[]);
    north.hears(&west);
    assert_eq!(remote_usable(&north.compile()), 0, "north accepts nothing it did not name");
    let mut open = Cluster::new("north", &[], &[]);
    open.hears(&west);
    assert_eq!(remote_usable(&open.compile()), 1);
}

#[test]
fn a_cluster_says_whose_policies_bind_it_only_where_it_was_written() {
    let says = |spec: &str| {
        let file =
            format!("apiVersion: isthmus.dev/v1alpha1\nkind: MeshCluster\nmetadata: {{name: west}}\nspec: {spec}\n");
        let contents = Cluster::new("west", &[&file], &[]).compile().contents;
        consent::listed(&contents).map(<[ClusterName]>::to_vec)
    };
    assert_eq!(says("{}"), None, "the operators of the mesh");
    assert_eq!(says("{operators: []}"), Some(vec![]), "nobody but itself");
    assert_eq!(says("{operators: [north, east]}"), Some(["east", "north"].map(|name| name.parse().unwrap()).to_vec()));
}

#[test]
fn a_cluster_names_no_identities_of_another_trust_domain_and_no_other_domains_roots() {
    let mut west = Cluster::new("west", &[DETAILS], &["a"]);
    west.workloads[0].identity = "spiffe://east.mesh.local/ns/bookinfo/sa/admin".parse().unwrap();
    let mut north = Cluster::new("north", &[], &[]);
    north.hears(&west);
    let Some(Resource::Endpoints(endpoints)) = north.compile().resources.remove("endpoints/bookinfo/details") else {
        panic!()
    };
    assert!(endpoints.remote.values().flatten().all(|group| group.identities.is_empty()));
}

#[test]
fn a_route_to_an_unknown_subset_is_said_and_left_out_and_the_rest_is_in_force() {
    let west = Cluster::new("west", &[DETAILS, ROUTES], &["a"]);
    let compiled = west.compile();
    let routes = &service(&compiled).routes;
    assert_eq!(routes[0].destinations.len(), 1);
    assert_eq!(routes[0].timeout, Some(std::time::Duration::from_secs(2)));
    assert!(compiled.findings[0].reason.contains("v9"), "{:?}", compiled.findings);
}

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

const POLICY: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: FailoverPolicy
metadata: {name: resident, namespace: bookinfo}
spec: {services: {names: [details]}, constraints: {never: [west]}}
";

#[test]
fn a_policy_binds_a_cluster_that_wrote_it_or_lists_its_writer_and_no_other() {
    let west = Cluster::new("west", &[DETAILS], &["a"]);
    let operator = Cluster::new("operator", &[POLICY], &[]);
    let mut north = Cluster::new("north", &[], &[]);
    north.hears(&west);
    north.hears(&operator);
    let details = ServiceName::new("bookinfo", "details").unwrap();
    let ordered = |cluster: &Cluster| cluster.compile().orders.remove(&details).unwrap();
    let stranger = ordered(&north);
    assert_eq!((stranger.order.tiers.len(), stranger.policies.len()), (1, 0), "{stranger:?}");
    north.operators.push("operator".parse().unwrap());
    let bound = ordered(&north);
    assert_eq!(bound.policies, ["bookinfo/resident of operator"]);
    assert!(
        bound.order.tiers.is_empty() && bound.order.excluded.keys().any(|name| name.as_str() == "west"),
        "{bound:?}"
    );
    let own = POLICY.replace("never: [west]", "never: [east]");
    north.objects.extend(parse_documents("f.yaml", &own).into_iter().map(Result::unwrap));
    let own = ordered(&north);
    assert_eq!(own.policies, ["bookinfo/resident of north", "bookinfo/resident of operator"]);
    assert_eq!(own.order.tiers.len(), 1, "the importer's own binds");
}

#[test]
fn a_limit_that_is_a_part_of_a_capacity_nobody_says_is_named_until_it_is_said() {
    let policy = POLICY.replace("constraints: {never: [west]}", "caps: [{shareOfCapacity: 0.5}]");
    let compiled = Cluster::new("west", &[DETAILS, &policy], &["a"]).compile();
    assert_eq!(found(&compiled), [(Kind::NoCapacity, "spec.caps[0].shareOfCapacity")]);
    assert!(compiled.findings[0].reason.starts_with("it limits nothing of bookinfo/details in west: "));
    let said =
        DETAILS.replacen("namespace: bookinfo", "namespace: bookinfo, annotations: {isthmus.dev/capacity: '5'}", 1);
    let west = Cluster::new("west", &[&said, &policy], &["a"]);
    let compiled = west.compile();
    assert_eq!(found(&compiled), []);
    let details = ServiceName::new("bookinfo", "details").unwrap();
    assert_eq!(compiled.orders[&details].own_cap, Some(2.5));
}

#[test]
fn the_older_of_two_policies_is_the_one_that_an_api_server_took_first() {
    let policy = |name: &str, created: &str| {
        POLICY.replace("name: resident,", &format!("name: {name}, creationTimestamp: {created},"))
    };
    let first = |policies: [String; 2]| {
        let mut west = Cluster::new("west", &[DETAILS], &["a"]);
        west.objects.extend(policies.iter().flat_map(|text| parse_documents("f.yaml", text)).map(Result::unwrap));
        let details = ServiceName::new("bookinfo", "details").unwrap();
        west.compile().orders.remove(&details).unwrap().policies.remove(0)
    };
    let (old, young) = ("\"2026-01-02T03:04:05Z\"", "2026-01-02T03:04:06Z");
    assert_eq!(first([policy("a", young), policy("b", old)]), "bookinfo/b of west");
    assert_eq!(first([policy("a", old), policy("b", young)]), "bookinfo/a of west");
    assert_eq!(first([policy("a", old), policy("b", "null")]), "bookinfo/b of west", "nobody says when: before all");
}

#[test]
fn a_policy_with_a_fault_is_refused_before_anything_is_made_of_it() {
    let bad = POLICY.replace("services: {names: [details]}", "services: {namespaces: [other]}");
    let errors = parse_documents("f.yaml", &bad).remove(0).unwrap_err();
    assert_eq!(errors[0].field, "spec.services.namespaces", "{errors:?}");
}

#[test]
fn the_endpoints_of_a_cluster_that_is_dead_for_too_long_are_dropped() {
    let west = Cluster::new("west", &[DETAILS], &["a"]);
    let mut north = Cluster::new("north", &[], &[]);
    north.hears(&west);
    assert_eq!(remote_usable(&north.compile()), 1);
    north.others.values_mut().for_each(|other| other.stale = true);
    assert_eq!(remote_usable(&north.compile()), 0);
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

#[test]
fn a_route_of_which_nothing_is_in_force_is_told_from_one_of_which_a_part_is() {
    let route = |name: &str, hosts: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: {name}, namespace: bookinfo}}, \
             spec: {{hosts: {hosts}, http: [{{route: [{{destination: {{host: details}}}}]}}]}}}}"
        )
    };
    let first = route("a", "[details]");
    let kinds = |second: &str| {
        let compiled = Cluster::new("west", &[DETAILS, &first, second], &["a"]).compile();
        compiled.findings.iter().filter(|one| !one.kind.is_reference()).map(|one| one.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&route("b", "[details]")), [Kind::Conflicted]);
    assert_eq!(kinds(&route("b", "[details, other]")), [Kind::Invalid], "the other host is routed by it");
    assert_eq!(kinds(&route("b", "[]")), [Kind::Void]);
    assert_eq!(kinds(&route("b", "['']")), [Kind::Void]);
}

#[test]
fn of_two_subsets_of_one_name_the_first_is_kept_and_the_other_is_said() {
    let subsets = "subsets: [{name: v1, labels: {version: v1}}, {name: v1, labels: {version: v2}}]";
    let rule =
        ROUTES.replace("subsets: [{name: v1, labels: {version: v1}}]", subsets).replace("subset: v9", "subset: v1");
    let compiled = Cluster::new("west", &[DETAILS, &rule], &["a"]).compile();
    assert_eq!(found(&compiled), [(Kind::Invalid, "spec.subsets[1].name")]);
    assert_eq!(service(&compiled).subsets["v1"].labels["version"], "v1");
}

/// Of each finding its kind, and where it is.
fn found(compiled: &Compiled) -> Vec<(Kind, &str)> {
    compiled.findings.iter().map(|one| (one.kind, one.field.as_str())).collect()
}

#[test]
fn what_is_named_and_not_there_is_said_where_it_is_named() {
    let routes = ROUTES.replace("host: details, subset: v9", "host: reviews");
    let west = Cluster::new("west", &[DETAILS, &routes], &["a"]);
    let compiled = west.compile();
    assert_eq!(found(&compiled), [(Kind::NoService, "spec.http[0].route")]);
    let reason = &compiled.findings[0].reason;
    assert_eq!(reason, "there is no Service bookinfo/reviews here, and no other cluster offers it to this one");
    let policy = POLICY.replace("names: [details]", "names: [details, ratings]");
    let compiled = Cluster::new("north", &[&routes, &policy], &[]).compile();
    let (of_policy, of_routes) = ("spec.services.names", (Kind::NoService, "spec.http[0].route"));
    let expected = [
        (Kind::NoService, "spec.host"),
        (Kind::NoService, "spec.hosts"),
        of_routes,
        of_routes,
        (Kind::NoService, &format!("{of_policy}[0]")),
        (Kind::NoService, &format!("{of_policy}[1]")),
    ];
    let mut of_kind = found(&compiled);
    of_kind.sort_by_key(|(_, field)| *field);
    assert_eq!(of_kind, expected, "{:?}", compiled.findings);
    // Another cluster offers it: it is there.
    let mut north = Cluster::new("north", &[ROUTES], &[]);
    north.hears(&west);
    assert_eq!(found(&north.compile()), [(Kind::NoSubset, "spec.http[0].route")]);
}

#[test]
fn an_export_of_what_is_no_service_of_the_mesh_says_why() {
    let (service, export) = DETAILS.split_once("---").unwrap();
    let alone = Cluster::new("west", &[export], &[]).compile();
    assert_eq!(found(&alone), [(Kind::NoService, "metadata.name")]);
    let external = service.replace("selector: {app: details}", "type: ExternalName\n  externalName: api.example");
    let external = Cluster::new("west", &[&external, export], &[]).compile();
    assert_eq!(found(&external), [(Kind::ExternalService, "metadata.name")]);
}

#[test]
fn a_cluster_that_is_no_member_is_named_once_others_are_known() {
    let own = "apiVersion: isthmus.dev/v1alpha1\nkind: MeshCluster\nmetadata: {name: north}\nspec: {imports: {bookinfo: [west, east]}, operators: [south, north]}\n";
    let elsewhere = own.replace("name: north", "name: west");
    let policy = POLICY.replace("never: [west]", "never: [mars]");
    let policy = policy
        .replace("names: [details]}", "names: [details]}, tiers: [{clusters: ['@SameAsImporter@', west, venus]}]");
    let mut north = Cluster::new("north", &[own, &elsewhere, &policy, DETAILS], &[]);
    assert_eq!(found(&north.compile()), [], "it may have just begun");
    north.hears(&Cluster::new("west", &[DETAILS], &["a"]));
    let fields = ["spec.constraints.never", "spec.imports[bookinfo]", "spec.operators", "spec.tiers[0].clusters"];
    let compiled = north.compile();
    let mut of_kind = found(&compiled);
    of_kind.sort_by_key(|(_, field)| *field);
    assert_eq!(of_kind, fields.map(|field| (Kind::NoCluster, field)), "{:?}", compiled.findings);
    assert!(
        compiled
            .findings
            .iter()
            .any(|one| one.reason == "no cluster mars is a member of this mesh; there are north, west")
    );
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
