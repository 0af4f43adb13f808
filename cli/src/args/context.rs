//! Clusters of Kubernetes, by the contexts of a kubeconfig: what every command takes, and which have no use for them.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::Command;

/// Clusters of Kubernetes, reached as kubectl reaches them.
#[derive(Debug, Default, Args)]
pub struct ContextArgs {
    /// A context of the kubeconfig: the command is about the mesh in that cluster; may be repeated to ask several.
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub context: Vec<String>,
    /// The kubeconfig [default: as kubectl's: KUBECONFIG, then ~/.kube/config]; alone, it means its current context.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

impl ContextArgs {
    /// Whether Kubernetes is meant.
    pub fn is_given(&self) -> bool {
        !self.context.is_empty() || self.kubeconfig.is_some()
    }

    /// The current context in place of none, for commands that only look: as kubectl does, where there is no mesh on this machine
    /// that could be meant.
    #[must_use]
    pub fn or(
        mut self,
        current: impl FnOnce() -> Option<String>,
        command: &Command,
        has_mesh: impl FnOnce() -> bool,
    ) -> Self {
        let looks = matches!(command, Command::Status { .. } | Command::Listing(_) | Command::Trace(_));
        if !self.is_given() && looks && !has_mesh() {
            self.context.extend(current());
        }
        self
    }

    /// Whether the command can be about a cluster of Kubernetes, where one is meant: about another mesh than that it must not
    /// speak.
    ///
    /// # Errors
    /// When it cannot, with what can.
    pub fn suit(&self, command: &Command) -> Result<()> {
        let instead = match command {
            _ if !self.is_given() => return Ok(()),
            Command::Up(_) => "it raises a mesh on this machine; `isthmus install` installs one on Kubernetes",
            Command::Down => "it ends the mesh on this machine; `isthmus uninstall` takes one out of Kubernetes",
            Command::Link(_) => "it is about the emulated network of a mesh on this machine",
            Command::Analyze { .. } => {
                "it reads a directory; `isthmus config` shows what a cluster's control refuses, and `isthmus check` what else is wrong"
            }
            Command::Capture(_) | Command::Completion { .. } | Command::Role(_) => "it asks no cluster of Kubernetes",
            _ => return Ok(()),
        };
        bail!("--context and --kubeconfig mean a cluster of Kubernetes, and this command is not about one: {instead}")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Cli;

    fn suits(typed: &str) -> Result<(), String> {
        let cli = Cli::parse_from(typed.split(' '));
        cli.contexts.suit(&cli.command).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_mesh_here_what_only_looks_goes_to_the_current_context() {
        let contexts = |typed: &str, has_mesh: bool| {
            let cli = Cli::parse_from(typed.split(' '));
            cli.contexts.or(|| Some("now".into()), &cli.command, || has_mesh).context
        };
        for looks in ["status", "services", "trace a@b c"] {
            assert_eq!(contexts(&format!("isthmus {looks}"), false), ["now"]);
            assert_eq!(contexts(&format!("isthmus {looks} --context east"), false), ["east"]);
            assert!(contexts(&format!("isthmus {looks}"), true).is_empty());
        }
        for acts in ["cluster eject x", "token create --cluster x", "cluster drain x", "up"] {
            assert!(contexts(&format!("isthmus {acts}"), false).is_empty(), "{acts}");
        }
    }

    #[test]
    fn a_context_is_never_passed_over_in_silence() {
        for command in ["up", "down", "link list", "analyze .", "capture", "completion bash", "proxy --pod"] {
            assert!(suits(&format!("isthmus {command}")).is_ok(), "{command}");
            let refused = suits(&format!("isthmus {command} --context east")).unwrap_err();
            assert!(refused.contains("not about one"), "{command}: {refused}");
        }
        for command in
            ["status", "check", "clusters", "trace a@b c", "inject -f x", "failover status", "cluster eject x"]
        {
            assert!(suits(&format!("isthmus {command} --context east")).is_ok(), "{command}");
        }
    }
}
