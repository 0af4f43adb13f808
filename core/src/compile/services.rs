//! Services with their routes, subsets and policies.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use super::{
    Inputs,
    finding::{Finding, Kind},
    global,
    references::At,
};
use crate::{
    model::{HttpMatch, HttpRoute, Outlier, Retries, Service, StringMatch, Subset, TrafficPolicy, WeightedDestination},
    name::{ClusterName, ServiceName},
    plan::SERVICE_INDEXES,
    resource::{Body, Object, istio, kubernetes},
    statement::{Consumers, Export, Port, Protocol},
};

/// A service as the own files have it.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) name: Option<ServiceName>,
    pub(super) defined: bool,
    pub(super) global: bool,
    pub(super) ports: Vec<Port>,
    /// Of each port, the port of its application.
    pub(super) targets: BTreeMap<u16, kubernetes::TargetPort>,
    /// Whether its endpoints count as ready before they are.
    pub(super) publishes_not_ready: bool,
    /// Where its Service stands, for findings.
    pub(super) defined_at: (String, u64),
    pub(super) selector: BTreeMap<String, String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) exported: Option<Consumers>,
    pub(super) labels: BTreeMap<String, String>,
    /// Requests a second that one endpoint can take.
    pub(super) capacity: Option<f64>,
    routes: Vec<HttpRoute>,
    subsets: BTreeMap<String, Subset>,
    policy: TrafficPolicy,
    /// Ports that are not carried, for findings.
    not_carried: Vec<String>,
    /// The file of its routes.
    routed_by: Option<String>,
    /// Where each of its routes stands.
    pub(super) routes_at: Vec<At>,
    /// Where routes and rules name it.
    pub(super) named_at: Vec<At>,
    /// Where it is exported.
    pub(super) exported_at: Vec<At>,
    /// Its Service is but another name for something outside.
    pub(super) external: bool,
}

pub(super) fn drafts(inputs: &Inputs<'_>, findings: &mut Vec<Finding>) -> BTreeMap<ServiceName, Draft> {
    let global_namespaces = global::namespaces(inputs);
    let mut drafts = BTreeMap::<ServiceName, Draft>::new();
    for (file, object) in &inputs.objects {
        let mut find = |kind: Kind, field: &str, reason: String| {
            findings.push(Finding { file: (*file).to_owned(), line: object.line, field: field.into(), kind, reason });
        };
        match own_host(object) {
            None => {}
            Some(Err((field, reason))) => find(Kind::Void, field, reason),
            Some(Ok(names)) => {
                let kind = if is_routed(object, &names, &drafts) { Kind::Conflicted } else { Kind::Invalid };
                for name in names {
                    let draft = drafts.entry(name.clone()).or_default();
                    draft.name = Some(name.clone());
                    draft.global |= global_namespaces.contains(name.namespace());
                    draft.take(file, object, &mut |field: &str, reason| find(kind, field, reason));
                }
            }
        }
    }
    for (_, object) in &inputs.objects {
        let name = ServiceName::new(&object.metadata.namespace, &object.metadata.name);
        if let (Body::Service(spec), Ok(name)) = (&object.body, name)
            && let Some(draft) = drafts.get_mut(&name)
        {
            draft.external |= spec.is_external();
        }
    }
    findings.extend(drafts.values().flat_map(Draft::not_carried));
    findings.extend(global::unclear(inputs));
    drafts
}

/// Whether others route all that a VirtualService is about.
fn is_routed(object: &Object, names: &[ServiceName], drafts: &BTreeMap<ServiceName, Draft>) -> bool {
    let by_others = |name: &ServiceName| drafts.get(name).is_some_and(|draft| draft.routed_by.is_some());
    matches!(object.body, Body::VirtualService(_)) && names.iter().all(by_others)
}

fn capacity(annotations: &BTreeMap<String, String>, find: &mut impl FnMut(&str, String)) -> Option<f64> {
    let written = annotations.get(kubernetes::CAPACITY)?;
    let number = written.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite());
    if number.is_none() {
        let field = format!("metadata.annotations[{}]", kubernetes::CAPACITY);
        find(&field, format!("{written:?} is no number of requests a second above 0; the annotation is left out"));
    }
    number
}

