//! A file of objects with its workloads injected: the same as the webhook does, without a cluster.
//!
//! Whoever asks for it wants sidecars, so it is asked for wherever nobody says no. What is no workload comes out letter by
//! letter as it went in.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    decide::{Decision, Namespace, decide},
    inject::{Error, inject_into, remove},
    values::Values,
    words::{INJECT, ISTIO_INJECTION, ISTIO_REVISION},
    workload::{self, Workload, unknown, workloads},
};

/// The namespace of an object that names none, where nobody says another.
const DEFAULT_NAMESPACE: &str = "default";

/// Of an object that has a pod in it as workloads do, and is none of those that are known.
const UNKNOWN: &str =
    "what makes pods of an object of this kind is not known here; its pods get their sidecar from the webhook";

/// A document of a file, with the line it begins at, from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its first line.
    pub line: usize,
    /// As it is written.
    pub text: String,
    /// As it is read.
    pub value: Value,
}

/// What happened to a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has a sidecar now; what is not honoured, in a sentence each.
    Injected(Vec<String>),
    /// It has none, and why.
    Left(String),
}

/// A workload and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The line its document begins at.
    pub line: usize,
    /// Its kind and name.
    pub title: String,
    /// What happened.
    pub outcome: Outcome,
}

/// Why a file is not injected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is no YAML.
    #[error("line {line}: this is no YAML: {reason}")]
    Yaml {
        /// The line, from 1.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// A workload cannot be injected.
    #[error("line {line}: {title}: {source}")]
    Workload {
        /// The line its document begins at.
        line: usize,
        /// Its kind and name.
        title: String,
        /// Why.
        source: Error,
    },
}

/// Reads the documents of a file; those of nothing but comments are left out.
///
/// # Errors
/// [`ManifestError::Yaml`].
pub fn documents(text: &str) -> Result<Vec<Document>, ManifestError> {
    let mut texts = vec![(1, String::new())];
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        // A line of `---` parts documents (YAML 1.2, 9.1.4).
        if line.trim_end() == "---" || line.starts_with("--- #") {
            texts.push((number + 1, String::new()));
        } else if let Some((_, text)) = texts.last_mut() {
            text.push_str(line);
        }
    }
    let says = |text: &str| text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    texts.into_iter().filter(|(_, text)| says(text)).map(|(line, text)| read(line, text)).collect()
}

fn read(line: usize, text: String) -> Result<Document, ManifestError> {
    // As kubectl reads it: `defaultMode: 0644` is octal.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    match serde_saphyr::from_str_with_options::<Value>(&text, options) {
        Ok(value) => Ok(Document { line, text, value }),
        Err(error) => {
            let at = error.location().and_then(|at| usize::try_from(at.line()).ok()).unwrap_or(1);
            let reason = error.without_snippet().to_string();
            Err(ManifestError::Yaml { line: line + at.saturating_sub(1), reason })
        }
    }
}

/// Injects all workloads; `namespace` is where those are that name none. Documents that change have no text any more:
/// it is their value that counts.
///
/// # Errors
/// Every workload that cannot be injected; the documents are then not to be used.
pub fn inject_all(
    documents: &mut [Document],
    namespace: Option<&str>,
    values: &Values,
) -> Result<Vec<Note>, Vec<ManifestError>> {
    let (mut notes, mut errors) = (vec![], vec![]);
    let namespaces = namespaces(documents);
    for document in documents {
        let line = document.line;
        let before = document.value.clone();
        let left = |title| Note { line, title, outcome: Outcome::Left(UNKNOWN.into()) };
        notes.extend(unknown(&before).into_iter().map(left));
        for mut workload in workloads(&mut document.value) {
            let name = workload.namespace.as_deref().or(namespace).unwrap_or(DEFAULT_NAMESPACE).to_owned();
            let labels = asking(namespaces.get(&name), values);
            match one(&mut workload, Namespace { name: &name, labels: &labels }, values) {
                Ok(outcome) => notes.push(Note { line, title: workload.title, outcome }),
                Err(source) => errors.push(ManifestError::Workload { line, title: workload.title, source }),
            }
        }
        if document.value != before {
            document.text.clear();
        }
    }
    if errors.is_empty() { Ok(notes) } else { Err(errors) }
}

fn one(workload: &mut Workload<'_>, namespace: Namespace<'_>, values: &Values) -> Result<Outcome, Error> {
    match decide(workload.pod, namespace, values) {
        Decision::Inject => {
            let injected = inject_into(workload.pod, workload.name.as_deref(), values)?;
            *workload.pod = injected.pod;
            Ok(Outcome::Injected(injected.warnings))
        }
        Decision::Skip(reason) => Ok(Outcome::Left(reason.to_string())),
        Decision::Refuse(reason) => {
            let (before, bare) = (&*workload.pod, remove(workload.pod)?);
            let end = if bare == *before { "" } else { "; the sidecar that it had is taken out" };
            *workload.pod = bare;
            Ok(Outcome::Left(format!("{reason}{end}")))
        }
    }
}

type Labels = BTreeMap<String, String>;

/// The labels of the namespaces that the file itself has.
fn namespaces(documents: &[Document]) -> BTreeMap<String, Labels> {
    let of = |document: &Document| {
        let (value, metadata) = (&document.value, document.value.get("metadata")?);
        let labels = metadata.get("labels").and_then(Value::as_object).into_iter().flatten();
        let labels = labels.filter_map(|(key, label)| Some((key.clone(), label.as_str()?.to_owned()))).collect();
        let name = metadata.get("name").filter(|_| workload::kind(value) == ("", "Namespace"))?.as_str()?;
        Some((name.to_owned(), labels))
    };
    documents.iter().filter_map(of).collect()
}

/// A namespace that says nothing is taken to ask for this very revision, because the caller does.
fn asking(known: Option<&Labels>, values: &Values) -> Labels {
    let mut labels = known.cloned().unwrap_or_default();
    if ![INJECT, ISTIO_INJECTION, ISTIO_REVISION].iter().any(|key| labels.contains_key(*key)) {
        labels.insert(ISTIO_REVISION.into(), values.revision.clone());
    }
    labels
}
