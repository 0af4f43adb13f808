//! What the log makes: a pure state machine. Commands in, answers out; equal commands make equal states everywhere.
//!
//! Nothing is believed because the leader says it: every statement, every join entry and every deed is verified here, by
//! the keys that the log itself fixed (DESIGN.md decision 9). What does not verify changes nothing. Nor is a snapshot
//! believed: it carries the signed words themselves, and reading it plays them again (`evidence`).

mod command;
mod deed;
mod evidence;
mod said;

use std::collections::{BTreeMap, BTreeSet};

use isthmus_core::{
    epoch::{self, Outcome},
    statement::Version,
};
use isthmus_wire::{
    federation::{MemberRecord, SignedStatement},
    signing,
};
use prost::Message;
use serde::{Deserialize, Serialize};

pub use self::{
    command::{Answer, Blob, Command},
    deed::Deed,
    said::{meaning, version},
};

/// A token, as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The cluster that may redeem it.
    pub cluster: String,
    /// SHA-256 of its secret.
    pub hash: Blob,
    /// Unix seconds.
    pub expires: u64,
    /// Who issued it.
    pub issuer: String,
    /// The federation key that redeemed it, once one has.
    pub redeemed_by: Option<Blob>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "evidence::Evidence", try_from = "evidence::Evidence")]
pub struct State {
    mesh: String,
    /// Every command that changed the membership, in order; what follows but for `said` is made of it.
    deeds: Vec<Command>,
    members: BTreeMap<String, MemberRecord>,
    tokens: BTreeMap<String, Token>,
    /// Keys that were put out.
    ejected: BTreeSet<Blob>,
    /// How often operators were named.
    generation: u64,
    last_id: u64,
    said: BTreeMap<String, said::Said>,
}

/// What an applied command changed, for those who look on.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A member joined, changed or was ejected.
    Member(MemberRecord),
    /// A token was issued.
    Token(String),
    /// A statement is in the log.
    Statement(SignedStatement),
}

impl State {
    /// The mesh's domain; empty before the bootstrap.
    #[must_use]
    pub fn mesh(&self) -> &str {
        &self.mesh
    }

    /// Its members, ejected ones too.
    pub fn members(&self) -> impl Iterator<Item = &MemberRecord> {
        self.members.values()
    }

    /// A member by cluster.
    #[must_use]
    pub fn member(&self, cluster: &str) -> Option<&MemberRecord> {
        self.members.get(cluster)
    }

    /// A token by id.
    #[must_use]
    pub fn token(&self, id: &str) -> Option<&Token> {
        self.tokens.get(id)
    }

