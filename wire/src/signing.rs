//! What is said for a cluster is signed by that cluster (DESIGN.md decision 9).
//!
//! The signature covers every field with its length in front, so no two different statements share signed bytes.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::federation::{JoinRequest, MemberRecord, SignedDeed, SignedStatement};

/// Length in bytes of a federation public key.
pub const PUBLIC_KEY: usize = 32;

/// The signature does not fit the key and the content.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{what} said for cluster {cluster:?} is not signed by that cluster's federation key")]
pub struct Forged {
    /// What was to be verified.
    pub what: String,
    /// The cluster it claims.
    pub cluster: String,
}

/// A cluster's federation key: whoever holds it speaks for the cluster.
pub struct FederationKey(Ed25519KeyPair);

impl FederationKey {
    /// From PKCS#8 DER; the reason when it is not a key.
    ///
    /// # Errors
    /// When the bytes are not an Ed25519 PKCS#8 document.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, String> {
        Ed25519KeyPair::from_pkcs8(der).map(Self).map_err(|reason| reason.to_string())
    }

    /// A new key as PKCS#8 DER.
    ///
    /// # Errors
    /// When the system's randomness fails.
    pub fn generate_pkcs8() -> Result<Vec<u8>, String> {
        let random = aws_lc_rs::rand::SystemRandom::new();
        Ed25519KeyPair::generate_pkcs8(&random).map(|der| der.as_ref().to_vec()).map_err(|reason| reason.to_string())
    }

    /// The public half, [`PUBLIC_KEY`] bytes.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    /// Signs a statement in place.
    pub fn sign(&self, statement: &mut SignedStatement) {
        statement.signature = self.0.sign(&statement_bytes(statement)).as_ref().to_vec();
    }

    /// Signs a deed in place.
    pub fn sign_deed(&self, deed: &mut SignedDeed) {
        deed.signature = self.0.sign(&deed_bytes(deed)).as_ref().to_vec();
    }

    /// Signs a join request in place: the joiner holds the key it names.
    pub fn prove(&self, request: &mut JoinRequest) {
        request.proof = self.0.sign(&join_bytes(request)).as_ref().to_vec();
    }

    /// Countersigns a join entry in place, as the cluster that issued the token.
    pub fn countersign(&self, record: &mut MemberRecord) {
        record.countersignature = self.0.sign(&record_bytes(record)).as_ref().to_vec();
    }
}

/// Checks a statement against the federation key of the cluster it is said for.
///
/// # Errors
/// [`Forged`].
pub fn verify_statement(statement: &SignedStatement, key: &[u8]) -> Result<(), Forged> {
    verify(key, &statement_bytes(statement), &statement.signature, &statement.key, &statement.cluster)
}

/// Checks a deed against the federation key of the cluster that did it.
///
/// # Errors
/// [`Forged`].
pub fn verify_deed(deed: &SignedDeed, key: &[u8]) -> Result<(), Forged> {
    verify(key, &deed_bytes(deed), &deed.signature, "a change of the membership", &deed.cluster)
}

/// Checks that a joiner holds the federation key it names.
///
/// # Errors
/// [`Forged`].
pub fn verify_join(request: &JoinRequest) -> Result<(), Forged> {
    verify(&request.federation_key, &join_bytes(request), &request.proof, "a join request", &request.cluster)
}

/// Checks a join entry against the federation key of the cluster that issued the token.
///
/// # Errors
/// [`Forged`].
pub fn verify_record(record: &MemberRecord, issuer_key: &[u8]) -> Result<(), Forged> {
    verify(issuer_key, &record_bytes(record), &record.countersignature, "a join entry", &record.issuer)
}

fn verify(key: &[u8], message: &[u8], signature: &[u8], what: &str, cluster: &str) -> Result<(), Forged> {
    UnparsedPublicKey::new(&ED25519, key)
        .verify(message, signature)
        .map_err(|_| Forged { what: what.to_owned(), cluster: cluster.to_owned() })
}

fn lengthed<'a>(domain: &'a str, fields: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    for field in std::iter::once(domain.as_bytes()).chain(fields) {
        out.extend_from_slice(&(field.len() as u64).to_be_bytes());
        out.extend_from_slice(field);
    }
    out
}

fn statement_bytes(s: &SignedStatement) -> Vec<u8> {
    let (epoch, number) = (s.epoch.to_be_bytes(), s.number.to_be_bytes());
    let fields = [s.mesh.as_bytes(), s.cluster.as_bytes(), s.key.as_bytes(), &epoch, &number, &s.content];
    lengthed("isthmus-statement-v1", fields)
}

fn deed_bytes(d: &SignedDeed) -> Vec<u8> {
    lengthed("isthmus-deed-v1", [d.mesh.as_bytes(), d.cluster.as_bytes(), &d.content])
}

fn join_bytes(r: &JoinRequest) -> Vec<u8> {
    let counts = [(r.roots.len() as u64).to_be_bytes(), (r.addresses.len() as u64).to_be_bytes()].concat();
    let head = [
        r.mesh.as_bytes(),
        r.cluster.as_bytes(),
        r.token_id.as_bytes(),
        &r.federation_key,
        r.trust_domain.as_bytes(),
        &counts,
    ];
    let lists = r.roots.iter().map(Vec::as_slice).chain(r.addresses.iter().map(|address| address.as_bytes()));
    lengthed("isthmus-join-v1", head.into_iter().chain(lists))
}

/// The join entry without what changes later (addresses, standing) and without the countersignature itself.
fn record_bytes(r: &MemberRecord) -> Vec<u8> {
    let id = r.raft_id.to_be_bytes();
    let head = [r.cluster.as_bytes(), &r.federation_key, r.trust_domain.as_bytes(), r.issuer.as_bytes(), id.as_slice()];
    lengthed("isthmus-record-v1", head.into_iter().chain(r.roots.iter().map(Vec::as_slice)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_verifies_under_its_own_key_and_no_changed_byte_passes() {
        let key = FederationKey::from_pkcs8(&FederationKey::generate_pkcs8().unwrap()).unwrap();
        let other = FederationKey::from_pkcs8(&FederationKey::generate_pkcs8().unwrap()).unwrap();
        let mut said = SignedStatement {
            mesh: "m".into(),
            cluster: "east".into(),
            key: "card".into(),
            epoch: 1,
            number: 2,
            content: b"{}".to_vec(),
            signature: vec![],
        };
        key.sign(&mut said);
        assert!(verify_statement(&said, &key.public()).is_ok());
        assert!(verify_statement(&said, &other.public()).is_err());
        for change in [
            SignedStatement { cluster: "west".into(), ..said.clone() },
            SignedStatement { number: 3, ..said.clone() },
            SignedStatement { mesh: "me".into(), cluster: "ast".into(), ..said.clone() },
            SignedStatement { content: b"{ }".to_vec(), ..said.clone() },
        ] {
            assert!(verify_statement(&change, &key.public()).is_err());
        }
    }
}
