//! The CA on 15012: a first leaf by token, every next one by the identity of the connection.

use std::time::{Duration, SystemTime};

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

/// The service of a CA. Its listener must ask for client certificates without demanding one.
#[must_use]
pub fn service(ca: Ca) -> CertificateAuthorityServer<Service> {
    CertificateAuthorityServer::new(Service(ca)).max_decoding_message_size(MAX_REQUEST)
}

/// The service of a CA.
pub struct Service(Ca);

impl Service {
    /// For whom the caller may have a leaf: whom its token names, else who it is.
    fn holder(&self, peer: Option<SpiffeId>, token: &str) -> Result<SpiffeId, CaError> {
        if !token.is_empty() {
            return self.0.enrolled(token, SystemTime::now());
        }
        let peer = peer.ok_or_else(|| {
            CaError::Stranger("the caller shows neither an enrolment token nor a certificate".to_owned())
        })?;
        if peer.trust_domain() == self.0.trust_domain() {
            Ok(peer)
        } else {
            Err(CaError::Stranger(format!("{peer} is not of {}, which this CA vouches for", self.0.trust_domain())))
        }
    }
}

#[tonic::async_trait]
impl CertificateAuthority for Service {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        let peer = PeerIdentity::of(&request);
        let asked = request.into_inner();
        let id = self.holder(peer, &asked.enrolment).map_err(|error| refusal(&error))?;
        let ttl = (asked.ttl_seconds > 0).then(|| Duration::from_secs(asked.ttl_seconds.into()));
        let response = self.0.issue(&id, &asked.csr, ttl).map_err(|error| refusal(&error))?;
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
