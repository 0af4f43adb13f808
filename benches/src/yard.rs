//! The ground of a run: a directory, addresses of our own on loopback, the backend that all contenders share.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    certificates::Certificates,
    contender::nginx,
    http::{self, Target},
    process::Process,
    tools::Tools,
};

/// Length of every answer's body, bytes.
pub const BODY: usize = 100;

/// Second octet of all addresses of a run, 127.x: away from clusters that `isthmus up` raises.
const NET: u8 = 201;

/// What contenders are built on.
#[derive(Debug)]
pub struct Yard {
    /// Programs.
    pub tools: Tools,
    /// Certificates for contenders without a CA.
    pub certificates: Certificates,
    /// The backend's address.
    pub backend: SocketAddr,
    // Dropped in this order: the process before its directory.
    _backend: Process,
    directory: TempDir,
}

impl Yard {
    /// Makes the directory and the certificates, starts the backend.
    ///
    /// # Errors
    /// Any of it fails.
    pub fn raise(tools: Tools) -> Result<Self> {
        let directory = TempDir::with_prefix("isthmus-bench-").context("cannot make a directory for the run")?;
        let certificates = Certificates::create(directory.path())?;
        let backend = SocketAddr::from((address(0, 1), 9080));
        let mut process = start_backend(&tools.nginx, directory.path(), backend)?;
        let target = Target { address: backend, host: "backend".to_owned() };
        http::wait_until_right(&target, &body(), std::slice::from_mut(&mut process))?;
        Ok(Self { tools, certificates, backend, _backend: process, directory })
    }

    /// A fresh directory for one process.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

/// 127.201.`group`.`host`.
#[must_use]
pub fn address(group: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, NET, group, host)
}

/// The body that every right answer ends with.
#[must_use]
pub fn body() -> String {
    "x".repeat(BODY)
}

fn start_backend(nginx: &Path, directory: &Path, at: SocketAddr) -> Result<Process> {
    let directory = directory.join("backend");
    std::fs::create_dir_all(&directory)?;
    let server =
        format!("server {{ listen {at}; keepalive_requests 100000000; location / {{ return 200 \"{}\"; }} }}", body());
    let config = nginx::write_config(&directory, 1, &server)?;
    Process::start("backend", &directory, Command::new(nginx).args(nginx::arguments(&directory, &config)))
}
