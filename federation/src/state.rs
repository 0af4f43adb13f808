//! What the log makes: a pure state machine. Commands in, answers out; equal commands make equal states everywhere.
//!
//! Nothing is believed because the leader says it: every statement and every join entry is verified here, by the key
//! that the log itself fixed (DESIGN.md decision 9). What does not verify changes nothing.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_core::{
    epoch::{Book, Outcome, Said},
    statement::{Content, Version},
};
use isthmus_wire::{
    federation::{MemberRecord, SignedStatement},
    signing,
};
use prost::Message;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that are base64 in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// What may be written. A kind this build does not know stops apply: it is never skipped (DESIGN.md decision 6).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "camelCase", deny_unknown_fields)]
pub enum Command {
    /// The first member; only in an empty log.
    Bootstrap {
        /// The mesh's domain.
        mesh: String,
        /// A `MemberRecord`, countersigned by itself.
        record: Blob,
    },
    /// A token was issued.
    Token {
        /// Its id.
        id: String,
        /// The cluster that may redeem it.
        cluster: String,
        /// SHA-256 of its secret.
        hash: Blob,
        /// Unix seconds.
        expires: u64,
        /// Who issued it.
        issuer: String,
    },
    /// A token was redeemed.
    Join {
        /// Its id.
        token: String,
        /// A `MemberRecord`, countersigned by the issuer.
        record: Blob,
    },
    /// Statements, as `SignedStatement`s.
    Statements {
        /// Each encoded.
        statements: Vec<Blob>,
    },
    /// A member is out.
    Eject {
        /// Which.
        cluster: String,
        /// Whose operator says so.
        by: String,
    },
    /// Who may bind other clusters by policies and verbs (DESIGN.md decision 10).
    Operators {
        /// All of them.
        clusters: Vec<String>,
        /// Who says so.
        by: String,
    },
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bootstrap { mesh, .. } => write!(f, "bootstrap {mesh}"),
            Self::Token { cluster, .. } => write!(f, "token for {cluster}"),
            Self::Join { token, .. } => write!(f, "join by token {token}"),
            Self::Statements { statements } => write!(f, "{} statements", statements.len()),
            Self::Eject { cluster, .. } => write!(f, "eject {cluster}"),
            Self::Operators { clusters, .. } => write!(f, "operators {clusters:?}"),
        }
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// It is so now.
    Done,
    /// It changes nothing, with the reason.
    Refused(String),
}

/// A token, as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
pub struct State {
    mesh: String,
    /// `MemberRecord`s by cluster.
    members: BTreeMap<String, Blob>,
    tokens: BTreeMap<String, Token>,
    /// `SignedStatement`s by cluster and key.
    books: BTreeMap<String, Book<Blob>>,
    last_id: u64,
}

