//! One seed, one story: a mesh comes together, troubles befall it while its clusters speak, then everything is mended and
//! must come together again.

use std::sync::{Arc, atomic::Ordering};

use isthmus_wire::federation::SignedStatement;
use openraft::rt::AsyncRuntime;
use openraft_rt_sim::SimRuntime;
use parking_lot::Mutex;

use crate::{
    control::{self, Mirror},
    faults::{self, Troubles},
    liar,
    member::Member,
    network::{CALM, Ear},
    plant::Plant,
    types::{millis, now, panicked, spawn},
    witness::{Seen, Standing, Violation},
    world::World,
};

/// Milliseconds of trouble.
const TROUBLE: u64 = 9_000;
/// Within so many it has to come together again.
const MENDED: u64 = 40_000;

/// What kind of story.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What befalls it.
    pub troubles: Troubles,
    /// One member lies.
    pub liar: bool,
    /// The bug, if there is one.
    pub plant: Option<Plant>,
}

/// The usual kind: all troubles, one liar.
pub const USUAL: Kind = Kind { troubles: Troubles { pause: 700, reinstalls: true }, liar: true, plant: None };

/// A story that was told.
pub struct Told {
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
    /// What happened, line by line.
    pub lines: Vec<String>,
    /// What the runtime did: every poll, timer and draw.
    pub polls: Vec<String>,
}

/// Tells the story of a seed. With `polls`, what the runtime did is kept too.
pub fn tell(seed: u64, kind: Kind, polls: bool) -> Told {
    fastrand::seed(seed);
    let mut runtime = SimRuntime::with_seed(seed);
    runtime.record_trace(polls);
    let count = 3 + (seed % 3) as usize;
    let world = World::new(seed, count, kind.plant);
    runtime.block_on(play(&world, kind));
    let polls = runtime.take_trace();
    drop(runtime);
    Told { violation: world.witness.violation(), lines: world.witness.lines(), polls }
}

async fn play(world: &Arc<World>, kind: Kind) {
    world.bootstrap().await;
    for at in 1..world.clusters.len() {
        let issuer = world.roll(at as u64) as usize;
        let race = world.roll(3) == 0;
        while !world.enter(at, issuer, race).await {
            if now().as_millis() > u128::from(MENDED) {
                return world.witness.tell(&Seen::Failed(&format!("{} does not get in", world.name(at))));
            }
            millis(50).await;
        }
    }
    let mirrors: Vec<_> = world.clusters.iter().map(|_| Arc::new(Mutex::new(Mirror::new()))).collect();
    for (at, mirror) in mirrors.iter().enumerate() {
        spawn(control::speak(Arc::clone(world), at));
        spawn(control::watch(Arc::clone(world), at, Arc::clone(mirror)));
    }
    spawn(Arc::clone(world).nurse());
    spawn(faults::befall(Arc::clone(world), kind.troubles));
    if kind.liar {
        spawn(liar::lie(Arc::clone(world), 1 + world.roll(world.clusters.len() as u64 - 1) as usize));
    }
    for _ in 0..TROUBLE / 100 {
        millis(100).await;
        if !world.goes_on() {
            return;
        }
    }
    mend(world, &mirrors).await;
    world.over.store(true, Ordering::Relaxed);
}

async fn mend(world: &Arc<World>, mirrors: &[Arc<Mutex<Mirror>>]) {
    world.calm.store(true, Ordering::Relaxed);
    world.network.mend();
    world.network.set_weather(CALM);
    world.witness.note("everything is mended");
    for _ in 0..MENDED / 100 {
        millis(100).await;
        if let Some(reason) = panicked() {
            world.witness.tell(&Seen::Failed(&reason));
        }
        if !world.goes_on() {
            return;
        }
        world.network.mend();
        world.network.set_weather(CALM);
        if together(world, mirrors) {
            break;
        }
    }
    let belonging = world.belonging();
    for at in &belonging {
        if world.member(*at).is_none() {
            world.witness.tell(&Seen::Failed(&format!("{} does not come back", world.name(*at))));
            return;
        }
    }
    let members: Vec<Standing> = belonging.iter().filter_map(|at| standing(world, *at, &mirrors[*at])).collect();
    let said: Vec<SignedStatement> = belonging.iter().flat_map(|at| said(world, *at)).collect();
    world.witness.tell(&Seen::Over { members: &members, said: &said });
}

fn said(world: &World, at: usize) -> Vec<SignedStatement> {
    world.clusters[at].said.lock().in_force().cloned().collect()
}

fn standing(world: &World, at: usize, mirror: &Mutex<Mirror>) -> Option<Standing> {
    let member = world.member(at)?;
    Some(Standing {
        cluster: member.cluster().to_owned(),
        state: member.machine.look(Clone::clone),
        applied: member.metrics().last_applied.map_or(0, |id| id.index),
        view: control::snapshot(&member.view),
        watched: mirror.lock().snapshot(),
    })
}

/// Whether there is nothing left to wait for.
fn together(world: &World, mirrors: &[Arc<Mutex<Mirror>>]) -> bool {
    let belonging = world.belonging();
    let members: Vec<_> = belonging.iter().filter_map(|at| Some((*at, world.member(*at)?))).collect();
    let Some((_, first)) = members.first() else { return false };
    let state = first.machine.look(Clone::clone);
    let applied = |member: &Member| member.metrics().last_applied;
    faults::settled(world)
        && members.len() == belonging.len()
        && members.iter().all(|(at, member)| {
            member.is_up()
                && applied(member) == applied(first)
                && member.pending.lock().is_empty()
                && member.machine.look(|other| *other == state)
                && mirrors[*at].lock().revision == member.view.revision()
                && said(world, *at).iter().all(|said| state.statements().any(|held| held == *said))
                && control::snapshot(&member.view) == mirrors[*at].lock().snapshot()
        })
}
