//! A node and its pods, each a network namespace with a veth pair to the node's bridge: real programs, real rules, and
//! nothing of the machine's own network touched.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

pub const LIMIT: Duration = Duration::from_secs(90);
/// What a pod's name begins with; the process follows, so that what a killed run left is known.
const PREFIX: &str = "isthmus-cap-";
/// Where iproute2 keeps the names of namespaces.
const NAMES: &str = "/run/netns";
/// The user and group of a sidecar.
pub const SIDECAR: (u32, u32) = (1337, 1337);
pub const ROOT: (u32, u32) = (0, 0);

/// Whether this machine has what the tests need; says so when it has not.
pub fn is_possible() -> bool {
    let programs = ["nft", "iptables-legacy-restore", "ip", "dig", "curl", "python3", "setpriv", "unshare"];
    let missing = programs.into_iter().filter(|name| {
        let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).stdout(Stdio::null()).status();
        !found.is_ok_and(|status| status.success())
    });
    let missing: Vec<_> = missing.collect();
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: capture is tested in network namespaces, which only root can make");
    } else if !missing.is_empty() {
        eprintln!("SKIPPED: capture is tested with {}, which this machine has not", missing.join(", "));
    } else {
        return true;
    }
    false
}

/// A pod, or the node.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its namespace.
    pub name: String,
    /// What its programs are told of nameservers.
    nameserver: &'static str,
}

/// A node with its pods, gone when dropped.
pub struct World {
    prefix: String,
    pub node: Pod,
    pods: Vec<Pod>,
    programs: Vec<Child>,
}

impl World {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let prefix = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let node = Pod { name: format!("{prefix}-node"), nameserver: "10.71.0.1" };
        ip(&format!("netns add {}", node.name));
        let world = Self { prefix, node, pods: vec![], programs: vec![] };
        for line in [
            "link set lo up",
            "link add br0 type bridge",
            "link set br0 up",
            "addr add 10.71.0.1/24 dev br0",
            "addr add fd71::1/64 dev br0 nodad",
            "addr add 198.51.100.1/24 dev br0",
            "addr add fd72::1/64 dev br0 nodad",
        ] {
            ip(&format!("-n {} {line}", world.node.name));
        }
        let forward = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding";
        world.node.ok(ROOT, &["sh", "-c", forward]);
        world
    }

    /// A pod with an address in each family, and the node as its way to everything else.
    pub fn pod(&mut self, name: &str, four: &str, six: &str) -> Pod {
        let pod = Pod { name: format!("{}-{name}", self.prefix), nameserver: "10.71.0.1" };
        let port = format!("p{}", self.pods.len());
        let gateways = if four.starts_with("198.") { ["198.51.100.1", "fd72::1"] } else { ["10.71.0.1", "fd71::1"] };
        ip(&format!("netns add {}", pod.name));
        self.pods.push(pod.clone());
        ip(&format!("link add eth0 netns {} type veth peer name {port} netns {}", pod.name, self.node.name));
        ip(&format!("-n {} link set {port} master br0 up", self.node.name));
        for line in [
            "link set lo up".to_owned(),
            format!("addr add {four}/24 dev eth0"),
            format!("addr add {six}/64 dev eth0 nodad"),
            "link set eth0 up".to_owned(),
            format!("route add default via {}", gateways[0]),
            format!("route add default via {}", gateways[1]),
        ] {
            ip(&format!("-n {} {line}", pod.name));
        }
        // As strict as a node may have it: what comes in must come by the way that leads back.
        pod.ok(ROOT, &["sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter"]);
        pod
    }

    /// Runs a program in the background until the world ends; when it prints a line it is ready.
    pub fn program(&mut self, pod: &Pod, command: &[&str]) {
        let mut child = pod.command(ROOT, command).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.programs.push(child);
        assert!(!line.is_empty(), "{command:?} in {} does not begin", pod.name);
    }

    /// An application that answers HTTP and greets.
    pub fn application(&mut self, pod: &Pod, name: &str, http: &str, greeters: &[&str]) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/capture/server.py");
        self.program(pod, &[["python3", script, name, http].as_slice(), greeters].concat());
    }

    /// The cluster's DNS.
    pub fn names(&mut self, known: &[&str]) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/capture/names.py");
        let node = self.node.clone();
        self.program(&node, &[["python3", script, "10.71.0.1"].as_slice(), known].concat());
    }

    /// Where the address of a service leads without a mesh, as kube-proxy has it.
    pub fn service(&self, from: &str, to: &str) {
        let family = if from.starts_with('[') { "ip6" } else { "ip" };
        let (address, port) = from.rsplit_once(':').unwrap();
        let address = address.trim_matches(['[', ']']);
        let rules = format!(
            "add table {family} services\nadd chain {family} services pre {{ type nat hook prerouting priority -100; }}\n\
             add rule {family} services pre {family} daddr {address} tcp dport {port} dnat to {to}\n"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), rules).unwrap();
        self.node.ok(ROOT, &["nft", "-f", file.path().to_str().unwrap()]);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in &mut self.programs {
            let _ = child.kill();
            let _ = child.wait();
        }
        for pod in self.pods.iter().chain([&self.node]) {
            let _ = Command::new("ip").args(["netns", "del", &pod.name]).status();
        }
    }
}

