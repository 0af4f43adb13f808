//! `isthmus analyze`: says of a directory of configuration what control would say, without a mesh.

use std::path::Path;

use anyhow::{Context, Result, bail};
use isthmus_core::resource::{Object, ObjectError, parse_documents};
use serde_json::{Value, json};

use crate::{
    args::{Form, Output},
    out,
    table::{self, Column, field},
};

const FINDINGS: [Column; 4] = [
    ("FILE", |row| field(row, "file")),
    ("LINE", |row| field(row, "line")),
    ("FIELD", |row| field(row, "field")),
    ("REASON", |row| field(row, "reason")),
];

/// # Errors
/// When the directory cannot be read, or anything in it is refused.
pub fn run(directory: &Path, output: Output) -> Result<()> {
    let mut findings = vec![];
    let (mut objects, mut refused) = (0, 0);
    let entries = std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml")) {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        for parsed in parse_documents(&path.display().to_string(), &text) {
            let faults = faults(parsed, &path.display().to_string());
            objects += usize::from(faults.is_empty());
            refused += usize::from(!faults.is_empty());
            findings.extend(faults);
        }
    }
    if refused > 0 || output.output == Form::Json {
        table::print(&Value::Array(findings), output, &FINDINGS)?;
    }
    if refused > 0 {
        bail!("{refused} of {} objects in {} are refused", objects + refused, directory.display());
    }
    if output.output != Form::Json {
        out::line(format_args!("{objects} objects in {}, nothing to say against them", directory.display()));
    }
    Ok(())
}

/// What is wrong with a document.
fn faults(parsed: Result<Object, Vec<ObjectError>>, file: &str) -> Vec<Value> {
    let finding =
        |error: ObjectError| json!({ "file": file, "line": error.line, "field": error.field, "reason": error.reason });
    parsed.map_or_else(|errors| errors.into_iter().map(finding).collect(), |_| vec![])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_accepted_and_a_policy_that_control_would_refuse_is_not() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
        for directory in ["bookinfo", "failover"] {
            run(&examples.join(directory), Output { output: Form::Table }).unwrap();
        }
        let readme = include_str!("../../README.md");
        let yaml = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        assert!(yaml.contains("FailoverPolicy"));
        assert!(parse_documents("README", yaml).into_iter().all(|one| faults(one, "README").is_empty()), "{yaml}");
        let policy = "apiVersion: isthmus.dev/v1alpha1\nkind: FailoverPolicy\nmetadata: {name: a}\n\
                      spec: {leave: {healthyShare: 2}, tiers: [{}]}\n";
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), policy).unwrap();
        let said = run(folder.path(), Output { output: Form::Table }).unwrap_err().to_string();
        assert!(said.starts_with("1 of 1 objects in "), "{said}");
        let parsed = parse_documents("a.yaml", policy).remove(0);
        let fields: Vec<_> = faults(parsed, "a.yaml").iter().map(|one| field(one, "field")).collect();
        assert_eq!(fields, ["spec.tiers[0]", "spec.leave.healthyShare"]);
    }
}
