//! The proxies and gateways on the feed: what each was sent, has taken, has refused. Kept for people, not for the feed.
//!
//! A client that left is shown as not connected until [`SHOWN_FOR`] passed, so that whoever looks finds it missing
//! instead of not finding it.

use std::collections::BTreeMap;

use isthmus_core::name::SpiffeId;
use serde::Serialize;

/// How long a client that left is still shown, milliseconds.
pub const SHOWN_FOR: u64 = 600_000;

/// What the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// A sidecar.
    Proxy,
    /// A gateway.
    Gateway,
}

/// A client of the feed.
#[derive(Clone, Debug, Serialize)]
pub struct Client {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Who it proved to be.
    pub identity: SpiffeId,
    /// Whether its stream is open.
    pub connected: bool,
    /// The table's version it was sent last.
    pub sent: u64,
    /// The table's version it has taken last, refusals aside.
    pub acked: u64,
    /// What it refuses now, by key.
    pub refusals: BTreeMap<String, String>,
    /// Why its registration is refused, if it is.
    pub registration_refused: Option<String>,
    /// Its zone, once it registered.
    pub zone: String,
    #[serde(skip)]
    stream: u64,
    #[serde(skip)]
    left_at: u64,
    /// Table version and keys of messages not answered, by nonce.
    #[serde(skip)]
    waiting: BTreeMap<u64, (u64, Vec<String>)>,
}

impl Client {
    /// Messages that it has not answered: nonce, table version, keys.
    pub fn waiting(&self) -> impl Iterator<Item = (u64, u64, &[String])> {
        self.waiting.iter().map(|(nonce, (version, keys))| (*nonce, *version, keys.as_slice()))
    }
}

/// All clients, by role, namespace and name.
#[derive(Debug, Default)]
pub struct Clients {
    by_name: BTreeMap<(Role, String, String), Client>,
}

impl Clients {
    /// A stream said hello.
    pub fn opened(&mut self, stream: u64, role: Role, name: &str, identity: SpiffeId) {
        let key = (role, identity.namespace().to_owned(), name.to_owned());
        let refused = self.by_name.get(&key).and_then(|old| old.registration_refused.clone());
        let client = Client {
            name: name.to_owned(),
            role,
            identity,
            connected: true,
            sent: 0,
            acked: 0,
            refusals: BTreeMap::new(),
            registration_refused: refused,
            zone: String::new(),
            stream,
            left_at: 0,
            waiting: BTreeMap::new(),
        };
        self.by_name.insert(key, client);
    }

    /// A message went out.
    pub fn sent(&mut self, stream: u64, nonce: u64, version: u64, keys: Vec<String>) {
        if let Some(client) = self.of(stream) {
            client.sent = version;
            client.waiting.insert(nonce, (version, keys));
        }
    }

    /// A message was answered; `refusals` is empty when all of it is in force.
    pub fn answered(&mut self, stream: u64, nonce: u64, refusals: Vec<(String, String)>) {
        let Some(client) = self.of(stream) else { return };
        let Some((version, keys)) = client.waiting.remove(&nonce) else { return };
        client.waiting.retain(|older, _| *older > nonce);
        client.acked = client.acked.max(version);
        keys.iter().for_each(|key| {
            client.refusals.remove(key);
        });
        client.refusals.extend(refusals);
    }

    /// A registration was taken, or refused for a reason.
    pub fn registered(&mut self, stream: u64, zone: &str, refused: Option<String>) {
        if let Some(client) = self.of(stream) {
            zone.clone_into(&mut client.zone);
            client.registration_refused = refused;
        }
    }

    /// A stream ended.
    pub fn closed(&mut self, stream: u64, now: u64) {
        if let Some(client) = self.of(stream) {
            client.connected = false;
            client.left_at = now;
            client.waiting.clear();
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: u64) {
        self.by_name.retain(|_, client| client.connected || now.saturating_sub(client.left_at) < SHOWN_FOR);
    }

    /// Forgets a stream that ended, at once.
    pub fn forget(&mut self, stream: u64) {
        self.by_name.retain(|_, client| client.stream != stream);
    }

    /// Those whose streams are open, with their streams.
    pub fn open(&self) -> impl Iterator<Item = (u64, &Client)> {
        self.by_name.values().filter(|client| client.connected).map(|client| (client.stream, client))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.by_name.values()
    }

    /// The client of a stream.
    pub fn of(&mut self, stream: u64) -> Option<&mut Client> {
        self.by_name.values_mut().find(|client| client.stream == stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_shown_until_the_key_is_taken() {
        let mut clients = Clients::default();
        let id: SpiffeId = "spiffe://east.mesh.test/ns/shop/sa/a".parse().unwrap();
        clients.opened(1, Role::Proxy, "a-1", id.clone());
        clients.sent(1, 1, 10, vec!["mesh".into(), "service/shop/a".into()]);
        clients.answered(1, 1, vec![("service/shop/a".into(), "no".into())]);
        assert_eq!(clients.iter().next().unwrap().refusals.len(), 1);
        assert_eq!(clients.iter().next().unwrap().acked, 10);
        clients.sent(1, 2, 11, vec!["service/shop/a".into()]);
        clients.answered(1, 2, vec![]);
        assert!(clients.iter().next().unwrap().refusals.is_empty());
        clients.opened(2, Role::Proxy, "a-1", id);
        clients.closed(1, 5);
        clients.tick(SHOWN_FOR * 2);
        assert!(clients.iter().next().unwrap().connected, "the newer stream holds the name");
    }
}
