//! A pod made one of the mesh, and made as it was before.

use serde_json::Value;

use crate::{
    added::Added,
    annotation::Problem,
    container,
    probe::{self, Rewritten},
    settings::Settings,
    status::{Damaged, Status, VERSION},
    values::Values,
    view::{Misshapen, Pod, name, object_at},
    volume,
    words::{CAPTURE, INJECTED, OWN_PORTS, PROXY, PROXY_USER, STATUS},
};

/// A pod with its sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The pod.
    pub pod: Value,
    /// What of its owner's wishes is not honoured, in a sentence each.
    pub warnings: Vec<String>,
}

/// Why a pod cannot get a sidecar although it is to have one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no pod.
    #[error(transparent)]
    Misshapen(#[from] Misshapen),
    /// It was injected, and what was added is not known.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// Something of its own has a name that is ours.
    #[error("{list} has an item {name}, a name that injection needs; give it another")]
    NameTaken {
        /// Where: `spec.volumes`.
        list: &'static str,
        /// The name.
        name: String,
    },
    /// It changes Istio's sidecar by a container that stands for it.
    #[error(
        "the container istio-proxy with image \"auto\" changes Istio's sidecar, which is not added here; remove it, and \
         say by annotations how the sidecar shall be"
    )]
    IstioContainer,
    /// Annotations with values that cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Annotations(Vec<Problem>),
}

/// Adds the sidecar to a pod or a template of one. A pod that has one already comes out as if it had none before; if what
/// it has is what it would get, it comes out as it is, with what others (limit ranges, defaults) have put in meanwhile.
///
/// # Errors
/// [`Error`]: a value that cannot be used, a document that is no pod.
pub fn inject(pod: &Value, values: &Values) -> Result<Injected, Error> {
    inject_into(pod, None, values)
}

/// The same for the template of a `workload`, whose pods do not say yet of what they are.
///
/// # Errors
/// As [`inject`].
pub fn inject_into(pod: &Value, workload: Option<&str>, values: &Values) -> Result<Injected, Error> {
    let mut bare = remove(pod)?;
    let view = Pod(&bare);
    check_names(view)?;
    let (mut settings, mut warnings) = Settings::of(view, values).map_err(Error::Annotations)?;
    if let Some(workload) = workload {
        settings.workload = Some(workload.to_owned());
    }
    warnings.extend(as_sidecar(view).chain(on_own_ports(view)));
    let (made, fs_group) = (Status::missing(&bare), has_no_group(&bare));
    let rewritten = if settings.rewrites_probes { probe::rewrite(&mut bare) } else { Rewritten::default() };
    warnings.extend(rewritten.warnings);
    let added = Added {
        containers: container::containers(&settings, values, &rewritten.asked),
        volumes: volume::volumes(),
        fs_group,
    };
    let status = added.status(made, rewritten.originals);
    let is_there = Status::of(Pod(pod))?.is_some_and(|there| there.adds_as(&status)) && added.is_in_place(pod);
    let pod = if is_there {
        pod.clone()
    } else {
        added.put_into(&mut bare);
        mark(&mut bare, &status);
        bare
    };
    Ok(Injected { pod, warnings })
}

/// Takes out what was added, by whatever release. A pod without a sidecar stays as it is.
///
/// # Errors
/// When it is no pod, or does not say what was added.
pub fn remove(pod: &Value) -> Result<Value, Error> {
    let status = Status::of(Pod::checked(pod)?)?;
    let mut pod = pod.clone();
    if let Some(status) = status {
        probe::restore(&mut pod, &status);
        status.take_out(&mut pod);
    }
    Ok(pod)
}

fn check_names(pod: Pod<'_>) -> Result<(), Error> {
    let taken = |list, item| Error::NameTaken { list, name: name(item).to_owned() };
    for container in pod.containers() {
        if [CAPTURE, PROXY].contains(&name(container)) {
            return Err(taken("spec.containers or spec.initContainers", container));
        }
        if name(container) == "istio-proxy" && container.get("image").and_then(Value::as_str) == Some("auto") {
            return Err(Error::IstioContainer);
        }
    }
    let ours = volume::volumes();
    let clash = pod.volumes().find(|volume| ours.iter().any(|our| name(our) == name(volume)));
    clash.map_or(Ok(()), |volume| Err(taken("spec.volumes", volume)))
}

/// Containers that run as the sidecar's user: their connections look like the sidecar's own.
fn as_sidecar(pod: Pod<'_>) -> impl Iterator<Item = String> {
    let user = |of: &Value| of.get("securityContext")?.get("runAsUser")?.as_i64();
    let whole = pod.0.get("spec").and_then(user);
    let same = pod.containers().filter(move |container| user(container).or(whole) == Some(PROXY_USER));
    same.map(|container| {
        let name = name(container);
        format!("container {name} runs as user {PROXY_USER}, the sidecar's: its connections are not captured")
    })
}

/// Containers that say of a port of the sidecar's that it is theirs: who comes second does not get it.
fn on_own_ports(pod: Pod<'_>) -> impl Iterator<Item = String> {
    let ports = |container| Value::get(container, "ports").and_then(Value::as_array).into_iter().flatten();
    let number = |port: &Value| port.get("containerPort").and_then(Value::as_u64);
    let is_own = |number: &u64| OWN_PORTS.iter().any(|own| u64::from(*own) == *number);
    let taken =
        pod.containers().flat_map(move |one| ports(one).filter_map(number).filter(is_own).map(move |port| (one, port)));
    taken.map(|(container, port)| {
        let name = name(container);
        format!("container {name} has port {port}, on which the sidecar listens: let it have another one")
    })
}

/// The token is readable for the pod's group: where it has none it gets the sidecar's; a group that it has is the
/// sidecar's too.
fn has_no_group(pod: &Value) -> bool {
    pod.pointer("/spec/securityContext/fsGroup").is_none_or(Value::is_null)
}

fn mark(pod: &mut Value, status: &Status) {
    // A status is names and JSON: it always has a text.
    let status = serde_json::to_string(status).unwrap_or_default();
    if object_at(pod, "metadata").is_none() {
        return;
    }
    let Some(metadata) = pod.get_mut("metadata") else { return };
    if let Some(labels) = object_at(metadata, "labels") {
        labels.insert(INJECTED.into(), VERSION.into());
    }
    if let Some(annotations) = object_at(metadata, "annotations") {
        annotations.insert(STATUS.into(), status.into());
    }
}
