//! A network: the namespaces of its clusters, the links between them, and the router, in the order in which they are
//! made and removed.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use isthmus_core::plan::Form;

use super::{
    links::{End, Links},
    namespace::{self, Namespace},
    packet::Doors,
    regions,
    router::{Port, Router},
    settings::Settings,
};
use crate::plan::{
    Plan,
    roles::{MEMBER_PORT, TUNNEL_PORT},
};

/// Decides all that is random in the links of a mesh where nobody names another; a fixed one, so that a run can be repeated.
pub const SEED: u64 = 0x15_7411;

/// A network that runs until it is dropped.
pub struct Network {
    /// What it is like, to be read and changed.
    pub links: Arc<Links>,
    // The router ends before the namespaces whose devices it reads.
    _router: Router,
    namespaces: Vec<Namespace>,
}

impl Network {
    /// Raises the network of a plan: real round trips between its regions. `None`: its clusters are on loopback.
    ///
    /// # Errors
    /// When the user is not root, another run has the addresses, or the system refuses.
    pub fn of(plan: &Plan) -> Result<Option<Self>> {
        if !plan.is_apart() {
            return Ok(None);
        }
        let apart = plan.clusters.iter().filter(|cluster| cluster.form == Form::Namespaces);
        let ends = apart.map(|cluster| End { name: cluster.name.clone(), number: cluster.number }).collect();
        let region = |end: &End| plan.cluster(end.name.as_str()).map_or("", |cluster| cluster.region.as_str());
        let like = |from: &End, to: &End| Settings::with_round_trip(regions::round_trip(region(from), region(to)));
        // Other clusters reach a gateway; and the member of a witness, which has none.
        Self::raise(plan.tuning.wan_seed.unwrap_or(SEED), ends, Doors(vec![TUNNEL_PORT, MEMBER_PORT]), like).map(Some)
    }

    /// Raises a network between these ends.
    ///
    /// # Errors
    /// As [`Network::of`].
    pub fn raise(seed: u64, ends: Vec<End>, doors: Doors, like: impl Fn(&End, &End) -> Settings) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("network namespaces are root's to make; run this as root (sudo), or without --emulate-wan");
        }
        namespace::sweep();
        let namespaces = ends.iter().map(Namespace::make).collect::<Result<Vec<_>>>()?;
        let port =
            |(end, namespace): (&End, &Namespace)| Ok(Port { number: end.number, device: namespace.open_tun()? });
        let ports = ends.iter().zip(&namespaces).map(port).collect::<Result<Vec<_>>>()?;
        let links = Arc::new(Links::new(seed, ends, like));
        let router = Router::start(ports, Arc::clone(&links), doors).context("the router does not start")?;
        Ok(Self { links, _router: router, namespaces })
    }

    /// The names of its namespaces, in the order of its ends.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.iter().map(Namespace::name)
    }
}
