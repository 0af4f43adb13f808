//! Whether a pod gets a sidecar, by Istio's rules, in Istio's order.
//!
//! 1. Never in Kubernetes' own namespaces and the mesh's, nor in those that the operator excludes.
//! 2. A `false` of the pod or of its namespace is final.
//! 3. Of the pod's own words the label comes before the annotation, and our name before Istio's.
//! 4. A namespace asks by `isthmus.dev/inject`, `istio-injection` or `istio.io/rev`, the first of them that it has.
//! 5. Whoever names no revision means the one called `default`.
//! 6. When nobody says anything, the policy decides.
//!
//! Source: Istio, "Installing the Sidecar", section on the injection policy. One thing is told more loudly than there:
//! what is asked for and cannot work is no silent no.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use crate::{
    values::{DEFAULT_REVISION, Policy, Values},
    view::{Pod, name},
    words::{
        INJECT, ISTIO_INJECT, ISTIO_INJECTION, ISTIO_REVISION, ISTIO_STATUS, ISTIO_TEMPLATES, MIRROR, SYSTEM_NAMESPACES,
    },
};

/// Sidecars of other meshes, by the names that their injectors give them.
const OTHERS: [(&str, &str); 4] =
    [("istio-proxy", "Istio"), ("linkerd-proxy", "Linkerd"), ("consul-dataplane", "Consul"), ("kuma-sidecar", "Kuma")];

/// Where a pod will run.
#[derive(Clone, Copy, Debug)]
pub struct Namespace<'a> {
    /// The namespace.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// What happens to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It gets a sidecar.
    Inject,
    /// It gets none, and nobody expects one.
    Skip(Skip),
    /// Somebody asked for one, and it cannot work: the pod is to be as it was without, and people are told.
    Refuse(Refusal),
}

/// Why nobody expects a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The namespace never has sidecars.
    Namespace(String),
    /// A static pod: the kubelet has it from a file.
    Mirror,
    /// The pod says no, by this label or annotation.
    PodSaysNo(&'static str),
    /// Its namespace says no, by this label.
    NamespaceSaysNo(&'static str),
    /// It belongs to another revision; none named: to the default one, which this is not.
    OtherRevision(Option<String>),
    /// Nobody says anything, and the policy is off.
    NotAsked,
}

/// Why a sidecar cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Capture would redirect the node's connections.
    HostNetwork,
    /// There is no sidecar for Windows.
    Windows,
    /// Istio's injector was here before.
    HasIstio,
    /// Another mesh's sidecar is in it.
    OtherMesh {
        /// Which mesh.
        mesh: &'static str,
        /// Its sidecar.
        container: &'static str,
    },
    /// A template of Istio's that is no sidecar.
    Template(String),
    /// A label or annotation whose value means nothing.
    Word {
        /// Whose: `pod` or `namespace`.
        of: &'static str,
        /// Which.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it could say.
        words: &'static str,
    },
}

/// Decides on a pod, or on the template of one.
#[must_use]
pub fn decide(pod: &Value, namespace: Namespace<'_>, values: &Values) -> Decision {
    let pod = Pod(pod);
    let of = namespace.name;
    if SYSTEM_NAMESPACES.contains(&of) || values.excluded_namespaces.contains(of) {
        return Decision::Skip(Skip::Namespace(of.to_owned()));
    }
    if pod.annotation(MIRROR).is_some() {
        return Decision::Skip(Skip::Mirror);
    }
    match asked(pod, namespace.labels, values) {
        Decision::Inject => obstacle(pod).map_or(Decision::Inject, Decision::Refuse),
        other => other,
    }
}

/// What stands in the way although it is asked for.
fn obstacle(pod: Pod<'_>) -> Option<Refusal> {
    if pod.is_on_host_network() {
        return Some(Refusal::HostNetwork);
    }
    if pod.is_for_windows() {
        return Some(Refusal::Windows);
    }
    if pod.annotation(ISTIO_STATUS).is_some() {
        return Some(Refusal::HasIstio);
    }
    if let Some((container, mesh)) = OTHERS.into_iter().find(|(container, _)| has_sidecar(pod, container)) {
        return Some(Refusal::OtherMesh { mesh, container });
    }
    let template = pod.annotation(ISTIO_TEMPLATES).filter(|template| *template != "sidecar")?;
    Some(Refusal::Template(template.to_owned()))
}

/// Whether a container of this name is there and is meant to run: with image `auto` it is but a wish for one.
fn has_sidecar(pod: Pod<'_>, container: &str) -> bool {
    let mut all = pod.containers();
    all.any(|one| name(one) == container && one.get("image").and_then(Value::as_str) != Some("auto"))
}

