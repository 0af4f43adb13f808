//! What is said of each object in its status: of the source whether its text was taken, of the compiler which parts of it could
//! not be honoured and what it names that is not there. The words are the Gateway API's, and of exports MCS'.

use std::collections::BTreeMap;

use isthmus_core::{compile::finding, name::ClusterName};
use isthmus_kubernetes::{
    Kind,
    status::{ACCEPTED, PROGRAMMED, RESOLVED_REFS, Said, Standing, VALID, Verdict},
};

use super::book::Fault;

/// What is said of objects. `files` as [`super::Sources`] has them; `findings` as the compiler has, who hands out what it
/// compiles before it tells anybody.
pub fn of<'a>(
    standings: impl Iterator<Item = &'a Standing>,
    files: &[(String, bool, Vec<Fault>)],
    findings: &[Fault],
    own: &ClusterName,
) -> Vec<Said> {
    let taken: BTreeMap<&str, (bool, &[Fault])> =
        files.iter().map(|(file, in_force, faults)| (file.as_str(), (*in_force, faults.as_slice()))).collect();
    let mut found_in = BTreeMap::<&str, Vec<&Fault>>::new();
    findings.iter().for_each(|finding| found_in.entry(&finding.file).or_default().push(finding));
    let said = |of: &Standing| {
        let file = of.place.file(of.kind);
        let (in_force, faults) = taken.get(file.as_str()).copied()?;
        let found = found_in.get(file.as_str()).cloned().unwrap_or_default();
        if !of.kind.has_status() && faults.is_empty() && found.is_empty() {
            return None;
        }
        let is_elsewhere = of.kind == Kind::MeshCluster && of.place.name != own.as_str();
        let case = Case { is_export: of.kind == Kind::ServiceExport, is_elsewhere, in_force, faults, found };
        Some(Said { of: of.clone(), verdicts: case.verdicts() })
    };
    standings.filter_map(said).collect()
}

/// All that is known of an object.
struct Case<'a> {
    is_export: bool,
    /// It is about another cluster.
    is_elsewhere: bool,
    /// Some text of it is in force.
    in_force: bool,
    /// Why its text of now is not.
    faults: &'a [Fault],
    /// Parts of the text that is in force.
    found: Vec<&'a Fault>,
}

