//! Names that users, other programs and the other halves of injection rely on. Istio's are kept to the letter.

/// Prefix of our own labels and annotations.
pub const OWN: &str = "isthmus.dev/";
/// Whether a pod, or a namespace's pods, get a sidecar: `"true"` or `"false"`.
pub const INJECT: &str = "isthmus.dev/inject";
/// The same in Istio's words, on pods.
pub const ISTIO_INJECT: &str = "sidecar.istio.io/inject";
/// The same in Istio's words, on namespaces: `enabled` or `disabled`.
pub const ISTIO_INJECTION: &str = "istio-injection";
/// Which revision of the control plane injects.
pub const ISTIO_REVISION: &str = "istio.io/rev";
/// What Istio's own injector leaves on a pod.
pub const ISTIO_STATUS: &str = "sidecar.istio.io/status";
/// Which of Istio's templates a pod wants; a sidecar is one of them.
pub const ISTIO_TEMPLATES: &str = "inject.istio.io/templates";
/// A pod's own wishes for its sidecar, YAML in the form of Istio's ProxyConfig.
pub const PROXY_CONFIG: &str = "proxy.istio.io/config";
/// What the kubelet writes on the image of a static pod, which nobody may change.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// The label of an injected pod; its value is the release that injected it.
pub const INJECTED: &str = "isthmus.dev/injected";
/// The annotation that says what was added.
pub const STATUS: &str = "isthmus.dev/status";

/// Namespaces whose pods never get a sidecar: Kubernetes' own must start before the mesh, and without it.
pub const SYSTEM_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "isthmus-system"];

/// Containers and volumes whose names begin so are ours.
pub const PREFIX: &str = "isthmus-";
/// The init container that redirects the pod's connections.
pub const CAPTURE: &str = "isthmus-capture";
/// The sidecar.
pub const PROXY: &str = "isthmus-proxy";

/// The user and group of the sidecar; its own connections are not captured.
pub const PROXY_USER: i64 = 1337;
/// Where the sidecar says how it is, and answers probes.
pub const HEALTH_PORT: u16 = 15021;
/// Where the sidecar is scraped.
pub const METRICS_PORT: u16 = 15020;
/// All on which the sidecar listens.
pub const OWN_PORTS: [u16; 7] = [15000, 15001, 15006, METRICS_PORT, HEALTH_PORT, 15053, 15080];
/// Where a sidecar and control are ready.
pub const READY_PATH: &str = "/healthz/ready";
