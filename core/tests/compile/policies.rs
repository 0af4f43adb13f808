//! Which policy binds a service, and what is said of those that bind none.

use isthmus_core::{compile::finding::Kind, name::ServiceName, resource::parse_documents};

use crate::support::{Cluster, DETAILS, POLICY, found};

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
fn a_policy_that_others_precede_for_all_that_it_is_for_is_told_by_whom() {
    let details = POLICY.replace("name: resident,", "name: late, creationTimestamp: \"2026-01-02T03:04:05Z\",");
    let all = POLICY.replace("name: resident,", "name: all,").replace("services: {names: [details]}, ", "");
    let overridden = |files: &[&str]| {
        let compiled = Cluster::new("west", files, &["a"]).compile();
        let told = compiled.findings.iter().filter(|one| one.kind == Kind::Overridden);
        told.map(|one| one.reason.clone()).collect::<Vec<_>>()
    };
    assert_eq!(overridden(&[DETAILS, POLICY]).len(), 0);
    let told = overridden(&[DETAILS, &format!("{POLICY}---{details}---{all}")]);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|one| one.contains("comes first: bookinfo/resident of west;")), "{told:?}");
    let other = DETAILS.replace("name: details", "name: other");
    assert_eq!(overridden(&[DETAILS, &other, POLICY, &all]).len(), 0, "it binds the other Service");
    assert_eq!(overridden(&[&other, POLICY, &details]).len(), 0, "for no service nothing precedes it");
}

#[test]
fn a_policy_with_a_fault_is_refused_before_anything_is_made_of_it() {
    let bad = POLICY.replace("services: {names: [details]}", "services: {namespaces: [other]}");
    let errors = parse_documents("f.yaml", &bad).remove(0).unwrap_err();
    assert_eq!(errors[0].field, "spec.services.namespaces", "{errors:?}");
}
