//! The admission webhooks on 15017: at `/inject` pods get their sidecar, at `/validate` objects that control would
//! refuse get their reason while somebody is looking.
//!
//! ```text
//! API server ══TLS══► listener ──► routes ──► body ──► review ──► injection  ─┬─► answer
//!                    (places)              (bounds)            └► validation ─┘
//! ```
//! The API server asks on behalf of whoever creates a pod, so nobody's pod may wait for somebody's flood: connections
//! and reviews have places ([`isthmus_runtime::places`]), bodies a bound each and a bound together. A malformed review
//! gets one error that names what is wrong with it, and changes nothing else.
//!
//! | module | idea |
//! | --- | --- |
//! | [`certificate`] | the serving certificate, renewed at half its life |
//! | [`listener`] | TLS and HTTP, bounded in connections and time |
//! | [`routes`] | paths to answers, bounded in reviews at once |
//! | [`body`] | a body in bounded memory |
//! | [`review`] | `admission.k8s.io/v1`: read, answered |
//! | [`injection`], [`validation`] | what is answered |
//! | [`metrics`] | what is counted |

pub mod body;
pub mod certificate;
pub mod injection;
pub mod listener;
pub mod metrics;
pub mod review;
pub mod routes;
pub mod validation;

use std::sync::Arc;

use isthmus_runtime::drain::Drain;
use tokio::net::TcpListener;

pub use self::{
    certificate::Certificate,
    injection::{Injector, Owner, Refused},
    metrics::Metrics,
};

/// The webhooks' port; the Service maps 443 to it.
pub const PORT: u16 = 15017;
/// The names under which the API server reaches them.
pub const DNS_NAMES: [&str; 2] =
    ["isthmus-control.isthmus-system.svc", "isthmus-control.isthmus-system.svc.cluster.local"];

/// Serves both webhooks until everything has to close; from the drain on open connections are told to go elsewhere. Who
/// renews the certificate is [`Certificate::keep_fresh`], beside it.
pub async fn serve(
    listener: TcpListener,
    certificate: Certificate,
    injector: Injector,
    metrics: Metrics,
    drain: Drain,
) {
    let routes = routes::routes(Arc::new(injector), metrics);
    listener::serve(listener, certificate.server_config(), routes, drain).await;
}
