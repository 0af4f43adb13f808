//! What cannot be honoured, and what is named and is not there.

use isthmus_core::compile::finding::Kind;

use crate::support::{Cluster, DETAILS, POLICY, ROUTES, found, service};

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
