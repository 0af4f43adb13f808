//! What a pod's annotations and the operator's values make together.

use std::{num::NonZeroU16, str::FromStr};

use serde_json::Value;

use crate::{
    annotation::{Annotations, Key, Problem},
    image::Image,
    resources::Resources,
    traffic::Traffic,
    values::Values,
    view::Pod,
    words::PROXY_CONFIG,
};

/// How a pod's sidecar is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its image.
    pub image: String,
    /// What it may use.
    pub resources: Resources,
    /// What it captures.
    pub traffic: Traffic,
    /// Whether the application waits for it.
    pub holds_application: bool,
    /// Its worker threads, when not its own default.
    pub concurrency: Option<u16>,
    /// Whether it answers for the application's probes.
    pub rewrites_probes: bool,
    /// In how many seconds the pod has to end, where it says so.
    pub grace_seconds: Option<u64>,
    /// The workload that the pod is of, which metrics name; `None`: it is of none.
    pub workload: Option<String>,
}

const IMAGE: Key = Key::sidecar("proxyImage");
const REWRITE: Key = Key::sidecar("rewriteAppHTTPProbers");
const HOLD: Key = Key::own("holdApplicationUntilProxyStarts");
const CONCURRENCY: Key = Key::own("concurrency");

impl Settings {
    /// Reads a pod's annotations. Beside the settings: what is not honoured, in a sentence each.
    ///
    /// # Errors
    /// All values that cannot be used.
    pub fn of(pod: Pod<'_>, values: &Values) -> Result<(Self, Vec<String>), Vec<Problem>> {
        let mut annotations = Annotations::of(pod);
        let config = ProxyConfig::of(&mut annotations);
        let hold = annotations.read::<Switch>(HOLD).map(|switch| switch.0);
        let concurrency = annotations.read::<Threads>(CONCURRENCY).map(|threads| threads.0);
        let settings = Self {
            image: annotations.read::<Image>(IMAGE).map_or_else(|| values.image.clone(), |image| image.0),
            resources: Resources::of(&mut annotations, &values.resources),
            traffic: Traffic::of(&mut annotations, &values.proxy.traffic),
            holds_application: hold.or(config.hold).unwrap_or(values.proxy.hold_application_until_proxy_starts),
            concurrency: concurrency.or(config.concurrency).or(values.proxy.concurrency),
            rewrites_probes: annotations.read::<Switch>(REWRITE).map_or(values.proxy.rewrite_probes, |switch| switch.0),
            grace_seconds: pod.0.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64),
            workload: pod.workload().map(str::to_owned),
        };
        annotations.report_unread();
        if annotations.problems.is_empty() { Ok((settings, annotations.warnings)) } else { Err(annotations.problems) }
    }
}

/// What is honoured of `proxy.istio.io/config`.
#[derive(Default)]
struct ProxyConfig {
    hold: Option<bool>,
    concurrency: Option<u16>,
}

impl ProxyConfig {
    fn of(annotations: &mut Annotations<'_>) -> Self {
        let mut config = Self::default();
        let Some(text) = annotations.text(PROXY_CONFIG) else { return config };
        let mut refuse = |reason: String| {
            annotations.problems.push(Problem { key: PROXY_CONFIG.into(), value: text.to_owned(), reason });
        };
        let fields = match serde_saphyr::from_str::<Value>(text) {
            Ok(Value::Object(fields)) => fields,
            Ok(Value::Null) => return config,
            _ => {
                refuse("is no object of YAML; write such as {concurrency: 2}".into());
                return config;
            }
        };
        for (field, value) in fields {
            match (field.as_str(), &value) {
                ("holdApplicationUntilProxyStarts", Value::Bool(hold)) => config.hold = Some(*hold),
                ("holdApplicationUntilProxyStarts", _) => refuse(format!("has no true or false as {field}")),
                ("concurrency", value) => match value.as_u64().and_then(|number| u16::try_from(number).ok()) {
                    // Istio's word for as many as there are cores; the sidecar's own default serves.
                    Some(0) => {}
                    Some(number) => config.concurrency = Some(number),
                    None => refuse("has no number of threads as concurrency; write such as 2".into()),
                },
                _ => annotations.warnings.push(format!("{PROXY_CONFIG}: field {field} is not honoured by this mesh")),
            }
        }
        config
    }
}

/// `true` or `false`.
struct Switch(bool);

impl FromStr for Switch {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| "is neither true nor false; write one of them")
    }
}

/// How many threads.
struct Threads(u16);

impl FromStr for Threads {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<NonZeroU16>()
            .map(|number| Self(number.get()))
            .map_err(|_| "is no number of threads; write such as 2")
    }
}