impl Case<'_> {
    fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = vec![self.accepted(), self.resolved(), self.programmed()];
        verdicts.extend(self.is_export.then(|| self.valid()));
        verdicts
    }

    fn of_kind(&self, is_wanted: impl Fn(finding::Kind) -> bool) -> Vec<&Fault> {
        self.found.iter().copied().filter(|fault| is_wanted(fault.kind)).collect()
    }

    fn accepted(&self) -> Verdict {
        let said = |holds, reason, message| Verdict { of: ACCEPTED, holds: Some(holds), reason, message };
        if !self.faults.is_empty() {
            let then = if self.in_force { "what was good before stays in force" } else { "nothing of it is in force" };
            return said(false, "Invalid", format!("{}; {then}", listed(self.faults)));
        }
        if let Some(reason) = self.void() {
            let message = format!("{}; nothing of it is in force", listed(self.of_kind(finding::Kind::is_whole)));
            return said(false, reason, message);
        }
        let external = self.of_kind(|kind| kind == finding::Kind::ExternalService);
        if !external.is_empty() {
            return said(false, "InvalidServiceType", listed(external));
        }
        let invalid = self.of_kind(|kind| kind == finding::Kind::Invalid);
        if !invalid.is_empty() {
            return said(true, "PartlyInvalid", format!("{}; the rest of it is in force", listed(invalid)));
        }
        said(true, "Accepted", "it is in force".into())
    }

    fn resolved(&self) -> Verdict {
        let said = |holds, reason, message| Verdict { of: RESOLVED_REFS, holds, reason, message };
        if let Some(reason) = self.refused() {
            return said(None, reason, "what it names is looked up once it is accepted".into());
        }
        let missing = self.of_kind(finding::Kind::is_reference);
        match missing.first() {
            None => said(Some(true), "ResolvedRefs", "all that it names is there".into()),
            Some(first) => said(Some(false), not_found(first.kind), listed(missing)),
        }
    }

    fn programmed(&self) -> Verdict {
        let said = |holds, reason, message: &str| Verdict {
            of: PROGRAMMED,
            holds: Some(holds),
            reason,
            message: message.into(),
        };
        if let ([], Some(reason)) = (self.faults, self.void()) {
            return said(false, reason, "proxies have nothing of it");
        }
        match self {
            Self { faults: [_, ..], in_force: true, .. } => {
                said(false, "Invalid", "proxies have what was good before, and not what it says now")
            }
            Self { faults: [_, ..], .. } => said(false, "Invalid", "proxies have nothing of it"),
            Self { is_elsewhere: true, .. } => {
                said(false, "OtherCluster", "it is about another cluster than this one, and says nothing here")
            }
            _ if self.exports_external() => said(false, "InvalidServiceType", "nothing is exported by it"),
            _ if self.exports_nothing() => said(false, "Pending", "nothing is exported before there is a Service"),
            _ if self.has(finding::Kind::Overridden) => {
                said(false, "Overridden", &listed(self.of_kind(|kind| kind == finding::Kind::Overridden)))
            }
            _ => said(true, "Programmed", "it is handed out to the proxies of this cluster"),
        }
    }

    /// As MCS has it.
    fn valid(&self) -> Verdict {
        let said = |holds, reason, message| Verdict { of: VALID, holds: Some(holds), reason, message };
        if !self.faults.is_empty() {
            return said(false, "Invalid", listed(self.faults));
        }
        if let Some(reason) = self.void() {
            return said(false, reason, listed(self.of_kind(finding::Kind::is_whole)));
        }
        if self.exports_external() {
            return said(
                false,
                "InvalidServiceType",
                listed(self.of_kind(|kind| kind == finding::Kind::ExternalService)),
            );
        }
        if self.exports_nothing() {
            return said(false, "NoService", listed(self.of_kind(|kind| kind == finding::Kind::NoService)));
        }
        said(true, "Valid", "its Service can be exported".into())
    }

    /// Why the object is not taken, in one word.
    fn refused(&self) -> Option<&'static str> {
        if self.faults.is_empty() { self.void() } else { Some("Invalid") }
    }

    /// Why nothing of a text that could be read is in force, in one word.
    fn void(&self) -> Option<&'static str> {
        let kinds = self.of_kind(finding::Kind::is_whole);
        let first = kinds.first()?;
        Some(if first.kind == finding::Kind::Conflicted { "Conflicted" } else { "Invalid" })
    }

    fn has(&self, kind: finding::Kind) -> bool {
        self.found.iter().any(|fault| fault.kind == kind)
    }

    fn exports_external(&self) -> bool {
        self.has(finding::Kind::ExternalService)
    }

    fn exports_nothing(&self) -> bool {
        self.is_export && self.has(finding::Kind::NoService)
    }
}

/// The Gateway API has a reason for a service alone; the others are made like it.
fn not_found(kind: finding::Kind) -> &'static str {
    match kind {
        finding::Kind::NoSubset => "SubsetNotFound",
        finding::Kind::NoCluster => "ClusterNotFound",
        finding::Kind::NoCapacity => "CapacityNotFound",
        _ => "BackendNotFound",
    }
}

