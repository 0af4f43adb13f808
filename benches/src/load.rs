//! The load: wrk with one thread and a script that prints what it counted as one line of JSON.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{http::Target, yard::BODY};

/// What wrk runs at its end; `RESULT ` marks our line among its own.
const SCRIPT: &str = r#"done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests":%d,"micros":%d,"bytes":%d,"p50":%d,"p99":%d,"max":%d,"errors":%d}\n', summary.requests, summary.duration,
    summary.bytes, latency:percentile(50), latency:percentile(99), latency.max, e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// Connections of the load in both cases.
pub const CONNECTIONS: u32 = 32;

/// No contender's answer has a head of so many bytes.
const MOST_HEAD: u64 = 1000;

/// What one bounded load showed.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Outcome {
    /// Answers received whole.
    pub requests: u64,
    /// Duration, microseconds.
    pub micros: u64,
    /// Heads and bodies received.
    pub bytes: u64,
    /// Median answer time, microseconds.
    pub p50: u64,
    /// 99th percentile, microseconds.
    pub p99: u64,
    /// Slowest answer, microseconds.
    pub max: u64,
    /// Connections refused or cut, time-outs, and answers of 400 and above.
    pub errors: u64,
}

/// wrk with its script on disk.
#[derive(Clone, Debug)]
pub struct Load {
    wrk: PathBuf,
    script: PathBuf,
}

impl Load {
    /// Writes the script into `directory`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(wrk: &Path, directory: &Path) -> Result<Self> {
        let script = directory.join("load.lua");
        std::fs::write(&script, SCRIPT).with_context(|| format!("cannot write {}", script.display()))?;
        Ok(Self { wrk: wrk.to_owned(), script })
    }

    /// Loads `target` for `seconds`.
    ///
    /// # Errors
    /// wrk fails, or any request did: a figure with failures in it says nothing.
    pub fn run(&self, target: &Target, seconds: u32) -> Result<Outcome> {
        let output = Command::new(&self.wrk)
            .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "--timeout", "5s", "-s"])
            .arg(&self.script)
            .args(["-H", &format!("Host: {}", target.host)])
            .arg(format!("http://{}/", target.address))
            .output()
            .context("cannot start wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let outcome =
            parse(&text).with_context(|| format!("wrk said: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
        outcome.check().with_context(|| format!("the load on {}", target.address))?;
        Ok(outcome)
    }
}

impl Outcome {
    /// Every answer was one of 100 bytes behind a head of a usual size, and no request failed.
    fn check(&self) -> Result<()> {
        if self.errors > 0 || self.requests == 0 {
            bail!("{} of {} requests failed", self.errors, self.requests);
        }
        let size = self.bytes / self.requests;
        if !(BODY as u64 + 1..BODY as u64 + MOST_HEAD).contains(&size) {
            bail!("an answer had {size} bytes on average, with a body of {BODY} and a head");
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<Outcome> {
    let line = text.lines().find_map(|line| line.strip_prefix("RESULT ")).context("no result")?;
    Ok(serde_json::from_str(line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_found_among_what_wrk_prints() {
        let text = "Running 1s test\nRESULT {\"requests\":10,\"micros\":1000,\"bytes\":2500,\"p50\":1,\"p99\":2,\"max\":3,\"errors\":0}\n";
        assert_eq!(parse(text).unwrap().requests, 10);
        assert!(parse("nothing").is_err());
    }

    #[test]
    fn failures_and_answers_of_another_size_are_no_figure() {
        let right = Outcome { requests: 10, micros: 1000, bytes: 2500, p50: 1, p99: 2, max: 3, errors: 0 };
        assert!(right.check().is_ok());
        for wrong in [
            Outcome { errors: 1, ..right },
            Outcome { requests: 0, ..right },
            Outcome { bytes: 900, ..right },
            Outcome { bytes: 20_000, ..right },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
