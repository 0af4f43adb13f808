//! All that was seen of a cluster: what is in force until something else is seen.
//!
//! A kind is replaced only by a whole list of it; until this run has one, what an earlier run saw stands. So a control that
//! starts without an API server goes on with what it had, kind by kind.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    arrived::{Arrived, Place, Read},
    exposed::Exposing,
    kind::Kind,
    node::Node,
    pod::{Pod, PodName},
    status::Standing,
};

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum Told {
    /// All objects of a kind there are; none where the kind is not installed.
    All(Kind, Vec<Arrived>),
    /// An object as it is now.
    One(Kind, Box<Arrived>),
    /// An object is gone.
    Gone(Kind, Place),
}

impl Told {
    /// The kind it is about.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::All(kind, _) | Self::One(kind, _) | Self::Gone(kind, _) => *kind,
        }
    }
}

/// Pods by name.
pub type Pods = BTreeMap<PodName, Pod>;

/// What was seen, and what of it an earlier run saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// By kind and by the name that stands where a file's would.
    documents: BTreeMap<Kind, BTreeMap<String, String>>,
    pods: Pods,
    nodes: BTreeMap<String, Node>,
    /// By the name of its document: how a Service exposes the gateways.
    exposing: BTreeMap<String, Exposing>,
    /// By the name of its document: how an object stands. Of this run alone.
    standings: BTreeMap<String, Standing>,
    /// Kinds that this run has a list of.
    listed: BTreeSet<Kind>,
}

/// What is kept on disk of it, beside the documents: those are kept as the last that were good.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pods: Vec<(PodName, Pod)>,
    nodes: BTreeMap<String, Node>,
    #[serde(default)]
    exposing: BTreeMap<String, Exposing>,
}

impl Seen {
    /// What an earlier run saw: its documents by file name, and the rest.
    #[must_use]
    pub fn restored(documents: &BTreeMap<String, String>, kept: Kept) -> Self {
        let Kept { pods, nodes, exposing } = kept;
        let mut seen = Self { pods: pods.into_iter().collect(), nodes, exposing, ..Self::default() };
        for (file, text) in documents {
            let kind = Kind::ALL.into_iter().find(|kind| file.split('/').next() == Some(kind.word()));
            if let Some(kind) = kind {
                seen.documents.entry(kind).or_default().insert(file.clone(), text.clone());
            }
        }
        seen
    }

