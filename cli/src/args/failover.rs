//! What may be typed about failover: what operators do for a while, and what they look at.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Subcommand};
use isthmus_core::{name::ClusterName, resource};

use super::{
    Output, duration,
    names::{cluster, service},
};

#[derive(Debug, Args)]
pub struct Drain {
    /// The cluster that traffic shall leave.
    #[arg(add = cluster())]
    pub cluster: ClusterName,
    #[command(flatten)]
    pub pace: Pace,
    #[command(flatten)]
    pub act: Act,
}

#[derive(Debug, Subcommand)]
pub enum Service {
    /// Take the traffic of a service from a cluster, evenly over a while; it ends by itself.
    Evacuate {
        /// The service: reviews.bookinfo or bookinfo/reviews.
        #[arg(add = service())]
        service: String,
        /// The cluster that its traffic shall leave.
        #[arg(long, value_name = "CLUSTER", add = cluster())]
        from: ClusterName,
        #[command(flatten)]
        pace: Pace,
        #[command(flatten)]
        act: Act,
    },
    /// End an evacuation.
    Restore {
        /// The service.
        #[arg(add = service())]
        service: String,
        /// The cluster that its traffic left.
        #[arg(long, value_name = "CLUSTER", add = cluster())]
        from: ClusterName,
        #[command(flatten)]
        undo: How,
    },
    /// Take a service from one cluster as long as that can serve it; it ends by itself.
    Pin {
        /// The service.
        #[arg(add = service())]
        service: String,
        /// The cluster.
        #[arg(long, value_name = "CLUSTER", add = cluster())]
        to: ClusterName,
        #[command(flatten)]
        act: Act,
    },
    /// End a pin.
    Unpin {
        /// The service.
        #[arg(add = service())]
        service: String,
        #[command(flatten)]
        undo: How,
    },
}

#[derive(Debug, Subcommand)]
pub enum Failover {
    /// Where each cluster sends the requests of each service: the tier in use, why, since when, what would change it.
    Status {
        /// Only this service, with all places that may serve it.
        #[arg(add = service())]
        service: Option<String>,
        #[command(flatten)]
        look: Look,
    },
    /// What operators do: drains, evacuations, pins and drills, by whom, why, and when each ends by itself.
    Verbs(Look),
    /// What happened: services and clusters that moved, what operators did; oldest first.
    History(Look),
    /// What would go where if clusters were gone or drained, at what share of whose capacity; no packet is sent.
    Simulate {
        #[command(flatten)]
        fate: Fate,
        /// Fail when a service would have nowhere to go that has somewhere now, requests would be refused, or a capacity
        /// would be exceeded.
        #[arg(long)]
        fail_on_loss: bool,
        #[command(flatten)]
        look: Look,
    },
    /// Drain a cluster at once, watch what happens, stop when error rates rise or at Ctrl-C, and report; from elsewhere it is
    /// ended by `cluster undrain`.
    Drill {
        /// The cluster.
        #[arg(add = cluster())]
        cluster: ClusterName,
        /// For how long: 30s, 5m, 1h. It ends by itself then, whatever becomes of this command.
        #[arg(long = "for", value_name = "DURATION", default_value = "5m", value_parser = any_duration)]
        lasts: Duration,
        /// Why; it is kept in the history.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        #[command(flatten)]
        look: Look,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Fate {
    /// Clusters that would be gone, and their clients with them; with commas between.
    #[arg(long, value_name = "CLUSTERS", value_delimiter = ',', add = cluster())]
    pub down: Vec<ClusterName>,
    /// Clusters that would be drained: their own clients go on and are served elsewhere.
    #[arg(long, value_name = "CLUSTERS", value_delimiter = ',', add = cluster())]
    pub drained: Vec<ClusterName>,
}

#[derive(Clone, Copy, Debug, Args)]
pub struct Pace {
    /// From all to nothing, evenly in so long: 10m, 90s; 0s: at once.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = any_duration)]
    pub over: Duration,
}

/// What everything that operators do has.
#[derive(Debug, Args)]
pub struct Act {
    /// It ends by itself after so long: 90s, 2m30s, 2h, 1d; 30d at most [default: 24h].
    #[arg(long = "for", value_name = "DURATION", value_parser = any_duration)]
    pub lasts: Option<Duration>,
    #[command(flatten)]
    pub how: How,
}

/// How something is done, or taken back.
#[derive(Debug, Args)]
pub struct How {
    /// Why; everybody who looks sees it, and it is kept in the history.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Look {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Default, Args)]
pub struct Place {
    /// Only by the control of this cluster [default: what looks asks all of the mesh on this machine; what acts a cluster
    /// that operates it, else the one concerned].
    #[arg(long, value_name = "CLUSTER", add = cluster())]
    pub at: Option<ClusterName>,
    /// By the control with this admin endpoint instead.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "at")]
    pub control: Option<SocketAddr>,
}

/// As [`duration`], and what Istio writes: 0s, 2m30s.
fn any_duration(text: &str) -> Result<Duration, String> {
    resource::duration::parse(text).map_or_else(|| duration(text), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_while_may_be_nothing_and_of_two_units() {
        assert_eq!(any_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(any_duration("2m30s"), Ok(Duration::from_secs(150)));
        assert_eq!(any_duration("1d"), Ok(Duration::from_secs(86_400)));
        assert!(any_duration("soon").unwrap_err().contains("is no duration"));
    }
}
