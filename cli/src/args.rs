//! What may be typed.

mod capture;
mod context;
mod failover;
mod inject;
mod install;
mod link;
mod names;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use isthmus_core::name::ClusterName;
use isthmus_scenarios::state::StateDir;

pub use capture::{Capture, With};
pub use context::ContextArgs;
pub use failover::{Act, Drain, Failover, Fate, How, Look, Place, Service};
pub use inject::{Inject, Written};
pub use install::{Install, Installation, Installing, Rollout, Uninstall};
pub use link::{Link, Set as LinkSet};
use names::{cluster, service};

/// Gateways of a cluster that `up` raises at most: a third shows nothing that two do not.
const MOST_GATEWAYS: i64 = 2;

/// One service mesh over many clusters, without handing any cluster the keys of another.
#[derive(Debug, Parser)]
#[command(name = "isthmus", version, max_term_width = 120, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub state_dir: StateDirArg,
    #[command(flatten)]
    pub contexts: ContextArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Default, Args)]
pub struct StateDirArg {
    /// Where the mesh on this machine keeps its state [default: $XDG_STATE_HOME/isthmus or ~/.local/state/isthmus].
    #[arg(long, global = true, env = "ISTHMUS_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl StateDirArg {
    /// Whether a mesh on this machine is meant, or could be: somebody named its directory, or raised one before.
    pub fn has_mesh(&self) -> bool {
        self.state_dir.is_some() || self.clone().resolve().is_ok_and(|state| state.is_used())
    }

    /// # Errors
    /// When none is given and there is no home directory to put one into.
    pub fn resolve(self) -> Result<StateDir> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || {
            let base = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
            base.map(|base| base.join("isthmus"))
        };
        let path = self.state_dir.or_else(|| set("ISTHMUS_STATE_DIR")).or_else(home);
        let path = path.context("there is no home directory; name a directory with --state-dir")?;
        StateDir::at(&path)
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Raise a mesh of several clusters on this machine and keep a picture of it; Ctrl-C takes all of it down.
    Up(Up),
    /// End the mesh on this machine.
    Down,
    /// How the mesh is, on this machine or in a cluster of Kubernetes.
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// Kill a cluster's processes on this machine, or start them again; drain a cluster; who belongs to the mesh.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Take a service's traffic from a cluster, or keep it at one, for a while.
    #[command(subcommand)]
    Service(Service),
    /// Where requests go and why, what happened, what would happen, and a drill of it.
    #[command(subcommand)]
    Failover(Failover),
    /// The emulated network between clusters: look at it, make it bad, cut it, heal it.
    #[command(subcommand)]
    Link(Link),
    #[command(flatten)]
    Listing(Listing),
    /// Send a request and name every hop, with times, identities and the gateway taken.
    Trace(Trace),
    #[command(flatten)]
    Membership(Membership),
    #[command(flatten)]
    Installation(Installation),
    /// What is wrong with a cluster of Kubernetes, before the mesh is installed there and after, and what to do about it.
    ///
    /// It ends with 1 when something does not work.
    Check(Output),
    /// Check a directory of configuration and say what is wrong with it.
    Analyze {
        /// The directory.
        directory: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Lead the traffic of this pod, or of this network namespace, by its sidecar (root only).
    ///
    /// What an injected pod runs first. Options are named after Istio's annotations.
    Capture(Capture),
    /// Add the sidecar to the workloads of a file, as the mesh would when their pods are created.
    Inject(Inject),
    /// Print what makes a shell complete commands, options, clusters and services: source <(isthmus completion bash).
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    #[command(flatten)]
    Role(Role),
}

#[derive(Debug, Args)]
pub struct Up {
    /// How many clusters.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub clusters: u8,
    /// A witness beside them: control and member alone. Two clusters and a witness have three votes.
    #[arg(long)]
    pub witness: bool,
    /// How many gateways a cluster has. With two, one can die or be upgraded and no request is lost.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=MOST_GATEWAYS))]
    pub gateways: u8,
    /// Put each cluster into a network namespace of its own, with real round trips between the regions (root only).
    ///
    /// `isthmus link` then makes this network as bad as you like.
    #[arg(long)]
    pub emulate_wan: bool,
    /// What decides which packets the emulated network loses, delays and overtakes; equal seeds decide equally [default:
    /// always the same one; `isthmus link list` shows it].
    #[arg(long, requires = "emulate_wan")]
    pub seed: Option<u64>,
    /// Leave it running in the background once it answers.
    #[arg(long)]
    pub detach: bool,
    /// The second octet of the first cluster's addresses; for a second mesh beside another.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=240))]
    pub first_number: u8,
    /// Plain lines instead of the live picture.
    #[arg(long)]
    pub plain: bool,
    /// The background half of --detach.
    #[arg(long, hide = true)]
    pub background: bool,
}

#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Kill (SIGKILL) all processes of a cluster; they stay down until `cluster start`.
    Kill(Processes),
    /// Start what `cluster kill` killed.
    Start(Processes),
    /// Restart a cluster's processes one after the other, as for an upgrade: each is asked to drain (SIGTERM), and the
    /// next one's turn comes when it is ready again.
    Restart(Processes),
    /// Let traffic leave a cluster, evenly over a while; it ends by itself.
    Drain(Drain),
    /// End a drain, and a drill of the same cluster.
    Undrain {
        /// The cluster.
        #[arg(add = cluster())]
        cluster: ClusterName,
        #[command(flatten)]
        undo: How,
    },
    /// Put a cluster out of the mesh. Its key never comes in again; only an operator's cluster may say so.
    Eject {
        /// The cluster.
        #[arg(add = cluster())]
        cluster: ClusterName,
        #[command(flatten)]
        member: Member,
    },
    /// Give the only vote of a mesh of two clusters to this one.
    Vote {
        /// The cluster.
        #[arg(add = cluster())]
        cluster: ClusterName,
        #[command(flatten)]
        member: Member,
    },
    /// Name the clusters that operate the mesh, all of them; without any, print who does.
    Operators {
        /// The clusters.
        #[arg(add = cluster())]
        clusters: Vec<ClusterName>,
        #[command(flatten)]
        member: Member,
    },
}

