//! What is refused, with which words; and that no value of the chart is forgotten.

use std::collections::BTreeSet;

use super::*;

fn set(text: &str) -> Setting {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    match text.parse::<Setting>() {
        Ok(_) => panic!("{text} is taken"),
        Err(error) => error.to_string(),
    }
}

/// Names of the chart's values: maps that stand for themselves end a name.
fn names(at: &str, value: &Value, all: &mut BTreeSet<String>) {
    let known = |name: &str| known::find(name).is_some_and(|(known, path)| known.name == name && path.is_empty());
    match value.as_object().filter(|fields| !fields.is_empty() && !known(at)) {
        None => drop(all.insert(at.to_owned())),
        Some(fields) => {
            fields.iter().for_each(|(key, value)| names(format!("{at}.{key}").trim_start_matches('.'), value, all));
        }
    }
}

#[test]
fn each_value_of_the_chart_is_a_setting_or_is_said_elsewhere_and_no_others_are() {
    let text = include_str!("../../../../deploy/helm/isthmus/values.yaml");
    let values: Value =
        serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true }).unwrap();
    let mut of_chart = BTreeSet::new();
    names("", &values, &mut of_chart);
    let here = known::all().map(|known| known.name).chain(known::ELSEWHERE.map(|(name, _)| name));
    assert_eq!(here.map(str::to_owned).collect::<BTreeSet<_>>(), of_chart);
}

#[test]
fn what_cannot_be_set_is_told_with_what_can() {
    assert!(refused("gateway.replicas").contains("KEY=VALUE"));
    let unknown = refused("gateway.replica=2");
    assert!(unknown.contains("there are cluster.region") && unknown.contains("gateway.replicas"), "{unknown}");
    assert!(refused("gateway.replicas.a=2").contains("there is no setting"));
    assert!(refused("image.tag=1").contains("--image NAME:TAG"));
    for bad in [
        "gateway.replicas=0",
        "gateway.replicas=many",
        "gateway.exposure=Ingress",
        "log=",
        "log=a\"b",
        "crds.mcs=no",
        "injection.excludedNamespaces=a,B",
        "injection.revision=a,b",
        "gateway.service.loadBalancerSourceRanges=10.0.0.0/33",
        "control.resources.limits.memory=much",
        "control.resources.most.memory=1Gi",
        "control.resources={\"limits\":{\"memory\":\"1Gi\",\"gpu\":\"1\"}}",
        "control.nodeSelector={\"a\":1}",
        "control.nodeSelector=a",
        "control.tolerations={}",
        "control.affinity=[]",
    ] {
        assert!(refused(bad).contains("cannot be"), "{bad}");
    }
    assert!(refused("gateway.exposure=Ingress").contains("DialOut"));
    for good in ["log=info,isthmus_gateway=debug", "gateway.tolerations=[{\"operator\": \"Exists\"}]"] {
        assert_eq!(String::from(set(good)), good);
    }
}

#[test]
fn an_entry_of_a_map_is_set_by_itself_or_with_all_of_it() {
    let entry = set(r"gateway.service.annotations.example\.com/nlb=a=b");
    assert_eq!(entry.structure().unwrap(), json!({ "example.com/nlb": "a=b" }));
    assert_eq!(entry.name(), "gateway.service.annotations");
    let amount = set("control.resources.limits.memory=2Gi").structure().unwrap();
    assert_eq!(amount, json!({ "limits": { "memory": "2Gi" } }));
    assert_eq!(set("control.resources={\"limits\":{\"memory\":\"2Gi\"}}").structure().unwrap(), amount);
}

#[test]
fn addresses_are_hosts_and_ports() {
    let both = addresses("gw.example.com:32000,[2001:db8::1]:15443").unwrap();
    let plain = both.iter().map(|one| (one.host.as_str(), one.port, one.transports.len())).collect::<Vec<_>>();
    assert_eq!(plain, [("gw.example.com", 32000, 2), ("2001:db8::1", 15443, 2)]);
    let by_transport = addresses(r#"[{"host": "gw.example.com", "transports": ["tcp"]}]"#).unwrap();
    assert_eq!((by_transport[0].port, by_transport[0].transports.as_slice()), (15443, &["tcp".to_owned()][..]));
    for bad in ["", "gw", "gw:0", "gw:1,", "g w:1", ":1", "gw:70000", r#"[{"host": "a", "transports": ["quic"]}]"#] {
        assert_eq!(addresses(bad), None, "{bad}");
    }
}

#[test]
fn what_is_set_later_holds() {
    let of = |texts: &[&str]| texts.iter().map(|text| set(text)).collect::<Vec<_>>();
    let all = merged(&of(&["log=info", "gateway.replicas=2"]), &of(&["log=debug", "log=warn"]));
    assert_eq!(all, of(&["gateway.replicas=2", "log=warn"]));
}
