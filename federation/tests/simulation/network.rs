//! The sessions between members, simulated: each letter takes its own time, may be lost, come twice or overtake another;
//! links are cut in both directions or in one.
//!
//! Real sessions keep their order and lose nothing while they live; they die and are dialled again, and a member has
//! more than one of them for a while. This network is less kind than they are, so what holds on it holds on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use isthmus_federation::Refusal;
use isthmus_wire::federation::{JoinRequest, JoinResponse, session_frame::Body};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::types::{sleep, spawn, within};

/// What members send each other.
#[derive(Clone, Debug)]
pub enum Letter {
    /// A frame of a session: a request, or its answer.
    Frame(Body),
    /// A joiner redeems a token.
    Join(JoinRequest),
    /// What became of it.
    Joined(Result<JoinResponse, Refusal>),
}

/// A member that is up.
pub trait Ear: Send + Sync {
    /// Answers a letter, if it is one that is answered.
    fn hear(self: Arc<Self>, from: String, letter: Letter) -> BoxFuture<'static, Option<Letter>>;
    /// Whether it still runs.
    fn is_up(&self) -> bool;
}

/// How the links are.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Of a thousand letters, so many are lost.
    pub lost: u32,
    /// Of a thousand, so many come twice.
    pub twice: u32,
    /// A letter takes at most so many milliseconds.
    pub slowest: u64,
}

/// Good weather.
pub const CALM: Weather = Weather { lost: 0, twice: 0, slowest: 20 };

struct Wires {
    dice: fastrand::Rng,
    weather: Weather,
    /// From, to.
    cut: BTreeSet<(String, String)>,
    ears: BTreeMap<String, Arc<dyn Ear>>,
}

/// The network. Clones share it.
#[derive(Clone)]
pub struct Network(Arc<Mutex<Wires>>);

impl Network {
    /// With nobody on it.
    pub fn new(seed: u64) -> Self {
        let dice = fastrand::Rng::with_seed(seed);
        Self(Arc::new(Mutex::new(Wires { dice, weather: CALM, cut: BTreeSet::new(), ears: BTreeMap::new() })))
    }

    /// A member is up, in place of one that was there before.
    pub fn attach(&self, cluster: &str, ear: Arc<dyn Ear>) {
        self.0.lock().ears.insert(cluster.to_owned(), ear);
    }

    /// How it is from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.0.lock().weather = weather;
    }

    /// Nothing goes from `from` to `to`.
    pub fn cut(&self, from: &str, to: &str) {
        self.0.lock().cut.insert((from.to_owned(), to.to_owned()));
    }

    /// Every link is there again.
    pub fn mend(&self) {
        self.0.lock().cut.clear();
    }

    /// Whether there would be a session: the other is up, and both directions are there.
    pub fn has(&self, from: &str, to: &str) -> bool {
        let wires = self.0.lock();
        let open = |from: &str, to: &str| !wires.cut.contains(&(from.to_owned(), to.to_owned()));
        wires.ears.get(to).is_some_and(|ear| ear.is_up()) && open(from, to) && open(to, from)
    }

    /// How long a letter takes now, and how often it comes: not at all, once, or twice.
    fn fates(&self) -> Vec<Duration> {
        let mut wires = self.0.lock();
        let weather = wires.weather;
        let fate = wires.dice.u32(..1000);
        let copies = match fate {
            fate if fate < weather.lost => 0,
            fate if fate < weather.lost + weather.twice => 2,
            _ => 1,
        };
        (0..copies).map(|_| Duration::from_micros(wires.dice.u64(200..=weather.slowest * 1000))).collect()
    }

    fn open(&self, from: &str, to: &str) -> bool {
        !self.0.lock().cut.contains(&(from.to_owned(), to.to_owned()))
    }

    /// Sends a letter that has no answer.
    pub fn post(&self, from: &str, to: &str, letter: Letter) {
        self.carry(from, to, letter, Arc::default());
    }

    /// Sends a letter and waits for its answer.
    pub async fn call(&self, from: &str, to: &str, letter: Letter, limit: Duration) -> Option<Letter> {
        let (asker, answer) = oneshot::channel();
        self.carry(from, to, letter, Arc::new(Mutex::new(Some(asker))));
        within(limit, answer).await?.ok()
    }

    fn carry(&self, from: &str, to: &str, letter: Letter, asker: Arc<Mutex<Option<oneshot::Sender<Letter>>>>) {
        for wait in self.fates() {
            let (network, letter, asker) = (self.clone(), letter.clone(), Arc::clone(&asker));
            let (from, to) = (from.to_owned(), to.to_owned());
            spawn(async move {
                sleep(wait).await;
                let ear = network.0.lock().ears.get(&to).cloned();
                let Some(ear) = ear.filter(|ear| ear.is_up() && network.open(&from, &to)) else { return };
                let Some(answer) = Arc::clone(&ear).hear(from.clone(), letter).await else { return };
                // A member whose power was cut before it answered has not answered.
                if !ear.is_up() {
                    return;
                }
                let Some(back) = network.fates().first().copied() else { return };
                sleep(back).await;
                if let Some(asker) = asker.lock().take().filter(|_| network.open(&to, &from)) {
                    let _ = asker.send(answer);
                }
            });
        }
    }
}
