//! What is said of something done: what is in force now and where, who is free of it, when it ends, and how to undo it.

use isthmus_control::handle::{Done, Wish};
use isthmus_core::{
    failover::verb::{DEFAULT_FOR, Deed},
    name::ClusterName,
    resource::duration,
};

use super::undo::Taken;
use crate::failover::{clock::span, controls::Silent, in_force::undo};

/// What was done.
pub struct Said<'a> {
    /// What was wanted.
    pub wish: &'a Wish,
    /// The cluster that it was done in.
    pub at: &'a str,
    /// What that says of it.
    pub done: &'a Done,
    /// Controls that do not answer.
    pub silent: &'a [Silent],
    /// When it ends by itself.
    pub end: &'a str,
}

/// What was done, whom it binds, and how it ends.
pub fn done(Said { wish, at, done, silent, end }: &Said<'_>) -> String {
    let because = if wish.reason.is_empty() { String::new() } else { format!(": {}", wish.reason) };
    let mut text = format!("{}, done in {at} by {}{because}\n", wish.deed, wish.by);
    let mut line = |key: &str, value: &str| text.push_str(&format!("  {key:<9} {value}\n"));
    line("binds", &names(&done.binds));
    let bound = |one: &&Silent| done.binds.iter().any(|cluster| cluster.as_str() == one.cluster);
    for Silent { cluster, why } in silent.iter().filter(bound) {
        line(
            "silent",
            &format!("the control of {cluster} does not answer, so nothing changes there until it does: {why}"),
        );
    }
    match (done.local, done.quorum) {
        (false, _) => line("written", "into the federation's log: it outlives a restart of anything"),
        (true, true) => {
            line("local", "not written into the federation's log yet; `isthmus failover verbs` says when it is")
        }
        (true, false) => {
            let others = done.binds.len() > 1;
            let hear = if others { "; the others are bound once they hear of it" } else { "" };
            line("local", &format!("the federation has no quorum; it is written into its log when there is one{hear}"));
        }
    }
    if !done.free.is_empty() {
        let why = format!("not bound, because {at} is not among their operators");
        line("free", &format!("{} ({why}); do it there too, with --at", names(&done.free)));
    }
    line("ends", &format!("by itself in {}, at {end}", duration::written(wish.lasts.unwrap_or(DEFAULT_FOR))));
    line("undo", &undo_of(&wish.deed));
    line("watch", "isthmus failover status");
    done.doubts.iter().for_each(|doubt| text.push_str(&format!("! {doubt}\n")));
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

/// What was taken back, where, and who keeps it for a while yet.
pub fn taken_back(what: &str, Taken { cluster, back }: &Taken) -> String {
    if !back.local {
        return format!(
            "the {what} is over, taken back in {cluster}; shares rise again along their ramps: isthmus failover status\n"
        );
    }
    let log = if back.quorum { "its end is not in the federation's log yet" } else { "the federation has no quorum" };
    let keep = match back.still.is_empty() {
        true => "; nobody else keeps it".into(),
        false => {
            let (names, rest) = (names(&back.still), span(back.ends_in_seconds));
            format!(": {names} keep it until there is a quorum, or for {rest} by their own count")
        }
    };
    format!("the {what} is over in {cluster}\n  local     {log}{keep}\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use isthmus_control::handle::TakenBack;

    use super::*;

    fn name(text: &str) -> ClusterName {
        text.parse().unwrap()
    }

    fn wish() -> Wish {
        let deed = Deed::Drain { cluster: name("eu"), over: Duration::from_secs(600) };
        Wish { deed, lasts: Some(Duration::from_secs(7200)), by: "ann@desk".into(), reason: "kernel".into() }
    }

    fn bound(local: bool, quorum: bool) -> Done {
        let (binds, free) = (vec![name("us"), name("eu")], vec![name("ap")]);
        Done { name: String::new(), local, quorum, binds, free, doubts: vec!["nothing moves".into()] }
    }

    fn said(done: &Done, silent: &[Silent]) -> String {
        super::done(&Said { wish: &wish(), at: "us", done, silent, end: "14:00:00" })
    }

    #[test]
    fn whom_it_binds_is_said_with_its_end_and_its_undo_and_what_it_will_not_do() {
        let silent = |of: &str| Silent { cluster: of.into(), why: "refused".into() };
        assert_eq!(
            said(&bound(false, true), &[silent("eu"), silent("ap")]),
            "drain of eu over 10m, done in us by ann@desk: kernel\n\
             \x20 binds     us, eu\n\
             \x20 silent    the control of eu does not answer, so nothing changes there until it does: refused\n\
             \x20 written   into the federation's log: it outlives a restart of anything\n\
             \x20 free      ap (not bound, because us is not among their operators); do it there too, with --at\n\
             \x20 ends      by itself in 2h, at 14:00:00\n\
             \x20 undo      isthmus cluster undrain eu\n\
             \x20 watch     isthmus failover status\n\
             ! nothing moves\n"
        );
    }

    #[test]
    fn what_is_not_in_the_log_is_local_and_said_so() {
        let without = said(&bound(true, false), &[]);
        assert!(without.contains("  local     the federation has no quorum; it is written into its log"), "{without}");
        assert!(without.contains("the others are bound once they hear of it\n"), "{without}");
        let late = said(&bound(true, true), &[]);
        assert!(late.contains("  local     not written into the federation's log yet"), "{late}");
        assert!(!late.contains("outlives") && !without.contains("outlives"));
    }

    #[test]
    fn who_keeps_what_was_taken_back_is_named() {
        let back = |local, still| TakenBack { name: String::new(), local, quorum: false, still, ends_in_seconds: 569 };
        let told = |back| taken_back("drain of eu", &Taken { cluster: "us".into(), back });
        assert!(told(back(false, vec![])).starts_with("the drain of eu is over, taken back in us; shares rise"));
        assert_eq!(
            told(back(true, vec![name("ap"), name("eu")])),
            "the drain of eu is over in us\n  local     the federation has no quorum: ap, eu keep it until there is a quorum, or \
             for 9m 29s by their own count\n"
        );
        assert!(told(back(true, vec![])).ends_with("no quorum; nobody else keeps it\n"));
    }
}
