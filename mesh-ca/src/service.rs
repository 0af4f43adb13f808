//! The CA on 15012: a first leaf by token, every next one by the identity of the connection. Where somebody reviews
//! service account tokens, each leaf of a pod is by such a token: a pod that is gone has none.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use isthmus_core::name::SpiffeId;
use isthmus_runtime::grpc::PeerIdentity;
use isthmus_wire::identity::{
    IssueRequest, IssueResponse,
    certificate_authority_server::{CertificateAuthority, CertificateAuthorityServer},
};
use tonic::{Request, Response, Status};

use crate::{Ca, CaError};

/// Longest request that is read, bytes.
const MAX_REQUEST: usize = 64 * 1024;

/// Whom a service account token is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReviewed {
    /// It is not good; asking again with it does not help.
    #[error("the service account token is refused: {0}")]
    Refused(String),
    /// Nobody could say.
    #[error("the service account token cannot be reviewed now: {0}")]
    Unavailable(String),
}

/// Whoever can say whom a service account token is of, and that it holds now: the API server (`TokenReview`).
#[tonic::async_trait]
pub trait Reviewer: Send + Sync + 'static {
    /// # Errors
    /// [`NotReviewed`].
    async fn review(&self, token: &str) -> Result<Account, NotReviewed>;
}

/// The service of a CA. Its listener must ask for client certificates without demanding one.
#[must_use]
pub fn service(ca: Ca, reviewer: Option<Arc<dyn Reviewer>>) -> CertificateAuthorityServer<Service> {
    CertificateAuthorityServer::new(Service { ca, reviewer }).max_decoding_message_size(MAX_REQUEST)
}

/// The service of a CA.
pub struct Service {
    ca: Ca,
    reviewer: Option<Arc<dyn Reviewer>>,
}

impl Service {
    /// For whom the caller may have a leaf: whom its token names, else who it is.
    async fn holder(&self, peer: Option<SpiffeId>, token: &str) -> Result<SpiffeId, Status> {
        let refuse = |error: CaError| refusal(&error);
        match &self.reviewer {
            Some(reviewer) => self.reviewed(&**reviewer, token).await,
            None if token.is_empty() => self.proven(peer).map_err(refuse),
            None => self.ca.enrolled(token, SystemTime::now()).map_err(refuse),
        }
    }

    async fn reviewed(&self, reviewer: &dyn Reviewer, token: &str) -> Result<SpiffeId, Status> {
        if token.is_empty() {
            let reason =
                "the caller shows no service account token; a leaf is renewed with one too, for it ends with its pod";
            return Err(Status::permission_denied(reason));
        }
        let account = reviewer.review(token).await.map_err(|error| match error {
            NotReviewed::Refused(_) => Status::unauthenticated(error.to_string()),
            NotReviewed::Unavailable(_) => Status::unavailable(error.to_string()),
        })?;
        SpiffeId::new(self.ca.trust_domain().clone(), &account.namespace, &account.name)
            .map_err(|error| Status::unauthenticated(error.to_string()))
    }

    fn proven(&self, peer: Option<SpiffeId>) -> Result<SpiffeId, CaError> {
        let peer = peer.ok_or_else(|| {
            CaError::Stranger("the caller shows neither an enrolment token nor a certificate".to_owned())
        })?;
        if peer.trust_domain() == self.ca.trust_domain() {
            Ok(peer)
        } else {
            Err(CaError::Stranger(format!("{peer} is not of {}, which this CA vouches for", self.ca.trust_domain())))
        }
    }
}

#[tonic::async_trait]
impl CertificateAuthority for Service {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        let peer = PeerIdentity::of(&request);
        let asked = request.into_inner();
        let id = self.holder(peer, &asked.enrolment).await?;
        let ttl = (asked.ttl_seconds > 0).then(|| Duration::from_secs(asked.ttl_seconds.into()));
        let response = self.ca.issue(&id, &asked.csr, ttl).map_err(|error| refusal(&error))?;
        tracing::debug!(%id, "leaf issued");
        Ok(Response::new(response))
    }
}

fn refusal(error: &CaError) -> Status {
    match error {
        CaError::Request(_) => Status::invalid_argument(error.to_string()),
        CaError::Token(_) => Status::unauthenticated(error.to_string()),
        CaError::Stranger(_) => Status::permission_denied(error.to_string()),
        _ => {
            tracing::error!(%error, "a leaf cannot be issued");
            Status::internal("the CA failed; its log says why")
        }
    }
}
