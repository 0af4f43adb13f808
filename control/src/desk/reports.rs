//! What proxies and gateways report, and leases, whichever way they come.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use isthmus_core::{model::Resource, statement::Content};
use isthmus_wire::{federation::SignedStatement, feed::Report};
use prost::Message as _;

use super::Desk;
use crate::{clients::Role, decider::Way, heard};

impl Desk {
    pub(super) fn report(&mut self, stream: u64, role: Role, report: Report) {
        let now = self.now();
        for evidence in &report.clusters {
            self.decider.evidence(evidence, now);
        }
        if let Some(proxy) = self.clients.of(stream).filter(|_| role == Role::Proxy).map(|client| client.name.clone()) {
            let now = Duration::from_millis(now);
            report.services.iter().for_each(|evidence| self.failover.evidence(&proxy, evidence, now));
        }
        let Some(gateway) = self.gateways.get(&stream).filter(|_| role == Role::Gateway).cloned() else { return };
        for path in report.paths {
            self.decider.path(&gateway, path, now);
        }
        for lease in report.leases {
            match SignedStatement::decode(lease.as_slice()) {
                Ok(lease) => self.verified_lease(&lease),
                Err(error) => tracing::warn!(%error, gateway, "a gateway reports a lease that is none"),
            }
        }
    }

    /// A lease that came by a tunnel: nobody has verified it yet.
    fn verified_lease(&mut self, lease: &SignedStatement) {
        let key =
            lease.cluster.parse().ok().and_then(|name| Some(self.world.as_ref()?.members.get(&name)?.key.clone()));
        let Some(key) = key else { return };
        match heard::check(&self.setting.mesh, lease, &key) {
            Ok(_) => self.lease(lease, Way::Tunnel),
            Err(error) => {
                self.metrics.heard.with_label_values(&["forged"]).inc();
                tracing::warn!(%error, "a lease from a tunnel is not taken");
            }
        }
    }

    pub(super) fn lease(&mut self, lease: &SignedStatement, way: Way) {
        let Ok(Content::Lease(content)) = serde_json::from_slice(&lease.content) else { return };
        let Ok(cluster) = lease.cluster.parse() else { return };
        let now = self.now();
        if self.decider.lease(&cluster, crate::speaker::version_of(lease), content.member, way, now) {
            self.metrics.leases.with_label_values(&[way.word()]).inc();
            self.failover.limits.heard(&cluster, content);
        }
    }

    pub(super) fn own_lease(&mut self, lease: &SignedStatement) {
        let statement = STANDARD.encode(lease.encode_to_vec());
        match self.table.upsert(Resource::Lease { statement }) {
            Ok(_) => self.hand_out(),
            Err(error) => tracing::error!(%error, "the own lease has no JSON"),
        }
    }
}