fn asked(pod: Pod<'_>, labels: &BTreeMap<String, String>, values: &Values) -> Decision {
    let by_pod = match pods_word(pod) {
        Ok(Some((key, false))) => return Decision::Skip(Skip::PodSaysNo(key)),
        Ok(word) => word,
        Err(refusal) => return Decision::Refuse(refusal),
    };
    let by_namespace = match namespaces_word(labels) {
        Ok(word) => word,
        Err(refusal) => return Decision::Refuse(refusal),
    };
    match (by_pod, by_namespace) {
        (_, Some(Word::No(key))) => Decision::Skip(Skip::NamespaceSaysNo(key)),
        (_, Some(Word::Yes)) => of_revision(None, values),
        (_, Some(Word::Revision(revision))) => of_revision(Some(revision), values),
        (said, None) => match (pod.label(ISTIO_REVISION), said) {
            (Some(revision), _) => of_revision(Some(revision), values),
            (None, Some(_)) => of_revision(None, values),
            (None, None) if values.policy == Policy::Enabled => of_revision(None, values),
            (None, None) => Decision::Skip(Skip::NotAsked),
        },
    }
}

/// Whether this control plane is the one that is meant.
fn of_revision(named: Option<&str>, values: &Values) -> Decision {
    if named.unwrap_or(DEFAULT_REVISION) == values.revision {
        Decision::Inject
    } else {
        Decision::Skip(Skip::OtherRevision(named.map(str::to_owned)))
    }
}

/// What the pod itself says, and by which of its labels and annotations.
fn pods_word(pod: Pod<'_>) -> Result<Option<(&'static str, bool)>, Refusal> {
    let labels = [INJECT, ISTIO_INJECT].map(|key| (key, pod.label(key)));
    let annotations = [INJECT, ISTIO_INJECT].map(|key| (key, pod.annotation(key)));
    let said = labels.into_iter().chain(annotations).find_map(|(key, value)| Some((key, value?)));
    match said {
        None | Some((_, "")) => Ok(None),
        Some((key, "true")) => Ok(Some((key, true))),
        Some((key, "false")) => Ok(Some((key, false))),
        Some((key, value)) => Err(Refusal::Word { of: "pod", key, value: value.to_owned(), words: "true or false" }),
    }
}

enum Word<'a> {
    Yes,
    No(&'static str),
    Revision(&'a str),
}

fn namespaces_word(labels: &BTreeMap<String, String>) -> Result<Option<Word<'_>>, Refusal> {
    let switches =
        [(INJECT, "true", "false", "true or false"), (ISTIO_INJECTION, "enabled", "disabled", "enabled or disabled")];
    for (key, yes, no, words) in switches {
        match labels.get(key) {
            None => {}
            Some(value) if value == yes => return Ok(Some(Word::Yes)),
            Some(value) if value == no => return Ok(Some(Word::No(key))),
            Some(value) => return Err(Refusal::Word { of: "namespace", key, value: value.clone(), words }),
        }
    }
    Ok(labels.get(ISTIO_REVISION).map(|revision| Word::Revision(revision)))
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(name) => write!(f, "pods of namespace {name} never get a sidecar"),
            Self::Mirror => f.write_str("it is a static pod, which only its file can change"),
            Self::PodSaysNo(key) => write!(f, "it says {key}: \"false\""),
            Self::NamespaceSaysNo(key) => write!(f, "its namespace says no by the label {key}"),
            Self::OtherRevision(Some(revision)) => write!(f, "it is for revision {revision}"),
            Self::OtherRevision(None) => write!(f, "it is for revision {DEFAULT_REVISION}, as it names none"),
            Self::NotAsked => {
                write!(f, "nothing asks for a sidecar; label its namespace {ISTIO_INJECTION}=enabled to have one")
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostNetwork => write!(
                f,
                "spec.hostNetwork: the pod uses its node's network, whose connections must not be redirected; remove \
                 hostNetwork, or label the pod {INJECT}: \"false\""
            ),
            Self::Windows => {
                write!(
                    f,
                    "spec.os.name or spec.nodeSelector: there is no sidecar for Windows; label the pod {INJECT}: \"false\""
                )
            }
            Self::HasIstio => write!(
                f,
                "the pod has Istio's sidecar already (annotation {ISTIO_STATUS}), and two sidecars would redirect to \
                 each other; take its namespace out of Istio's injection first"
            ),
            Self::OtherMesh { mesh, container } => write!(
                f,
                "the pod has the sidecar of {mesh} already (container {container}), and two sidecars would redirect to \
                 each other; take its namespace out of the injection of {mesh} first"
            ),
            Self::Template(template) => write!(
                f,
                "metadata.annotations[{ISTIO_TEMPLATES:?}]: {template:?} is no sidecar, and this mesh injects nothing \
                 else; remove the annotation, or label the pod {INJECT}: \"false\""
            ),
            Self::Word { of, key, value, words } => {
                write!(f, "{key} of the {of} is {value:?}, which means nothing; write {words}")
            }
        }
    }
}
