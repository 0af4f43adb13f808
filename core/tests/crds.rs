//! What the API server is told of our kinds is what core knows of them: `deploy/crds` against the types, both ways.
//!
//! A field that only the schema has would be taken and then refused; one that only core has would be dropped in silence by
//! the API server before anybody reads it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails says so by a panic")]

#[path = "crds/fields.rs"]
mod fields;
#[path = "crds/schema.rs"]
mod schema;

use std::collections::{BTreeMap, BTreeSet};

use isthmus_core::{
    failover::{
        policy::{
            Cap, Constraints, ErrorRate, Failback, FailoverPolicy, Latency, Leave, Targets, TierSpec,
            WhenNothingHealthy,
        },
        selector::{LabelSelector, Operator, PropertySelector, Requirement},
    },
    resource::{
        Body, Object, ObjectError,
        istio::{
            ConnectionPool, Destination, DestinationRuleSpec, HttpMatch, HttpRetry, HttpRoute, OutlierDetection,
            PortSelector, RouteDestination, StringMatch, Subset, TcpSettings, TrafficPolicy, VirtualServiceSpec,
        },
        kubernetes::{Consent, MeshClusterSpec, ServiceExportSpec},
        parse_documents, read_documents,
    },
};
use serde_json::Value;

use fields::fields;
use schema::{Crd, Node};

