//! Everything that is written or said in a story is made here: records, tokens, join requests, statements, commands.

use isthmus_core::statement::{Card, Content, ImportRules, Version};
use isthmus_federation::{
    join,
    state::{Blob, Command, Deed},
    token,
};
use isthmus_wire::{
    federation::{JoinRequest, MemberRecord, SignedStatement},
    signing::FederationKey,
};
use prost::Message;

/// The mesh of every story.
pub const MESH: &str = "mesh";
/// An Ed25519 key in PKCS#8 (RFC 8410), up to its 32 bytes.
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A key that follows from a number: equal seeds must tell equal stories.
pub fn key(number: u64) -> FederationKey {
    let mut dice = fastrand::Rng::with_seed(number);
    let secret = std::iter::repeat_with(|| dice.u8(..)).take(32);
    let der: Vec<u8> = PKCS8.into_iter().chain(secret).collect();
    FederationKey::from_pkcs8(&der).expect("32 bytes are a key")
}

/// A token as it is handed to a joiner.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Its id.
    pub id: String,
    /// Whom it lets in.
    pub cluster: String,
    /// Who issued it.
    pub issuer: String,
    /// Its secret.
    pub secret: Vec<u8>,
}

/// The first member's own entry.
pub fn bootstrap(cluster: &str, key: &FederationKey) -> (Command, Blob) {
    let request =
        request(&Ticket { id: String::new(), cluster: cluster.into(), issuer: cluster.into(), secret: vec![] }, key);
    let record = MemberRecord { operator: true, ..join::entry(&request, cluster, 1) };
    let record = countersigned(record, key);
    (Command::Bootstrap { mesh: MESH.into(), record: record.clone() }, record)
}

/// A token is issued.
pub fn token(ticket: &Ticket, issuer: &FederationKey) -> Command {
    let (id, cluster) = (ticket.id.clone(), ticket.cluster.clone());
    let deed = Deed::Token { id, cluster, hash: token::hash(&ticket.secret), expires: u64::MAX };
    deed.signed(MESH, &ticket.issuer, issuer)
}

/// A joiner asks with its token.
pub fn request(ticket: &Ticket, key: &FederationKey) -> JoinRequest {
    let mut request = JoinRequest {
        mesh: MESH.into(),
        cluster: ticket.cluster.clone(),
        token_id: ticket.id.clone(),
        secret: ticket.secret.clone(),
        federation_key: key.public(),
        trust_domain: format!("{}.{MESH}", ticket.cluster),
        ..JoinRequest::default()
    };
    key.prove(&mut request);
    request
}

/// The issuer's side of a join.
pub fn join(request: &JoinRequest, issuer: &str, key: &FederationKey, raft_id: u64) -> Command {
    let record = countersigned(join::entry(request, issuer, raft_id), key);
    Command::Join { token: request.token_id.clone(), record }
}

fn countersigned(mut record: MemberRecord, key: &FederationKey) -> Blob {
    key.countersign(&mut record);
    Blob(record.encode_to_vec())
}

/// A member, known by its entry, is ejected.
pub fn eject(record: &MemberRecord, by: &str, key: &FederationKey) -> Command {
    let deed = Deed::Eject { cluster: record.cluster.clone(), key: Blob(record.federation_key.clone()) };
    deed.signed(MESH, by, key)
}

/// A cluster becomes the only operator.
pub fn operators(cluster: &str, by: &str, generation: u64, key: &FederationKey) -> Command {
    Deed::Operators { clusters: vec![cluster.into()], generation }.signed(MESH, by, key)
}

/// A statement in the name of a cluster, with whatever key.
pub fn statement(cluster: &str, content: &Content, version: Version, key: &FederationKey) -> SignedStatement {
    let mut said = SignedStatement {
        mesh: MESH.into(),
        cluster: cluster.into(),
        key: content.key(),
        epoch: version.epoch,
        number: version.number,
        content: serde_json::to_vec(content).expect("content is JSON"),
        signature: vec![],
    };
    key.sign(&mut said);
    said
}

/// Statements go into the log together.
pub fn statements(said: &[SignedStatement]) -> Command {
    Command::Statements { statements: said.iter().map(|said| Blob(said.encode_to_vec())).collect() }
}

/// One of a few keys a cluster has, with content that is new each time.
pub fn content(dice: &mut fastrand::Rng, mark: u64) -> Content {
    match dice.u8(..8) {
        0..4 => Content::Card(Card { region: format!("r{mark}"), ..Card::default() }),
        4..7 => {
            let namespaces = [(format!("n{mark}"), vec![])].into();
            Content::ImportRules(ImportRules { strict: mark.is_multiple_of(2), namespaces })
        }
        _ => Content::Gone { key: "import-rules".into() },
    }
}
