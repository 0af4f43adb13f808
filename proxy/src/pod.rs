//! A sidecar's configuration in a pod of Kubernetes: from the environment and the files that injection gave it. Pure; who
//! reads them is the command.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, str::FromStr};

use isthmus_core::name::{self, Locality, TrustDomain};
use isthmus_runtime::{
    config::Common,
    enrolment::{Enrolling, PodEnrolment},
};

use crate::{
    capture::Mode,
    config::{AccessLog, Config, Format, RESOLV_CONF, WORKERS},
    probes,
};

/// The projected service account token.
pub const TOKEN: &str = "/var/run/secrets/isthmus/token";
/// The trust domain's roots.
pub const ROOTS: &str = "/var/run/isthmus/roots/roots.pem";
/// The pod's labels, as the downward API writes them.
pub const LABELS: &str = "/var/run/isthmus/pod/labels";
/// Its annotations.
pub const ANNOTATIONS: &str = "/var/run/isthmus/pod/annotations";
/// What the sidecar keeps while the pod lives.
const STATE: &str = "/var/lib/isthmus";
/// How the pod is captured (Istio's annotation).
const INTERCEPTION_MODE: &str = "sidecar.istio.io/interceptionMode";
/// Kubernetes kills a pod 30 s after it was asked to end, unless told otherwise: the rest is left to close what is open.
const DRAIN_DEADLINE_SECONDS: u32 = 25;

/// What is missing or wrong, each with what to do about it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refused(pub Vec<String>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this is no pod that isthmus injected: {}", self.0.join("; "))
    }
}

/// Texts by name, and what was wrong with those that were asked for so far.
struct Given<'a> {
    environment: &'a BTreeMap<String, String>,
    files: &'a BTreeMap<&'static str, String>,
    wrong: Vec<String>,
}

impl Given<'_> {
    fn optional<T: FromStr>(&mut self, name: &str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        let text = self.environment.get(name).map(String::as_str).filter(|text| !text.is_empty())?;
        let parsed = text.parse();
        parsed.map_err(|error| self.wrong.push(format!("{name} is wrong: {error}; inject the pod anew"))).ok()
    }

    fn needed<T: FromStr>(&mut self, name: &str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        if self.environment.get(name).is_none_or(String::is_empty) {
            self.wrong.push(format!("{name} is not set; the webhook and isthmus inject set it, inject the pod anew"));
            return None;
        }
        self.optional(name)
    }

    fn file(&mut self, path: &'static str, remedy: &str) {
        if self.files.get(path).is_none_or(|text| text.trim().is_empty()) {
            self.wrong.push(format!("{path} is missing or empty; {remedy}"));
        }
    }

    /// `key="value"` a line; a pod may have none.
    fn pairs(&self, path: &str) -> BTreeMap<String, String> {
        let pair = |line: &str| {
            let (key, value) = line.split_once('=')?;
            // The downward API writes values as Go writes a quoted text, which JSON reads but for rare escapes.
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.trim_matches('"').to_owned());
            Some((key.trim().to_owned(), value))
        };
        self.files.get(path).map(|text| text.lines().filter_map(pair).collect()).unwrap_or_default()
    }
}

/// The configuration of this pod's sidecar: from its environment, and the texts of [`TOKEN`], [`ROOTS`], [`LABELS`] and
/// [`ANNOTATIONS`], those that are there.
///
/// # Errors
/// [`Refused`], with everything that is missing or wrong.
pub fn read(environment: &BTreeMap<String, String>, files: &BTreeMap<&'static str, String>) -> Result<Config, Refused> {
    let mut given = Given { environment, files, wrong: vec![] };
    let (common, address) = (common(&mut given), given.needed::<IpAddr>("POD_IP"));
    let (control, enrolment) = (given.needed::<String>("ISTHMUS_CONTROL"), enrolment(&mut given));
    let (namespace, account) = (given.needed("POD_NAMESPACE"), given.needed("SERVICE_ACCOUNT"));
    let (workload, probes) = (given.optional("ISTHMUS_WORKLOAD"), given.optional::<Probes>("ISTHMUS_PROBES"));
    let mode = mode(&mut given);
    let (workers, drain) = (given.optional("ISTHMUS_WORKERS"), given.optional("ISTHMUS_DRAIN_DEADLINE_SECONDS"));
    let labels = given.pairs(LABELS);
    let parts = (common, address, control, enrolment, namespace, account);
    match parts {
        (Some(common), Some(application), Some(control), Some(enrolment), Some(namespace), Some(service_account))
            if given.wrong.is_empty() =>
        {
            Ok(Config {
                common: Common { enrolment: Some(Enrolling::Pod(enrolment)), ..common },
                control,
                workload,
                // Pods that were injected by a release before do not say it.
                node: environment.get("NODE_NAME").cloned().unwrap_or_default(),
                namespace,
                service_account,
                labels,
                workers: workers.unwrap_or(WORKERS),
                application,
                probe: None,
                access_log: AccessLog { format: Format::Text, path: None },
                capture: Some(mode),
                resolv_conf: RESOLV_CONF.into(),
                probes: probes.unwrap_or_default().0,
                drain_deadline_seconds: drain.unwrap_or(DRAIN_DEADLINE_SECONDS),
                listeners: vec![],
            })
        }
        _ => Err(Refused(given.wrong)),
    }
}

