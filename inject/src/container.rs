//! The two containers of an injected pod: the capture, which ends before anything else begins, and the sidecar, which
//! begins before and ends after the application.

use serde_json::{Map, Value, json};

use crate::{
    settings::Settings,
    traffic::Interception,
    values::Values,
    volume,
    words::{CAPTURE, HEALTH_PORT, METRICS_PORT, PROXY, PROXY_USER, READY_PATH},
};

/// The kubelet asks a starting sidecar each second, for ten minutes: a node may be slow, control may be away.
const STARTUP_TRIES: u32 = 600;
/// Seconds between questions once it runs; three without an answer take the pod out of its Services.
const READINESS_PERIOD: u32 = 5;
const READINESS_TRIES: u32 = 3;
/// Seconds that an answer may take.
const PROBE_TIMEOUT: u32 = 3;

/// Of the time in which a pod has to end the sidecar leaves so many seconds to what closes after it.
const RESERVE: u64 = 5;

/// The init containers to put in front of the pod's own, in order.
pub(crate) fn containers(settings: &Settings, values: &Values, probes: &Map<String, Value>) -> Vec<Value> {
    let captured = settings.traffic.interception_mode != Interception::None;
    let capture = captured.then(|| capture(settings, values));
    capture.into_iter().chain([proxy(settings, values, probes)]).collect()
}

fn capture(settings: &Settings, values: &Values) -> Value {
    let mut args = vec!["capture".to_owned()];
    args.extend(settings.traffic.arguments());
    json!({
        "name": CAPTURE,
        "image": settings.image,
        "imagePullPolicy": values.image_pull_policy,
        "args": args,
        // As the sidecar's: a namespace with a quota wants them of every container, and init containers add nothing.
        "resources": settings.resources.to_value(),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "privileged": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"] },
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

fn proxy(settings: &Settings, values: &Values, probes: &Map<String, Value>) -> Value {
    let mut container = json!({
        "name": PROXY,
        "image": settings.image,
        "imagePullPolicy": values.image_pull_policy,
        "args": ["proxy", "--pod"],
        "restartPolicy": "Always",
        "env": environment(settings, values, probes),
        "ports": [{ "name": "isthmus-metrics", "containerPort": METRICS_PORT, "protocol": "TCP" }],
        "resources": settings.resources.to_value(),
        "securityContext": security(settings.traffic.interception_mode),
        "readinessProbe": probe(READINESS_PERIOD, READINESS_TRIES),
        "volumeMounts": volume::mounts(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    // What comes after a sidecar waits for its startup probe, and only for that.
    if let Some(fields) = container.as_object_mut().filter(|_| settings.holds_application) {
        fields.insert("startupProbe".into(), probe(1, STARTUP_TRIES));
    }
    container
}

fn probe(period: u32, tries: u32) -> Value {
    json!({
        "httpGet": { "path": READY_PATH, "port": HEALTH_PORT },
        "periodSeconds": period,
        "timeoutSeconds": PROBE_TIMEOUT,
        "failureThreshold": tries,
    })
}

/// As the `restricted` Pod Security Standard has it, but for transparent proxying: a socket that takes connections for
/// foreign addresses needs NET_ADMIN, and only root gets a capability in a container. Its group stays the sidecar's.
fn security(interception: Interception) -> Value {
    let transparent = interception == Interception::Tproxy;
    let mut capabilities = json!({ "drop": ["ALL"] });
    if let Some(fields) = capabilities.as_object_mut().filter(|_| transparent) {
        fields.insert("add".into(), json!(["NET_ADMIN"]));
    }
    json!({
        "runAsUser": if transparent { 0 } else { PROXY_USER },
        "runAsGroup": PROXY_USER,
        "runAsNonRoot": !transparent,
        "privileged": false,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": capabilities,
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

fn environment(settings: &Settings, values: &Values, probes: &Map<String, Value>) -> Vec<Value> {
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let plain = |name: &str, value: String| json!({ "name": name, "value": literal(&value) });
    // Always said: otherwise the sidecar would read the annotation, where there may be a word of no capture at all.
    let mode = if settings.traffic.interception_mode == Interception::Tproxy { "TPROXY" } else { "REDIRECT" };
    let mut environment = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_UID", "metadata.uid"),
        field("POD_IP", "status.podIP"),
        field("NODE_NAME", "spec.nodeName"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        plain("ISTHMUS_MESH", values.mesh.to_string()),
        plain("ISTHMUS_CLUSTER", values.cluster.to_string()),
        plain("ISTHMUS_TRUST_DOMAIN", values.trust_domain().to_string()),
        plain("ISTHMUS_CONTROL", values.control_address.clone()),
        field("ISTHMUS_REGION", "metadata.labels['topology.kubernetes.io/region']"),
        field("ISTHMUS_ZONE", "metadata.labels['topology.kubernetes.io/zone']"),
        plain("ISTHMUS_PROBES", Value::Object(probes.clone()).to_string()),
        plain("ISTHMUS_INTERCEPTION_MODE", mode.to_owned()),
    ];
    let more = [
        ("ISTHMUS_WORKERS", settings.concurrency.map(u64::from)),
        ("ISTHMUS_DRAIN_DEADLINE_SECONDS", settings.grace_seconds.map(|grace| grace.saturating_sub(RESERVE).max(1))),
    ];
    environment.extend(more.into_iter().filter_map(|(name, number)| Some(plain(name, number?.to_string()))));
    environment.extend(settings.workload.clone().map(|workload| plain("ISTHMUS_WORKLOAD", workload)));
    environment
}

/// Kubernetes replaces `$(NAME)` in the value of a variable, though not in a probe's header; `$$` is a `$` that stays.
fn literal(value: &str) -> String {
    value.replace('$', "$$")
}
