//! `/inject`: a pod that is created gets its sidecar.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use isthmus_inject::{Decision, Injected, Namespace, Values, decide, inject, remove};
use serde_json::Value;
use tokio::sync::mpsc;

use super::review::{Request, Verdict};

/// The labels of a namespace; none: it is not known yet.
pub type Labels = dyn Fn(&str) -> Option<BTreeMap<String, String>> + Send + Sync;

/// What injection is made of. Cheap to clone.
#[derive(Clone)]
pub struct Injector {
    values: Arc<ArcSwap<Values>>,
    labels: Arc<Labels>,
    refused: Option<mpsc::Sender<Refused>>,
}

/// A pod that was to have a sidecar and runs without, or has one that is not all that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its namespace.
    pub namespace: String,
    /// Its name, or what its name will begin with.
    pub pod: String,
    /// Whether it has a name.
    pub is_named: bool,
    /// Who made it: events about a pod that does not exist yet are about its owner.
    pub owner: Option<Owner>,
    /// Whether it has none at all.
    pub is_whole: bool,
    /// Why, and what to do about it.
    pub reason: String,
}

/// Who made a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its group and version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// What came of a review.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The pod gets a sidecar.
    Injected(Verdict),
    /// It gets none, and nobody expects one.
    Skipped(Verdict),
    /// It gets none although somebody does.
    Refused(Verdict),
    /// It is not created: with this sidecar it would not do what its owner believes.
    Denied(Verdict),
    /// Nothing can be said yet: the namespace is not known. The API server asks again, or does as it was told for a
    /// webhook that fails.
    Unknown,
}

impl Injector {
    /// With values that may be replaced, and the labels of namespaces as they are known at the time.
    #[must_use]
    pub fn new(values: Arc<ArcSwap<Values>>, labels: Arc<Labels>) -> Self {
        Self { values, labels, refused: None }
    }

    /// Tells of pods that run without a sidecar although one was asked for, or with one that does not honour all of it. What does
    /// not fit into the channel is not told: nobody's pod waits for an event.
    #[must_use]
    pub fn telling(mut self, refused: mpsc::Sender<Refused>) -> Self {
        self.refused = Some(refused);
        self
    }

    /// Decides on a pod, and injects it.
    #[must_use]
    pub fn review(&self, request: &Request) -> Outcome {
        if request.kind.kind != "Pod" || !request.kind.group.is_empty() {
            let warning = format!("only pods get a sidecar, and this is a {}", request.kind.kind);
            return Outcome::Skipped(Verdict::warned(warning));
        }
        if request.operation != "CREATE" || !request.sub_resource.is_empty() {
            return Outcome::Skipped(Verdict::allowed());
        }
        let values = self.values.load();
        let Some(labels) = (self.labels)(&request.namespace) else { return Outcome::Unknown };
        match decide(&request.object, Namespace { name: &request.namespace, labels: &labels }, &values) {
            Decision::Skip(_) => Outcome::Skipped(Verdict::allowed()),
            Decision::Refuse(reason) => self.refuse(request, reason.to_string()),
            Decision::Inject => match inject(&request.object, &values) {
                Ok(Injected { pod, warnings }) => {
                    // Who makes pods for others is warned, and nobody reads it there; who is asked again has told.
                    if !warnings.is_empty() && pod != request.object && owner(&request.object).is_some() {
                        self.tell(request, false, warnings.join("; "));
                    }
                    Outcome::Injected(Verdict { denied: None, changed: Some(pod), warnings })
                }
                Err(error) => Outcome::Denied(Verdict::denied(format!("no sidecar can be added: {error}"))),
            },
        }
    }

    /// A pod that cannot have a sidecar has none: what was added before another webhook made it impossible, or by hand, is
    /// taken out.
    fn refuse(&self, request: &Request, reason: String) -> Outcome {
        let bare = match remove(&request.object) {
            Ok(bare) => bare,
            Err(error) => return Outcome::Denied(Verdict::denied(format!("no sidecar can be taken out: {error}"))),
        };
        let warning = format!("this pod gets no sidecar: {reason}");
        self.tell(request, true, reason);
        Outcome::Refused(Verdict { changed: Some(bare), ..Verdict::warned(warning) })
    }

    fn tell(&self, request: &Request, is_whole: bool, reason: String) {
        let Some(refused) = self.refused.as_ref().filter(|_| request.dry_run != Some(true)) else { return };
        let text = |pointer: &str| request.object.pointer(pointer).and_then(Value::as_str);
        let name = text("/metadata/name").filter(|name| !name.is_empty());
        let is_named = name.is_some();
        let pod = name.or_else(|| text("/metadata/generateName")).unwrap_or_default().to_owned();
        let (namespace, owner) = (request.namespace.clone(), owner(&request.object));
        let _ = refused.try_send(Refused { namespace, pod, is_named, owner, is_whole, reason });
    }
}

/// The owner that manages a pod.
fn owner(pod: &Value) -> Option<Owner> {
    let owners = pod.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))?;
    let text = |key| Some(owner.get(key)?.as_str()?.to_owned());
    Some(Owner { api_version: text("apiVersion")?, kind: text("kind")?, name: text("name")?, uid: text("uid")? })
}

impl Outcome {
    /// For the metric.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Injected(_) => "injected",
            Self::Skipped(_) => "skipped",
            Self::Refused(_) => "refused",
            Self::Denied(_) => "denied",
            Self::Unknown => "unknown",
        }
    }

    /// What is answered, if anything can be.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        match self {
            Self::Injected(verdict) | Self::Skipped(verdict) | Self::Refused(verdict) | Self::Denied(verdict) => {
                Some(verdict)
            }
            Self::Unknown => None,
        }
    }
}

impl fmt::Debug for Injector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Injector").field("values", &self.values).finish_non_exhaustive()
    }
}
