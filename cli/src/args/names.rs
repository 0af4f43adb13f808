//! Names that a shell completes: the clusters of the mesh on this machine, and the services that its controls know. Where
//! there is no mesh, or none that answers at once, there are no names, and nothing is said.

use std::{collections::BTreeSet, ffi::OsStr, path::PathBuf, time::Duration};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use futures_util::future::join_all;
use isthmus_scenarios::{admin, mesh, plan::Plan};
use serde_json::Value;

use super::StateDirArg;

/// Nobody waits longer for the Tab key.
const LIMIT: Duration = Duration::from_millis(400);

/// Completes a cluster.
pub fn cluster() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| begun(typed, clusters().unwrap_or_default()))
}

/// Completes a service.
pub fn service() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| begun(typed, services().unwrap_or_default()))
}

/// Those that begin with what is typed.
fn begun(typed: &OsStr, names: BTreeSet<String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    names.into_iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

fn clusters() -> Option<BTreeSet<String>> {
    Some(plan()?.clusters.iter().map(|cluster| cluster.name.to_string()).collect())
}

/// The plan of the mesh, in the state directory that is typed or set.
fn plan() -> Option<Plan> {
    let state_dir = typed_state_dir(std::env::args());
    StateDirArg { state_dir }.resolve().ok()?.plan().ok()
}

fn typed_state_dir(mut args: impl Iterator<Item = String>) -> Option<PathBuf> {
    let arg = args.find(|arg| arg.starts_with("--state-dir"))?;
    arg.strip_prefix("--state-dir=").map(PathBuf::from).or_else(|| args.next().map(PathBuf::from))
}

/// What every control knows that answers in time, as `reviews.bookinfo`.
fn services() -> Option<BTreeSet<String>> {
    let plan = plan()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let asked = plan.clusters.iter().map(|cluster| async {
        let answer = tokio::time::timeout(LIMIT, admin::read(mesh::control(cluster), "/api/services"));
        answer.await.ok()?.ok()
    });
    let said = runtime.block_on(join_all(asked));
    Some(said.iter().flatten().flat_map(named).collect())
}

fn named(rows: &Value) -> Vec<String> {
    let name = |row: &Value| {
        let (namespace, name) = row.get("service")?.as_str()?.split_once('/')?;
        Some(format!("{name}.{namespace}"))
    };
    rows.as_array().into_iter().flatten().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_begin_with_what_is_typed_are_offered() {
        let names = || ["eu-west", "us-east", "us-west"].map(String::from).into();
        let offered = |typed: &str| {
            let all = begun(OsStr::new(typed), names());
            all.iter().map(|one| one.get_value().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(offered("us"), ["us-east", "us-west"]);
        assert_eq!(offered("").len(), 3);
        assert!(offered("mars").is_empty());
    }

    #[test]
    fn services_are_offered_as_they_are_typed_and_the_state_directory_is_the_typed_one() {
        let rows = serde_json::json!([{ "service": "bookinfo/reviews" }, { "service": 7 }, {}]);
        assert_eq!(named(&rows), ["reviews.bookinfo"]);
        let dir = |args: &[&str]| typed_state_dir(args.iter().map(ToString::to_string));
        assert_eq!(dir(&["isthmus", "--state-dir", "/a", "status"]), Some("/a".into()));
        assert_eq!(dir(&["isthmus", "--state-dir=/b"]), Some("/b".into()));
        assert_eq!(dir(&["isthmus", "status"]), None);
    }
}
