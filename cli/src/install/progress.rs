//! What is going on, line by line: for people in words, for programs an object of JSON a line.

use serde_json::json;

use crate::{
    args::{Form, Output},
    out,
};

/// Says each step once it is done.
pub struct Progress {
    form: Form,
    dry: bool,
    waited_for: Vec<String>,
}

impl Progress {
    /// `dry`: nothing is done, and each line says so.
    pub fn new(output: Output, dry: bool) -> Self {
        Self { form: output.output, dry, waited_for: vec![] }
    }

    /// Of a thing: what became of it.
    pub fn step(&self, outcome: &str, thing: impl ToString) {
        let thing = thing.to_string();
        match self.form {
            Form::Json => out::line(json!({ "outcome": outcome, "thing": thing, "dry_run": self.dry })),
            Form::Table if self.dry => out::line(format_args!("{outcome:<11} {thing} (dry run)")),
            Form::Table => out::line(format_args!("{outcome:<11} {thing}")),
        }
    }

    /// What is still missing; each is said once, and again only when it is another.
    pub fn waiting(&mut self, missing: Vec<String>) {
        for one in missing.iter().filter(|one| !self.waited_for.contains(one)) {
            self.step("waiting", one);
        }
        self.waited_for = missing;
    }
}
