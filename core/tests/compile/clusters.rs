//! What one cluster says, and what another makes of it.

use isthmus_core::{
    consent,
    model::Resource,
    name::{ClusterName, Locality},
    statement::Content,
};

use crate::support::{Cluster, DETAILS, remote_usable, service};

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
fn the_endpoints_of_a_cluster_that_is_dead_for_too_long_are_dropped() {
    let west = Cluster::new("west", &[DETAILS], &["a"]);
    let mut north = Cluster::new("north", &[], &[]);
    north.hears(&west);
    assert_eq!(remote_usable(&north.compile()), 1);
    north.others.values_mut().for_each(|other| other.stale = true);
    assert_eq!(remote_usable(&north.compile()), 0);
}
