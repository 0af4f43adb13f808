//! What is said of each object in its status: of the source whether its text was taken, of the compiler which parts of it could
//! not be honoured.

use std::collections::BTreeMap;

use isthmus_kubernetes::status::{Said, Standing, Verdict};

use super::book::Fault;

/// What is said of objects. `files` as [`super::Sources`] has them; `findings` as the compiler has.
pub fn of<'a>(
    standings: impl Iterator<Item = &'a Standing>,
    files: &[(String, bool, Vec<Fault>)],
    findings: &[Fault],
) -> Vec<Said> {
    let taken: BTreeMap<&str, (bool, &[Fault])> =
        files.iter().map(|(file, in_force, faults)| (file.as_str(), (*in_force, faults.as_slice()))).collect();
    let said = |of: &Standing| {
        let file = of.place.file(of.kind);
        let (in_force, faults) = taken.get(file.as_str())?;
        let found: Vec<&Fault> = findings.iter().filter(|finding| finding.file == file).collect();
        Some(Said { of: of.clone(), verdict: verdict(*in_force, faults, &found) })
    };
    standings.filter_map(said).collect()
}

fn verdict(in_force: bool, faults: &[Fault], findings: &[&Fault]) -> Verdict {
    if !faults.is_empty() {
        let then = if in_force { "what was good before stays in force" } else { "nothing of it is in force" };
        let message = format!("{}; {then}", listed(faults.iter()));
        return Verdict { accepted: false, reason: "Invalid", message };
    }
    if !findings.is_empty() {
        let message = format!("{}; the rest of it is in force", listed(findings.iter().copied()));
        return Verdict { accepted: true, reason: "PartlyInvalid", message };
    }
    Verdict { accepted: true, reason: "Accepted", message: "it is in force".into() }
}

fn listed<'a>(faults: impl Iterator<Item = &'a Fault>) -> String {
    let text = |fault: &Fault| match fault.field.as_str() {
        "" => fault.reason.clone(),
        field => format!("{field}: {}", fault.reason),
    };
    faults.map(text).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(field: &str, reason: &str) -> Fault {
        Fault { file: "f".into(), line: 0, field: field.into(), reason: reason.into() }
    }

    #[test]
    fn a_verdict_says_what_is_wrong_and_what_holds() {
        let wrong = [fault("spec.a", "it is missing"), fault("", "it is odd")];
        let kept = verdict(true, &wrong, &[]);
        assert_eq!(kept.message, "spec.a: it is missing; it is odd; what was good before stays in force");
        assert_eq!((kept.accepted, kept.reason), (false, "Invalid"));
        assert!(verdict(false, &wrong, &[]).message.ends_with("nothing of it is in force"));
        let partly = verdict(true, &[], &[&wrong[0]]);
        assert_eq!((partly.accepted, partly.reason), (true, "PartlyInvalid"));
        assert_eq!(verdict(true, &[], &[]).message, "it is in force");
    }
}