#[derive(Debug, Args)]
pub struct Processes {
    /// The cluster.
    #[arg(add = cluster())]
    pub cluster: ClusterName,
    /// Only these: control, federation, gateway, gateway-2, a workload, or WORKLOAD.app for its application alone; may be
    /// repeated.
    #[arg(long, value_name = "PROCESS")]
    pub only: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum Listing {
    /// The clusters, as one of them sees the others.
    Clusters(Look),
    /// The services clients of a cluster may call.
    Services(Look),
    /// Everything that answers for a service, in this cluster and in others.
    Endpoints {
        /// The service: reviews.bookinfo or bookinfo/reviews.
        #[arg(add = service())]
        service: String,
        #[command(flatten)]
        look: Look,
    },
    /// The proxies and gateways of a cluster, and whether they have what control says.
    ProxyStatus(Look),
    /// The configuration files of a cluster, and what is refused of them.
    Config(Look),
}

#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

impl Output {
    /// Whether people read it.
    pub fn is_for_people(self) -> bool {
        self.output == Form::Table
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
pub struct Trace {
    /// From which workload: curl@us-east.
    pub from: String,
    /// To which service: details.bookinfo, with a port and a path if need be: details.bookinfo:9080/details/0.
    pub to: String,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum Membership {
    /// Make a federation member the first of a new mesh.
    Bootstrap(Member),
    /// Join tokens.
    #[command(subcommand)]
    Token(Token),
    /// Join the mesh that a token is of.
    ///
    /// The member is that of the cluster which the token names, in the mesh on this machine, or that of the context.
    Join {
        /// The token; `-`: it comes by standard input, as from `token create`.
        token: String,
        #[command(flatten)]
        installing: Installing,
        #[command(flatten)]
        member: Member,
    },
}

#[derive(Debug, Subcommand)]
pub enum Token {
    /// Issue a token with which one cluster may join once.
    Create {
        /// The cluster that shall join.
        #[arg(long)]
        cluster: ClusterName,
        /// How long it may be redeemed: 30s, 15m, 1h, 7d.
        #[arg(long, default_value = "1h", value_parser = duration)]
        ttl: Duration,
        #[command(flatten)]
        member: Member,
    },
}

#[derive(Debug, Args)]
pub struct Member {
    /// The cluster whose member is meant, in the mesh on this machine [default: the first; of a join the token's].
    #[arg(long, value_name = "CLUSTER", add = cluster())]
    pub at: Option<ClusterName>,
    /// The member's admin endpoint, instead of a mesh on this machine.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "at")]
    pub member: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
pub enum Role {
    /// Run a cluster's control plane, with its certificate authority.
    Control(Config),
    /// Run a cluster's federation member.
    #[command(alias = "member")]
    Federation(Config),
    /// Run a cluster's gateway.
    Gateway(Config),
    /// Run a workload's sidecar.
    Proxy(Proxy),
    /// Run a demo application.
    App(App),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct App {
    /// Its configuration.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The one of Istio's Bookinfo that the pod's name says, without a configuration.
    #[arg(long)]
    pub pod: bool,
}

#[derive(Debug, Args)]
pub struct Config {
    /// The role's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Proxy {
    /// The sidecar's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Take it from the environment and the files that injection gave this pod.
    #[arg(long)]
    pub pod: bool,
}

/// A number and a unit: s, m, h or d.
fn duration(text: &str) -> Result<Duration, String> {
    let malformed = || format!("{text:?} is no duration; write a number and one of s, m, h, d, such as 1h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(malformed)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(malformed()),
    };
    let number = number.parse::<u64>().map_err(|_| malformed())?;
    number.checked_mul(seconds).filter(|total| *total > 0).map(Duration::from_secs).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for bad in ["", "h", "1", "0s", "-1s", "1y", "99999999999999999999d", "1ü"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
