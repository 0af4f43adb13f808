//! The witness of a story: every part tells it what happens, it asks the invariants, and keeps the story as lines.

use std::{fmt, sync::Arc};

use isthmus_federation::state::{Command, State};
use isthmus_wire::federation::{SignedStatement, Snapshot, WatchEvent, watch_event::Event};
use parking_lot::Mutex;

use crate::{invariants::all, types::now};

/// How a member stands when the story is over.
pub struct Standing {
    /// Its cluster.
    pub cluster: String,
    /// What it applied, and how far.
    pub state: State,
    /// The last log index it applied.
    pub applied: u64,
    /// What its view holds.
    pub view: Snapshot,
    /// What its watcher made of the events it got.
    pub watched: Snapshot,
}

/// What happens.
pub enum Seen<'a> {
    /// A member acts as the leader of a term.
    Leads { cluster: &'a str, term: u64 },
    /// A member applied an entry; its state is this now.
    Applied { cluster: &'a str, index: u64, term: u64, command: Option<&'a Command>, state: &'a State },
    /// A member took a snapshot in place of what it had.
    Installed { cluster: &'a str, index: u64, state: &'a State },
    /// A writer was told that its command is in the log, and where.
    Acknowledged { index: u64, command: &'a Command },
    /// A watcher got an event.
    Watched { cluster: &'a str, event: &'a WatchEvent },
    /// A cluster really says this.
    Signed(&'a SignedStatement),
    /// A cluster was really given this key by who runs it.
    Keyed { cluster: &'a str, key: &'a [u8] },
    /// A joiner was told that it is in.
    Joined { token: &'a str, key: &'a [u8] },
    /// An operator really ejects a cluster.
    Ejects { cluster: &'a str },
    /// The story is over: everything is mended, and this is what each cluster says last.
    Over { members: &'a [Standing], said: &'a [SignedStatement] },
    /// Something went wrong that no invariant knows.
    Failed(&'a str),
}

/// What must always hold.
pub trait Invariant: Send {
    /// Its file's name.
    fn name(&self) -> &'static str;
    /// Looks at what happens; the reason when it does not hold.
    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String>;
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// How it shows.
    pub reason: String,
}

struct Inner {
    invariants: Vec<Box<dyn Invariant>>,
    lines: Vec<String>,
    violation: Option<Violation>,
}

/// The witness. Clones share it.
#[derive(Clone)]
pub struct Witness(Arc<Mutex<Inner>>);

impl Default for Witness {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner { invariants: all(), lines: vec![], violation: None })))
    }
}

impl Witness {
    /// Something happens.
    pub fn tell(&self, seen: &Seen<'_>) {
        self.note(&seen.to_string());
        let mut inner = self.0.lock();
        if inner.violation.is_some() {
            return;
        }
        let mut first = match seen {
            Seen::Failed(reason) => Some(Violation { invariant: "story", reason: (*reason).to_owned() }),
            _ => None,
        };
        for invariant in &mut inner.invariants {
            let checked = invariant.see(seen);
            first = first.or_else(|| Some(Violation { invariant: invariant.name(), reason: checked.err()? }));
        }
        inner.violation = first;
    }

    /// A line of the story that no invariant needs.
    pub fn note(&self, line: &str) {
        let line = format!("{:>9.3} {line}", now().as_secs_f64());
        self.0.lock().lines.push(line);
    }

    /// What did not hold, if anything.
    pub fn violation(&self) -> Option<Violation> {
        self.0.lock().violation.clone()
    }

    /// The story so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().lines.clone()
    }
}

/// The first bytes of a key, a digest, an id.
pub fn short(bytes: &[u8]) -> String {
    bytes.iter().take(3).map(|byte| format!("{byte:02x}")).collect()
}

fn said(statement: &SignedStatement) -> String {
    let SignedStatement { cluster, key, epoch, number, content, .. } = statement;
    format!("{cluster}/{key} {epoch}.{number} {}", String::from_utf8_lossy(content))
}

fn event(event: &WatchEvent) -> String {
    match &event.event {
        Some(Event::Snapshot(all)) => {
            format!("snapshot of {} members, {} statements", all.members.len(), all.statements.len())
        }
        Some(Event::Statement(statement)) => said(statement),
        Some(Event::Member(record)) => {
            format!("member {} {} ejected={}", record.cluster, short(&record.federation_key), record.ejected)
        }
        other => format!("{other:?}"),
    }
}

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leads { cluster, term } => write!(f, "{cluster} leads term {term}"),
            Self::Applied { cluster, index, term, command: Some(command), .. } => {
                write!(f, "{cluster} applied {index} of term {term}: {command}")
            }
            Self::Applied { cluster, index, term, .. } => write!(f, "{cluster} applied {index} of term {term}"),
            Self::Installed { cluster, index, .. } => write!(f, "{cluster} took a snapshot up to {index}"),
            Self::Acknowledged { index, command } => write!(f, "written at {index}: {command}"),
            Self::Watched { cluster, event: got } => write!(f, "{cluster} watched {}: {}", got.revision, event(got)),
            Self::Signed(statement) => write!(f, "says {}", said(statement)),
            Self::Keyed { cluster, key } => write!(f, "{cluster} has key {}", short(key)),
            Self::Joined { token, key } => write!(f, "key {} joined by token {token}", short(key)),
            Self::Ejects { cluster } => write!(f, "{cluster} is ejected"),
            Self::Over { members, .. } => write!(f, "over, with {} members", members.len()),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}
