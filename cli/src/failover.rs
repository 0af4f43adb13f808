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

use crate::{
    args::{Drain, Failover, Fate, How, Service},
    listing::parse_service,
    reach::Reach,
};

pub async fn run(reach: &Reach, command: Failover) -> Result<()> {
    match command {
        Failover::Status { service, look } => status::run(reach, service.as_deref(), &look).await,
        Failover::Verbs(look) => verbs::list(reach, &look).await,
        Failover::History(look) => history::run(reach, &look).await,
        Failover::Simulate { fate: Fate { down, drained }, fail_on_loss, look } => {
            simulate::run(reach, simulate::Asked { down: &down, drained: &drained, fail_on_loss }, &look).await
        }
        Failover::Drill { cluster, lasts, reason, look } => {
            drill::run(reach, drill::Asked { cluster, lasts, reason }, &look).await
        }
    }
}

/// `isthmus service`.
pub async fn service(reach: &Reach, command: Service) -> Result<()> {
    match command {
        Service::Evacuate { service, from, pace, act } => {
            let deed = Deed::Evacuate { service: parse_service(&service)?, cluster: from, over: pace.over };
            verbs::act(reach, deed, act).await
        }
        Service::Restore { service, from, undo } => {
            let over = std::time::Duration::ZERO;
            verbs::undo(reach, &Deed::Evacuate { service: parse_service(&service)?, cluster: from, over }, &undo).await
        }
        Service::Pin { service, to, act } => {
            verbs::act(reach, Deed::Pin { service: parse_service(&service)?, cluster: to }, act).await
        }
        Service::Unpin { service, undo } => verbs::unpin(reach, parse_service(&service)?, &undo).await,
    }
}

/// `isthmus cluster drain`.
pub async fn drain(reach: &Reach, Drain { cluster, pace, act }: Drain) -> Result<()> {
    verbs::act(reach, Deed::Drain { cluster, over: pace.over }, act).await
}

/// `isthmus cluster undrain`.
pub async fn undrain(reach: &Reach, cluster: ClusterName, undo: &How) -> Result<()> {
    verbs::undo(reach, &Deed::Drain { cluster, over: std::time::Duration::ZERO }, undo).await
}
