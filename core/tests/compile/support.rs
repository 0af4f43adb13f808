//! Clusters out of text.

use std::{collections::BTreeMap, sync::Arc};

use isthmus_core::{
    compile::{Compiled, Inputs, Other, Setting, Workload, compile, finding::Kind},
    model::{EndpointState, Resource, Service, Standing},
    name::{ClusterName, Locality, ServiceName},
    resource::{Object, parse_documents},
    statement::Gateways,
};

pub const DETAILS: &str = "
apiVersion: v1
kind: Service
metadata: {name: details, namespace: bookinfo}
spec:
  selector: {app: details}
  ports: [{name: http, port: 9080}]
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceExport
metadata: {name: details, namespace: bookinfo}
";
pub const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: details, namespace: bookinfo}
spec: {host: details, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: details, namespace: bookinfo}
spec:
  hosts: [details]
  http: [{route: [{destination: {host: details, subset: v1}, weight: 90}, {destination: {host: details, subset: v9}, weight: 10}], timeout: 2s}]
";

pub const POLICY: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: FailoverPolicy
metadata: {name: resident, namespace: bookinfo}
spec: {services: {names: [details]}, constraints: {never: [west]}}
";

pub struct Cluster {
    pub setting: Setting,
    pub objects: Vec<Object>,
    pub workloads: Vec<Workload>,
    pub others: BTreeMap<ClusterName, Other>,
    pub operators: Vec<ClusterName>,
    pub indexes: BTreeMap<ServiceName, u16>,
}

impl Cluster {
    pub fn new(name: &str, files: &[&str], zones: &[&str]) -> Self {
        let cluster: ClusterName = name.parse().unwrap();
        let setting = Setting {
            mesh: "mesh.local".parse().unwrap(),
            cluster,
            region: name.into(),
            zones: vec![],
            nodes: BTreeMap::new(),
            gateways: vec![],
            advertise: Gateways::both(vec![format!("{name}:15443")]),
            member: None,
            roots: vec![format!("{name} root")],
        };
        let objects = files.iter().flat_map(|text| parse_documents("f.yaml", text)).map(Result::unwrap).collect();
        let workloads = zones.iter().enumerate().map(|(index, zone)| workload(name, index, zone)).collect();
        let (others, operators, indexes) = Default::default();
        Self { setting, objects, workloads, others, operators, indexes }
    }

    pub fn compile(&self) -> Compiled {
        compile(&Inputs {
            setting: &self.setting,
            objects: self.objects.iter().map(|object| ("f.yaml", object)).collect(),
            workloads: &self.workloads,
            others: &self.others,
            indexes: &self.indexes,
            operators: &self.operators,
            born: &BTreeMap::new(),
            pins: &BTreeMap::new(),
        })
    }

    pub fn hears(&mut self, other: &Self) {
        let contents = other.compile().contents.into_iter().map(Arc::new).collect();
        let trust_domain = other.setting.cluster.trust_domain(&other.setting.mesh);
        let (roots, standing) = (other.setting.roots.clone(), Standing::Alive);
        let heard = Other { trust_domain, roots, contents, share: 1.0, standing, rtt_us: 0, stale: false };
        self.others.insert(other.setting.cluster.clone(), heard);
    }
}

pub fn workload(cluster: &str, index: usize, zone: &str) -> Workload {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Workload {
        id: format!("details-{index}").parse().unwrap(),
        identity: format!("spiffe://{cluster}.mesh.local/ns/bookinfo/sa/details").parse().unwrap(),
        labels: [label("app", "details"), label("version", "v1"), label("pod-template-hash", &format!("h{index}"))]
            .into(),
        address: "127.0.0.1:15006".parse().unwrap(),
        locality: Locality { region: cluster.into(), zone: zone.into() },
        state: EndpointState::Ready,
        weight: 1,
        ports: BTreeMap::new(),
    }
}

pub fn service(compiled: &Compiled) -> &Service {
    match compiled.resources.get("service/bookinfo/details") {
        Some(Resource::Service(service)) => service,
        other => panic!("{other:?}"),
    }
}

pub fn remote_usable(compiled: &Compiled) -> u32 {
    let Some(Resource::Endpoints(endpoints)) = compiled.resources.get("endpoints/bookinfo/details") else { return 0 };
    endpoints.remote.values().flatten().map(|group| group.usable).sum()
}

pub fn found(compiled: &Compiled) -> Vec<(Kind, &str)> {
    compiled.findings.iter().map(|one| (one.kind, one.field.as_str())).collect()
}
