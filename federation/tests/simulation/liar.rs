//! A member that was taken over: it runs as all others do, and besides says things in others' names, by every way there is.

use std::sync::Arc;

use isthmus_core::statement::{Card, Content, Version};
use isthmus_federation::state::Command;
use isthmus_wire::federation::{SignedStatement, session_frame::Body};

use crate::{
    control::snapshot,
    member::Member,
    network::Letter,
    types::millis,
    words::{self, Ticket},
    world::World,
};

/// Lies until it is calm.
pub async fn lie(world: Arc<World>, at: usize) {
    let trickery = world.clusters[at].place.trickery.clone();
    trickery.set(world.name(at), true);
    while world.goes_on() && !world.is_calm() {
        millis(100 + world.roll(500)).await;
        let Some(liar) = world.member(at) else { continue };
        let victim = world.roll(world.clusters.len() as u64) as usize;
        if victim == at {
            continue;
        }
        let victim = world.name(victim).to_owned();
        match world.roll(10) {
            0 => relay(&world, &liar, forged(&liar, &victim)),
            1 => relay_changed(&world, &liar),
            2 => relay_old(&world, &liar).await,
            3 => propose(&world, &liar, words::statements(&[forged(&liar, &victim)])).await,
            4 => propose(&world, &liar, invented_member(&world, &liar, &victim)).await,
            5 => usurp(&world, &liar, &victim).await,
            6 => token_again(&world, &liar).await,
            7 => propose(&world, &liar, forged_ejection(&world, &liar, &victim)).await,
            8 => propose(&world, &liar, words::operators(liar.cluster(), world.name(0), 1, &liar.key)).await,
            _ => drop(liar.raft().trigger().elect(false).await),
        }
    }
    trickery.set(world.name(at), false);
}

/// An ejection in the name of the operator, or one of its own.
fn forged_ejection(world: &World, liar: &Member, victim: &str) -> Command {
    let record = liar.view.members().into_iter().find(|record| record.cluster == victim).unwrap_or_default();
    let by = if world.roll(2) == 0 { world.name(0) } else { liar.cluster() };
    words::eject(&record, by, &liar.key)
}

/// A victim's statement, signed with the liar's key, newer than all there is.
fn forged(liar: &Member, victim: &str) -> SignedStatement {
    let content = Content::Card(Card { region: "forged".into(), ..Card::default() });
    let highest = liar.view.highest(victim);
    words::statement(victim, &content, Version { epoch: highest.epoch.max(1), number: highest.number + 7 }, &liar.key)
}

fn relay(world: &World, liar: &Member, statement: SignedStatement) {
    world.witness.note(&format!(
        "{} relays {} {}.{}",
        liar.cluster(),
        statement.cluster,
        statement.epoch,
        statement.number
    ));
    for cluster in world.clusters.iter().filter(|cluster| cluster.place.cluster != liar.cluster()) {
        let letter = Letter::Frame(Body::Delta(statement.clone()));
        world.network.post(liar.cluster(), &cluster.place.cluster, letter);
    }
}

/// What another says, with one thing changed and the signature left.
fn relay_changed(world: &World, liar: &Member) {
    let said = snapshot(&liar.view).statements;
    let Some(mut said) = pick(world, said) else { return };
    match world.roll(4) {
        0 => said.number += 1,
        1 => said.epoch += 1,
        2 => said.key = "card".into(),
        _ => said.content = serde_json::to_vec(&Content::Gone { key: said.key.clone() }).expect("content is JSON"),
    }
    if said.cluster != liar.cluster() {
        relay(world, liar, said);
    }
}

/// What another said, as it was, but late.
async fn relay_old(world: &World, liar: &Member) {
    if let Some(said) = pick(world, snapshot(&liar.view).statements) {
        millis(world.roll(2000)).await;
        relay(world, liar, said);
    }
}

fn pick<T>(world: &World, mut from: Vec<T>) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(world.roll(from.len() as u64) as usize))
}

/// Writes as the leader if it is one, and by the leader else.
async fn propose(world: &World, liar: &Member, command: Command) {
    let outcome = liar.write(&command).await;
    world.witness.note(&format!("{} proposed {command}: {outcome:?}", liar.cluster()));
}

/// A join entry that the victim never countersigned, by a token that it never issued.
fn invented_member(world: &World, liar: &Member, victim: &str) -> Command {
    let (key, id) = (words::key(world.roll(u64::MAX)), format!("lie{}", world.roll(1 << 32)));
    let ticket = Ticket { id, cluster: "atlantis".into(), issuer: victim.into(), secret: vec![] };
    words::join(&words::request(&ticket, &key), victim, &liar.key, 90)
}

/// Its own token, its own countersignature, and another cluster's name.
async fn usurp(world: &World, liar: &Member, victim: &str) {
    let (key, id) = (words::key(world.roll(u64::MAX)), format!("usurp{}", world.roll(1 << 32)));
    let ticket = Ticket { id, cluster: victim.into(), issuer: liar.cluster().into(), secret: vec![] };
    propose(world, liar, words::token(&ticket, &liar.key)).await;
    let next = liar.machine.look(|state| state.next_id());
    propose(world, liar, words::join(&words::request(&ticket, &key), liar.cluster(), &liar.key, next)).await;
}

/// A token of its own that was redeemed already, written once more.
async fn token_again(world: &World, liar: &Member) {
    let tokens = world.tickets.lock().clone();
    if let Some((ticket, command)) = pick(world, tokens) {
        world.witness.note(&format!("{} writes token {} again", liar.cluster(), ticket.id));
        propose(world, liar, command).await;
    }
}
