//! What is said of something done: what is in force now and where, who is free of it, when it ends, and how to undo it.

use isthmus_control::handle::{Done, Wish};
use isthmus_core::{
    failover::verb::{DEFAULT_FOR, Deed},
    name::ClusterName,
    resource::duration,
};

use crate::failover::in_force::undo;

/// What was done in the cluster `at`, and ends by itself at `end`.
pub fn done(wish: &Wish, at: &str, done: &Done, end: &str) -> String {
    let because = if wish.reason.is_empty() { String::new() } else { format!(": {}", wish.reason) };
    let mut text = format!("{}, done in {at} by {}{because}\n", wish.deed, wish.by);
    let mut line = |key: &str, value: &str| text.push_str(&format!("  {key:<9} {value}\n"));
    let (own, others) =
        done.binds.split_first().map_or((String::new(), &[][..]), |(own, rest)| (own.to_string(), rest));
    match (done.local, others.is_empty()) {
        (false, _) => {
            line("in force", &names(&done.binds));
            line("written", "into the federation's log: it outlives a restart of anything");
        }
        (true, true) => line("in force", &own),
        (true, false) => line("in force", &format!("{own} now; {} once they hear of it", names(others))),
    }
    if done.local {
        line("local", "the federation has no quorum; it is written into its log when there is one");
    }
    if !done.free.is_empty() {
        let why = format!("not bound, because {own} is not among their operators");
        line("free", &format!("{} ({why}); do it there too, with --at", names(&done.free)));
    }
    line("ends", &format!("by itself in {}, at {end}", duration::written(wish.lasts.unwrap_or(DEFAULT_FOR))));
    line("undo", &undo_of(&wish.deed));
    line("watch", "isthmus failover status");
    text
}

fn names(clusters: &[ClusterName]) -> String {
    clusters.iter().map(ClusterName::as_str).collect::<Vec<_>>().join(", ")
}

fn undo_of(deed: &Deed) -> String {
    let verb = match deed {
        Deed::Drain { .. } => "drain",
        Deed::Evacuate { .. } => "evacuate",
        Deed::Pin { .. } => "pin",
        Deed::Drill { .. } => "drill",
    };
    undo(verb, deed.service().map(ToString::to_string).as_deref(), deed.cluster().as_str())
}

/// What was taken back, and where.
pub fn taken_back(what: &str, at: &[&str]) -> String {
    format!(
        "the {what} is over, taken back in {}; shares rise again along their ramps: isthmus failover status\n",
        at.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name(text: &str) -> ClusterName {
        text.parse().unwrap()
    }

    fn wish() -> Wish {
        let deed = Deed::Drain { cluster: name("eu"), over: Duration::from_secs(600) };
        Wish { deed, lasts: Some(Duration::from_secs(7200)), by: "ann@desk".into(), reason: "kernel".into() }
    }

    #[test]
    fn what_is_in_force_is_said_with_its_end_and_its_undo() {
        let bound =
            Done { name: String::new(), local: false, binds: vec![name("us"), name("eu")], free: vec![name("ap")] };
        assert_eq!(
            done(&wish(), "us", &bound, "14:00:00"),
            "drain of eu over 10m, done in us by ann@desk: kernel\n\
             \x20 in force  us, eu\n\
             \x20 written   into the federation's log: it outlives a restart of anything\n\
             \x20 free      ap (not bound, because us is not among their operators); do it there too, with --at\n\
             \x20 ends      by itself in 2h, at 14:00:00\n\
             \x20 undo      isthmus cluster undrain eu\n\
             \x20 watch     isthmus failover status\n"
        );
    }

    #[test]
    fn without_a_quorum_it_is_local_and_said_so() {
        let local = Done { name: String::new(), local: true, binds: vec![name("us"), name("eu")], free: vec![] };
        let said = done(&wish(), "us", &local, "14:00:00");
        assert!(said.contains("  in force  us now; eu once they hear of it\n"), "{said}");
        assert!(said.contains("  local     the federation has no quorum; it is written"), "{said}");
        assert!(!said.contains("outlives"), "{said}");
    }
}