type Named = Result<Vec<ServiceName>, (&'static str, String)>;

/// Which services an object is about.
fn own_host(object: &Object) -> Option<Named> {
    let namespace = object.metadata.namespace.as_str();
    let named = |name: &str| ServiceName::new(namespace, name).map_err(|error| ("metadata", error.to_string()));
    match &object.body {
        Body::Service(spec) if spec.is_external() => None,
        Body::Service(_) | Body::ServiceExport(_) => Some(named(&object.metadata.name).map(|name| vec![name])),
        Body::DestinationRule(rule) => {
            Some(resolve(&rule.host, namespace).map(|name| vec![name]).map_err(|reason| ("spec.host", reason)))
        }
        Body::VirtualService(service) if service.hosts.is_empty() => {
            Some(Err(("spec.hosts", "it names no host; name the service whose requests it routes".into())))
        }
        Body::VirtualService(service) => {
            let hosts: Result<Vec<_>, _> = service.hosts.iter().map(|host| resolve(host, namespace)).collect();
            Some(hosts.map_err(|reason| ("spec.hosts", reason)))
        }
        Body::Namespace | Body::EndpointSlice(_) | Body::MeshCluster(_) | Body::FailoverPolicy(_) => None,
    }
}

/// `name`, `name.namespace`, or a full service name.
fn resolve(host: &str, namespace: &str) -> Result<ServiceName, String> {
    if let Some((name, _)) = ServiceName::from_host(host) {
        return Ok(name);
    }
    let parts: Vec<_> = host.split('.').collect();
    let named = match parts.as_slice() {
        [name] => ServiceName::new(namespace, name),
        [name, namespace] | [name, namespace, "svc"] => ServiceName::new(namespace, name),
        _ => {
            return Err(format!(
                "{host:?} is no service of the mesh; write name, name.namespace or a full service name"
            ));
        }
    };
    named.map_err(|error| error.to_string())
}

impl Draft {
    fn take(&mut self, file: &str, object: &Object, find: &mut impl FnMut(&str, String)) {
        let at = |field: String| At { file: file.to_owned(), line: object.line, field };
        match &object.body {
            Body::Service(spec) => {
                self.labels.clone_from(&object.metadata.labels);
                self.capacity = capacity(&object.metadata.annotations, find);
                self.defined_at = (file.to_owned(), object.line);
                self.take_service(spec, global::is_said(object));
            }
            Body::ServiceExport(spec) => {
                self.exported = Some(spec.consumers.clone().map_or(Consumers::All, Consumers::Clusters));
                self.exported_at.push(at("metadata.name".into()));
            }
            Body::DestinationRule(rule) => {
                self.named_at.push(at("spec.host".into()));
                self.take_rule(rule, find);
            }
            Body::VirtualService(spec) => {
                self.named_at.push(at("spec.hosts".into()));
                if let Some(other) = &self.routed_by {
                    find("spec.hosts", format!("{other} routes this host already; one VirtualService a host"));
                    return;
                }
                self.routed_by = Some(file.to_owned());
                let namespace = object.metadata.namespace.as_str();
                for (index, route) in spec.http.iter().enumerate() {
                    if let Some(route) = http_route(index, route, namespace, find) {
                        self.routes.push(route);
                        self.routes_at.push(at(format!("spec.http[{index}].route")));
                    }
                }
            }
            Body::Namespace | Body::EndpointSlice(_) | Body::MeshCluster(_) | Body::FailoverPolicy(_) => {}
        }
    }

    fn take_service(&mut self, spec: &kubernetes::ServiceSpec, global: bool) {
        self.defined = true;
        self.publishes_not_ready = spec.publish_not_ready_addresses;
        self.global |= global;
        self.selector = spec.selector.clone();
        self.addresses = spec.addresses();
        for (index, port) in spec.ports.iter().enumerate() {
            if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
                self.not_carried.push(format!("spec.ports[{index}].protocol"));
                continue;
            }
            let target = port.target_port.clone().unwrap_or(kubernetes::TargetPort::Number(port.port));
            self.targets.insert(port.port, target);
            self.ports.push(Port { name: port.name.clone(), port: port.port, protocol: protocol_of(port) });
        }
    }

    /// Every cluster has Services with UDP ports, its DNS for one. Only where somebody offers one to other clusters is it
    /// worth a word.
    fn not_carried(&self) -> impl Iterator<Item = Finding> {
        let offered = self.exported.is_some();
        let finding = |field: &String| Finding {
            file: self.defined_at.0.clone(),
            line: self.defined_at.1,
            field: field.clone(),
            kind: Kind::Invalid,
            reason: "only TCP is carried; the port is left out".into(),
        };
        self.not_carried.iter().filter(move |_| offered).map(finding)
    }

    fn take_rule(&mut self, rule: &istio::DestinationRuleSpec, find: &mut impl FnMut(&str, String)) {
        for (index, subset) in rule.subsets.iter().enumerate() {
            if self.subsets.contains_key(&subset.name) {
                let reason = format!("{} has a subset {:?} already; this one is left out", rule.host, subset.name);
                find(&format!("spec.subsets[{index}].name"), reason);
                continue;
            }
            self.subsets.insert(subset.name.clone(), Subset { labels: subset.labels.clone() });
        }
        let Some(policy) = &rule.traffic_policy else { return };
        if let Some(outlier) = &policy.outlier_detection {
            let default = Outlier::default();
            self.policy.outlier = Outlier {
                consecutive_errors: outlier.consecutive_5xx_errors.unwrap_or(default.consecutive_errors),
                base_ejection: outlier.base_ejection_time.unwrap_or(default.base_ejection),
                max_ejection_percent: outlier.max_ejection_percent.unwrap_or(default.max_ejection_percent),
            };
        }
        let tcp = policy.connection_pool.as_ref().and_then(|pool| pool.tcp.as_ref());
        if let Some(timeout) = tcp.and_then(|tcp| tcp.connect_timeout) {
            self.policy.connect_timeout = timeout;
        }
    }
}

