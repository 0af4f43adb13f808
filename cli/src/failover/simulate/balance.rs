//! Pure: one service of all importing clusters together, now and then, limits applied.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_control::failover::simulation::{Moving, Simulated};
use isthmus_core::{
    failover::flow::{self, Flow, Rung, Stream},
    name::ClusterName,
};
use serde::Serialize;

/// A service as one importing cluster sends to it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The service.
    pub service: String,
    /// The cluster of the clients.
    pub importer: String,
    /// Requests a second that they send now.
    pub requests_per_second: f64,
    /// The part that each cluster serves, now.
    pub now: BTreeMap<ClusterName, f64>,
    /// And then; empty: nobody does.
    pub then: BTreeMap<ClusterName, f64>,
    /// Requests a second that would be refused because every place left is at its limit.
    pub refused_per_second: f64,
    /// Shares that move now: what would be is told of shares at rest.
    pub moving: BTreeMap<ClusterName, Moving>,
}

/// What a cluster carries of a service, requests a second.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Now.
    pub now: f64,
    /// And then.
    pub then: f64,
    /// What its endpoints can take.
    pub capacity: Option<f64>,
    /// Of the importers that a limit is for: what would come, and the limit.
    pub limited: f64,
    /// The limit.
    pub limit: Option<f64>,
}

/// One service.
pub struct Balance {
    /// An importer each, of those that would be left.
    pub rows: Vec<Row>,
    /// By cluster.
    pub loads: BTreeMap<ClusterName, Load>,
}

/// `all`: what each importer's control says of one service.
pub fn of(all: &[&Simulated], down: &BTreeSet<ClusterName>) -> Balance {
    let is_left = |one: &Simulated| !down.iter().any(|down| down.as_str() == one.importer);
    let now = flow::settle(&streams(all.iter().copied(), |one| &one.now), &BTreeMap::new());
    let left = || all.iter().copied().filter(|one| is_left(one));
    let then = flow::settle(&streams(left(), |one| &one.then), &held(all.iter().copied().zip(&now), is_left));
    let now_of_left = all.iter().zip(&now).filter(|(one, _)| is_left(one)).map(|(_, flow)| flow);
    let rows = left().zip(now_of_left).zip(&then).map(|((one, now), then)| row(one, now, then)).collect();
    let mut loads = BTreeMap::<ClusterName, Load>::new();
    for (cluster, served) in now.iter().flat_map(|flow| &flow.served) {
        loads.entry(cluster.clone()).or_default().now += served;
    }
    for (one, flow) in left().zip(&then) {
        add(&mut loads, one, flow);
    }
    loads.retain(|cluster, _| !down.contains(cluster));
    Balance { rows, loads }
}

fn streams<'a>(all: impl Iterator<Item = &'a Simulated>, rungs: impl Fn(&Simulated) -> &Vec<Rung>) -> Vec<Stream> {
    all.map(|one| Stream { rate: one.requests_per_second, rungs: rungs(one).clone() }).collect()
}

/// What clients of clusters that are gone wanted of limited places: their parts are kept for them.
fn held<'a>(
    all: impl Iterator<Item = (&'a Simulated, &'a Flow)>,
    is_left: impl Fn(&Simulated) -> bool,
) -> BTreeMap<ClusterName, Vec<f64>> {
    let mut held = BTreeMap::<_, Vec<f64>>::new();
    for (one, flow) in all.filter(|(one, _)| !is_left(one)) {
        for rung in one.now.iter().filter(|rung| rung.limit.is_some()) {
            held.entry(rung.cluster.clone()).or_default().extend(flow.wanted.get(&rung.cluster));
        }
    }
    held
}

fn row(one: &Simulated, now: &Flow, then: &Flow) -> Row {
    Row {
        service: one.service.clone(),
        importer: one.importer.clone(),
        requests_per_second: one.requests_per_second,
        now: parts(one.requests_per_second, &one.now, now),
        then: parts(one.requests_per_second, &one.then, then),
        refused_per_second: if one.then.is_empty() { 0.0 } else { then.refused },
        moving: one.moving.clone(),
    }
}

/// What is served where, of all that is sent; where nothing is sent, what would be.
fn parts(rate: f64, rungs: &[Rung], flow: &Flow) -> BTreeMap<ClusterName, f64> {
    let part = |rung: &Rung| match flow.served.get(&rung.cluster) {
        Some(served) if rate > 0.0 => served / rate,
        _ => rung.part,
    };
    rungs.iter().map(|rung| (rung.cluster.clone(), part(rung))).filter(|(_, part)| *part > 1e-4).collect()
}

/// What one importer brings.
fn add(loads: &mut BTreeMap<ClusterName, Load>, one: &Simulated, flow: &Flow) {
    let least = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::min);
    for (cluster, capacity) in &one.capacity {
        let load = loads.entry(cluster.clone()).or_default();
        load.capacity = least(load.capacity, Some(*capacity));
    }
    for rung in &one.then {
        let of = |flows: &BTreeMap<ClusterName, f64>| flows.get(&rung.cluster).copied().unwrap_or_default();
        let load = loads.entry(rung.cluster.clone()).or_default();
        load.then += of(&flow.served);
        if rung.limit.is_some() {
            load.limited += of(&flow.wanted);
            load.limit = least(load.limit, rung.limit);
        }
    }
}