impl Pod {
    /// A command in the pod, as this user and group, with the pod's own nameserver.
    pub fn command(&self, (user, group): (u32, u32), command: &[&str]) -> Command {
        self.prepared((user, group), "", command)
    }

    /// The same after a script of root's, in a mount namespace of its own.
    pub fn prepared(&self, (user, group): (u32, u32), script: &str, command: &[&str]) -> Command {
        let script = format!(
            "set -e; mount -t tmpfs none /mnt; echo nameserver {} >/mnt/resolv.conf\n\
             mount --bind /mnt/resolv.conf /etc/resolv.conf\n{script}\n\
             exec setpriv --reuid {user} --regid {group} --clear-groups -- \"$@\"",
            self.nameserver
        );
        let mut run = Command::new("ip");
        run.args(["netns", "exec", &self.name, "sh", "-c", &script, "sh"]).args(command).stdin(Stdio::null());
        run
    }

    pub fn run(&self, who: (u32, u32), command: &[&str]) -> Output {
        self.command(who, command).output().unwrap()
    }

    /// What it prints; it must end well.
    pub fn ok(&self, who: (u32, u32), command: &[&str]) -> String {
        let output = self.run(who, command);
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command:?} in {}: {}", self.name, said());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The body of a GET, or why there is none.
    pub fn get(&self, url: &str) -> Result<String, String> {
        self.get_as(ROOT, url)
    }

    pub fn get_as(&self, who: (u32, u32), url: &str) -> Result<String, String> {
        let output = self.run(who, &["curl", "-sS", "--noproxy", "*", "--max-time", "10", "-f", url]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// What a server says before it is told anything, or why it says nothing; then a word goes there and back.
    pub fn greeting(&self, host: &str, port: u16) -> Result<String, String> {
        let script = format!(
            "import socket\ns = socket.create_connection(('{host}', {port}), 10)\nf = s.makefile('rw')\n\
             hello = f.readline()\nassert hello, 'it closed'\nf.write('ping\\n')\nf.flush()\nprint(hello.strip(), f.readline().strip())\n"
        );
        let output = self.run(ROOT, &["python3", "-c", &script]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// `isthmus capture` with these options.
    pub fn capture(&self, options: &[&str]) -> String {
        self.ok(ROOT, &[[env!("CARGO_BIN_EXE_isthmus"), "capture"].as_slice(), options].concat())
    }
}

fn ip(line: &str) {
    let output = Command::new("ip").args(line.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Removes what runs that were killed have left.
fn sweep() {
    for name in fs::read_dir(NAMES).into_iter().flatten().flatten() {
        let name = name.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}

/// Tries until it is so.
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        match check() {
            Ok(found) => return found,
            Err(reason) => assert!(Instant::now() < until, "{what}: {reason}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
