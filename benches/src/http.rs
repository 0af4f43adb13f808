//! One request by hand: shows that a contender answers what the backend says before it is measured.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::process::Process;

/// How long a contender may take from its start to its first right answer.
const START: Duration = Duration::from_secs(20);

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Where a request goes and what it asks for.
#[derive(Clone, Debug)]
pub struct Target {
    /// The address that listens.
    pub address: SocketAddr,
    /// The `Host` header.
    pub host: String,
}

/// Asks until `target` answers 200 with `body`; fails early when one of `processes` ends.
///
/// # Errors
/// The last reason, once `START` has passed, or how a process ended.
pub fn wait_until_right(target: &Target, body: &str, processes: &mut [Process]) -> Result<()> {
    let deadline = Instant::now() + START;
    loop {
        processes.iter_mut().try_for_each(Process::check)?;
        match ask(target) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") && answer.ends_with(body) => return Ok(()),
            outcome if Instant::now() > deadline => {
                let last = outcome.unwrap_or_else(|error| format!("{error:#}"));
                bail!("{} ({}) gave no right answer within {START:?}; the last: {last}", target.address, target.host)
            }
            _ => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// The whole answer to one GET of the root.
///
/// # Errors
/// The connection fails or the answer does not end in time.
pub fn ask(target: &Target) -> Result<String> {
    get(target, "/")
}

/// The whole answer to one GET of `path`.
///
/// # Errors
/// As [`ask`].
pub fn get(target: &Target, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&target.address, ANSWER).context("cannot connect")?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.host)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("no whole answer")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
