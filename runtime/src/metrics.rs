//! The metrics of a process: one registry, Prometheus text, and what every process says of itself.

use std::time::{SystemTime, UNIX_EPOCH};

pub use prometheus::{self, Error, Registry};
use prometheus::{
    Counter, Encoder, Gauge, Opts, TextEncoder,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A registry that says which build this is and what the process takes of the machine.
///
/// # Errors
/// When a standard metric cannot be registered.
pub fn registry(role: &str) -> Result<Registry, Error> {
    let registry = Registry::new();
    build_info(&registry, role)?;
    registry.register(Box::new(Process::new()?))?;
    Ok(registry)
}

/// `isthmus_build_info{role,version} 1`.
///
/// # Errors
/// When it is registered already.
pub fn build_info(registry: &Registry, role: &str) -> Result<(), Error> {
    let opts = Opts::new("isthmus_build_info", "This build; always 1.")
        .const_label("role", role)
        .const_label("version", env!("CARGO_PKG_VERSION"));
    let build = Gauge::with_opts(opts)?;
    build.set(1.0);
    registry.register(Box::new(build))
}

/// Prometheus text of everything in the registry.
#[must_use]
pub fn render(registry: &Registry) -> Vec<u8> {
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&registry.gather(), &mut text) {
        tracing::debug!(%error, "metrics cannot be written");
    }
    text
}

/// The standard `process_*` metrics, read from `/proc/self` at each scrape.
struct Process {
    cpu: Counter,
    memory: Gauge,
    files: Gauge,
    threads: Gauge,
    start: Gauge,
}

impl Process {
    fn new() -> Result<Self, Error> {
        let start = Gauge::new("process_start_time_seconds", "Unix time at which the process began.")?;
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        Ok(Self {
            cpu: Counter::new("process_cpu_seconds_total", "User and system CPU time of the process.")?,
            memory: Gauge::new("process_resident_memory_bytes", "Resident memory.")?,
            files: Gauge::new("process_open_fds", "Open file descriptors.")?,
            threads: Gauge::new("process_threads", "Threads.")?,
            start,
        })
    }

    fn all(&self) -> [&dyn Collector; 5] {
        [&self.cpu, &self.memory, &self.files, &self.threads, &self.start]
    }

    fn read(&self) {
        if let Some(fields) = Stat::read() {
            let seconds = fields.ticks / rustix::param::clock_ticks_per_second() as f64;
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
            self.threads.set(fields.threads);
            self.memory.set(fields.pages * rustix::param::page_size() as f64);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            // One of them is the directory that is being read.
            self.files.set(files.count().saturating_sub(1) as f64);
        }
    }
}

/// What is used of `/proc/self/stat` (proc_pid_stat(5)).
struct Stat {
    ticks: f64,
    threads: f64,
    pages: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        // Behind the name, which may hold anything, in its last bracket: field 3 is the first.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self { ticks: field(14)? + field(15)?, threads: field(20)?, pages: field(24)? })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(|one| one.desc()).collect()
    }
    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.all().into_iter().flat_map(|one| one.collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_names_build_and_process() {
        let text = String::from_utf8(render(&registry("gateway").unwrap())).unwrap();
        for part in
            ["isthmus_build_info{role=\"gateway\",version=", "process_resident_memory_bytes ", "process_open_fds "]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