fn common(given: &mut Given<'_>) -> Option<Common> {
    let locality = Locality {
        region: given.optional("ISTHMUS_REGION").unwrap_or_default(),
        zone: given.optional("ISTHMUS_ZONE").unwrap_or_default(),
    };
    let log = given.optional("ISTHMUS_LOG");
    let (mesh, cluster) = (given.needed("ISTHMUS_MESH"), given.needed("ISTHMUS_CLUSTER"));
    // Pods of two namespaces may have one name; who names the workload names both.
    let (pod, namespace) = (given.needed::<String>("POD_NAME"), given.environment.get("POD_NAMESPACE"));
    let name = pod.zip(namespace).map(|(pod, namespace)| name::of_pod(&pod, namespace));
    // Said once, by whoever makes the whole.
    let address: IpAddr = given.environment.get("POD_IP").and_then(|text| text.parse().ok())?;
    // Everybody reaches the pod's address.
    let admin = Some(isthmus_runtime::listen::loopback(address));
    let (state_dir, enrolment) = (PathBuf::from(STATE), None);
    Some(Common { mesh: mesh?, cluster: cluster?, locality, name: name?, address, state_dir, enrolment, admin, log })
}

/// How the pod proves who it is: by its service account's token, to a control that it knows by the cluster's roots.
fn enrolment(given: &mut Given<'_>) -> Option<PodEnrolment> {
    let trust_domain = given.needed::<TrustDomain>("ISTHMUS_TRUST_DOMAIN");
    given.file(TOKEN, "the volume isthmus-token projects it, inject the pod anew");
    given.file(
        ROOTS,
        "control writes the ConfigMap isthmus-roots into each namespace that has injected pods, look whether control runs",
    );
    let control = given.environment.get("ISTHMUS_CONTROL").cloned().unwrap_or_default();
    let (service_account_token, roots) = (TOKEN.into(), ROOTS.into());
    Some(PodEnrolment { service_account_token, roots, trust_domain: trust_domain?, control })
}

/// By the environment, else by the pod's annotation, which the capture before this sidecar went by.
fn mode(given: &mut Given<'_>) -> Mode {
    if let Some(mode) = given.optional("ISTHMUS_INTERCEPTION_MODE") {
        return mode;
    }
    let Some(text) = given.pairs(ANNOTATIONS).remove(INTERCEPTION_MODE) else { return Mode::default() };
    let mode = text.parse();
    mode.unwrap_or_else(|error| {
        given.wrong.push(format!("the annotation {INTERCEPTION_MODE} is wrong: {error}"));
        Mode::default()
    })
}

#[derive(Default)]
struct Probes(BTreeMap<String, probes::Probe>);

impl FromStr for Probes {
    type Err = probes::Invalid;

