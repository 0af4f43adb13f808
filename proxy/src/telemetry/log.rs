//! The access log: Envoy's default format or an object a line, written by a thread of its own. A log that cannot keep
//! up loses lines and says how many; requests never wait for it.

use std::{
    fs::OpenOptions,
    io::{BufWriter, Write},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    time::{Duration, SystemTime},
};

use super::Record;
use crate::{
    config::{AccessLog, Format},
    error::Error,
};

/// Lines that wait for the disk.
const QUEUE: usize = 8192;

/// Where records become lines.
#[derive(Clone)]
pub(crate) struct Log {
    format: Format,
    lines: SyncSender<String>,
}

impl Log {
    /// Opens the file and begins the thread.
    pub(crate) fn open(config: &AccessLog) -> Result<Self, Error> {
        let (lines, queue) = sync_channel(QUEUE);
        if config.format != Format::Off {
            let out: Box<dyn Write + Send> = match &config.path {
                None => Box::new(std::io::stdout()),
                Some(path) => {
                    let open = OpenOptions::new().create(true).append(true).open(path);
                    Box::new(open.map_err(Error::io(format!("cannot open the access log {}", path.display())))?)
                }
            };
            let named = std::thread::Builder::new().name("access-log".into());
            named
                .spawn(move || drain(&queue, BufWriter::new(out)))
                .map_err(Error::io("cannot begin the access log"))?;
        }
        Ok(Self { format: config.format, lines })
    }

    pub(crate) fn write(&self, record: &Record) {
        let line = match self.format {
            Format::Off => return,
            Format::Text => text(record),
            Format::Json => json(record),
        };
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            tracing::debug!("the access log is behind; a line is lost");
        }
    }
}

fn drain(queue: &Receiver<String>, mut out: impl Write) {
    while let Ok(line) = queue.recv() {
        let mut written = out.write_all(line.as_bytes());
        while let Ok(line) = queue.try_recv() {
            written = written.and(out.write_all(line.as_bytes()));
        }
        if let Err(error) = written.and(out.flush()) {
            tracing::warn!(%error, "the access log cannot be written");
        }
    }
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// When that began which ends now: a record is written at its end.
fn start(now: SystemTime, duration: Duration) -> String {
    timestamp(now.checked_sub(duration).unwrap_or(now))
}

/// Envoy's default format (Envoy documentation, "Default Format String").
fn text(r: &Record) -> String {
    let clean = |text: &str| text.replace(['"', '\n', '\r'], "_");
    format!(
        "[{}] \"{} {} {}\" {} {} {} {} {} {} \"{}\" \"{}\" \"{}\" \"{}\" \"{}\"\n",
        start(SystemTime::now(), r.duration),
        dash(&r.method),
        clean(dash(&r.path)),
        r.http,
        r.code,
        r.flag(),
        r.received,
        r.sent,
        r.duration.as_millis(),
        "-",
        clean(dash(&r.forwarded_for)),
        clean(dash(&r.user_agent)),
        clean(dash(&r.request_id)),
        clean(dash(&r.authority)),
        dash(&r.upstream),
    )
}

fn json(r: &Record) -> String {
    let line = serde_json::json!({
        "start_time": start(SystemTime::now(), r.duration),
        "reporter": r.reporter.word(),
        "method": r.method, "path": r.path, "protocol": r.http,
        "response_code": r.code, "response_flags": r.flag(),
        "bytes_received": r.received, "bytes_sent": r.sent, "duration": r.duration.as_millis() as u64,
        "x_forwarded_for": r.forwarded_for, "user_agent": r.user_agent, "request_id": r.request_id,
        "authority": r.authority, "upstream_host": &*r.upstream, "route_name": r.route,
        "source_cluster": r.source.metadata.cluster, "destination_cluster": r.destination.metadata.cluster,
        "downstream_peer": r.source.principal, "upstream_peer": r.destination.principal,
    });
    format!("{line}\n")
}

/// RFC 3339 in UTC with milliseconds; days to date by the civil calendar algorithm (Hinnant 2013).
fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds() {
        let at = |seconds: u64, millis: u32| SystemTime::UNIX_EPOCH + Duration::new(seconds, millis * 1_000_000);
        assert_eq!(timestamp(at(0, 7)), "1970-01-01T00:00:00.007Z");
        assert_eq!(timestamp(at(951_827_696, 0)), "2000-02-29T12:34:56.000Z");
        assert_eq!(timestamp(at(1_795_478_400, 0)), "2026-11-24T00:00:00.000Z");
        assert_eq!(start(at(10, 0), Duration::from_millis(2_500)), "1970-01-01T00:00:07.500Z", "when it began");
    }
}