type Known = Vec<(&'static str, &'static [&'static str])>;

/// Where the schema of a FailoverPolicy has a structure or a choice, and what core has there.
fn failover_policy() -> Known {
    vec![
        ("spec", fields::<FailoverPolicy>()),
        ("spec.services", fields::<Targets>()),
        ("spec.services.selector", fields::<LabelSelector>()),
        ("spec.services.selector.matchExpressions[]", fields::<Requirement>()),
        ("spec.services.selector.matchExpressions[].operator", fields::<Operator>()),
        ("spec.tiers[]", fields::<TierSpec>()),
        ("spec.tiers[].propertySelector", fields::<PropertySelector>()),
        ("spec.tiers[].propertySelector.matchExpressions[]", fields::<Requirement>()),
        ("spec.tiers[].propertySelector.matchExpressions[].operator", fields::<Operator>()),
        ("spec.leave", fields::<Leave>()),
        ("spec.leave.errorRate", fields::<ErrorRate>()),
        ("spec.leave.latency", fields::<Latency>()),
        ("spec.caps[]", fields::<Cap>()),
        ("spec.failback", fields::<Failback>()),
        ("spec.constraints", fields::<Constraints>()),
        ("spec.whenNothingHealthy", fields::<WhenNothingHealthy>()),
    ]
}

fn mesh_cluster() -> Known {
    vec![("spec", fields::<MeshClusterSpec>()), ("spec.consent", fields::<Consent>())]
}

/// Kinds of others: core honours or refuses by name a part of what their published APIs have.
fn of_others() -> [(&'static str, Known); 3] {
    let virtual_service = vec![
        ("spec", fields::<VirtualServiceSpec>()),
        ("spec.http[]", fields::<HttpRoute>()),
        ("spec.http[].match[]", fields::<HttpMatch>()),
        ("spec.http[].match[].uri", fields::<StringMatch>()),
        ("spec.http[].match[].method", fields::<StringMatch>()),
        ("spec.http[].match[].headers{}", fields::<StringMatch>()),
        ("spec.http[].route[]", fields::<RouteDestination>()),
        ("spec.http[].route[].destination", fields::<Destination>()),
        ("spec.http[].route[].destination.port", fields::<PortSelector>()),
        ("spec.http[].retries", fields::<HttpRetry>()),
    ];
    let destination_rule = vec![
        ("spec", fields::<DestinationRuleSpec>()),
        ("spec.subsets[]", fields::<Subset>()),
        ("spec.trafficPolicy", fields::<TrafficPolicy>()),
        ("spec.trafficPolicy.outlierDetection", fields::<OutlierDetection>()),
        ("spec.trafficPolicy.connectionPool", fields::<ConnectionPool>()),
        ("spec.trafficPolicy.connectionPool.tcp", fields::<TcpSettings>()),
    ];
    [
        ("multicluster.x-k8s.io_serviceexports.yaml", vec![("spec", fields::<ServiceExportSpec>())]),
        ("istio/networking.istio.io_virtualservices.yaml", virtual_service),
        ("istio/networking.istio.io_destinationrules.yaml", destination_rule),
    ]
}

fn own() -> [(Crd, Known); 2] {
    [
        (Crd::read("isthmus.dev_failoverpolicies.yaml"), failover_policy()),
        (Crd::read("isthmus.dev_meshclusters.yaml"), mesh_cluster()),
    ]
}

fn parse(document: &Value) -> Result<Object, ObjectError> {
    read_documents("sample.yaml", &document.to_string()).remove(0)
}

#[test]
fn our_kinds_have_the_fields_that_core_knows_and_no_others() {
    for (crd, known) in own() {
        let in_schema: BTreeMap<_, BTreeSet<_>> = crd.nodes().iter().filter_map(Node::members).collect();
        let in_core: BTreeMap<_, BTreeSet<_>> = known
            .into_iter()
            .map(|(path, names)| (path.to_owned(), names.iter().map(ToString::to_string).collect()))
            .collect();
        assert_eq!(in_schema, in_core, "{}", crd.file);
    }
}

#[test]
fn kinds_of_others_have_every_field_that_core_knows() {
    for (file, known) in of_others() {
        let crd = Crd::read(file);
        let in_schema: BTreeMap<_, BTreeSet<_>> = crd.nodes().iter().filter_map(Node::members).collect();
        for (path, names) in known {
            let there = in_schema.get(path).unwrap_or_else(|| panic!("{file} has nothing at {path}"));
            for name in names {
                assert!(there.contains(*name), "{file}: {path}.{name} is not in the schema");
            }
        }
    }
}

#[test]
fn a_document_of_everything_is_understood_and_so_is_every_choice() {
    for (crd, _) in own() {
        let all = crd.sample();
        parse(&all).unwrap_or_else(|error| panic!("{}: {error}\n{all}", crd.file));
        for node in crd.nodes() {
            for choice in node.choices() {
                let mut one = all.clone();
                *one.pointer_mut(&node.pointer).unwrap() = choice.clone();
                parse(&one).unwrap_or_else(|error| panic!("{} {}: {choice}: {error}", crd.file, node.path));
            }
        }
    }
}

#[test]
fn what_the_schema_requires_core_requires_and_what_it_does_not_may_be_left_out() {
    let mut required = 0;
    for (crd, _) in own() {
        for node in crd.nodes() {
            for (name, is_required) in node.properties() {
                let mut without = crd.sample();
                without.pointer_mut(&node.pointer).unwrap().as_object_mut().unwrap().remove(&name);
                let parsed = parse(&without);
                let said = format!("{} {}.{name}: {parsed:?}", crd.file, node.path);
                assert_eq!(parsed.is_err(), is_required, "{said}");
                required += usize::from(is_required);
            }
        }
    }
    assert!(required >= 4, "errorRate.above, latency.above, key and operator are: {required}");
}

#[test]
fn whole_numbers_have_the_bounds_of_core() {
    let mut seen = 0;
    for (crd, _) in own() {
        for node in crd.nodes() {
            let Some((least, most)) = node.bounds() else { continue };
            let with = |value: i64| {
                let mut one = crd.sample();
                *one.pointer_mut(&node.pointer).unwrap() = value.into();
                parse(&one).is_ok()
            };
            let taken = [least - 1, least, most, most + 1].map(with);
            assert_eq!(taken, [false, true, true, false], "{} {}", crd.file, node.path);
            seen += 1;
        }
    }
    assert_eq!(seen, 2, "healthyAtLeast and weights");
}

#[test]
fn a_mesh_cluster_may_say_nothing_and_a_policy_may_not() {
    let [(policy, _), (cluster, _)] = own();
    assert!(policy.requires_spec() && !cluster.requires_spec());
    let bare = |crd: &Crd| {
        let mut bare = crd.sample();
        bare.as_object_mut().unwrap().remove("spec");
        parse(&bare)
    };
    assert!(bare(&policy).is_err());
    assert_eq!(bare(&cluster).unwrap().body, Body::MeshCluster(MeshClusterSpec::default()));
}

#[test]
fn the_kustomize_base_has_the_same_definitions() {
    let base = schema::documents("kustomize/base/crds.yaml");
    let ours: Vec<_> =
        schema::DEFINITIONS.iter().map(|file| schema::documents(&format!("crds/{file}")).remove(0)).collect();
    assert_eq!(base.len(), ours.len());
    for one in ours {
        let name = &one["metadata"]["name"];
        let there = base.iter().find(|other| other["metadata"]["name"] == *name);
        assert!(there == Some(&one), "{name} in deploy/kustomize/base is not that of deploy/crds: run deploy/render");
    }
}

#[test]
fn the_examples_for_kubernetes_are_accepted() {
    for file in ["serviceexport.yaml", "failoverpolicy.yaml"] {
        let path = schema::deploy().join("examples/kubernetes").join(file);
        let parsed = parse_documents(file, &std::fs::read_to_string(path).unwrap());
        assert!(!parsed.is_empty(), "{file}");
        for object in parsed {
            object.unwrap_or_else(|errors| panic!("{errors:?}"));
        }
    }
}
