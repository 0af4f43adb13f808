//! One question to the CA, and what comes of its answer.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use isthmus_core::name::SpiffeId;
use isthmus_wire::identity::{IssueRequest, IssueResponse, certificate_authority_client::CertificateAuthorityClient};
use rustls_pki_types::CertificateDer;

use super::{EnrolError, Enrolling, Enrolment, kept, system_identity};
use crate::{
    config::Common,
    grpc,
    identity::{Identity, Leaf},
    tls::{self, Accept},
    trust::TrustRoots,
};

/// The CA answers within so long, or is asked again.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest answer that is read, bytes.
const MAX_ANSWER: usize = 256 * 1024;

pub(super) struct Asker {
    pub(super) who: String,
    /// As it was at the start: trust domain, roots, where control is.
    pub(super) enrolment: Enrolment,
    enrolling: Enrolling,
    control: SpiffeId,
    file: PathBuf,
}

/// A fresh key and what the CA gave for it.
pub(super) struct Issued {
    pub(super) key: Vec<u8>,
    pub(super) answer: IssueResponse,
}

/// Why there is no leaf.
pub(super) enum NotIssued {
    /// The CA said no.
    Refused(String),
    /// Nobody answered, or nobody we believe.
    NoAnswer(String),
}

impl Asker {
    pub(super) fn new(common: &Common, enrolling: Enrolling) -> Result<Self, EnrolError> {
        let enrolment = enrolling.read()?;
        let control = system_identity(&enrolment.trust_domain, "control")?;
        let file = common.state_dir.join("identity.json");
        Ok(Self { who: common.name.clone(), enrolment, enrolling, control, file })
    }

    /// The identity on disk, if it is still good.
    pub(super) fn kept(&self) -> Option<Identity> {
        let roots = self.enrolment.trust_roots();
        match kept::load(&self.file, &self.enrolment, &roots, SystemTime::now()) {
            Ok(leaf) => leaf.map(|leaf| Identity::new(leaf, roots)),
            Err(error) => {
                tracing::warn!(%error, "the kept identity is not used, a new one is asked for");
                None
            }
        }
    }

    /// The identity that proves who asks; in a pod the token has to, because it ends with the pod.
    fn proof<'a>(&self, identity: Option<&'a Identity>) -> Option<&'a Identity> {
        identity.filter(|_| matches!(self.enrolling, Enrolling::File(_)))
    }

    /// Asks once: by the identity there is, or by token.
    pub(super) async fn ask(&self, identity: Option<&Identity>) -> Result<Issued, NotIssued> {
        let own = |error: rcgen::Error| NotIssued::NoAnswer(format!("cannot make a key: {error}"));
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(own)?;
        let csr = rcgen::CertificateParams::default().serialize_request(&key).map_err(own)?;
        let accept = Accept::one(self.control.clone());
        let (config, enrolment) = match self.proof(identity) {
            Some(identity) => (tls::client_config(identity, accept, &[grpc::ALPN]), String::new()),
            None => {
                let now = self.enrolling.read().map_err(|error| NotIssued::NoAnswer(error.to_string()))?;
                (tls::anonymous_client_config(now.trust_roots(), accept, &[grpc::ALPN]), now.token)
            }
        };
        let request = IssueRequest { csr: csr.der().to_vec(), enrolment, ttl_seconds: 0 };
        let channel = grpc::channel_with(config, &self.enrolment.control);
        let mut client = CertificateAuthorityClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        let answer = tokio::time::timeout(ANSWER, client.issue(request))
            .await
            .map_err(|_| NotIssued::NoAnswer(format!("no answer within {} s", ANSWER.as_secs())))?;
        match answer {
            Ok(answer) => Ok(Issued { key: key.serialize_der(), answer: answer.into_inner() }),
            Err(status) if is_final(&status) => Err(NotIssued::Refused(status.message().to_owned())),
            Err(status) => Err(NotIssued::NoAnswer(grpc::reason(&status))),
        }
    }

    /// The first identity from an answer.
    pub(super) fn begin(&self, issued: Issued) -> Result<Identity, EnrolError> {
        let mut roots = self.enrolment.trust_roots();
        self.learn_roots(&mut roots, &issued);
        Ok(Identity::new(self.take(issued)?, roots))
    }

    /// A new leaf for an identity there is.
    pub(super) fn renew(&self, identity: &Identity, issued: Issued) -> Result<(), EnrolError> {
        let mut roots = TrustRoots::clone(&identity.trust());
        self.learn_roots(&mut roots, &issued);
        let leaf = self.take(issued)?;
        identity.set_trust(roots);
        identity.set_leaf(leaf);
        Ok(())
    }

    /// A pod's roots change under it when the authority of its cluster does: control writes them there first.
    pub(super) fn look_at_roots(&self, identity: &Identity) {
        if let Enrolling::Pod(pod) = &self.enrolling
            && let Ok(now) = pod.read()
        {
            let (mut roots, domain) = (TrustRoots::clone(&identity.trust()), &self.enrolment.trust_domain);
            now.trust_roots().roots(domain).iter().for_each(|root| roots.add(domain, root.clone()));
            identity.set_trust(roots);
        }
    }

    fn learn_roots(&self, roots: &mut TrustRoots, issued: &Issued) {
        for root in &issued.answer.roots {
            roots.add(&self.enrolment.trust_domain, CertificateDer::from(root.clone()));
        }
    }

    /// A usable leaf, kept on disk. A disk that takes nothing is no reason to have no identity.
    fn take(&self, issued: Issued) -> Result<Leaf, EnrolError> {
        let chain = issued.answer.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let leaf =
            Leaf::new(chain, &issued.key)?.with_pass(issued.answer.pass.clone(), issued.answer.pass_roots.clone());
        if let Err(error) = kept::store(&self.file, &issued) {
            tracing::warn!(%error, "the leaf is in use but not kept: a restart needs the CA");
        }
        Ok(leaf)
    }
}

/// Whether asking again with the same words cannot help.
fn is_final(status: &tonic::Status) -> bool {
    use tonic::Code::{InvalidArgument, PermissionDenied, Unauthenticated};
    matches!(status.code(), InvalidArgument | PermissionDenied | Unauthenticated)
}
