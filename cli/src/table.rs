//! JSON objects as a table: one column a key asked for, values as people read them.

use anyhow::{Context, Result};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::{
    args::{Form, Output},
    out,
};

/// A column: its heading, and how its cell is made of an object.
pub type Column = (&'static str, fn(&Value) -> String);

/// Prints a list of objects.
///
/// # Errors
/// When `list` is no list.
pub fn print(list: &Value, output: Output, columns: &[Column]) -> Result<()> {
    match output.output {
        Form::Json => out::line(serde_json::to_string_pretty(list)?),
        Form::Table => out::line(render(list, columns)?),
    }
    Ok(())
}

/// The table as text.
///
/// # Errors
/// When `list` is no list.
pub fn render(list: &Value, columns: &[Column]) -> Result<String> {
    let rows = list.as_array().context("the answer is no list; the mesh may be of another release")?;
    let headings: Vec<_> = columns.iter().map(|(heading, _)| *heading).collect();
    Ok(of(&headings, rows.iter().map(|row| columns.iter().map(|(_, cell)| cell(row)).collect())))
}

/// Rows of cells as text, below their headings.
pub fn of(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    let text =
        table.lines().map(|line| line.trim_end().strip_prefix(' ').unwrap_or_default().to_owned()).collect::<Vec<_>>();
    text.join("\n")
}

/// A field as people read it: no quotes, lists by commas, nothing as `-`.
pub fn field(object: &Value, key: &str) -> String {
    object.get(key).map_or_else(|| "-".into(), plain)
}

/// A value as people read it.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Object(fields) if fields.is_empty() => "-".into(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| format!("{key}={}", plain(value))).collect::<Vec<_>>().join(",")
        }
        Value::Number(number) => number.to_string(),
    }
}

/// Microseconds as people read them; 0 is not known.
pub fn micros(value: u64) -> String {
    match value {
        0 => "-".into(),
        1..1000 => format!("{value} µs"),
        1000..1_000_000 => format!("{}.{} ms", value / 1000, value % 1000 / 100),
        _ => format!("{}.{} s", value / 1_000_000, value % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_read_as_people_write_them() {
        let list = json!([{"name": "us-east", "zones": ["a", "b"], "ready": true}, {"name": "us-west"}]);
        let columns: [Column; 3] = [
            ("NAME", |row| field(row, "name")),
            ("ZONES", |row| field(row, "zones")),
            ("READY", |row| field(row, "ready")),
        ];
        let text = render(&list, &columns).unwrap();
        let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect::<Vec<_>>();
        assert_eq!(rows, [["NAME", "ZONES", "READY"], ["us-east", "a,b", "yes"], ["us-west", "-", "-"]]);
        assert_eq!([0, 999, 1_250, 2_500_000].map(micros), ["-", "999 µs", "1.2 ms", "2.5 s"]);
    }
}
