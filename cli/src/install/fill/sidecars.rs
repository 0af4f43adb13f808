//! Pure: what sidecars get, as `mesh.yaml` tells it to the injector: a line each, with JSON behind the name.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Object, Setting, in_files, merge, one, put};

pub(super) fn set(objects: &mut [Object], what: &str, setting: &Setting) -> Result<()> {
    let value = setting.value.as_str();
    match what.split_once('.') {
        None if what == "resources" => {
            let amounts = setting.structure()?;
            line(objects, what, |whole| {
                merge(whole, amounts);
                Ok(())
            })
        }
        Some((proxy, "traffic")) => {
            let traffic = setting.structure()?;
            line(objects, proxy, |whole| {
                merge(whole, json!({ "traffic": traffic }));
                Ok(())
            })
        }
        Some((proxy, "concurrency")) => {
            line(objects, proxy, |whole| put(whole, &["concurrency"], json!(value.parse::<u32>()?)))
        }
        Some((proxy, of)) => line(objects, proxy, |whole| put(whole, &[of], json!(value == "true"))),
        None => bail!("injection.{what} has no place in the base"),
    }
}

/// Changes the value of a line.
fn line(objects: &mut [Object], name: &str, change: impl FnOnce(&mut Value) -> Result<()>) -> Result<()> {
    let map = &one(objects, "ConfigMap", "isthmus")?.document;
    let file = map.pointer("/data/mesh.yaml").and_then(Value::as_str).unwrap_or_default();
    let start = format!("{name}: {{");
    let found = file.lines().map(str::trim).find(|line| line.starts_with(&start));
    let from = found.with_context(|| format!("mesh.yaml of the base has no {name}"))?.to_owned();
    let (_, text) = from.split_once(": ").unwrap_or_default();
    let mut value: Value = serde_json::from_str(text).with_context(|| format!("{name} of the base is no JSON"))?;
    change(&mut value)?;
    in_files(objects, &from, &format!("{name}: {value}"))
}
