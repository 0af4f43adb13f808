//! A port of a pod on this machine, through the API server: no port of the mesh has to be exposed.

use std::net::{Ipv4Addr, SocketAddr};

pub use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Why a pod's port is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The API server refuses or does not answer.
    #[error(
        "the API server gives no pods of {namespace}; may you list pods there? (`kubectl auth can-i list pods -n {namespace}`)"
    )]
    Unlisted {
        /// The namespace.
        namespace: String,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },
    /// None matches, or none is ready.
    #[error("no pod of {what} runs in namespace {namespace}: {seen}")]
    NoPod {
        /// What was looked for.
        what: String,
        /// The namespace.
        namespace: String,
        /// What is there.
        seen: String,
    },
    /// This machine.
    #[error("no port on 127.0.0.1 is to be had")]
    Local(#[source] std::io::Error),
}

/// The way to a port of a pod; it ends when it is dropped.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Forward {
    /// Where it begins on this machine.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A way to this port of a pod.
    ///
    /// # Errors
    /// [`ForwardError::Local`]. That the pod refuses is met by each connection.
    pub async fn open(client: &Client, pod: &Pod, port: u16) -> Result<Self, ForwardError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(ForwardError::Local)?;
        let address = listener.local_addr().map_err(ForwardError::Local)?;
        let pods = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let name = pod.name_any();
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(carry(pods.clone(), name.clone(), port, tcp));
            }
        });
        Ok(Self { address, accepting })
    }
}

/// One connection, a stream of its own.
async fn carry(pods: Api<Pod>, name: String, port: u16, mut tcp: TcpStream) {
    let mut forwarder = match pods.portforward(&name, &[port]).await {
        Ok(forwarder) => forwarder,
        Err(error) => return tracing::debug!(%error, pod = name, port, "the API server forwards nothing"),
    };
    if let Some(mut stream) = forwarder.take_stream(port) {
        let _ = copy_bidirectional(&mut tcp, &mut stream).await;
    }
    // The stream is gone: the websocket ends with its close frame.
    if let Err(error) = forwarder.join().await {
        tracing::debug!(%error, pod = name, port, "a forwarded connection broke");
    }
}

/// The first pod of a selector that is ready, in the order of names; the one that is named, when it is.
///
/// # Errors
/// [`ForwardError`].
pub async fn ready(
    client: &Client,
    namespace: &str,
    (what, selector): (&str, &str),
    rather: Option<&str>,
) -> Result<Pod, ForwardError> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let listed = pods.list(&ListParams::default().labels(selector)).await;
    let unlisted = |source| ForwardError::Unlisted { namespace: namespace.to_owned(), source: Box::new(source) };
    let mut pods = listed.map_err(unlisted)?.items;
    pods.sort_by_key(|pod| (rather != Some(pod.name_any().as_str()), pod.name_any()));
    first_ready(pods, what, namespace)
}

fn first_ready(pods: Vec<Pod>, what: &str, namespace: &str) -> Result<Pod, ForwardError> {
    let seen = pods.iter().map(told).collect::<Vec<_>>().join(", ");
    let seen = if seen.is_empty() { "there is none; is the mesh installed there?".to_owned() } else { seen };
    let none = || ForwardError::NoPod { what: what.to_owned(), namespace: namespace.to_owned(), seen };
    pods.into_iter().find(is_ready).ok_or_else(none)
}

/// The pod of a name, or the first ready one, in the order of namespaces and names, of a workload: by its `app` label, or
/// by the name that its pods have in front of theirs.
///
/// # Errors
/// [`ForwardError`].
pub async fn of_workload(client: &Client, namespace: Option<&str>, name: &str) -> Result<Pod, ForwardError> {
    let pods = match namespace {
        Some(namespace) => Api::<Pod>::namespaced(client.clone(), namespace),
        None => Api::<Pod>::all(client.clone()),
    };
    let place = namespace.unwrap_or("(all)").to_owned();
    let listed = pods.list(&ListParams::default()).await;
    let unlisted = |source| ForwardError::Unlisted { namespace: place.clone(), source: Box::new(source) };
    let mut pods = listed.map_err(unlisted)?.items;
    pods.retain(|pod| is_of(pod, name));
    pods.sort_by_key(|pod| (pod.name_any() != name, pod.namespace(), pod.name_any()));
    first_ready(pods, name, &place)
}

fn is_of(pod: &Pod, name: &str) -> bool {
    let own = pod.name_any();
    let prefixed = own.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    own == name || prefixed || pod.labels().get("app").is_some_and(|app| app == name)
}

/// A pod's name.
#[must_use]
pub fn name(pod: &Pod) -> String {
    pod.name_any()
}

/// Whether the kubelet says that it is ready, and nobody deletes it.
fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let ready = status.and_then(|status| status.conditions.as_ref()).is_some_and(|conditions| {
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    });
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// `name (Pending)`, or `name (Running, not ready)`.
fn told(pod: &Pod) -> String {
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_else(|| "unknown".into());
    let ready = if is_ready(pod) { "" } else { ", not ready" };
    format!("{} ({phase}{ready})", pod.name_any())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, app: &str, phase: &str, ready: bool) -> Pod {
        let condition = json!({ "type": "Ready", "status": if ready { "True" } else { "False" } });
        let pod = json!({
            "metadata": { "name": name, "namespace": "shop", "labels": { "app": app } },
            "status": { "phase": phase, "conditions": [condition] },
        });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn the_first_ready_pod_is_taken_and_without_one_all_are_told() {
        let pods = || vec![pod("cart-1", "cart", "Pending", false), pod("cart-2", "cart", "Running", true)];
        assert_eq!(name(&first_ready(pods(), "cart", "shop").unwrap()), "cart-2");
        let error = first_ready(pods()[..1].to_vec(), "cart", "shop").unwrap_err().to_string();
        assert!(error.contains("cart-1 (Pending, not ready)"), "{error}");
        let error = first_ready(vec![], "cart", "shop").unwrap_err().to_string();
        assert!(error.contains("is the mesh installed there?"), "{error}");
    }

    #[test]
    fn a_workload_is_known_by_its_pods_names_and_labels() {
        let cart = pod("cart-v1-5d9c", "basket", "Running", true);
        assert!(["cart-v1-5d9c", "cart", "cart-v1", "basket"].into_iter().all(|name| is_of(&cart, name)));
        assert!(["car", "cart-v", "v1"].into_iter().all(|name| !is_of(&cart, name)));
    }
}
