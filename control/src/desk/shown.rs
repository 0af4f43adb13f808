//! The desk as people see it: rows made from what is in force, when somebody looks.

use std::{collections::BTreeMap, time::Duration};

use isthmus_core::{
    failover::selector::RELEASE,
    model::{Endpoint, Endpoints, Resource, Service, Standing},
    name::ClusterName,
};

use super::Desk;
use crate::view::{ClusterRow, ConfigRow, DnsRow, EndpointRow, EvidenceRow, ServiceRow, View};

impl Desk {
    /// Everything there is to see.
    pub(super) fn view(&self) -> View {
        View {
            clusters: self.cluster_rows(),
            services: self.services().map(|service| self.service_row(service)).collect(),
            endpoints: self.resources().filter_map(as_endpoints).flat_map(|found| self.endpoint_rows(found)).collect(),
            clients: self.clients.iter().cloned().collect(),
            config: self.config_rows(),
            dns: self.services().filter(|service| service.clusterset).map(|service| self.dns_row(service)).collect(),
            failover: self.failover.rows(&self.compiled.orders, &self.decider, Duration::from_millis(self.now())),
            verbs: self.failover.verb_rows(Duration::from_millis(self.now())),
            history: self.failover.history.all().cloned().collect(),
            speaker: self.speaker.clone(),
        }
    }

    fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.table.snapshot().entries.values().map(|entry| &entry.resource)
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        self.resources().filter_map(|resource| match resource {
            Resource::Service(service) => Some(service),
            _ => None,
        })
    }

    fn cluster_rows(&self) -> Vec<ClusterRow> {
        let now = self.now();
        let remote = self.resources().filter_map(|resource| match resource {
            Resource::Cluster(cluster) => Some(cluster),
            _ => None,
        });
        let own = self.own_row();
        std::iter::once(own)
            .chain(remote.map(|cluster| self.decider.row(cluster, self.world.as_deref(), now)))
            .collect()
    }

    fn own_row(&self) -> ClusterRow {
        let why = match (self.speaker.member, self.federation.quorum) {
            (false, _) => "this cluster; its federation member is not there".to_owned(),
            (true, false) => "this cluster; the federation has no quorum".to_owned(),
            (true, true) => format!("this cluster; the federation is led by {}", self.federation.leader),
        };
        ClusterRow {
            name: self.setting.cluster.to_string(),
            own: true,
            region: self.setting.region.clone(),
            zones: self.setting.zones.clone(),
            standing: if self.speaker.member { Standing::Alive } else { Standing::MemberDown },
            share: 1.0,
            rtt_us: 0,
            loss_ppm: 0,
            transport: "local".into(),
            tunnels: 0,
            lease_age_ms: Some(0),
            lease_by: "own".into(),
            paths: vec![],
            why,
            since_seconds: self.now() / 1000,
            gateways: self.setting.advertise.rows(),
            trust_domain: self.setting.cluster.trust_domain(&self.setting.mesh).to_string(),
            release: RELEASE.into(),
            bound_by: self.bound_by(),
            requests: EvidenceRow::default(),
        }
    }

    fn endpoints_of(&self, service: &Service) -> Option<&Endpoints> {
        let key = format!("endpoints/{}", service.name);
        self.table.snapshot().entries.get(&key).and_then(|entry| as_endpoints(&entry.resource))
    }

    fn service_row(&self, service: &Service) -> ServiceRow {
        let endpoints = self.endpoints_of(service);
        let local = endpoints.map_or(0, |found| found.local.iter().filter(|one| one.state.is_usable()).count());
        let remote = endpoints.map(|found| {
            let usable = |groups: &Vec<isthmus_core::model::Group>| groups.iter().map(|group| group.usable).sum();
            found.remote.iter().map(|(cluster, groups)| (cluster.to_string(), usable(groups))).collect()
        });
        ServiceRow {
            service: service.name.to_string(),
            clusterset: service.clusterset,
            global: service.global,
            exported: service.exported.clone(),
            ports: service.ports.iter().map(|port| format!("{}/{}", port.port, word(&port.protocol))).collect(),
            local_usable: u32::try_from(local).unwrap_or(u32::MAX),
            remote_usable: remote.unwrap_or_default(),
            address_index: service.address_index,
        }
    }

    fn endpoint_rows(&self, endpoints: &Endpoints) -> Vec<EndpointRow> {
        let service = endpoints.service.to_string();
        let local = endpoints.local.iter().map(|endpoint| local_row(&service, self.setting.cluster.as_str(), endpoint));
        let groups = endpoints.remote.iter().flat_map(|(cluster, groups)| groups.iter().map(move |one| (cluster, one)));
        let region_of = |cluster: &ClusterName| {
            self.resources().find_map(|resource| match resource {
                Resource::Cluster(known) if known.name == *cluster => Some(known.region.clone()),
                _ => None,
            })
        };
        let remote = groups.map(|(cluster, group)| EndpointRow {
            service: service.clone(),
            cluster: cluster.to_string(),
            endpoint: format!("{} of {}", group.usable, group.total),
            address: String::new(),
            locality: format!("{}/{}", region_of(cluster).unwrap_or_default(), group.zone),
            state: if group.usable > 0 { "usable" } else { "none" }.into(),
            labels: group.labels.clone(),
            identities: group.identities.iter().map(ToString::to_string).collect(),
            weight: group.weight,
        });
        local.chain(remote).collect()
    }

    fn config_rows(&self) -> Vec<ConfigRow> {
        let listed = self.sources.iter().flat_map(|sources| sources.files.iter());
        let mut rows: BTreeMap<String, ConfigRow> = listed
            .map(|(file, in_force, errors)| {
                let (in_force, former) = (*in_force, *in_force && !errors.is_empty());
                (file.clone(), ConfigRow { file: file.clone(), in_force, former, errors: errors.clone() })
            })
            .collect();
        for fault in &self.compiled.faults {
            let row = rows.entry(fault.file.clone());
            let row = row.or_insert_with(|| ConfigRow {
                file: fault.file.clone(),
                in_force: true,
                former: false,
                errors: vec![],
            });
            row.errors.push(fault.clone());
        }
        rows.into_values().collect()
    }

    fn dns_row(&self, service: &Service) -> DnsRow {
        DnsRow {
            name: service.name.clusterset_host(),
            addresses: self.setting.service_address(service).into_iter().map(|address| address.to_string()).collect(),
            ports: service.ports.iter().map(|port| port.port).collect(),
        }
    }
}

fn as_endpoints(resource: &Resource) -> Option<&Endpoints> {
    match resource {
        Resource::Endpoints(endpoints) => Some(endpoints),
        _ => None,
    }
}

fn local_row(service: &str, cluster: &str, endpoint: &Endpoint) -> EndpointRow {
    EndpointRow {
        service: service.to_owned(),
        cluster: cluster.to_owned(),
        endpoint: endpoint.id.to_string(),
        address: endpoint.address.to_string(),
        locality: endpoint.locality.to_string(),
        state: word(&endpoint.state),
        labels: endpoint.labels.clone(),
        identities: vec![endpoint.identity.to_string()],
        weight: endpoint.weight,
    }
}

/// A word of the mesh as it is written in JSON.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(ToOwned::to_owned)).unwrap_or_default()
}
