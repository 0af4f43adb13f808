//! Tokens made, redeemed, and the join on both sides (DESIGN.md decision 15).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use isthmus_core::name::TrustDomain;
use isthmus_runtime::{
    enrolment::system_identity,
    grpc,
    tls::{self, Accept},
    trust::{self, TrustRoots},
};
use isthmus_wire::{
    federation::{JoinRequest, JoinResponse, MemberRecord, member_client::MemberClient},
    signing,
};
use prost::Message;
use rustls_pki_types::CertificateDer;

use crate::{
    config::ALPN,
    error::Refusal,
    member::{Itself, Member},
    state::{Blob, Command, Deed, State},
    token::{self, Token},
};

const NEW_TOKEN: &str = "make a new one with `isthmus token create` where the mesh is";
/// Redeeming takes a write, and the issuer may be starting.
const JOIN_LIMIT: Duration = Duration::from_secs(8);

fn unix() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Issues a token for a cluster.
///
/// # Errors
/// When this member is of no mesh, nobody reaches it, the name is none, or there is no quorum.
pub async fn issue(member: &Member, cluster: &str, ttl: Duration) -> Result<String, Refusal> {
    if !member.is_joined() {
        return Err(Refusal::of_no_mesh());
    }
    let name = cluster.parse::<isthmus_core::name::ClusterName>();
    name.map_err(|error| Refusal::new(error.to_string(), "choose another name"))?;
    if cluster == member.cluster() {
        return Err(Refusal::new(
            format!("{cluster} is the cluster that would issue the token"),
            "name the one to join",
        ));
    }
    let issuer = member.cluster().to_owned();
    let own = member.own_record(&issuer, 0);
    if own.addresses.is_empty() {
        let error = format!("nobody reaches {issuer} from outside, so nobody could redeem its token");
        return Err(Refusal::new(
            error,
            "make it in a cluster whose gateways others reach, or expose the gateways here",
        ));
    }
    let (id, secret) = (hex(&token::random(8)?), token::random(32)?);
    let expires = unix() + ttl.as_secs();
    let hash = token::hash(&secret);
    member.act(Deed::Token { id: id.clone(), cluster: cluster.to_owned(), hash, expires }).await?;
    let token = Token {
        mesh: member.mesh(),
        cluster: cluster.to_owned(),
        id,
        secret: Blob(secret),
        addresses: own.addresses,
        roots: own.roots.into_iter().map(Blob).collect(),
        trust_domain: own.trust_domain,
        issuer,
        expires,
    };
    Ok(token.text())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lets a joiner in: the issuer's side.
///
/// # Errors
/// One message each for a token that is unknown, for another cluster, expired, used, or with a wrong secret.
pub async fn admit(member: &Arc<Member>, request: JoinRequest) -> Result<JoinResponse, Refusal> {
    let machine = member.machine().ok_or_else(|| Refusal::new("this member is of no mesh yet", "wait until it is"))?;
    machine.look(|state| check(state, member.cluster(), &member.mesh(), &request, unix()))?;
    enter(member, request).await
}

/// Whether the issuer lets a joiner in: what is checked before anything is written. `now` in Unix seconds.
///
/// # Errors
/// One message each for a token that is unknown, for another cluster, expired, or with a wrong secret.
pub fn check(state: &State, own: &str, mesh: &str, request: &JoinRequest, now: u64) -> Result<(), Refusal> {
    if request.mesh != mesh {
        let error = format!("the token is of mesh {:?}, this is a member of {:?}", request.mesh, mesh);
        return Err(Refusal::new(error, "use the mesh's own token"));
    }
    let known = state.token(&request.token_id);
    let known = known
        .ok_or_else(|| Refusal::new(format!("token {} is not known to this mesh", request.token_id), NEW_TOKEN))?;
    if known.cluster != request.cluster {
        let error = format!("the token is for cluster {}, not for {}", known.cluster, request.cluster);
        return Err(Refusal::new(error, NEW_TOKEN));
    }
    if known.issuer != own {
        let error = format!("the token was issued by {}, not by {}", known.issuer, own);
        return Err(Refusal::new(error, "ask the cluster that issued it"));
    }
    if known.hash != token::hash(&request.secret) {
        return Err(Refusal::new("the token's secret is wrong", NEW_TOKEN));
    }
    signing::verify_join(request)
        .map_err(|error| Refusal::new(error.to_string(), "the joiner must hold the federation key it names"))?;
    if known.expires < now {
        return Err(Refusal::new("the token has expired", NEW_TOKEN));
    }
    if request.trust_domain != format!("{}.{mesh}", request.cluster) || request.cluster == own {
        let error = format!("{} is not the trust domain of cluster {}", request.trust_domain, request.cluster);
        return Err(Refusal::new(error, "set the joiner's mesh domain to the mesh's"));
    }
    match state.members().find(|member| shares_a_key(member, request)) {
        None => Ok(()),
        Some(member) => {
            let (name, cluster) = (&request.cluster, &member.cluster);
            let error = format!(
                "{name} signs with the same certificate authority as {cluster}, so each could name the other's workloads"
            );
            let remedy = "give each cluster an intermediate of its own (Secret cacerts); they may have one root";
            Err(Refusal::new(error, remedy))
        }
    }
}

/// Whether another cluster that is a member signs with a key of the joiner's.
fn shares_a_key(member: &MemberRecord, request: &JoinRequest) -> bool {
    let der = |root: &Vec<u8>| CertificateDer::from(root.clone());
    let theirs: Vec<_> = member.roots.iter().map(der).collect();
    let is_shared = |root: &Vec<u8>| theirs.iter().any(|other| trust::same_key(&der(root), other));
    member.cluster != request.cluster && !member.ejected && request.roots.iter().any(is_shared)
}

/// The join entry a request asks for, to be countersigned by the issuer.
#[must_use]
pub fn entry(request: &JoinRequest, issuer: &str, raft_id: u64) -> MemberRecord {
    MemberRecord {
        cluster: request.cluster.clone(),
        federation_key: request.federation_key.clone(),
        roots: request.roots.clone(),
        addresses: request.addresses.clone(),
        raft_id,
        issuer: issuer.to_owned(),
        trust_domain: request.trust_domain.clone(),
        ..MemberRecord::default()
    }
}

async fn enter(member: &Arc<Member>, request: JoinRequest) -> Result<JoinResponse, Refusal> {
    let machine = member.machine().ok_or_else(|| Refusal::new("this member is of no mesh yet", "wait until it is"))?;
    let mut record = entry(&request, member.cluster(), machine.look(State::next_id));
    member.key.countersign(&mut record);
    let record = Blob(record.encode_to_vec());
    member.write(Command::Join { token: request.token_id.clone(), record }).await?;
    // The write is in our own log by now or soon.
    for _ in 0..200 {
        if let Some(response) = machine.look(|state| admitted(state, &request)) {
            return Ok(response);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(Refusal::new("the join is written but not seen here yet", "run `isthmus join` with the same token again"))
}

/// What a joiner learns of the mesh, once its token is redeemed by its key: the same that asks again is the member it
/// became the first time.
#[must_use]
pub fn admitted(state: &State, request: &JoinRequest) -> Option<JoinResponse> {
    let by = state.token(&request.token_id)?.redeemed_by.as_ref()?;
    let held =
        state.member(&request.cluster).filter(|held| by.0 == request.federation_key && held.federation_key == by.0)?;
    let deeds = state.deeds().iter().map(|deed| serde_json::to_vec(deed).unwrap_or_default()).collect();
    Some(JoinResponse { raft_id: held.raft_id, members: state.members().cloned().collect(), deeds })
}

/// The membership's history, as a joiner was told it.
///
/// # Errors
/// When it was told in words that this build does not know.
pub fn told_deeds(response: &JoinResponse) -> Result<Vec<Command>, serde_json::Error> {
    response.deeds.iter().map(|deed| serde_json::from_slice(deed)).collect()
}

/// Redeems a token: the joiner's side.
///
/// # Errors
/// When the token is malformed, expired, for another cluster or mesh, or whoever answers refuses it.
pub async fn redeem(member: &Arc<Member>, text: &str) -> Result<(), Refusal> {
    let token = Token::parse(text)?;
    if member.is_joined() {
        let error = format!("this member is of mesh {} already", member.mesh());
        return Err(Refusal::new(error, "to join another one, move its state directory away"));
    }
    if token.cluster != member.cluster() {
        let error = format!("the token is for cluster {}, this is {}", token.cluster, member.cluster());
        return Err(Refusal::new(error, NEW_TOKEN));
    }
    if token.mesh != member.config.common.mesh.as_str() {
        let error = format!(
            "the token is of mesh {}, this cluster is configured for {}",
            token.mesh, member.config.common.mesh
        );
        return Err(Refusal::new(error, "set `mesh:` in this cluster's configuration to the mesh's domain"));
    }
    if token.expires < unix() {
        return Err(Refusal::new("the token has expired", NEW_TOKEN));
    }
    let response = ask(member, &token).await?;
    let members = response.members.iter().map(|record| Blob(believed(record, &token).encode_to_vec())).collect();
    let deeds = told_deeds(&response).map_err(|error| {
        let error = format!("{} speaks of the mesh in words that this build does not know: {error}", token.issuer);
        Refusal::new(error, "run the mesh's own release here, then join again with the same token")
    })?;
    let itself = Itself { raft_id: response.raft_id, mesh: token.mesh.clone(), members, deeds };
    let failed =
        |error: crate::error::Error| Refusal::new(format!("joined, but cannot begin: {error}"), "see the member's log");
    member.become_member(itself).await.map_err(failed)
}

/// A join entry as a joiner believes it. The issuer may have replaced its authority since it joined; what it signs with now the
/// token tells, whose roots it just answered under.
fn believed(record: &MemberRecord, token: &Token) -> MemberRecord {
    let mut record = record.clone();
    if record.cluster == token.issuer {
        let fresh = token.roots.iter().map(|root| &root.0).filter(|root| !record.roots.contains(root));
        let fresh: Vec<_> = fresh.cloned().collect();
        record.roots.extend(fresh);
    }
    record
}

async fn ask(member: &Member, token: &Token) -> Result<JoinResponse, Refusal> {
    let changed =
        |error: isthmus_core::name::InvalidName| Refusal::new(format!("the token is changed: {error}"), NEW_TOKEN);
    let domain: TrustDomain = token.trust_domain.parse().map_err(changed)?;
    let issuer = system_identity(&domain, "federation").map_err(changed)?;
    let roots = token.roots.iter().map(|root| CertificateDer::from(root.0.clone()));
    let roots = TrustRoots::of_domain(&domain, roots);
    let own = member.own_record("", 0);
    let mut request = JoinRequest {
        mesh: token.mesh.clone(),
        cluster: token.cluster.clone(),
        token_id: token.id.clone(),
        secret: token.secret.0.clone(),
        federation_key: own.federation_key,
        roots: own.roots,
        addresses: own.addresses,
        trust_domain: own.trust_domain,
        proof: vec![],
    };
    member.key.prove(&mut request);
    let mut last = Refusal::new("the token names no address", NEW_TOKEN);
    let until = tokio::time::Instant::now() + JOIN_LIMIT;
    while tokio::time::Instant::now() < until {
        for address in &token.addresses {
            let config = tls::anonymous_client_config(roots.clone(), Accept::one(issuer.clone()), &[ALPN]);
            let mut client = MemberClient::new(grpc::channel_with(config, address));
            match client.join(request.clone()).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if status.code() == tonic::Code::FailedPrecondition => return Err(from_status(&status)),
                Err(status) => {
                    let error = format!("{} does not answer at {address}: {}", token.issuer, grpc::reason(&status));
                    last = Refusal::new(error, "see that its gateway is up and reachable from here, then join again");
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(last)
}

/// A refusal as it came over the wire: the thing and the reason; the remedy.
fn from_status(status: &tonic::Status) -> Refusal {
    let (error, remedy) = status.message().rsplit_once("; ").unwrap_or((status.message(), ""));
    Refusal::new(error, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joiner_believes_the_issuer_by_what_its_token_says_beside_what_it_entered_with() {
        let token = Token {
            mesh: "mesh.test".into(),
            cluster: "west".into(),
            issuer: "east".into(),
            id: String::new(),
            secret: Blob(vec![]),
            addresses: vec![],
            trust_domain: "east.mesh.test".into(),
            roots: vec![Blob(b"now".to_vec()), Blob(b"then".to_vec())],
            expires: 0,
        };
        let record = |cluster: &str| MemberRecord {
            cluster: cluster.into(),
            roots: vec![b"then".to_vec()],
            ..MemberRecord::default()
        };
        assert_eq!(believed(&record("east"), &token).roots, [b"then".to_vec(), b"now".to_vec()]);
        assert_eq!(believed(&record("south"), &token), record("south"));
    }
}
