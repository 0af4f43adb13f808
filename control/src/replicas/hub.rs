//! What the own clients said: how they stand, for a replica that begins to follow, and everything new, for those that do.

use std::collections::BTreeMap;

use isthmus_wire::replicas::{self as wire, Told, told::Told as What};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::broadcast;

use crate::{
    clients::{Client, Clients, Role},
    handle::Message,
    registry::Registered,
};

/// What a follower may be behind before it has to begin anew.
const BEHIND: usize = 4096;

/// The own clients, as others are told of them.
pub struct Hub {
    held: Mutex<Held>,
    told: broadcast::Sender<Told>,
}

#[derive(Default)]
struct Held {
    clients: Clients,
    registered: BTreeMap<u64, wire::Registered>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { held: Mutex::default(), told: broadcast::channel(BEHIND).0 }
    }
}

impl Hub {
    /// One of the own clients said something, or this replica spoke for the cluster.
    pub fn hear(&self, message: &Message) {
        let mut held = self.held.lock();
        // Nothing is kept of these, and nobody follows a control that is alone.
        if matches!(message, Message::Report { .. } | Message::OwnLease(_)) && self.told.receiver_count() == 0 {
            return;
        }
        let what = match message {
            Message::Opened { stream, role, name, identity } => {
                held.clients.opened(*stream, *role, name, identity.clone());
                opened(*stream, *role, name, identity.to_string())
            }
            Message::Sent { stream, nonce, version, keys } => {
                held.clients.sent(*stream, *nonce, *version, keys.clone());
                What::Sent(wire::Sent { stream: *stream, nonce: *nonce, version: *version, keys: keys.clone() })
            }
            Message::Answered { stream, nonce, refusals } => {
                held.clients.answered(*stream, *nonce, refusals.clone());
                What::Answered(answered(*stream, *nonce, refusals.iter().cloned()))
            }
            Message::RegistrationRefused { stream, reason } => {
                let refused = wire::Registered { stream: *stream, json: vec![], refused: reason.clone() };
                held.registered.insert(*stream, refused.clone());
                What::Registered(refused)
            }
            Message::Report { stream, report, .. } => {
                What::Reported(wire::Reported { stream: *stream, report: report.encode_to_vec() })
            }
            Message::Closed { stream } => {
                held.clients.forget(*stream);
                held.registered.remove(stream);
                What::Closed(wire::Closed { stream: *stream })
            }
            Message::OwnLease(lease) => What::Lease(lease.encode_to_vec()),
            _ => return,
        };
        self.tell(what);
    }

    /// The registration of an own client was taken, or refused for a reason.
    pub fn registered(&self, stream: u64, registered: &Registered, refused: Option<&str>) {
        let json = serde_json::to_vec(registered).unwrap_or_default();
        let said = wire::Registered { stream, json, refused: refused.unwrap_or_default().to_owned() };
        let mut held = self.held.lock();
        held.registered.insert(stream, said.clone());
        self.tell(What::Registered(said));
    }

    /// How the own clients stand, and everything new from then on.
    pub fn follow(&self) -> (Vec<Told>, broadcast::Receiver<Told>) {
        let held = self.held.lock();
        let mut standing = vec![];
        for (stream, client) in held.clients.open() {
            standing.extend(standing_of(stream, client));
            standing.extend(held.registered.get(&stream).cloned().map(What::Registered));
        }
        (standing.into_iter().map(told).collect(), self.told.subscribe())
    }

    /// Under the lock, so that who begins to follow misses nothing and hears nothing twice.
    fn tell(&self, what: What) {
        // Nobody follows: that is no error.
        let _ = self.told.send(told(what));
    }
}

/// It as others read it.
pub(super) fn told(what: What) -> Told {
    Told { told: Some(what) }
}

fn opened(stream: u64, role: Role, name: &str, identity: String) -> What {
    What::Opened(wire::Opened { stream, is_gateway: role == Role::Gateway, name: name.to_owned(), identity })
}

fn answered(stream: u64, nonce: u64, refusals: impl Iterator<Item = (String, String)>) -> wire::Answered {
    wire::Answered { stream, nonce, refusals: refusals.collect() }
}

/// What a client was sent and took, as if it had been one message; and those it has not answered.
fn standing_of(stream: u64, client: &Client) -> Vec<What> {
    let mut all = vec![opened(stream, client.role, &client.name, client.identity.to_string())];
    if client.acked > 0 {
        let keys = client.refusals.keys().cloned().collect();
        all.push(What::Sent(wire::Sent { stream, nonce: 0, version: client.acked, keys }));
        all.push(What::Answered(answered(stream, 0, client.refusals.clone().into_iter())));
    }
    let waiting = client
        .waiting()
        .map(|(nonce, version, keys)| What::Sent(wire::Sent { stream, nonce, version, keys: keys.to_vec() }));
    all.extend(waiting);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(stream: u64, name: &str) -> Message {
        let identity = "spiffe://east.mesh.test/ns/shop/sa/a".parse().unwrap();
        Message::Opened { stream, role: Role::Proxy, name: name.into(), identity }
    }

    fn words(told: &[Told]) -> Vec<&'static str> {
        let word = |told: &Told| match told.told.as_ref().unwrap() {
            What::Opened(_) => "opened",
            What::Sent(_) => "sent",
            What::Answered(_) => "answered",
            What::Registered(_) => "registered",
            What::Reported(_) => "reported",
            What::Closed(_) => "closed",
            _ => "other",
        };
        told.iter().map(word).collect()
    }

    #[test]
    fn who_begins_to_follow_hears_how_clients_stand_and_then_what_is_new() {
        let hub = Hub::default();
        hub.hear(&open(1, "a-1"));
        hub.hear(&open(2, "a-2"));
        hub.hear(&Message::Sent { stream: 2, nonce: 1, version: 7, keys: vec!["mesh".into(), "trust".into()] });
        hub.hear(&Message::Answered { stream: 2, nonce: 1, refusals: vec![("mesh".into(), "no".into())] });
        hub.hear(&Message::Sent { stream: 2, nonce: 2, version: 9, keys: vec!["mesh".into()] });
        hub.hear(&Message::RegistrationRefused { stream: 2, reason: "no".into() });
        hub.hear(&Message::Closed { stream: 1 });
        let (standing, mut news) = hub.follow();
        assert_eq!(words(&standing), ["opened", "sent", "answered", "sent", "registered"]);
        let Some(What::Answered(answered)) = &standing[2].told else { panic!("{standing:?}") };
        assert_eq!(answered.refusals["mesh"], "no");
        hub.hear(&Message::Closed { stream: 2 });
        assert_eq!(words(&[news.try_recv().unwrap()]), ["closed"]);
        assert!(hub.follow().0.is_empty());
    }
}
