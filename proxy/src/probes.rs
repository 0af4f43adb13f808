//! The kubelet's probes of the application, which captured traffic would answer in its place: the kubelet asks the
//! sidecar, and the sidecar asks the application at the pod's own address.
//!
//! | module | idea |
//! | --- | --- |
//! | `config` | what is asked, in Kubernetes' words |
//! | `asking` | how: HTTP, HTTPS, TCP, gRPC |

mod asking;
mod config;

use std::{collections::BTreeMap, net::IpAddr};

use axum::{Router, routing::get};
use http::{HeaderMap, StatusCode, header::USER_AGENT};

pub use self::config::{Invalid, Probe, parse};
use crate::capture::Mode;

/// The application that is asked.
#[derive(Clone, Copy)]
struct Application {
    address: IpAddr,
    capture: Option<Mode>,
}

/// A route a probe, for the health port.
pub(crate) fn routes(probes: &BTreeMap<String, Probe>, address: IpAddr, capture: Option<Mode>) -> Router {
    let application = Application { address, capture };
    let mut router = Router::new();
    for (path, probe) in probes {
        if let Err(reason) = probe.check(path) {
            tracing::error!(path, reason, "a probe is left out");
            continue;
        }
        let probe = probe.clone();
        let asked = move |headers: HeaderMap| async move {
            match asking::ask(&probe, application, headers.get(USER_AGENT)).await {
                Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            }
        };
        router = router.route(path, get(asked));
    }
    router
}
