//! What befalls the mesh: cut links, cut power, bad weather, wiped disks, ejections.

use std::sync::Arc;

use isthmus_federation::voters;

use crate::{
    network::{CALM, Weather},
    types::millis,
    witness::Seen,
    words,
    world::World,
};

/// Which troubles a story has.
#[derive(Clone, Copy, Debug)]
pub struct Troubles {
    /// Milliseconds between two of them, at most.
    pub pause: u64,
    /// Clusters may be wiped and ejected.
    pub reinstalls: bool,
}

/// One trouble after the other, until it is calm.
pub async fn befall(world: Arc<World>, troubles: Troubles) {
    while world.goes_on() && !world.is_calm() {
        millis(50 + world.roll(troubles.pause)).await;
        match world.roll(20) {
            0..=4 => cut_power(&world),
            5..=6 => split(&world),
            7..=8 => one_way(&world),
            9..=10 => part_leader(&world),
            11..=12 => weather(&world),
            13 => elect(&world).await,
            14..=15 if troubles.reinstalls => reinstall(&world).await,
            16 if troubles.reinstalls => eject(&world).await,
            _ => {
                world.network.mend();
                world.network.set_weather(CALM);
                world.witness.note("all links are there");
            }
        }
    }
}

fn any(world: &World) -> usize {
    world.roll(world.clusters.len() as u64) as usize
}

fn cut_power(world: &World) {
    let at = match world.leader() {
        Some(leader) if world.roll(3) == 0 => leader,
        _ => any(world),
    };
    let disk = &world.clusters[at].place.disk;
    if world.roll(2) == 0 {
        disk.cut();
    } else {
        disk.fuse(world.roll(4) as u32);
    }
}

fn split(world: &World) {
    let side = world.roll(1 << world.clusters.len());
    for from in 0..world.clusters.len() {
        for to in 0..world.clusters.len() {
            if side >> from & 1 != side >> to & 1 {
                world.network.cut(world.name(from), world.name(to));
            }
        }
    }
    world.witness.note(&format!("split by {side:b}"));
}

fn one_way(world: &World) {
    let (from, to) = (any(world), any(world));
    world.network.cut(world.name(from), world.name(to));
    world.witness.note(&format!("nothing goes from {} to {}", world.name(from), world.name(to)));
}

fn part_leader(world: &World) {
    let Some(leader) = world.leader() else { return };
    for other in (0..world.clusters.len()).filter(|other| *other != leader) {
        world.network.cut(world.name(leader), world.name(other));
        world.network.cut(world.name(other), world.name(leader));
    }
    world.witness.note(&format!("{}, which leads, is alone", world.name(leader)));
}

fn weather(world: &World) {
    let weather =
        Weather { lost: world.roll(300) as u32, twice: world.roll(200) as u32, slowest: 20 + world.roll(400) };
    world.network.set_weather(weather);
    world.witness.note(&format!("{weather:?}"));
}

async fn elect(world: &World) {
    if let Some(member) = world.member(any(world)) {
        let _ = member.raft().trigger().elect(false).await;
    }
}

/// Only while a quorum is left without the one that is wiped: a disk that is gone voted once.
async fn reinstall(world: &World) {
    let at = any(world);
    let members = world.belonging();
    if at == 0 || members.len() < 3 || !members.contains(&at) || !settled(world) {
        return;
    }
    let race = world.roll(2) == 0;
    world.reinstall(at, race).await;
    for _ in 0..400 {
        if settled(world) || !world.goes_on() {
            return;
        }
        millis(50).await;
    }
}

async fn eject(world: &World) {
    let at = any(world);
    let Some(operator) = world.member(0) else { return };
    if at == 0 || world.belonging().len() < 4 || world.is_ejected(at) || !settled(world) {
        return;
    }
    let Some(record) = operator.view.members().into_iter().find(|record| record.cluster == world.name(at)) else {
        return;
    };
    world.witness.tell(&Seen::Ejects { cluster: world.name(at) });
    world.set_ejected(at);
    // Without an answer it may be written or not; the operator asks until it is.
    while world.goes_on() && operator.write(&words::eject(&record, operator.cluster(), &operator.key)).await.is_err() {
        millis(200).await;
    }
}

const HERE: voters::Contact = voters::Contact { reachable: true, silent: std::time::Duration::ZERO, named: true };

/// Everyone is up, and the membership is what it should be.
pub fn settled(world: &World) -> bool {
    let Some(leader) = world.leader().and_then(|at| world.member(at)) else { return false };
    let members = leader.view.members().into_iter().filter(|record| !record.ejected);
    let wanted = members.map(|record| (record.raft_id, isthmus_federation::raft::Node { cluster: record.cluster }));
    let metrics = leader.metrics();
    let everyone = world.belonging().into_iter().all(|at| world.member(at).is_some());
    let membership = metrics.membership_config.membership();
    everyone
        && membership.get_joint_config().len() == 1
        && metrics.last_applied.map(|id| id.index) == metrics.last_log_index
        && voters::next(membership, metrics.id, &wanted.collect(), |_| HERE).is_none()
}