    fn from_str(json: &str) -> Result<Self, Self::Err> {
        probes::parse(json).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> BTreeMap<String, String> {
        let pairs = [
            ("POD_NAME", "details-v1-7c9"),
            ("POD_NAMESPACE", "bookinfo"),
            ("POD_UID", "0e5"),
            ("POD_IP", "10.244.1.9"),
            ("NODE_NAME", "n1"),
            ("SERVICE_ACCOUNT", "bookinfo-details"),
            ("ISTHMUS_MESH", "mesh.test"),
            ("ISTHMUS_CLUSTER", "us-east"),
            ("ISTHMUS_CONTROL", "isthmus-control.isthmus-system.svc:15012"),
            ("ISTHMUS_REGION", "us-east"),
            ("ISTHMUS_ZONE", ""),
            ("ISTHMUS_WORKLOAD", "details-v1"),
            ("ISTHMUS_TRUST_DOMAIN", "us-east.mesh.test"),
            ("ISTHMUS_PROBES", r#"{"/app-health/details/livez": {"tcpSocket": {"port": 9080}}}"#),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn files() -> BTreeMap<&'static str, String> {
        let labels = "app=\"details\"\nversion=\"v1\"\n";
        let annotations = "sidecar.istio.io/interceptionMode=\"TPROXY\"\nnote=\"a \\\"b\\\"\\n=c\"\n";
        [(TOKEN, "eyJ\n"), (ROOTS, "pem"), (LABELS, labels), (ANNOTATIONS, annotations)]
            .map(|(path, text)| (path, text.to_owned()))
            .into()
    }

    #[test]
    fn a_pod_is_read_whole() {
        let config = read(&environment(), &files()).unwrap();
        assert_eq!(
            (config.common.name.as_str(), config.common.locality.zone.as_str()),
            ("details-v1-7c9.bookinfo", "")
        );
        assert_eq!((config.application, config.common.address), (config.common.address, [10, 244, 1, 9].into()));
        assert_eq!(config.control, "isthmus-control.isthmus-system.svc:15012");
        assert_eq!((config.namespace.as_str(), config.service_account.as_str()), ("bookinfo", "bookinfo-details"));
        assert_eq!(config.labels.get("version").map(String::as_str), Some("v1"));
        assert_eq!((config.capture, config.probe), (Some(Mode::Tproxy), None));
        assert!(config.probes.contains_key("/app-health/details/livez"));
        assert!(config.common.admin().is_loopback());
        assert_eq!((config.workload(), config.node.as_str()), ("details-v1", "n1"));
        assert_eq!(Config { workload: None, ..config.clone() }.workload(), "details-v1-7c9", "a pod of nothing");
        let Some(Enrolling::Pod(enrolment)) = config.common.enrolment else { panic!("it has no file") };
        assert_eq!((enrolment.trust_domain.as_str(), enrolment.control), ("us-east.mesh.test", config.control));
    }

    #[test]
    fn values_are_read_as_the_downward_api_writes_them() {
        let files = files();
        let given = Given { environment: &BTreeMap::new(), files: &files, wrong: vec![] };
        assert_eq!(given.pairs(ANNOTATIONS).get("note").map(String::as_str), Some("a \"b\"\n=c"));
    }

    #[test]
    fn each_thing_that_is_missing_is_named_once_with_its_remedy() {
        let Refused(wrong) = read(&BTreeMap::new(), &BTreeMap::new()).unwrap_err();
        let needed = ["POD_NAME", "POD_NAMESPACE", "POD_IP", "SERVICE_ACCOUNT", "ISTHMUS_MESH", "ISTHMUS_CLUSTER"];
        for name in needed.iter().chain(&["ISTHMUS_CONTROL", "ISTHMUS_TRUST_DOMAIN", TOKEN, ROOTS]) {
            let said: Vec<_> = wrong.iter().filter(|line| line.starts_with(&format!("{name} is "))).collect();
            assert!(said.len() == 1 && said[0].contains("; "), "{name}: {wrong:?}");
        }
        assert_eq!(wrong.len(), 10);
    }

    #[test]
    fn each_thing_that_is_wrong_is_named_with_the_reason() {
        for (name, value, reason) in [
            ("POD_IP", "10.244.1", "invalid IP address"),
            ("ISTHMUS_CLUSTER", "US_EAST", "US_EAST"),
            ("ISTHMUS_TRUST_DOMAIN", "", "is not set"),
            ("ISTHMUS_PROBES", "{\"/x\": {}}", "/app-health/"),
            ("ISTHMUS_WORKERS", "many", "invalid digit"),
        ] {
            let environment = environment().into_iter().chain([(name.to_owned(), value.to_owned())]).collect();
            let Refused(wrong) = read(&environment, &files()).unwrap_err();
            assert!(wrong.len() == 1 && wrong[0].contains(name) && wrong[0].contains(reason), "{wrong:?}");
        }
    }
}
