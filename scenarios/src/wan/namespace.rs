//! Network namespaces: made with their devices, entered by a thread, removed, and found again when their run was killed.
//!
//! A run owns a namespace by a lock on a file in `/run/isthmus`, which goes with the process however it ends. So what is left
//! of a killed run is known by a lock that can be had, and nothing of a run that lives is ever touched.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use isthmus_core::plan::{ClusterAddresses, Form};
use rustix::{
    fs::{FlockOperation, flock},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use tappers::{Interface, linux::Tun};

use super::{links::End, settings::DEVICE_MTU};
use crate::plan;

/// Where locks are.
const LOCKS: &str = "/run/isthmus";
/// Where iproute2 keeps the names of namespaces.
const NAMES: &str = "/run/netns";
/// What the names of all our namespaces begin with.
const PREFIX: &str = "isthmus-";
/// The device towards the router, and the one towards the machine.
const WAN: &str = "wan";
const HOST: &str = "host";

/// A cluster's namespace; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    number: u8,
    _lock: Lock,
}

impl Namespace {
    /// Makes the namespace of a cluster, with the range of its addresses and a way to the machine.
    ///
    /// # Errors
    /// When another run has the number, or the system refuses: with what it says.
    pub fn make(end: &End) -> Result<Self> {
        let name = plan::namespace(end.number, &end.name);
        let Some(lock) = Lock::take(end.number)? else {
            bail!(
                "another mesh on this machine has the number {} in the address plan; end that one, or raise this one at \
                 other addresses with --first-number",
                end.number
            );
        };
        remove(&name, end.number);
        let made = Self { name, number: end.number, _lock: lock };
        made.furnish().with_context(|| format!("cannot make the network namespace {}", made.name))?;
        Ok(made)
    }

    fn furnish(&self) -> Result<()> {
        let (name, near) = (&self.name, link(self.number));
        let at = ClusterAddresses::new(Form::Namespaces, self.number);
        let (own, machine, first) = (at.own(), at.machine(), Form::Namespaces.first_octet());
        let range = format!("{first}.{}.0.0/16", self.number);
        ip(&["netns", "add", name], "")?;
        ip(&["link", "add", &near, "type", "veth", "peer", "name", HOST, "netns", name], "")?;
        // An address with a prefix on the loopback device makes the whole range local, as 127.0.0.0/8 is.
        let inside = format!(
            "link set lo up\naddr add {own}/16 dev lo\nlink set {HOST} up\nroute add {machine} dev {HOST} src {own}\n"
        );
        ip(&["-n", name, "-batch", "-"], &inside)?;
        let outside = format!(
            "addr add {machine}/32 dev {near}\nlink set {near} up\nroute add {range} dev {near} src {machine}\n"
        );
        ip(&["-batch", "-"], &outside)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens the device towards the router, by which it reaches all other clusters.
    ///
    /// # Errors
    /// When the system has no TUN devices, or refuses this one.
    pub fn open_tun(&self) -> Result<Tun> {
        let device = inside(&self.name, || Tun::create_named(Interface::new(WAN)?))?.with_context(|| {
            format!("cannot open a TUN device in {}; the kernel needs CONFIG_TUN and /dev/net/tun", self.name)
        })?;
        let own = ClusterAddresses::new(Form::Namespaces, self.number).own();
        let first = Form::Namespaces.first_octet();
        // The queue before the router is never the one that drops: the links' own queues are.
        let inside = format!(
            "link set {WAN} up mtu {DEVICE_MTU} txqueuelen 10000\nroute add {first}.0.0.0/8 dev {WAN} src {own}\n"
        );
        ip(&["-n", &self.name, "-batch", "-"], &inside)?;
        Ok(device)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name, self.number);
    }
}

/// The device of the machine towards a cluster.
fn link(number: u8) -> String {
    format!("isth-{number}")
}

fn remove(name: &str, number: u8) {
    // The pair goes with the namespace, but only once its last process is gone.
    let _ = ip(&["link", "del", &link(number)], "");
    if Path::new(NAMES).join(name).exists() {
        let _ = ip(&["netns", "del", name], "");
    }
}

/// Removes what runs that were killed have left.
pub fn sweep() {
    let Ok(names) = fs::read_dir(NAMES) else { return };
    for name in names.flatten() {
        let name = name.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')?.0.parse::<u8>().ok());
        let Some(number) = number.filter(|number| lock_path(*number).exists()) else { continue };
        if let Ok(Some(_lock)) = Lock::take(number) {
            tracing::info!(%name, "removing the network namespace of a run that was killed");
            remove(&name, number);
        }
    }
}

/// Does something on a thread of its own in a namespace. Sockets opened there stay there, wherever they are used.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn inside<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let path = Path::new(NAMES).join(name);
    let file = File::open(&path).with_context(|| format!("no network namespace {}", path.display()))?;
    let enter = || {
        let entered = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
        entered.map(|()| work()).map_err(|reason| anyhow!("cannot enter the network namespace {name}: {reason}"))
    };
    let done = std::thread::scope(|scope| scope.spawn(enter).join());
    done.map_err(|_| anyhow!("what was done in {name} panicked"))?
}

/// What runs a program in a namespace: it becomes the program, so process id and parent stay.
#[must_use]
pub fn runner(name: &str) -> (&'static str, String) {
    ("nsenter", format!("--net={}", Path::new(NAMES).join(name).display()))
}

/// iproute2 with these arguments and this input; what it complains of is the error.
fn ip(arguments: &[&str], input: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run `ip`; install iproute2")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A failed command ends before it has read all; its own complaint says more than a broken pipe.
        let _ = stdin.write_all(input.as_bytes());
    }
    let done = child.wait_with_output()?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
        bail!("`ip {}` says: {said}", arguments.join(" "));
    }
    Ok(())
}

/// Held while a run has a number; its file is removed with it.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

fn lock_path(number: u8) -> PathBuf {
    Path::new(LOCKS).join(format!("{number}.lock"))
}

impl Lock {
    /// `None`: another run has it.
    fn take(number: u8) -> Result<Option<Self>> {
        fs::create_dir_all(LOCKS).with_context(|| format!("cannot create {LOCKS}"))?;
        let path = lock_path(number);
        loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
            let file = file.with_context(|| format!("cannot write {}", path.display()))?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Ok(None);
            }
            // Its holder may have removed it between the two.
            let is_same = fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino()));
            if is_same {
                return Ok(Some(Self { path, _file: file }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
