//! Where the own gateways, the own member and the own zones are: as the configuration says, its names resolved again and
//! again; what it does not say, as Kubernetes shows it. All of it may change while control runs.

use std::{net::SocketAddr, time::Duration};

use isthmus_core::compile::Setting;
use isthmus_kubernetes::Facts;
use isthmus_runtime::{backoff::Backoff, drain::Drain};

use crate::{
    address::Address,
    config::Config,
    handle::{Handle, Message},
};

/// Names that have an address are looked up again after so long: a Service that was made anew has another one.
const AGAIN: Duration = Duration::from_secs(10);
/// Those that have none yet, sooner.
const SOON: Duration = Duration::from_millis(200);

/// Addresses of what the configuration names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The own member.
    pub member: Option<SocketAddr>,
    /// The own gateways.
    pub gateways: Vec<SocketAddr>,
}

/// What holds now, of what the configuration says (`configured`) and what is known beside it.
#[must_use]
pub fn settle(configured: &Setting, resolved: &Resolved, facts: Option<&Facts>) -> Setting {
    let nothing = Facts::default();
    let shown = facts.unwrap_or(&nothing);
    let first =
        |lists: [&Vec<SocketAddr>; 3]| lists.into_iter().find(|list| !list.is_empty()).cloned().unwrap_or_default();
    // Said is said: a transport that the configuration leaves out does not get through.
    let advertise = if configured.advertise.is_empty() { &shown.advertise } else { &configured.advertise };
    let zones = if configured.zones.is_empty() { &shown.zones } else { &configured.zones };
    Setting {
        member: resolved.member.or(configured.member),
        gateways: first([&resolved.gateways, &configured.gateways, &shown.gateways]),
        advertise: advertise.clone(),
        zones: zones.clone(),
        nodes: shown.nodes.clone(),
        ..configured.clone()
    }
}

/// What is to be looked up.
pub struct Resolver {
    member: Address,
    gateways: Vec<Address>,
    last: Resolved,
    /// The name that cannot be looked up, which was said.
    failing: Option<String>,
}

impl Resolver {
    /// `None`: the configuration has no names.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let (member, gateways) = (config.member.clone(), config.gateways.clone());
        let named = gateways.iter().chain([&member]).any(|address| address.literal().is_none());
        named.then(|| Self { member, gateways, last: Resolved::default(), failing: None })
    }

    /// Looks up, now and again, until the drain. What cannot be looked up keeps the address that it had.
    pub async fn run(mut self, desk: Handle, drain: Drain) {
        let mut backoff = Backoff::new(SOON, AGAIN);
        loop {
            let wait = tokio::select! {
                () = drain.draining() => return,
                complete = self.look(&desk) => if complete { backoff.reset(); AGAIN } else { backoff.next() },
            };
            tokio::select! {
                () = drain.draining() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Whether every name had an address.
    async fn look(&mut self, desk: &Handle) -> bool {
        let (mut now, mut failing) = (self.last.clone(), None);
        match addresses(&self.member).await {
            Ok(found) => now.member = found.into_iter().min(),
            Err(reason) => failing = Some(reason),
        }
        let mut gateways = vec![];
        for gateway in &self.gateways {
            match addresses(gateway).await {
                Ok(found) => gateways.extend(found),
                Err(reason) => failing = Some(reason),
            }
        }
        gateways.sort_unstable();
        gateways.dedup();
        if failing.is_none() || now.gateways.is_empty() {
            now.gateways = gateways;
        }
        if now != self.last {
            self.last = now.clone();
            desk.tell(Message::Resolved(now)).await;
        }
        let complete = failing.is_none();
        if let Some(reason) = failing.as_ref().filter(|reason| self.failing.as_ref() != Some(*reason)) {
            tracing::warn!(reason, "a name of the configuration has no address now; one that it had stays");
        }
        self.failing = failing;
        complete
    }
}

async fn addresses(address: &Address) -> Result<Vec<SocketAddr>, String> {
    match address.resolve().await {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{address}: the name is there and has no address")),
        Err(error) => Err(format!("{address}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use isthmus_core::statement::Gateways;

    use super::*;

    fn configured() -> Setting {
        Setting {
            mesh: "mesh.test".parse().unwrap(),
            cluster: "us-east".parse().unwrap(),
            region: "us-east".into(),
            zones: vec![],
            nodes: Default::default(),
            gateways: vec![],
            advertise: Gateways::default(),
            member: None,
            roots: vec![],
        }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_the_configuration_does_not_say_is_as_kubernetes_shows_it() {
        let facts = Facts {
            gateways: vec![at("10.0.0.1:15444")],
            advertise: Gateways::both(vec!["lb.example:15443".into()]),
            zones: vec!["east-a".into()],
            nodes: [("n1".to_owned(), Default::default())].into(),
            ..Facts::default()
        };
        let settled = settle(&configured(), &Resolved::default(), Some(&facts));
        assert_eq!((settled.gateways, settled.advertise), (facts.gateways.clone(), facts.advertise.clone()));
        assert_eq!((settled.zones, settled.nodes), (facts.zones.clone(), facts.nodes.clone()));
        let edge = Gateways { udp: vec!["edge:443".into()], tcp: vec![] };
        let said = Setting { advertise: edge, gateways: vec![at("10.9.9.9:1")], ..configured() };
        let settled = settle(&said, &Resolved::default(), Some(&facts));
        assert_eq!((settled.gateways, settled.advertise), (said.gateways.clone(), said.advertise.clone()));
        let named = Resolved { member: Some(at("10.0.0.5:15050")), gateways: vec![at("10.9.9.8:1")] };
        let settled = settle(&said, &named, None);
        assert_eq!((settled.gateways, settled.member), (named.gateways, named.member));
    }
}