    /// What to keep on disk beside the documents.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let pods = self.pods.iter().map(|(name, pod)| (name.clone(), pod.clone())).collect();
        Kept { pods, nodes: self.nodes.clone(), exposing: self.exposing.clone() }
    }

    /// Whether this run has a list of every kind.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.listed.len() == Kind::ALL.len()
    }

    /// Kinds that this run has no list of yet.
    pub fn missing(&self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(|kind| !self.listed.contains(kind))
    }

    /// Documents by the name that stands where a file's would.
    pub fn documents(&self) -> impl Iterator<Item = (&str, &str)> {
        self.documents.values().flatten().map(|(file, text)| (file.as_str(), text.as_str()))
    }

    /// The pods.
    #[must_use]
    pub fn pods(&self) -> &Pods {
        &self.pods
    }

    /// A node, as far as it was seen.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// The nodes by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(name, node)| (name.as_str(), node))
    }

    /// The Services of a namespace that expose the gateways, by name.
    pub fn exposing(&self, namespace: &str) -> impl Iterator<Item = (&str, &Exposing)> {
        let of = |(file, service)| Some((String::as_str(file).strip_prefix("Service/")?.split_once('/')?, service));
        let all = self.exposing.iter().filter_map(of);
        all.filter(move |((of, _), _)| *of == namespace).map(|((_, name), service)| (name, service))
    }

    /// How objects stand of which that is ours to say.
    pub fn standings(&self) -> impl Iterator<Item = &Standing> {
        self.standings.values()
    }

    /// Takes what a watch tells; whether anything is other than before, but for how objects stand.
    pub fn take(&mut self, told: Told) -> bool {
        match told {
            Told::All(kind, objects) => self.all(kind, objects),
            Told::One(kind, object) => self.one(kind, *object),
            Told::Gone(kind, place) => self.gone(kind, &place),
        }
    }

    fn all(&mut self, kind: Kind, objects: Vec<Arrived>) -> bool {
        let mut changed = self.listed.insert(kind);
        let here: BTreeSet<&Place> = objects.iter().map(|object| &object.place).collect();
        for place in self.places(kind) {
            if !here.contains(&place) {
                changed |= self.gone(kind, &place);
            }
        }
        for object in objects {
            changed |= self.one(kind, object);
        }
        changed
    }

    /// Where objects of a kind are.
    fn places(&self, kind: Kind) -> Vec<Place> {
        let place = |namespace: &str, name: &str| Place { namespace: namespace.to_owned(), name: name.to_owned() };
        match kind {
            Kind::Pod => self.pods.keys().map(|pod| place(&pod.namespace, &pod.name)).collect(),
            Kind::Node => self.nodes.keys().map(|node| place("", node)).collect(),
            _ => {
                let files = self.documents.get(&kind).into_iter().flat_map(BTreeMap::keys);
                let parts = files.filter_map(|file| file.split_once('/').map(|(_, rest)| rest));
                parts
                    .map(|rest| rest.split_once('/').map_or_else(|| place("", rest), |(ns, name)| place(ns, name)))
                    .collect()
            }
        }
    }

    fn one(&mut self, kind: Kind, object: Arrived) -> bool {
        let Arrived { place, read, standing } = object;
        if let Some(standing) = standing {
            self.standings.insert(place.file(kind), standing);
        }
        match read {
            Read::Document(text) => self.document(kind, &place, text),
            Read::Service { text, exposing } => {
                let file = place.file(kind);
                let before = match exposing.clone() {
                    None => self.exposing.remove(&file),
                    Some(exposing) => self.exposing.insert(file, exposing),
                };
                self.document(kind, &place, text) | (before != exposing)
            }
            Read::Pod(Some(pod)) => {
                let differs = |before: &Pod| *before != pod;
                let name = PodName::new(&place.namespace, &place.name);
                let changed = self.pods.get(&name).is_none_or(differs);
                self.pods.insert(name, pod);
                changed
            }
            Read::Pod(None) => self.gone(kind, &place),
            Read::Node(node) => self.nodes.insert(place.name, node.clone()) != Some(node),
        }
    }

    fn document(&mut self, kind: Kind, place: &Place, text: String) -> bool {
        let of_kind = self.documents.entry(kind).or_default();
        let file = place.file(kind);
        let changed = of_kind.get(&file) != Some(&text);
        of_kind.insert(file, text);
        changed
    }

    fn gone(&mut self, kind: Kind, place: &Place) -> bool {
        let file = place.file(kind);
        match kind {
            Kind::Pod => self.pods.remove(&PodName::new(&place.namespace, &place.name)).is_some(),
            Kind::Node => self.nodes.remove(&place.name).is_some(),
            _ => {
                self.exposing.remove(&file);
                self.standings.remove(&file);
                self.documents.get_mut(&kind).is_some_and(|of_kind| of_kind.remove(&file).is_some())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn arrived(kind: Kind, namespace: &str, name: &str, more: serde_json::Value) -> Arrived {
        let mut object = json!({"metadata": {"name": name, "namespace": namespace}});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Arrived::of(kind, serde_json::from_value(object).unwrap()).unwrap()
    }

    fn service(name: &str, port: u16) -> Arrived {
        arrived(Kind::Service, "shop", name, json!({"spec": {"ports": [{"port": port}]}}))
    }

    fn pod(name: &str, ready: &str) -> Arrived {
        let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]});
        arrived(Kind::Pod, "shop", name, json!({"spec": {}, "status": status}))
    }

    fn files(seen: &Seen) -> Vec<&str> {
        seen.documents().map(|(file, _)| file).collect()
    }

    #[test]
    fn only_a_whole_list_takes_away_what_it_does_not_have() {
        let mut seen = Seen::default();
        assert!(seen.take(Told::All(Kind::Service, vec![service("a", 1), service("b", 1)])));
        assert!(seen.take(Told::All(Kind::Pod, vec![pod("a-1", "True")])));
        assert!(!seen.take(Told::All(Kind::Service, vec![service("a", 1), service("b", 1)])), "listed again, the same");
        assert!(seen.take(Told::All(Kind::Service, vec![service("b", 1)])));
        assert_eq!(files(&seen), ["Service/shop/b"]);
        assert_eq!(seen.pods().len(), 1, "a list of Services says nothing of pods");
    }

    #[test]
    fn only_what_somebody_reads_counts_as_a_change() {
        let mut seen = Seen::default();
        seen.take(Told::All(Kind::Pod, vec![pod("a-1", "True")]));
        assert!(!seen.take(Told::One(Kind::Pod, Box::new(pod("a-1", "True")))));
        assert!(seen.take(Told::One(Kind::Pod, Box::new(pod("a-1", "False")))));
        assert!(seen.take(Told::Gone(Kind::Pod, Place { namespace: "shop".into(), name: "a-1".into() })));
        assert!(!seen.take(Told::Gone(Kind::Pod, Place { namespace: "shop".into(), name: "a-1".into() })));
    }

    #[test]
    fn what_an_earlier_run_saw_stands_until_its_kind_is_listed() {
        let mut before = Seen::default();
        before.take(Told::All(Kind::Service, vec![service("a", 1)]));
        before.take(Told::All(Kind::Pod, vec![pod("a-1", "True")]));
        let documents = before.documents().map(|(file, text)| (file.to_owned(), text.to_owned())).collect();
        let on_disk = serde_json::to_string(&before.kept()).unwrap();
        let mut again = Seen::restored(&documents, serde_json::from_str(&on_disk).unwrap());
        assert_eq!((files(&again), again.pods()), (vec!["Service/shop/a"], before.pods()));
        assert!(again.take(Told::All(Kind::Pod, vec![])), "the pods are listed now, and there are none");
        assert!(again.pods().is_empty());
        assert_eq!(files(&again), ["Service/shop/a"], "Services are not listed yet");
        assert_eq!(again.missing().count(), Kind::ALL.len() - 1);
        for kind in Kind::ALL {
            again.take(Told::All(kind, vec![]));
        }
        assert!(again.is_complete() && again.documents().count() == 0);
    }

    #[test]
    fn how_a_service_exposes_the_gateways_comes_and_goes_with_it() {
        let at = |kind: &str, ip: &str| {
            let status = json!({"loadBalancer": {"ingress": [{"ip": ip}]}});
            let labels = json!({"app.kubernetes.io/name": "isthmus", "app.kubernetes.io/component": "gateway"});
            let metadata = json!({"name": "edge", "namespace": "shop", "labels": labels});
            let spec = json!({"type": kind, "ports": [{"port": 15443}]});
            arrived(Kind::Service, "shop", "edge", json!({"metadata": metadata, "spec": spec, "status": status}))
        };
        let mut seen = Seen::default();
        let mut one = |kind, ip| seen.take(Told::One(Kind::Service, Box::new(at(kind, ip))));
        assert!(one("LoadBalancer", "10.0.0.1") && one("LoadBalancer", "10.0.0.2"));
        assert!(!one("LoadBalancer", "10.0.0.2"));
        assert_eq!((seen.exposing("shop").count(), seen.exposing("bank").count()), (1, 0));
        assert!(seen.take(Told::One(Kind::Service, Box::new(at("ClusterIP", "")))));
        assert_eq!(seen.exposing("shop").count(), 0);
        seen.take(Told::One(Kind::Service, Box::new(at("NodePort", ""))));
        assert!(seen.take(Told::All(Kind::Service, vec![])) && seen.exposing("shop").count() == 0);
    }
}
