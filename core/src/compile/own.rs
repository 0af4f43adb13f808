//! What the own cluster says to the others: card, bundle, import rules, exports, summaries by group.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Inputs, MOST_GROUPS, says_nothing, services::Draft};
use crate::{
    failover::selector::{RELEASE, RELEASE_PROPERTY},
    model::{Endpoint, EndpointState},
    name::{ClusterName, ServiceName, SpiffeId},
    resource::{
        Body,
        kubernetes::{Consent, MeshClusterSpec},
    },
    statement::{Bundle, Card, Content, Export, ImportRules, StateCount, Summary},
};

/// What the own cluster's MeshCluster objects say.
fn own_specs<'a>(inputs: &'a Inputs<'_>) -> impl Iterator<Item = &'a MeshClusterSpec> {
    inputs.objects.iter().filter_map(|(_, object)| match &object.body {
        Body::MeshCluster(spec) if object.metadata.name == inputs.setting.cluster.as_str() => Some(spec),
        _ => None,
    })
}

pub(super) fn import_rules(inputs: &Inputs<'_>) -> ImportRules {
    let mut rules = ImportRules::default();
    for spec in own_specs(inputs) {
        rules.strict |= spec.consent == Consent::Strict;
        rules.namespaces.extend(spec.imports.clone());
    }
    rules
}

/// What its MeshCluster says of its properties, and its release.
pub(super) fn properties(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    let release = (RELEASE_PROPERTY.to_owned(), RELEASE.to_owned());
    own_specs(inputs).flat_map(|spec| spec.properties.clone()).chain([release]).collect()
}

/// How long a dead cluster's endpoints are kept.
pub(super) fn stale_after(inputs: &Inputs<'_>) -> Option<Duration> {
    own_specs(inputs).find_map(|spec| spec.stale_after)
}

pub(super) fn standing_contents(inputs: &Inputs<'_>, rules: ImportRules) -> Vec<Content> {
    let setting = inputs.setting;
    let card = Card {
        region: setting.region.clone(),
        zones: setting.zones.clone(),
        gateways: setting.advertise.clone(),
        properties: properties(inputs),
    };
    let trust_domain = setting.cluster.trust_domain(&setting.mesh);
    let mut contents = vec![Content::Card(card)];
    if !setting.roots.is_empty() {
        contents.push(Content::Bundle(Bundle { trust_domain, roots: setting.roots.clone() }));
    }
    contents.push(Content::ImportRules(rules));
    contents.extend(operators(inputs).map(|clusters| Content::Operators { clusters }));
    contents
}

/// Whose policies and verbs bind it, where it says so.
pub(super) fn operators(inputs: &Inputs<'_>) -> Option<Vec<ClusterName>> {
    let listed: Vec<_> = own_specs(inputs).filter_map(|spec| spec.operators.clone()).collect();
    let all: BTreeSet<_> = listed.iter().flatten().cloned().collect();
    (!listed.is_empty()).then(|| all.into_iter().collect())
}

pub(super) fn export_contents(draft: &Draft, local: &[Endpoint]) -> Vec<Content> {
    let (Some(name), Some(consumers), true) = (&draft.name, &draft.exported, draft.defined) else { return vec![] };
    let export = Export {
        service: name.clone(),
        ports: draft.ports.clone(),
        consumers: consumers.clone(),
        labels: draft.labels.clone(),
        capacity: draft.capacity,
    };
    let mut contents = vec![Content::Export(export)];
    contents.extend(summaries(name, local).into_iter().map(Content::Summary));
    contents
}

type Key = (String, String, BTreeMap<String, String>);

/// One summary a (zone, service account, labels); beyond [`MOST_GROUPS`] those of a zone are merged into one without
/// labels.
fn summaries(name: &ServiceName, local: &[Endpoint]) -> Vec<Summary> {
    let mut groups = BTreeMap::<Key, Vec<&Endpoint>>::new();
    for endpoint in local {
        let labels = endpoint.labels.iter().filter(|(label, _)| !says_nothing(label));
        let labels = labels.map(|(label, value)| (label.clone(), value.clone())).collect();
        let key = (endpoint.locality.zone.clone(), endpoint.identity.service_account().to_owned(), labels);
        groups.entry(key).or_default().push(endpoint);
    }
    let mut merged = BTreeMap::<Key, Vec<&Endpoint>>::new();
    for (index, (key, members)) in groups.into_iter().enumerate() {
        let key = if index + 1 < MOST_GROUPS { key } else { (key.0, String::new(), BTreeMap::new()) };
        merged.entry(key).or_default().extend(members);
    }
    merged.into_iter().map(|(key, members)| summary(name, &key, &members)).collect()
}

fn summary(name: &ServiceName, key: &Key, members: &[&Endpoint]) -> Summary {
    let (zone, _, labels) = key;
    let mut count = StateCount::default();
    for endpoint in members {
        let state = match endpoint.state {
            EndpointState::Ready => &mut count.ready,
            EndpointState::Draining => &mut count.draining,
            EndpointState::Unready => &mut count.unready,
            EndpointState::Unknown => &mut count.unknown,
        };
        *state += 1;
    }
    let usable = members.iter().filter(|endpoint| endpoint.state.is_usable());
    let identities: BTreeSet<SpiffeId> = members.iter().map(|endpoint| endpoint.identity.clone()).collect();
    Summary {
        service: name.clone(),
        zone: zone.clone(),
        group: group_name(key),
        labels: labels.clone(),
        identities: identities.into_iter().collect(),
        count,
        weight: usable.map(|endpoint| endpoint.weight).fold(0, u32::saturating_add),
    }
}

/// A short name that is the same in every run and release: FNV-1a over account and labels.
fn group_name((_, account, labels): &Key) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let texts = labels.iter().flat_map(|(label, value)| [label.as_str(), value.as_str()]);
    for text in std::iter::once(account.as_str()).chain(texts) {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}
