//! A thing that was looked at: how it is, why, and what to do about it.

use serde::Serialize;

use crate::table;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// Works, and not as well as it could, or not for ever.
    Warning,
    /// Does not work.
    Error,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at.
    pub what: String,
    /// What was seen of it.
    pub why: String,
    /// What to do; none where nothing is to be done.
    pub remedy: Option<String>,
}

impl Finding {
    fn new(severity: Severity, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { severity, what: what.into(), why: why.into(), remedy: None }
    }

    /// As it should be.
    pub fn ok(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Severity::Ok, what, why)
    }

    /// Good to know.
    pub fn note(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Severity::Note, what, why)
    }

    /// To be put right some time.
    pub fn warning(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Severity::Warning, what, why)
    }

    /// To be put right.
    pub fn error(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Severity::Error, what, why)
    }

    /// With what to do.
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

/// For people: a row each, and one below it that says what to do.
pub fn table(findings: &[Finding]) -> String {
    let rows = findings.iter().flat_map(|finding| {
        let own = vec![finding.severity.word().to_owned(), finding.what.clone(), finding.why.clone()];
        let remedy = finding.remedy.iter().map(|remedy| vec![String::new(), String::new(), format!("→ {remedy}")]);
        std::iter::once(own).chain(remedy).collect::<Vec<_>>()
    });
    table::of(&["", "WHAT", "FOUND"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_stands_below_what_it_is_for() {
        let findings = [Finding::ok("Kubernetes", "v1.35"), Finding::error("Disk", "none").remedy("make one")];
        let text = table(&findings);
        let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows[1..],
            [vec!["ok", "Kubernetes", "v1.35"], vec!["error", "Disk", "none"], vec!["→", "make", "one"]]
        );
        let json = serde_json::to_value(&findings[1]).unwrap();
        assert_eq!((json["severity"].as_str(), json["remedy"].as_str()), (Some("error"), Some("make one")));
    }
}