/// `appProtocol`, else the first part of the port's name, as Istio has it.
fn protocol_of(port: &kubernetes::ServicePort) -> Protocol {
    let word = port.app_protocol.as_deref().unwrap_or_else(|| port.name.split('-').next().unwrap_or_default());
    match word {
        "http" | "kubernetes.io/ws" => Protocol::Http,
        "http2" | "kubernetes.io/h2c" => Protocol::Http2,
        "grpc" => Protocol::Grpc,
        "tcp" | "mysql" | "mongo" | "redis" => Protocol::Tcp,
        "tls" | "https" => Protocol::Tls,
        _ => Protocol::Detect,
    }
}

fn http_route(
    index: usize,
    route: &istio::HttpRoute,
    namespace: &str,
    find: &mut impl FnMut(&str, String),
) -> Option<HttpRoute> {
    let field = format!("spec.http[{index}].route");
    if route.route.is_empty() {
        find(&field, "a route needs a destination; the rule is left out".into());
        return None;
    }
    let mut destinations = vec![];
    for to in &route.route {
        match resolve(&to.destination.host, namespace) {
            Ok(service) => destinations.push(WeightedDestination {
                service,
                subset: to.destination.subset.clone(),
                port: to.destination.port.map(|port| port.number),
                weight: to.weight.unwrap_or(u32::from(route.route.len() == 1)),
            }),
            Err(reason) => find(&field, reason),
        }
    }
    let retries = route.retries.as_ref().map_or_else(Retries::default, |retries| Retries {
        attempts: retries.attempts,
        per_try_timeout: retries.per_try_timeout,
    });
    let matches = route.matches.iter().map(http_match).collect();
    let name = if route.name.is_empty() { format!("{index}") } else { route.name.clone() };
    Some(HttpRoute { name, matches, destinations, timeout: route.timeout, retries })
}

fn http_match(rule: &istio::HttpMatch) -> HttpMatch {
    let text = |text: &istio::StringMatch| match text {
        istio::StringMatch::Exact(exact) => StringMatch::Exact(exact.clone()),
        istio::StringMatch::Prefix(prefix) => StringMatch::Prefix(prefix.clone()),
    };
    HttpMatch {
        uri: rule.uri.as_ref().map(text),
        method: rule.method.as_ref().map(text),
        headers: rule.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), text(value))).collect(),
        port: rule.port,
    }
}

/// The service as clients see it: the own definition, else what its exporters say of its ports.
pub(super) fn finish(
    name: &ServiceName,
    draft: Option<&Draft>,
    exports: &[(ClusterName, &Export)],
    (address_index, set_address): (Option<u16>, Option<Ipv4Addr>),
) -> Service {
    let draft = draft.cloned().unwrap_or_default();
    let ports = if draft.defined {
        draft.ports
    } else {
        exports.first().map(|(_, export)| export.ports.clone()).unwrap_or_default()
    };
    let exported = draft.exported.filter(|_| draft.defined);
    let clusterset = exported.is_some() || !exports.is_empty();
    Service {
        name: name.clone(),
        global: draft.global,
        clusterset,
        address_index,
        set_address: set_address.filter(|_| clusterset),
        addresses: draft.addresses,
        ports,
        exported,
        routes: draft.routes,
        subsets: draft.subsets,
        policy: draft.policy,
    }
}

/// Address indexes: those given stay, new services take the lowest free, in the order of names.
pub(super) fn indexes<'a>(
    names: impl Iterator<Item = &'a ServiceName>,
    given: &BTreeMap<ServiceName, u16>,
) -> BTreeMap<ServiceName, u16> {
    let mut all = given.clone();
    let taken: BTreeSet<u16> = all.values().copied().collect();
    let mut free = SERVICE_INDEXES.filter(|index| !taken.contains(index));
    for name in names {
        if !all.contains_key(name) {
            all.extend(free.next().map(|index| (name.clone(), index)));
        }
    }
    all
}