/// What an applied command changed, for those who look on.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A member joined, changed or was ejected.
    Member(MemberRecord),
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
    pub fn members(&self) -> impl Iterator<Item = MemberRecord> + '_ {
        self.members.values().filter_map(|blob| MemberRecord::decode(blob.0.as_slice()).ok())
    }

    /// A member by cluster.
    #[must_use]
    pub fn member(&self, cluster: &str) -> Option<MemberRecord> {
        MemberRecord::decode(self.members.get(cluster)?.0.as_slice()).ok()
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

    /// All statements in force.
    pub fn statements(&self) -> impl Iterator<Item = SignedStatement> + '_ {
        let of = |book: &'_ Book<Blob>| -> Vec<SignedStatement> {
            book.iter().filter_map(|(_, _, blob)| SignedStatement::decode(blob.0.as_slice()).ok()).collect()
        };
        self.books.values().flat_map(of)
    }

    /// Applies a command: what became of it, and what changed.
    pub fn apply(&mut self, command: Command) -> (Answer, Vec<Change>) {
        let applied = match command {
            Command::Bootstrap { mesh, record } => self.bootstrap(mesh, &record),
            Command::Token { id, cluster, hash, expires, issuer } => {
                self.token_issued(id, Token { cluster, hash, expires, issuer, redeemed_by: None })
            }
            Command::Join { token, record } => self.join(&token, &record),
            Command::Statements { statements } => Ok(self.say(&statements)),
            Command::Eject { cluster, by } => self.eject(&cluster, &by),
            Command::Operators { clusters, by } => self.operators(&clusters, &by),
        };
        match applied {
            Ok(changes) => (Answer::Done, changes),
            Err(reason) => (Answer::Refused(reason), vec![]),
        }
    }

    fn bootstrap(&mut self, mesh: String, record: &Blob) -> Result<Vec<Change>, String> {
        if !self.members.is_empty() {
            return Err(format!("the mesh {} exists already; join it with a token", self.mesh));
        }
        let record = decode(record)?;
        signing::verify_record(&record, &record.federation_key).map_err(|error| error.to_string())?;
        self.mesh = mesh;
        Ok(self.admit(record))
    }

    fn admit(&mut self, record: MemberRecord) -> Vec<Change> {
        self.last_id = self.last_id.max(record.raft_id);
        if self.member(&record.cluster).is_some_and(|old| old.federation_key != record.federation_key) {
            // A reinstalled cluster begins anew: what its old key signed must not make its new words stale.
            self.books.remove(&record.cluster);
        }
        self.members.insert(record.cluster.clone(), Blob(record.encode_to_vec()));
        vec![Change::Member(record)]
    }

    /// A write that found no answer is proposed again, and anyone can write what it read: a token that is known stays
    /// as it is, or it would be unused again.
    fn token_issued(&mut self, id: String, token: Token) -> Result<Vec<Change>, String> {
        match self.tokens.get(&id) {
            Some(known) if Token { redeemed_by: None, ..known.clone() } == token => {}
            Some(_) => return Err(format!("token {id} is another one already; make a new one")),
            None => drop(self.tokens.insert(id, token)),
        }
        Ok(vec![])
    }

    fn join(&mut self, id: &str, record: &Blob) -> Result<Vec<Change>, String> {
        let mut record = decode(record)?;
        let token = self.tokens.get(id).ok_or_else(|| format!("token {id} is not known to this mesh"))?;
        if token.cluster != record.cluster {
            return Err(format!("token {id} is for cluster {}, not for {}", token.cluster, record.cluster));
        }
        if record.trust_domain != format!("{}.{}", record.cluster, self.mesh) {
            return Err(format!("{} is not the trust domain of cluster {}", record.trust_domain, record.cluster));
        }
        if token.issuer != record.issuer {
            return Err(format!("token {id} was issued by {}, not by {}", token.issuer, record.issuer));
        }
        let issuer = self.member(&token.issuer).filter(|issuer| !issuer.ejected);
        let issuer = issuer.ok_or_else(|| format!("{}, which issued the token, is no member", token.issuer))?;
        signing::verify_record(&record, &issuer.federation_key).map_err(|error| error.to_string())?;
        let key = Blob(record.federation_key.clone());
        match &token.redeemed_by {
            // A lost reply must not burn the token: the same key may ask again.
            Some(by) if *by == key => return Ok(vec![]),
            Some(_) => return Err(format!("token {id} was used already; make a new one with `isthmus token create`")),
            None => {}
        }
        let known = self.member(&record.cluster);
        // By a token and a countersignature of its own any member could otherwise take another's name, put its own roots
        // in the place of the other's, or undo an ejection.
        if known.is_some() && !issuer.operator {
            return Err(format!("{} is a member already; only an operator's token lets it in anew", record.cluster));
        }
        // The countersignature does not cover these, and they are not the joiner's to say.
        (record.operator, record.ejected) = (known.is_some_and(|known| known.operator), false);
        if record.raft_id <= self.last_id {
            return Err(format!("raft id {} is taken; ask again", record.raft_id));
        }
        if let Some(token) = self.tokens.get_mut(id) {
            token.redeemed_by = Some(key);
        }
        Ok(self.admit(record))
    }

    fn say(&mut self, statements: &[Blob]) -> Vec<Change> {
        let mut changes = vec![];
        for blob in statements {
            let Ok(statement) = SignedStatement::decode(blob.0.as_slice()) else { continue };
            let Some(said) = self.verified(&statement) else { continue };
            let book = self.books.entry(statement.cluster.clone()).or_default();
            let said = match said {
                Said::Value(()) => Said::Value(blob.clone()),
                Said::Gone => Said::Gone,
                Said::Epoch(keys) => Said::Epoch(keys),
            };
            if book.offer(&statement.key, version(&statement), said) == Outcome::Applied {
                changes.push(Change::Statement(statement));
            }
        }
        changes
    }

    /// What a statement does, when it is signed by the cluster it is said for and that cluster is a member.
    #[must_use]
    pub fn verified(&self, statement: &SignedStatement) -> Option<Said<()>> {
        let member = self.member(&statement.cluster).filter(|member| !member.ejected)?;
        if statement.mesh != self.mesh {
            return None;
        }
        meaning(statement, &member.federation_key)
    }

    fn eject(&mut self, cluster: &str, by: &str) -> Result<Vec<Change>, String> {
        self.operator(by)?;
        let mut record = self.member(cluster).ok_or_else(|| format!("{cluster} is no member of this mesh"))?;
        record.ejected = true;
        self.books.remove(cluster);
        Ok(self.admit(record))
    }

    fn operators(&mut self, clusters: &[String], by: &str) -> Result<Vec<Change>, String> {
        self.operator(by)?;
        if let Some(unknown) = clusters.iter().find(|cluster| !self.members.contains_key(*cluster)) {
            return Err(format!("{unknown} is no member of this mesh"));
        }
        if clusters.is_empty() {
            return Err("a mesh without operators could never have one again; name at least one".into());
        }
        let records: Vec<_> = self.members().collect();
        let mut changes = vec![];
        for mut record in records {
            record.operator = clusters.contains(&record.cluster);
            changes.extend(self.admit(record));
        }
        Ok(changes)
    }

    fn operator(&self, by: &str) -> Result<(), String> {
        match self.member(by) {
            Some(record) if record.operator && !record.ejected => Ok(()),
            _ => Err(format!("{by} is no operator of this mesh; ask one, or have it made one")),
        }
    }
}

fn decode(record: &Blob) -> Result<MemberRecord, String> {
    MemberRecord::decode(record.0.as_slice()).map_err(|error| format!("a malformed join entry: {error}"))
}

/// A statement's version.
#[must_use]
pub fn version(statement: &SignedStatement) -> Version {
    Version { epoch: statement.epoch, number: statement.number }
}

/// What a statement does with its key; `None`: it is forged, or its content is not under its own key.
#[must_use]
pub fn meaning(statement: &SignedStatement, key: &[u8]) -> Option<Said<()>> {
    signing::verify_statement(statement, key).ok()?;
    let content: Content = serde_json::from_slice(&statement.content).ok()?;
    if content.key() != statement.key {
        return None;
    }
    Some(match content {
        Content::Epoch { keys } => Said::Epoch(keys),
        Content::Gone { .. } => Said::Gone,
        _ => Said::Value(()),
    })
}
