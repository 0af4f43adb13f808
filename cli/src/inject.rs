//! `isthmus inject`: adds sidecars to the workloads of a file, by the values of a cluster or of a file. The objects go to
//! standard output, for `kubectl apply -f -`; what was not injected, and why, to standard error.

use std::{
    io::{Read, Write},
    path::Path,
};

use anyhow::{Context, Error, Result, bail};
use isthmus_inject::{
    Values,
    manifest::{self, Document, Note, Outcome},
};
use serde_json::Value;

use crate::{
    args::{ContextArgs, Inject, Written},
    install::{cluster::Cluster, fill, release},
    out,
    reach::Reach,
};

/// # Errors
/// When a file cannot be read, or a workload cannot be injected: then nothing is printed, so that nothing is applied.
pub async fn run(contexts: ContextArgs, command: &Inject) -> Result<()> {
    let values = match &command.values {
        Some(file) => of_file(file)?,
        None => of_cluster(&Reach::cluster(contexts)).await?,
    };
    let (file, text) = read(&command.file)?;
    let mut documents = manifest::documents(&text).with_context(|| file.clone())?;
    let notes = match manifest::inject_all(&mut documents, Some(&command.namespace), &values) {
        Ok(notes) => notes,
        Err(errors) => {
            errors.iter().for_each(|error| tell(&format!("{file}: {error}")));
            bail!("{} of the workloads in {file} cannot be injected; nothing was printed", errors.len());
        }
    };
    if notes.is_empty() {
        tell(&format!("{file}: nothing in it makes pods; it comes out as it went in"));
    }
    notes.iter().flat_map(said).for_each(|line| tell(&format!("{file}: {line}")));
    out::raw(&written(&documents, command.output)?);
    Ok(())
}

fn of_file(file: &Path) -> Result<Values> {
    let name = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    values(&text).with_context(|| format!("the values in {name} cannot be used"))
}

/// As the webhook of a cluster has them.
async fn of_cluster(reach: &Reach) -> Result<Values> {
    const OTHERWISE: &str = "there are no values to inject by; name a cluster with --context, or a file with --values";
    let found = Cluster::of(reach).await.context(OTHERWISE)?.objects.find(&release::map()).await.context(OTHERWISE)?;
    let map = found.context("the mesh is not installed there, so there are no values; name a file with --values")?;
    fill::values(&map).map_err(Error::msg).context("the values in ConfigMap isthmus-system/isthmus cannot be used")
}

/// Of a cluster's ConfigMap, which also has the names that `mesh.yaml` leaves open; or of a `mesh.yaml` that has them.
fn values(text: &str) -> Result<Values> {
    let map: Value = serde_saphyr::from_str(text).unwrap_or_default();
    if map.get("kind").and_then(Value::as_str) == Some("ConfigMap") {
        return fill::values(&map).map_err(Error::msg);
    }
    let open = "it leaves names open; give the whole ConfigMap, which has them: kubectl get configmap isthmus -n \
                isthmus-system -o yaml";
    anyhow::ensure!(!text.contains("${ISTHMUS_"), open);
    Ok(Values::from_mesh_yaml(text)?)
}

/// What a file says, and how it is called in messages.
fn read(file: &Path) -> Result<(String, String)> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(("standard input".into(), text));
    }
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    Ok((name, text))
}

/// What a person should know of a workload.
fn said(note: &Note) -> Vec<String> {
    let about = |text: &str| format!("line {}: {}: {text}", note.line, note.title);
    match &note.outcome {
        Outcome::Left(reason) => vec![about(&format!("not injected: {reason}"))],
        Outcome::Injected(warnings) => warnings.iter().map(|warning| about(warning)).collect(),
    }
}

/// The objects as text.
fn written(documents: &[Document], form: Written) -> Result<String> {
    let texts = documents.iter().map(|document| match form {
        Written::Json => Ok(serde_json::to_string_pretty(&document.value)? + "\n"),
        Written::Yaml if document.text.is_empty() => Ok(serde_saphyr::to_string(&document.value)?),
        Written::Yaml => Ok(document.text.clone()),
    });
    let texts = texts.collect::<Result<Vec<String>>>()?;
    let ended = texts.into_iter().map(|text| if text.ends_with('\n') { text } else { text + "\n" });
    Ok(ended.collect::<Vec<_>>().join(if form == Written::Yaml { "---\n" } else { "" }))
}

/// A line on standard error, whose reader may be gone.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: &str = "injection: {mesh: mesh.example, cluster: us-east}\n";
    const SERVICE: &str = "# kept\napiVersion: v1\nkind: Service\nmetadata: {name: a} # too\n";
    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations: {note: \"012\"}\nspec:\n  containers: [{name: a, args: [\"no\", \"1.20\"]}]\n  volumes: [{name: v, secret: {secretName: s, defaultMode: 0640}}]\n";

    fn injected(text: &str) -> (Vec<Document>, Vec<Note>) {
        let mut documents = manifest::documents(text).unwrap();
        let notes = manifest::inject_all(&mut documents, None, &Values::from_mesh_yaml(VALUES).unwrap()).unwrap();
        (documents, notes)
    }

    #[test]
    fn what_is_written_is_read_back_as_it_was_meant() {
        let (documents, _) = injected(&format!("{SERVICE}---\n{POD}---\n{SERVICE}"));
        let yaml = written(&documents, Written::Yaml).unwrap();
        assert!(yaml.starts_with(&format!("{SERVICE}---\n")) && yaml.ends_with(&format!("---\n{SERVICE}")), "{yaml}");
        let read: Vec<_> = manifest::documents(&yaml).unwrap().into_iter().map(|document| document.value).collect();
        assert!(read.iter().eq(documents.iter().map(|document| &document.value)));
        let spec = &read[1]["spec"];
        assert_eq!(spec["volumes"][0]["secret"]["defaultMode"], 0o640, "as kubectl reads it");
        assert_eq!(spec["containers"][0]["args"], serde_json::json!(["no", "1.20"]));
        let json = written(&documents, Written::Json).unwrap();
        let objects = serde_json::Deserializer::from_str(&json).into_iter::<serde_json::Value>();
        assert!(objects.map(Result::unwrap).eq(read));
    }

    #[test]
    fn who_is_left_is_named_with_line_and_reason() {
        let on_host = POD.replace("spec:\n", "spec:\n  hostNetwork: true\n");
        let (documents, notes) = injected(&format!("{SERVICE}---\n{on_host}"));
        let lines: Vec<_> = notes.iter().flat_map(said).collect();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("line 6: Pod a: not injected: spec.hostNetwork"), "{lines:?}");
        assert_eq!(documents[1].text, on_host, "letter by letter");
    }
}