    /// The Raft id the next member gets; ids are never used again.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.last_id + 1
    }

    /// The generation that the next list of operators has.
    #[must_use]
    pub fn next_generation(&self) -> u64 {
        self.generation + 1
    }

    /// Every command that changed the membership, in order.
    #[must_use]
    pub fn deeds(&self) -> &[Command] {
        &self.deeds
    }

    /// All statements in force.
    pub fn statements(&self) -> impl Iterator<Item = SignedStatement> + '_ {
        self.said.values().flat_map(said::Said::in_force).filter_map(said::decode)
    }

    /// Whether the log has a statement, or something newer of the same cluster under its key: a cluster that was
    /// reinstalled, and whose member still catches up, has said nothing here yet.
    #[must_use]
    pub fn has(&self, statement: &SignedStatement) -> bool {
        let said = self.said.get(&statement.cluster).filter(|said| said.has(statement));
        said.is_some() && self.verified(statement).is_some()
    }

    /// The highest version of anything that a cluster said, as far as the log has it.
    #[must_use]
    pub fn highest(&self, cluster: &str) -> Version {
        self.said.get(cluster).map(said::Said::highest).unwrap_or_default()
    }

    /// What a newcomer must hear: the beginning of each epoch, all that is in force, and the ends that older statements
    /// must not pass.
    pub fn all_said(&self) -> impl Iterator<Item = SignedStatement> + '_ {
        self.said.values().flat_map(said::Said::blobs).filter_map(said::decode)
    }

    /// Applies a command: what became of it, and what changed.
    pub fn apply(&mut self, command: Command) -> (Answer, Vec<Change>) {
        let applied = match &command {
            Command::Bootstrap { mesh, record } => self.bootstrap(mesh, record),
            Command::Join { token, record } => self.join(token, record),
            Command::Deed { deed } => self.done(deed),
            Command::Statements { statements } => return (Answer::Done, self.say(statements)),
        };
        match applied {
            Ok(changes) => {
                if !changes.is_empty() {
                    self.deeds.push(command);
                }
                (Answer::Done, changes)
            }
            Err(reason) => (Answer::Refused(reason), vec![]),
        }
    }

    fn bootstrap(&mut self, mesh: &str, record: &Blob) -> Result<Vec<Change>, String> {
        if !self.members.is_empty() {
            return Err(format!("the mesh {} exists already; join it with a token", self.mesh));
        }
        let record = MemberRecord { operator: true, ejected: false, ..decode(record)? };
        of_its_own_domain(&record, mesh)?;
        signing::verify_record(&record, &record.federation_key).map_err(|error| error.to_string())?;
        mesh.clone_into(&mut self.mesh);
        Ok(self.admit(record))
    }

    fn admit(&mut self, record: MemberRecord) -> Vec<Change> {
        self.last_id = self.last_id.max(record.raft_id);
        if self.member(&record.cluster).is_some_and(|old| old.federation_key != record.federation_key) {
            // A reinstalled cluster begins anew: what its old key signed must not make its new words stale.
            self.said.remove(&record.cluster);
        }
        self.members.insert(record.cluster.clone(), record.clone());
        vec![Change::Member(record)]
    }

    fn join(&mut self, id: &str, record: &Blob) -> Result<Vec<Change>, String> {
        let record = MemberRecord { operator: false, ejected: false, ..decode(record)? };
        let token = self.tokens.get(id).ok_or_else(|| format!("token {id} is not known to this mesh"))?;
        if token.cluster != record.cluster {
            return Err(format!("token {id} is for cluster {}, not for {}", token.cluster, record.cluster));
        }
        of_its_own_domain(&record, &self.mesh)?;
        if token.issuer != record.issuer {
            return Err(format!("token {id} was issued by {}, not by {}", token.issuer, record.issuer));
        }
        let issuer = self.acting(&token.issuer)?;
        signing::verify_record(&record, &issuer.federation_key).map_err(|error| error.to_string())?;
        let key = Blob(record.federation_key.clone());
        match &token.redeemed_by {
            // A lost reply must not burn the token: the same key may ask again.
            Some(by) if *by == key => return Ok(vec![]),
            Some(_) => return Err(format!("token {id} was used already; make a new one with `isthmus token create`")),
            None => {}
        }
        self.may_enter(&record, &key)?;
        if let Some(token) = self.tokens.get_mut(id) {
            token.redeemed_by = Some(key);
        }
        // Who is an operator stays one when it comes back with the key it had.
        let operator =
            self.member(&record.cluster).is_some_and(|old| old.operator && old.federation_key == record.federation_key);
        Ok(self.admit(MemberRecord { operator, ..record }))
    }

    /// Whether a record whose token is good may take the place it names.
    fn may_enter(&self, record: &MemberRecord, key: &Blob) -> Result<(), String> {
        let cluster = &record.cluster;
        if self.ejected.contains(key) {
            return Err(format!(
                "the federation key of {cluster} was ejected; give the cluster a new one, then join again"
            ));
        }
        // Else whoever issues tokens could put a key or roots of its own in another cluster's place.
        if self.member(cluster).is_some() && self.operator(&record.issuer).is_err() {
            return Err(format!(
                "{cluster} is a member's name already and {} is no operator of this mesh; take a token of one",
                record.issuer
            ));
        }
        if record.raft_id <= self.last_id {
            return Err(format!("raft id {} is taken; ask again", record.raft_id));
        }
        Ok(())
    }

    fn done(&mut self, blob: &Blob) -> Result<Vec<Change>, String> {
        let key_of = |by: &str| self.acting(by).map(|member| member.federation_key.clone());
        let (by, deed) = Deed::read(blob, &self.mesh, key_of)?;
        match deed {
            Deed::Token { id, cluster, hash, expires } => {
                self.issue(id, Token { cluster, hash, expires, issuer: by, redeemed_by: None })
            }
            Deed::Eject { cluster, key } => self.eject(&cluster, key, &by),
            Deed::Operators { clusters, generation } => self.name_operators(&clusters, generation, &by),
        }
    }

    fn issue(&mut self, id: String, token: Token) -> Result<Vec<Change>, String> {
        match self.tokens.get(&id) {
            None => {
                self.tokens.insert(id.clone(), token);
                Ok(vec![Change::Token(id)])
            }
            // Written twice because the first reply was lost.
            Some(held) if Token { redeemed_by: None, ..held.clone() } == token => Ok(vec![]),
            Some(_) => Err(format!("token {id} is another one already; make a new one")),
        }
    }

    fn say(&mut self, statements: &[Blob]) -> Vec<Change> {
        let mut changes = vec![];
        for blob in statements {
            let Some(statement) = said::decode(blob) else { continue };
            let Some(meant) = self.verified(&statement) else { continue };
            let said = self.said.entry(statement.cluster.clone()).or_default();
            if said.offer(&statement, blob, meant) == Outcome::Applied {
                changes.push(Change::Statement(statement));
            }
        }
        changes
    }

    /// What a statement does, when it is signed by the cluster it is said for and that cluster is a member.
    #[must_use]
    pub fn verified(&self, statement: &SignedStatement) -> Option<epoch::Said<()>> {
        let member = self.member(&statement.cluster).filter(|member| !member.ejected)?;
        if statement.mesh != self.mesh {
            return None;
        }
        meaning(statement, &member.federation_key)
    }

    fn eject(&mut self, cluster: &str, key: Blob, by: &str) -> Result<Vec<Change>, String> {
        self.operator(by)?;
        let held = self.member(cluster).ok_or_else(|| format!("{cluster} is no member of this mesh"))?;
        if held.federation_key != key.0 {
            return Err(format!("{cluster} has another key by now; look at `isthmus clusters`, then eject it again"));
        }
        if held.ejected {
            return Ok(vec![]);
        }
        if self.members().all(|member| member.ejected || !member.operator || member.cluster == cluster) {
            return Err(format!("{cluster} is the last operator of this mesh; name another one first"));
        }
        let record = MemberRecord { ejected: true, operator: false, ..held.clone() };
        self.said.remove(cluster);
        self.ejected.insert(key);
        Ok(self.admit(record))
    }

    fn name_operators(&mut self, clusters: &[String], generation: u64, by: &str) -> Result<Vec<Change>, String> {
        self.operator(by)?;
        let are = |member: &MemberRecord| member.operator == clusters.contains(&member.cluster);
        if generation == self.generation && self.members().all(are) {
            // Written twice because the first reply was lost.
            return Ok(vec![]);
        }
        if generation != self.next_generation() {
            return Err("operators were named by somebody else meanwhile; look at them, then name them again".into());
        }
        if let Some(unknown) = clusters.iter().find(|cluster| self.acting(cluster).is_err()) {
            return Err(format!("{unknown} is no member of this mesh"));
        }
        if clusters.is_empty() {
            return Err("a mesh without operators could never have one again; name at least one".into());
        }
        self.generation = generation;
        let records: Vec<_> = self.members().cloned().collect();
        let named = |record: MemberRecord| MemberRecord { operator: clusters.contains(&record.cluster), ..record };
        Ok(records.into_iter().flat_map(|record| self.admit(named(record))).collect())
    }

    fn acting(&self, cluster: &str) -> Result<&MemberRecord, String> {
        let member = self.member(cluster).filter(|member| !member.ejected);
        member.ok_or_else(|| format!("{cluster} is no member of this mesh, or was ejected"))
    }

    fn operator(&self, by: &str) -> Result<(), String> {
        match self.acting(by) {
            Ok(record) if record.operator => Ok(()),
            _ => Err(format!("{by} is no operator of this mesh; ask one, or have it made one")),
        }
    }
}

fn decode(record: &Blob) -> Result<MemberRecord, String> {
    MemberRecord::decode(record.0.as_slice()).map_err(|error| format!("a malformed join entry: {error}"))
}

fn of_its_own_domain(record: &MemberRecord, mesh: &str) -> Result<(), String> {
    if record.trust_domain == format!("{}.{mesh}", record.cluster) {
        return Ok(());
    }
    Err(format!("{} is not the trust domain of cluster {}", record.trust_domain, record.cluster))
}
