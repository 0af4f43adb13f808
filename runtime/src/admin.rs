//! Ports 15000, 15020 and 15021 of every role. The first of them is the lock of the process (DESIGN.md decision 23):
//! it is bound unshared before anything else.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::Query,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use isthmus_core::name::ClusterName;
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::{
    certificate::Certificates,
    config::Common,
    drain::Drain,
    http1, listen, logs,
    metrics::{self, Registry},
    readiness::Readiness,
};

/// Where the three ports are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Admin, and the lock.
    pub admin: u16,
    /// Prometheus text.
    pub metrics: u16,
    /// Health and readiness.
    pub health: u16,
}

/// DESIGN.md, "Ports".
pub const PORTS: Ports = Ports { admin: 15000, metrics: 15020, health: 15021 };

/// The ports cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{role} {name} does not begin: {source}; is it running already?")]
pub struct AdminError {
    /// The role.
    role: String,
    /// Its name.
    name: String,
    /// What the system said, with the address.
    source: io::Error,
}

type Dump = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// The three ports, held but not served yet.
pub struct Admin {
    role: String,
    name: String,
    cluster: Option<ClusterName>,
    listeners: [TcpListener; 3],
    routes: Router,
    health: Router,
    dump: Option<Dump>,
    certificates: Certificates,
}

impl Admin {
    /// Takes the well-known ports of `address`, the admin port, which may be on an address of its own, first.
    ///
    /// # Errors
    /// [`AdminError`] names role, address and the likely reason: another process holds it.
    pub fn bind(common: &Common, role: &str) -> Result<Self, AdminError> {
        let admin = Self::bind_on([common.admin(), common.address], PORTS, role, &common.name)?;
        Ok(Self { cluster: Some(common.cluster.clone()), ..admin })
    }

    /// As [`Admin::bind`], all on one address and on other ports; 0: any free one.
    ///
    /// # Errors
    /// As [`Admin::bind`].
    pub fn bind_at(address: IpAddr, ports: Ports, role: &str, name: &str) -> Result<Self, AdminError> {
        Self::bind_on([address, address], ports, role, name)
    }

    fn bind_on([admin, others]: [IpAddr; 2], ports: Ports, role: &str, name: &str) -> Result<Self, AdminError> {
        let bind = |address, port| {
            listen::tcp(SocketAddr::new(address, port)).map_err(|source| AdminError {
                role: role.to_owned(),
                name: name.to_owned(),
                source,
            })
        };
        let listeners = [bind(admin, ports.admin)?, bind(others, ports.metrics)?, bind(others, ports.health)?];
        Ok(Self {
            role: role.to_owned(),
            name: name.to_owned(),
            cluster: None,
            listeners,
            routes: Router::new(),
            health: Router::new(),
            dump: None,
            certificates: Certificates::default(),
        })
    }

    /// Where the ports are, in the order of [`Ports`].
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// More routes on the admin port.
    #[must_use]
    pub fn router(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// More routes on the health port.
    #[must_use]
    pub fn health(mut self, routes: Router) -> Self {
        self.health = self.health.merge(routes);
        self
    }

    /// What `GET /config_dump` shows. No key, no token may be in it.
    #[must_use]
    pub fn config_dump(mut self, dump: impl Fn() -> serde_json::Value + Send + Sync + 'static) -> Self {
        self.dump = Some(Arc::new(dump));
        self
    }

    /// The process' certificates: who is added later is shown too.
    #[must_use]
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    fn about(&self) -> serde_json::Value {
        let (role, name, cluster) = (&self.role, &self.name, &self.cluster);
        serde_json::json!({ "role": role, "name": name, "cluster": cluster, "version": env!("CARGO_PKG_VERSION") })
    }

    /// Serves the three ports until everything has to close; during the drain too.
    pub async fn serve(self, registry: Registry, readiness: Readiness, drain: Drain) {
        if let Err(error) = registry.register(Box::new(self.certificates.clone())) {
            tracing::debug!(%error, "the metric of certificates is not shown");
        }
        let (metrics, health) = (metrics_routes(registry), health_routes(readiness));
        let mut admin = control_routes(self.about(), drain.clone()).merge(metrics.clone()).merge(health.clone());
        if let Some(dump) = self.dump {
            admin = admin.route("/config_dump", get(move || std::future::ready(Json(dump()))));
        }
        let certificates = self.certificates;
        admin = admin.route("/certificates", get(move || std::future::ready(Json(certificates.rows()))));
        let [on_admin, on_metrics, on_health] = self.listeners;
        tokio::join!(
            http1::serve(on_admin, admin.merge(self.routes), drain.clone()),
            http1::serve(on_metrics, metrics, drain.clone()),
            http1::serve(on_health, health.merge(self.health), drain),
        );
    }
}

fn metrics_routes(registry: Registry) -> Router {
    let scrape = get(move || {
        let text = metrics::render(&registry);
        async { ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text) }
    });
    Router::new().route("/metrics", scrape.clone()).route("/stats/prometheus", scrape)
}

fn health_routes(readiness: Readiness) -> Router {
    let ready = get(move || {
        let missing = readiness.missing();
        let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        async move { (status, Json(serde_json::json!({ "ready": missing.is_empty(), "missing": missing }))) }
    });
    Router::new()
        .route("/healthz", get(|| std::future::ready("ok\n")))
        .route("/readyz", ready.clone())
        .route("/healthz/ready", ready)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelQuery {
    level: String,
}

fn control_routes(about: serde_json::Value, drain: Drain) -> Router {
    let version = get(move || std::future::ready(Json(about)));
    let trigger = drain.trigger();
    let drain = post(move || {
        trigger.drain("asked on the admin port");
        std::future::ready("draining\n")
    });
    let level = get(|| async { format!("{}\n", logs::level().unwrap_or_else(|| "fixed".into())) });
    let level = level.post(|Query(query): Query<LevelQuery>| async move {
        match logs::set_level(&query.level) {
            Ok(()) => format!("{}\n", query.level).into_response(),
            Err(reason) => (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response(),
        }
    });
    Router::new().route("/version", version).route("/drain", drain).route("/logging", level)
}