fn listed<'a>(faults: impl IntoIterator<Item = &'a Fault>) -> String {
    let text = |fault: &Fault| match fault.field.as_str() {
        "" => fault.reason.clone(),
        field => format!("{field}: {}", fault.reason),
    };
    faults.into_iter().map(text).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: finding::Kind, field: &str, reason: &str) -> Fault {
        Fault { file: "f".into(), line: 0, field: field.into(), kind, reason: reason.into() }
    }

    fn case<'a>(faults: &'a [Fault], found: &'a [Fault]) -> Case<'a> {
        Case { is_export: false, is_elsewhere: false, in_force: true, faults, found: found.iter().collect() }
    }

    fn words(verdict: &Verdict) -> (Option<bool>, &str) {
        (verdict.holds, verdict.reason)
    }

    #[test]
    fn a_verdict_says_what_is_wrong_and_what_holds() {
        let invalid = finding::Kind::Invalid;
        let wrong = [fault(invalid, "spec.a", "it is missing"), fault(invalid, "", "it is odd")];
        let kept = case(&wrong, &[]);
        let accepted = kept.accepted();
        assert_eq!(accepted.message, "spec.a: it is missing; it is odd; what was good before stays in force");
        assert_eq!(words(&accepted), (Some(false), "Invalid"));
        assert_eq!((words(&kept.resolved()), words(&kept.programmed())), ((None, "Invalid"), (Some(false), "Invalid")));
        let none = Case { in_force: false, ..case(&wrong, &[]) };
        assert!(none.accepted().message.ends_with("nothing of it is in force"));
        let partly = case(&[], &wrong[..1]);
        assert_eq!(words(&partly.accepted()), (Some(true), "PartlyInvalid"));
        assert_eq!((words(&partly.resolved()).0, words(&partly.programmed()).0), (Some(true), Some(true)));
        let good = case(&[], &[]);
        assert_eq!(good.accepted().message, "it is in force");
        let reasons = good.verdicts().iter().map(|one| (one.of, one.reason)).collect::<Vec<_>>();
        assert_eq!(reasons, [ACCEPTED, RESOLVED_REFS, PROGRAMMED].map(|word| (word, word)));
    }

    #[test]
    fn what_is_not_there_is_named_and_the_object_is_accepted_all_the_same() {
        use finding::Kind::{NoCluster, NoService, NoSubset};
        for (kind, reason) in
            [(NoService, "BackendNotFound"), (NoSubset, "SubsetNotFound"), (NoCluster, "ClusterNotFound")]
        {
            let found = [fault(kind, "spec.host", "no such thing")];
            let case = case(&[], &found);
            assert_eq!(words(&case.resolved()), (Some(false), reason));
            assert_eq!(case.resolved().message, "spec.host: no such thing");
            assert_eq!((words(&case.accepted()).0, words(&case.programmed()).0), (Some(true), Some(true)));
        }
    }

    #[test]
    fn what_leaves_nothing_in_force_is_not_accepted_though_it_can_be_read() {
        use finding::Kind::{Conflicted, Void};
        for (kind, reason) in [(Void, "Invalid"), (Conflicted, "Conflicted")] {
            let found = [fault(kind, "spec.hosts", "another one has it")];
            let case = case(&[], &found);
            assert_eq!(words(&case.accepted()), (Some(false), reason));
            assert_eq!(case.accepted().message, "spec.hosts: another one has it; nothing of it is in force");
            assert_eq!(words(&case.resolved()), (None, reason));
            assert_eq!(
                (words(&case.programmed()), words(&case.valid())),
                ((Some(false), reason), (Some(false), reason))
            );
        }
    }

    #[test]
    fn a_policy_that_others_precede_is_accepted_and_nothing_follows_from_it() {
        let found = [fault(finding::Kind::Overridden, "spec.services", "another one comes first")];
        let case = case(&[], &found);
        assert_eq!(words(&case.accepted()), (Some(true), "Accepted"));
        assert_eq!(words(&case.programmed()), (Some(false), "Overridden"));
        assert_eq!(case.programmed().message, "spec.services: another one comes first");
    }

    #[test]
    fn of_an_export_it_is_said_what_mcs_says() {
        let export = |found| Case { is_export: true, ..case(&[], found) };
        assert_eq!(words(&export(&[]).valid()), (Some(true), "Valid"));
        assert_eq!(export(&[]).verdicts().len(), 4);
        let missing = [fault(finding::Kind::NoService, "metadata.name", "no Service")];
        assert_eq!(words(&export(&missing).valid()), (Some(false), "NoService"));
        assert_eq!(words(&export(&missing).programmed()), (Some(false), "Pending"));
        let external = [fault(finding::Kind::ExternalService, "metadata.name", "an ExternalName")];
        assert_eq!(words(&export(&external).valid()), (Some(false), "InvalidServiceType"));
        assert_eq!(words(&export(&external).accepted()), (Some(false), "InvalidServiceType"));
        let consumer = [fault(finding::Kind::NoCluster, "spec.consumers", "no cluster mars")];
        assert_eq!(words(&export(&consumer).valid()), (Some(true), "Valid"), "what others may take is no matter of it");
    }

    #[test]
    fn what_is_about_another_cluster_is_accepted_and_says_nothing_here() {
        let other = Case { is_elsewhere: true, ..case(&[], &[]) };
        assert_eq!(words(&other.accepted()), (Some(true), "Accepted"));
        assert_eq!(words(&other.programmed()), (Some(false), "OtherCluster"));
    }
}
