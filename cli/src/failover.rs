//! Failover as operators see it and act on it: `cluster drain`, `service evacuate`, `failover status` and the others.
//!
//! | module | idea |
//! | --- | --- |
//! | [`controls`] | which controls are asked, and which did not answer |
//! | [`verbs`] | what is done for a while, and taken back |
//! | [`in_force`] | pure: what is in force, as all clusters together know it |
//! | [`status`] | where requests go, and why |
//! | [`history`] | what happened, of all clusters |
//! | [`simulate`] | what would go where |
//! | [`drill`] | a drain at once that is watched |
//! | [`clock`] | times as people read them |

mod clock;
mod controls;
mod drill;
mod history;
mod in_force;
mod simulate;
mod status;
mod verbs;

use anyhow::Result;
use isthmus_core::{failover::verb::Deed, name::ClusterName};
use isthmus_scenarios::state::StateDir;

use crate::{
    args::{Drain, Failover, Place, Service},
    listing::parse_service,
};

pub async fn run(state: &StateDir, command: Failover) -> Result<()> {
    match command {
        Failover::Status { service, look } => status::run(state, service.as_deref(), &look).await,
        Failover::Verbs(look) => verbs::list(state, &look).await,
        Failover::History(look) => history::run(state, &look).await,
        Failover::Simulate { down, fail_on_loss, look } => simulate::run(state, &down, fail_on_loss, &look).await,
        Failover::Drill { cluster, lasts, reason, look } => {
            drill::run(state, drill::Asked { cluster, lasts, reason }, &look).await
        }
    }
}

/// `isthmus service`.
pub async fn service(state: &StateDir, command: Service) -> Result<()> {
    match command {
        Service::Evacuate { service, from, pace, act } => {
            let deed = Deed::Evacuate { service: parse_service(&service)?, cluster: from, over: pace.over };
            verbs::act(state, deed, act).await
        }
        Service::Restore { service, from, place } => {
            let over = std::time::Duration::ZERO;
            verbs::undo(state, &Deed::Evacuate { service: parse_service(&service)?, cluster: from, over }, &place).await
        }
        Service::Pin { service, to, act } => {
            verbs::act(state, Deed::Pin { service: parse_service(&service)?, cluster: to }, act).await
        }
        Service::Unpin { service, place } => verbs::unpin(state, parse_service(&service)?, &place).await,
    }
}

/// `isthmus cluster drain`.
pub async fn drain(state: &StateDir, Drain { cluster, pace, act }: Drain) -> Result<()> {
    verbs::act(state, Deed::Drain { cluster, over: pace.over }, act).await
}

/// `isthmus cluster undrain`.
pub async fn undrain(state: &StateDir, cluster: ClusterName, place: &Place) -> Result<()> {
    verbs::undo(state, &Deed::Drain { cluster, over: std::time::Duration::ZERO }, place).await
}
