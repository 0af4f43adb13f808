//! The roles: each is a library, run here with its configuration file until it drains.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use isthmus_proxy::{capture::SIDECAR, pod};
use isthmus_runtime::{
    config::load_yaml,
    drain::{Drain, GRACE},
    logs,
};
use isthmus_scenarios::parent;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};

use crate::args::Role;

/// A gateway's tunnels and its streams; production sets more.
const GATEWAY_WORKERS: usize = 2;

/// # Errors
/// When the configuration is refused, an address is taken, or the role fails.
pub fn run(role: Role) -> Result<()> {
    if !parent::follow() {
        bail!("the process that should run this one is gone already");
    }
    match role {
        Role::Control(file) => {
            let config = load::<isthmus_control::Config>(&file.config)?;
            logged("control", config.common.log.as_deref())?;
            serve(one_thread()?, async |drain| Ok(isthmus_control::run(config, drain).await?))
        }
        Role::Federation(file) => {
            let config = load::<isthmus_federation::Config>(&file.config)?;
            logged("federation", config.common.log.as_deref())?;
            serve(one_thread()?, async |drain| Ok(isthmus_federation::run(config, drain).await?))
        }
        Role::Gateway(file) => {
            let config = load::<isthmus_gateway::Config>(&file.config)?;
            logged("gateway", config.common.log.as_deref())?;
            let runtime = Builder::new_multi_thread().worker_threads(GATEWAY_WORKERS).enable_all().build()?;
            let deadline = config.drain_deadline();
            serve_within(runtime, deadline, async |drain| Ok(isthmus_gateway::run(config, drain).await?))
        }
        Role::Proxy(from) => {
            let config = match &from.config {
                Some(file) => load::<isthmus_proxy::Config>(file)?,
                None => sidecar_of_pod()?,
            };
            logged("proxy", config.common.log.as_deref())?;
            Ok(isthmus_proxy::run(config)?)
        }
        Role::App(app) => {
            let config = match &app.config {
                Some(file) => load::<isthmus_demo::AppConfig>(file)?,
                None => application_of_pod()?,
            };
            logged("app", None)?;
            serve(one_thread()?, async |drain| Ok(isthmus_demo::run(config, drain.draining()).await?))
        }
    }
}

/// The application that this pod's name says.
fn application_of_pod() -> Result<isthmus_demo::AppConfig> {
    let name = std::env::var("HOSTNAME").context("HOSTNAME is not set; in a pod it is the pod's name")?;
    let cluster = std::env::var("CLUSTER").unwrap_or_else(|_| "here".into());
    Ok(isthmus_demo::AppConfig::of_pod(&name, cluster.parse()?)?)
}

/// The configuration of this pod's sidecar.
fn sidecar_of_pod() -> Result<isthmus_proxy::Config> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if user != SIDECAR && group != SIDECAR {
        bail!(
            "the sidecar runs as user {user} and group {group}, whose traffic is captured, and would call itself for ever; \
             run it as user or group {SIDECAR}"
        );
    }
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let read = |path: &'static str| Some((path, std::fs::read_to_string(path).ok()?));
    let files = [pod::TOKEN, pod::ROOTS, pod::LABELS, pod::ANNOTATIONS].into_iter().filter_map(read).collect();
    Ok(pod::read(&environment, &files)?)
}

fn load<T: DeserializeOwned>(file: &Path) -> Result<T> {
    load_yaml(file).with_context(|| format!("{} is refused", file.display()))
}

fn logged(role: &str, filter: Option<&str>) -> Result<()> {
    logs::init(role, filter.unwrap_or("info"), false).map_err(|reason| anyhow!(reason))
}

/// Control and member spend their time waiting; forty processes of a demo share two cores.
fn one_thread() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn serve(runtime: Runtime, role: impl AsyncFnOnce(Drain) -> Result<()>) -> Result<()> {
    serve_within(runtime, GRACE, role)
}

/// What runs may take so long to finish once the role drains.
fn serve_within(runtime: Runtime, grace: Duration, role: impl AsyncFnOnce(Drain) -> Result<()>) -> Result<()> {
    let outcome = runtime.block_on(async { role(Drain::from_signals(grace)?).await });
    // What still runs on blocking threads must not hold the process.
    runtime.shutdown_background();
    outcome
}
