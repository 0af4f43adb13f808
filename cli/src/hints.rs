//! What to try next: the commands, as they can be pasted into the very shell that raised the mesh.

use std::path::Path;

use isthmus_scenarios::{
    plan::{
        Plan,
        roles::{DNS_PORT, EXPLICIT_PORT},
    },
    state::StateDir,
};

use crate::args::StateDirArg;

/// The commands to try next, a line each.
pub fn hints(plan: &Plan, state: &StateDir) -> String {
    let Some(first) = plan.clusters.first() else { return String::new() };
    let client = first.client().map_or_else(String::new, |client| first.address_of(client).to_string());
    let dns = first.addresses().control();
    let last = plan.clusters.iter().rfind(|cluster| !cluster.is_witness()).map_or("", |cluster| cluster.name.as_str());
    let called = if plan.clusters.iter().any(|one| one.workload("details").is_some()) { "details" } else { "reviews" };
    let service = "bookinfo.svc.clusterset.local";
    format!(
        "try next:\n\
         {}\
         \x20 curl -x http://{client}:{EXPLICIT_PORT} http://reviews.{service}:9080/reviews/0\n\
         \x20 curl -x http://{client}:{EXPLICIT_PORT} http://productpage.bookinfo.svc.cluster.local:9080/productpage\n\
         \x20 dig @{dns} -p {DNS_PORT} {called}.{service}\n\
         \x20 isthmus trace curl@{} {called}.bookinfo\n\
         \x20 isthmus clusters; isthmus services; isthmus endpoints reviews.bookinfo; isthmus proxy-status\n\
         \x20 isthmus failover status; isthmus failover simulate --down {last}\n\
         \x20 isthmus cluster drain {last} --over 10s; isthmus cluster undrain {last}\n\
         \x20 isthmus cluster kill {last}; isthmus cluster start {last}\n\
         {}\
         state and logs: {}; configuration: clusters/<name>/config in it\n",
        alias(state),
        first.name,
        network(plan, last),
        state.path().display()
    )
}

/// What can be done to the network, where there is one between the clusters.
fn network(plan: &Plan, last: &str) -> String {
    match plan.clusters.first() {
        Some(first) if plan.is_apart() => format!(
            "  isthmus link list; isthmus link set {last} --loss 2 --delay 200ms; isthmus link cut {} {last}; isthmus link heal\n",
            first.name
        ),
        _ => String::new(),
    }
}

/// What makes `isthmus` this binary and this mesh; nothing where it is both already.
fn alias(state: &StateDir) -> String {
    let own = std::env::current_exe().ok();
    let found = on_path("isthmus");
    let usual = StateDirArg::default().resolve().is_ok_and(|usual| usual.path() == state.path());
    let program = match (own, found) {
        (Some(own), found) if found.as_deref() != Some(own.as_path()) => own.display().to_string(),
        _ => "isthmus".to_owned(),
    };
    let state_dir = if usual { String::new() } else { format!(" --state-dir {}", state.path().display()) };
    match (program.as_str(), state_dir.as_str()) {
        ("isthmus", "") => String::new(),
        _ => format!("  alias isthmus='{program}{state_dir}'\n"),
    }
}

/// The program a shell would start by this name.
fn on_path(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| Path::is_file(file))?;
    found.canonicalize().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_scenarios::plan::bookinfo;

    #[test]
    fn the_commands_can_be_pasted_whatever_directory_the_mesh_is_in() {
        let plan = bookinfo::plan(3, 1).unwrap();
        let text = hints(&plan, &StateDir::at(Path::new("/tmp/a-mesh")).unwrap());
        let own = std::env::current_exe().unwrap();
        assert!(text.contains(&format!("alias isthmus='{} --state-dir /tmp/a-mesh'\n", own.display())), "{text}");
        assert!(text.contains("isthmus trace curl@us-east details.bookinfo\n"), "{text}");
        assert!(!text.contains("isthmus link"), "there is no network to change: {text}");
        let apart = hints(&bookinfo::apart(plan), &StateDir::at(Path::new("/tmp/a-mesh")).unwrap());
        assert!(apart.contains("isthmus link cut us-east eu-west;"), "{apart}");
        let small = hints(&bookinfo::plan(1, 1).unwrap(), &StateDir::at(Path::new("/tmp/a-mesh")).unwrap());
        assert!(!small.contains("details"), "one cluster has no details: {small}");
    }
}
