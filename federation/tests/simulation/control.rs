//! The control of a cluster, as far as a story needs it: it says things by its member, says them again to a member that
//! began anew, and watches.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use isthmus_core::{
    epoch::next_epoch,
    statement::{Content, Version},
};
use isthmus_federation::{view::View, watcher::follow};
use isthmus_wire::federation::{SignedStatement, Snapshot, WatchEvent, watch_event::Event};
use tokio::sync::mpsc;

use crate::{
    member::Member,
    network::Ear,
    plant::Plant,
    types::{millis, now, spawn, within},
    witness::Seen,
    words::{self, MESH},
    world::World,
};

/// What a cluster says, by key; what it took back too.
#[derive(Default)]
pub struct Said {
    version: Version,
    contents: BTreeMap<String, (Content, SignedStatement)>,
    mark: u64,
    /// The run of the member that has all of it.
    told: Option<Arc<Member>>,
}

impl Said {
    /// What holds, taken together.
    pub fn in_force(&self) -> impl Iterator<Item = &SignedStatement> {
        let holds = |content: &Content| !matches!(content, Content::Gone { .. } | Content::Epoch { .. });
        self.contents.values().filter(move |(content, _)| holds(content)).map(|(_, said)| said)
    }

    fn say(&mut self, member: &Member, content: Content) {
        self.version.number += 1;
        let said = words::statement(member.cluster(), &content, self.version, &member.key);
        member.place.witness.tell(&Seen::Signed(&said));
        member.publish(&said);
        self.contents.insert(content.key(), (content, said));
    }

    /// Begins an epoch, as a control does that begins: first the keys, then all of it again.
    fn begin(&mut self, member: &Member) {
        let held = member.view.highest(member.cluster()).epoch;
        self.version = Version { epoch: next_epoch([held, self.version.epoch]), number: 0 };
        let old = std::mem::take(&mut self.contents);
        let keys = keys(&old);
        self.say(member, Content::Epoch { keys: keys.clone() });
        for (key, (content, _)) in old {
            if keys.contains(&key) {
                self.say(member, content);
            }
        }
    }
}

fn keys(contents: &BTreeMap<String, (Content, SignedStatement)>) -> Vec<String> {
    let holds = |content: &Content| !matches!(content, Content::Gone { .. } | Content::Epoch { .. });
    contents.iter().filter(|(_, (content, _))| holds(content)).map(|(key, _)| key.clone()).collect()
}

/// Says something every now and then.
pub async fn speak(world: Arc<World>, at: usize) {
    while world.goes_on() {
        millis(if world.is_calm() { 100 } else { 100 + world.roll(700) }).await;
        let Some(member) = world.member(at) else { continue };
        let mut said = world.clusters[at].said.lock();
        if said.version.epoch == 0 || !world.is_calm() && world.roll(12) == 0 {
            said.begin(&member);
        }
        if !said.told.as_ref().is_some_and(|told| Arc::ptr_eq(told, &member)) {
            said.contents.values().for_each(|(_, statement)| member.publish(statement));
            said.told = Some(Arc::clone(&member));
        }
        if !world.is_calm() || said.contents.len() < 2 {
            said.mark += 1;
            let content = words::content(&mut world.dice.lock(), said.mark);
            said.say(&member, content);
        }
    }
}

/// What a watcher made of what it saw.
pub struct Mirror {
    view: View,
    /// The last revision it saw, and the history that counts it.
    pub revision: u64,
    history: String,
}

impl Mirror {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self { view: View::default(), revision: 0, history: String::new() }
    }

    fn take(&mut self, event: WatchEvent) {
        (self.revision, self.history) = (event.revision, event.history);
        match event.event {
            Some(Event::Snapshot(all)) => {
                self.view = View::default();
                all.members.into_iter().for_each(|record| self.view.member(MESH, record));
                for said in &all.statements {
                    self.view.hear(said);
                }
            }
            Some(Event::Member(record)) => self.view.member(MESH, record),
            Some(Event::Statement(said)) => {
                self.view.hear(&said);
            }
            _ => {}
        }
    }

    /// All of it.
    pub fn snapshot(&self) -> Snapshot {
        snapshot(&self.view)
    }
}

/// What a view holds.
pub fn snapshot(view: &View) -> Snapshot {
    match view.watch(0, "").0.pop().and_then(|event| event.event) {
        Some(Event::Snapshot(all)) => all,
        other => panic!("from revision 0 a watcher gets a snapshot, not {other:?}"),
    }
}

/// Watches the own member for ever; the connection breaks now and then, and it is slow at times.
pub async fn watch(world: Arc<World>, at: usize, mirror: Arc<parking_lot::Mutex<Mirror>>) {
    while world.goes_on() {
        millis(20 + world.roll(100)).await;
        let Some(member) = world.member(at) else { continue };
        let (out, mut events) = mpsc::channel(4);
        let (revision, history) = {
            let mirror = mirror.lock();
            (mirror.revision, mirror.history.clone())
        };
        let followed = Arc::clone(&member);
        spawn(async move { follow(&followed.view, revision, history, out).await });
        let until = now() + Duration::from_millis(300 + world.roll(3000));
        while let Some(Some(event)) = within(until.saturating_sub(now()), events.recv()).await {
            if !member.is_up() {
                break;
            }
            if member.place.plant == Some(Plant::EventDropped) && world.roll(10) == 0 {
                continue;
            }
            world.witness.tell(&Seen::Watched { cluster: member.cluster(), event: &event });
            let (revision, history) = (event.revision + 1, event.history.clone());
            mirror.lock().take(event);
            if let Some(old) = member.stale.lock().pop() {
                let event = WatchEvent { revision, history, event: Some(Event::Statement(old)) };
                world.witness.tell(&Seen::Watched { cluster: member.cluster(), event: &event });
            }
            if world.roll(10) == 0 {
                millis(world.roll(200)).await;
            }
        }
    }
}
