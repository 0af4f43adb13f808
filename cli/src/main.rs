//! `isthmus`: the roles of the mesh, and the operator's commands, in one binary.
//!
//! | module | idea |
//! | --- | --- |
//! | [`args`] | what may be typed |
//! | [`roles`] | a subcommand a role |
//! | [`up`] | a mesh on this machine |
//! | [`detach`] | the same in the background |
//! | [`hints`] | what to try next |
//! | [`picture`] | pure: its live picture |
//! | [`failover`] | `failover …`, `service …`, `cluster drain` and `undrain` |
//! | [`link`] | `link list`, `set`, `cut`, `heal` |
//! | [`running`] | `status`, `down`, `cluster kill`, `cluster start` |
//! | [`listing`] | `clusters`, `services`, `endpoints`, `proxy-status`, `config` |
//! | [`tracing_request`] | `trace` |
//! | [`reach`] | a mesh on this machine, or on Kubernetes: each is asked the same |
//! | [`membership`] | `bootstrap`, `token create`, `join` |
//! | [`overview`] | `status` of a cluster of Kubernetes |
//! | [`check`] | `check`: what is wrong with a cluster |
//! | [`install`] | `install`, `upgrade` |
//! | [`uninstall`] | `uninstall` |
//! | [`rollout`] | pure: whether what was applied runs |
//! | [`capture`] | `capture`: the rules that lead a pod's traffic by its sidecar |
//! | [`analyze`] | checks configuration without a mesh |
//! | [`inject`] | adds sidecars to workloads in a file |
//! | [`table`] | JSON objects as a table |
//! | [`out`] | lines on standard output |

mod analyze;
mod args;
mod capture;
mod check;
mod detach;
mod failover;
mod hints;
mod inject;
mod install;
mod link;
mod listing;
mod membership;
mod out;
mod overview;
mod picture;
mod reach;
mod roles;
mod rollout;
mod running;
mod table;
mod tracing_request;
mod uninstall;
mod up;

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use clap::{CommandFactory, Parser};
use clap_complete::{CompleteEnv, env::Shells};

use crate::{
    args::{Cli, Command, Installation},
    reach::Reach,
};

/// Half the time of a proxied request is in the allocator otherwise: many small short-lived buffers on few threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Set by what [`Command::Completion`] prints, to the name of the shell that asks.
const COMPLETE: &str = "ISTHMUS_COMPLETE";

fn main() -> ExitCode {
    // Where a shell asks what may come next, that is all that is done.
    CompleteEnv::with_factory(Cli::command).var(COMPLETE).complete();
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // Where standard error leads to may be full or gone: that must not become a panic.
            let _ = writeln!(std::io::stderr(), "isthmus: {}", one_line(&reason));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let state = cli.state_dir;
    let contexts = cli.contexts.or(isthmus_kubernetes::user::current, &cli.command, || state.has_mesh());
    contexts.suit(&cli.command)?;
    match cli.command {
        Command::Role(role) => roles::run(role),
        Command::Up(up) => up::run(&state.resolve()?, &up),
        Command::Down => block_on(running::down(&state.resolve()?)),
        Command::Status { output } if contexts.is_given() => block_on(overview::run(&Reach::cluster(contexts), output)),
        Command::Status { output } => block_on(running::status(&state.resolve()?, output)),
        Command::Cluster(command) => block_on(running::cluster(&Reach::of(contexts, state)?, command)),
        Command::Service(command) => block_on(failover::service(&Reach::of(contexts, state)?, command)),
        Command::Failover(command) => block_on(failover::run(&Reach::of(contexts, state)?, command)),
        Command::Link(command) => block_on(link::run(&state.resolve()?, command)),
        Command::Listing(listing) => block_on(listing::run(&Reach::of(contexts, state)?, listing)),
        Command::Trace(trace) => block_on(tracing_request::run(&Reach::of(contexts, state)?, trace)),
        Command::Membership(command) => block_on(membership::run(&Reach::of(contexts, state)?, command)),
        Command::Installation(command) => block_on(installation(Reach::cluster(contexts), command)),
        Command::Check(output) => block_on(check::run(&Reach::cluster(contexts), output)),
        Command::Analyze { directory, output } => analyze::run(&directory, output),
        Command::Capture(args) => capture::run(&args),
        Command::Inject(command) => block_on(inject::run(contexts, &command)),
        Command::Completion { shell } => {
            let (shell, shells) = (shell.to_string(), Shells::builtins());
            let shell = shells.completer(&shell).with_context(|| format!("nothing is known of the shell {shell}"))?;
            Ok(shell.write_registration(COMPLETE, "isthmus", "isthmus", "isthmus", &mut std::io::stdout())?)
        }
    }
}

async fn installation(reach: Reach, command: Installation) -> anyhow::Result<()> {
    match command {
        Installation::Install(install) => install::install(&reach, install).await,
        Installation::Upgrade(rollout) => install::upgrade(&reach, &rollout).await,
        Installation::Uninstall(uninstall) => uninstall::run(&reach, &uninstall).await,
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Thing, reason, remedy: each cause once, however deep, on one line.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string().replace('\n', " ");
        if line.ends_with(&cause) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&cause);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_is_one_line_with_each_cause_once() {
        let error = anyhow::anyhow!("the disk\nis full").context("cannot write x").context("no token");
        assert_eq!(one_line(&error), "no token: cannot write x: the disk is full");
    }
}
