//! Logs: one line an event on standard error, quiet at steady state, the level changeable while the process runs.

use std::sync::OnceLock;

use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Begins to write logs. `level` is a filter such as `info` or `info,isthmus_proxy=debug`; `json`: one object a line.
/// A second call changes nothing but the level.
///
/// # Errors
/// When `level` is no filter; the text says why.
pub fn init(role: &str, level: &str, json: bool) -> Result<(), String> {
    if FILTER.get().is_some() {
        return set_level(level);
    }
    let (filter, handle) = reload::Layer::new(parse(level)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if json { lines.json().boxed() } else { lines.with_ansi(false).with_target(false).boxed() };
    // In a test somebody else may write logs already: then this process has no level of its own.
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok() {
        let _ = FILTER.set(handle);
        tracing::debug!(role, level, "logging");
    }
    Ok(())
}

fn parse(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level).map_err(|error| format!("{level:?} is no log filter: {error}"))
}

/// The filter in force; `None` where [`init`] was not called.
#[must_use]
pub fn level() -> Option<String> {
    FILTER.get()?.with_current(ToString::to_string).ok()
}

/// Takes another filter into force.
///
/// # Errors
/// When the text is no filter, or this process writes no logs; says which.
pub fn set_level(level: &str) -> Result<(), String> {
    let handle = FILTER.get().ok_or("the log level of this process is fixed")?;
    handle.reload(parse(level)?).map_err(|error| error.to_string())
}
