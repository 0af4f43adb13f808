//! The access log: Envoy's default format or an object a line, written by a thread of its own. A log that cannot keep
//! up, or a disk that is full, loses lines, says so once and how many in the end; requests never wait for it.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, SystemTime},
};

use super::{Record, head::Head};
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
    /// Lines that found no place in the queue since it was last told.
    crowded_out: Arc<AtomicU64>,
}

impl Log {
    /// Opens the file and begins the thread.
    pub(crate) fn open(config: &AccessLog) -> Result<Self, Error> {
        let (lines, queue) = sync_channel(QUEUE);
        let crowded_out = Arc::<AtomicU64>::default();
        if config.format != Format::Off {
            let out: Box<dyn Write + Send> = match &config.path {
                None => Box::new(std::io::stdout()),
                Some(path) => {
                    let open = OpenOptions::new().create(true).append(true).open(path);
                    Box::new(open.map_err(Error::io(format!("cannot open the access log {}", path.display())))?)
                }
            };
            let named = std::thread::Builder::new().name("access-log".into());
            let lost = Arc::clone(&crowded_out);
            named.spawn(move || drain(&queue, out, &lost)).map_err(Error::io("cannot begin the access log"))?;
        }
        Ok(Self { format: config.format, lines, crowded_out })
    }

    pub(crate) fn write(&self, record: &Record) {
        let line = match self.format {
            Format::Off => return,
            Format::Text => text(record),
            Format::Json => json(record),
        };
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.crowded_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Lines that are written together at most.
const BATCH: u64 = 256;

fn drain(queue: &Receiver<String>, mut out: impl Write, crowded_out: &AtomicU64) {
    let mut file = Tried::default();
    while let Ok(line) = queue.recv() {
        let (mut batch, mut lines) = (line, 1u64);
        while lines < BATCH
            && let Ok(line) = queue.try_recv()
        {
            batch.push_str(&line);
            lines += 1;
        }
        file.write(&mut out, batch.as_bytes(), lines);
        let lost = crowded_out.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "the access log could not keep up; lines are lost");
        }
    }
}

/// How the last writes went.
#[derive(Default)]
struct Tried {
    /// Lines lost since a write failed first.
    lost: u64,
    /// A line was left in its middle.
    cut: bool,
}

impl Tried {
    fn write(&mut self, out: &mut impl Write, batch: &[u8], lines: u64) {
        let end_of_line: &[u8] = if self.cut { b"\n" } else { b"" };
        let written = append(out, end_of_line).and_then(|()| {
            self.cut = false;
            append(out, batch)
        });
        match written {
            Ok(()) if self.lost > 0 => {
                let lost = std::mem::take(&mut self.lost);
                tracing::info!(lost, "the access log is written again; lines are lost");
            }
            Ok(()) => {}
            Err((error, some)) => {
                self.cut |= some;
                if self.lost == 0 {
                    tracing::warn!(%error, "the access log cannot be written; lines are lost until it can");
                }
                self.lost += lines;
            }
        }
    }
}

/// Writes all of it; an error says whether some of it was written before.
fn append(out: &mut impl Write, bytes: &[u8]) -> Result<(), (io::Error, bool)> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return Err((io::ErrorKind::WriteZero.into(), rest.len() < bytes.len())),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((error, rest.len() < bytes.len())),
        }
    }
    out.flush().map_err(|error| (error, false))
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
        dash(r.said(Head::method)),
        clean(dash(r.said(Head::path))),
        dash(r.said(|head| head.version())),
        r.code,
        r.flag(),
        r.received,
        r.sent,
        r.duration.as_millis(),
        "-",
        clean(dash(r.said(Head::forwarded_for))),
        clean(dash(r.said(Head::user_agent))),
        clean(dash(r.said(Head::request_id))),
        clean(dash(r.said(Head::authority))),
        dash(&r.upstream),
    )
}

fn json(r: &Record) -> String {
    let line = serde_json::json!({
        "start_time": start(SystemTime::now(), r.duration),
        "reporter": r.reporter.word(),
        "method": r.said(Head::method), "path": r.said(Head::path), "protocol": dash(r.said(|head| head.version())),
        "response_code": r.code, "response_flags": r.flag(),
        "bytes_received": r.received, "bytes_sent": r.sent, "duration": r.duration.as_millis() as u64,
        "x_forwarded_for": r.said(Head::forwarded_for), "user_agent": r.said(Head::user_agent),
        "request_id": r.said(Head::request_id), "authority": r.said(Head::authority), "upstream_host": &*r.upstream, "route_name": r.route,
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

    /// A disk with so many bytes of room.
    struct Disk {
        room: usize,
        content: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room);
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= fits;
            self.content.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_loses_whole_lines_and_counts_them_and_the_log_goes_on_when_there_is_room() {
        let (mut disk, mut file) = (Disk { room: 10, content: vec![] }, Tried::default());
        file.write(&mut disk, b"first\n", 1);
        for _ in 0..3 {
            file.write(&mut disk, b"lost line\n", 1);
        }
        assert_eq!((file.lost, file.cut), (3, true));
        disk.room = 100;
        file.write(&mut disk, b"last\n", 1);
        assert_eq!((file.lost, file.cut), (0, false));
        let content = String::from_utf8(disk.content).unwrap();
        assert_eq!(content.lines().collect::<Vec<_>>(), ["first", "lost", "last"], "what was cut stands alone");
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        let at = |seconds: u64, millis: u32| SystemTime::UNIX_EPOCH + Duration::new(seconds, millis * 1_000_000);
        assert_eq!(timestamp(at(0, 7)), "1970-01-01T00:00:00.007Z");
        assert_eq!(timestamp(at(951_827_696, 0)), "2000-02-29T12:34:56.000Z");
        assert_eq!(timestamp(at(1_795_478_400, 0)), "2026-11-24T00:00:00.000Z");
        assert_eq!(start(at(10, 0), Duration::from_millis(2_500)), "1970-01-01T00:00:07.500Z", "when it began");
    }
}
