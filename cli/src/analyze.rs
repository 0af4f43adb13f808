//! `isthmus analyze`: says of a directory of configuration what control would say, without a mesh.

use std::path::Path;

use anyhow::{Context, Result, bail};
use isthmus_core::resource::parse_documents;
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
    let mut objects = 0;
    let entries = std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml")) {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        for parsed in parse_documents(&path.display().to_string(), &text) {
            match parsed {
                Ok(_) => objects += 1,
                Err(error) => findings.push(json!({
                    "file": error.file, "line": error.line, "field": error.field, "reason": error.reason,
                })),
            }
        }
    }
    let refused = findings.len();
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
