//! The steps of a request, for `isthmus trace`; other requests keep none.

use std::{cell::RefCell, time::Instant};

/// One step of a request.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Hop {
    pub(crate) hop: &'static str,
    pub(crate) what: String,
    pub(crate) detail: String,
    pub(crate) identity: String,
    pub(crate) micros: u64,
    pub(crate) ok: bool,
    pub(crate) error: String,
}

impl Hop {
    pub(crate) fn new(hop: &'static str, what: impl Into<String>, detail: impl Into<String>) -> Self {
        let (what, detail) = (what.into(), detail.into());
        Self { hop, what, detail, identity: String::new(), micros: 0, ok: true, error: String::new() }
    }

    pub(crate) fn took(mut self, began: Instant) -> Self {
        self.micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self
    }

    pub(crate) fn by(mut self, identity: impl ToString) -> Self {
        self.identity = identity.to_string();
        self
    }

    pub(crate) fn failed(mut self, error: impl ToString) -> Self {
        self.ok = false;
        self.error = error.to_string();
        self
    }

    pub(crate) fn ended(self, error: Option<&str>) -> Self {
        match error {
            None => self,
            Some(error) => self.failed(error),
        }
    }
}

/// Where the steps of one request are kept, when somebody asks for them.
#[derive(Default)]
pub(crate) struct Steps(Option<RefCell<Vec<Hop>>>);

impl Steps {
    /// Keeps them.
    pub(crate) fn kept() -> Self {
        Self(Some(RefCell::default()))
    }

    /// Adds a step; it is not even made when nobody asked.
    pub(crate) fn add(&self, hop: impl FnOnce() -> Hop) {
        if let Some(kept) = &self.0 {
            kept.borrow_mut().push(hop());
        }
    }

    /// Whether somebody asked for them.
    pub(crate) fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    /// All of them, in order.
    pub(crate) fn into_hops(self) -> Vec<Hop> {
        self.0.map(RefCell::into_inner).unwrap_or_default()
    }
}
