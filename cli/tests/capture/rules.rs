//! The rules alone, in a pod without a sidecar: what is captured is refused there, what is left alone arrives.

use crate::world::{Pod, ROOT, SIDECAR, World, is_possible};

const OUT: &str = "198.51.100.9";
const OUT6: &str = "fd72::9";

/// A pod whose traffic is captured, and somebody outside with HTTP on 80 and 8080 and a greeter on 2525.
struct Scene {
    world: World,
    pod: Pod,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new();
        let pod = world.pod("a", "10.71.0.11", "fd71::11");
        let out = world.pod("out", OUT, OUT6);
        world.application(&out, "out", "80", &["2525"]);
        world.application(&out, "other", "8080", &[]);
        world.application(&pod, "a", "9080", &["2525"]);
        world.names(&["name.test=192.0.2.7"]);
        Self { world, pod }
    }

    /// Which of these are refused, because they are captured and nobody listens for them.
    fn captured(&self, who: (u32, u32)) -> Vec<&'static str> {
        let urls = [
            ("v4", format!("http://{OUT}/")),
            ("v6", format!("http://[{OUT6}]/")),
            ("v4:8080", format!("http://{OUT}:8080/")),
            ("v6:8080", format!("http://[{OUT6}]:8080/")),
            ("own", "http://10.71.0.11:9080/".into()),
            ("loopback", "http://127.0.0.1:9080/".into()),
            ("loopback6", "http://[::1]:9080/".into()),
        ];
        let mut captured: Vec<_> = urls.iter().filter(|(_, url)| self.pod.get_as(who, url).is_err()).collect();
        let mut names: Vec<_> = captured.drain(..).map(|(name, _)| *name).collect();
        let asked = self.pod.run(who, &["dig", "+short", "+tries=1", "+timeout=10", "name.test"]);
        if !String::from_utf8_lossy(&asked.stdout).contains("192.0.2.7") {
            names.push("dns");
        }
        names
    }

    /// Which ports of the pod are captured when the node comes in.
    fn captured_in(&self) -> Vec<&'static str> {
        let at = [("v4", "10.71.0.11"), ("v6", "fd71::11")];
        let mut captured = vec![];
        for (family, address) in at {
            let host = if family == "v6" { format!("[{address}]") } else { address.to_owned() };
            if self.world.node.get(&format!("http://{host}:9080/")).is_err() {
                captured.push(if family == "v4" { "v4:9080" } else { "v6:9080" });
            }
            if self.world.node.greeting(address, 2525).is_err() {
                captured.push(if family == "v4" { "v4:2525" } else { "v6:2525" });
            }
        }
        captured
    }
}

#[test]
fn by_nft_everything_is_captured_but_for_what_is_excluded_and_the_last_setting_holds() {
    each_setting("nft");
}

#[test]
fn by_iptables_everything_is_captured_but_for_what_is_excluded_and_the_last_setting_holds() {
    each_setting("iptables");
}

fn each_setting(with: &str) {
    if !is_possible() {
        return;
    }
    let scene = Scene::new();
    assert_eq!((scene.captured(ROOT), scene.captured_in()), (vec![], vec![]), "nothing before the rules");
    let all = ["v4", "v6", "v4:8080", "v6:8080", "dns"];
    let capture = |options: &[&str]| scene.pod.capture(&[options, &["--with", with]].concat());
    let said = capture(&[]);
    assert!(said.contains("out all TCP, DNS; in all TCP (REDIRECT)"), "{said}");
    assert_eq!(scene.captured(ROOT), all, "{with}");
    assert_eq!(scene.captured(SIDECAR), Vec::<&str>::new(), "the sidecar's own user, {with}");
    assert_eq!(scene.captured_in(), ["v4:9080", "v4:2525", "v6:9080", "v6:2525"], "{with}");
    let first = rules(&scene.pod);
    capture(&[]);
    assert_eq!(rules(&scene.pod), first, "a second time is as the first, {with}");

    capture(&["--exclude-outbound-ports", "8080", "--exclude-inbound-ports", "9080"]);
    assert_eq!(scene.captured(ROOT), ["v4", "v6", "dns"], "{with}");
    assert_eq!(scene.captured_in(), ["v4:2525", "v6:2525"], "{with}");

    capture(&["--exclude-outbound-ip-ranges", "198.51.100.0/24", "--include-inbound-ports", "2525"]);
    assert_eq!(scene.captured(ROOT), ["v6", "v6:8080", "dns"], "{with}");
    assert_eq!(scene.captured_in(), ["v4:2525", "v6:2525"], "{with}");

    let only = ["--include-outbound-ip-ranges", "fd72::/64", "--include-outbound-ports", "8080"];
    capture(&[only.as_slice(), &["--include-inbound-ports", ""]].concat());
    assert_eq!(scene.captured(ROOT), ["v6", "v4:8080", "v6:8080", "dns"], "{with}");
    assert_eq!(scene.captured_in(), Vec::<&str>::new(), "{with}");

    capture(&["--no-dns", "--exclude-users", "1337,4000", "--exclude-groups", ""]);
    assert_eq!(scene.captured(ROOT), ["v4", "v6", "v4:8080", "v6:8080"], "{with}");
    assert_eq!(scene.captured((4000, 4000)), Vec::<&str>::new(), "{with}");

    capture(&["--exclude-outbound-ports", "53", "--exclude-interfaces", "eth0"]);
    assert_eq!((scene.captured(ROOT), scene.captured_in()), (vec![], vec![]), "{with}");
}

/// All rules in force, in either language, without counters and comments.
fn rules(pod: &Pod) -> String {
    let saved = pod.ok(ROOT, &["sh", "-c", "nft list ruleset; iptables-legacy-save; ip6tables-legacy-save"]);
    saved.lines().filter(|line| !line.starts_with(['#', ':'])).collect::<Vec<_>>().join("\n")
}

#[test]
fn who_has_too_little_privilege_or_the_wrong_user_is_told_the_remedy_and_nothing_is_done() {
    if !is_possible() {
        return;
    }
    let mut world = World::new();
    let pod = world.pod("a", "10.71.0.11", "fd71::11");
    let script = format!("mkdir /mnt/bin; mount --bind {} /mnt/bin", directory());
    let output = pod.prepared(SIDECAR, &script, &["/mnt/bin/isthmus", "capture"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.lines().count() == 1, "{said}");
    assert!(said.contains("as root with the capability NET_ADMIN"), "{said}");
    let printed = pod.prepared(SIDECAR, &script, &["/mnt/bin/isthmus", "capture", "--print"]).output().unwrap();
    assert!(String::from_utf8_lossy(&printed.stdout).contains("table inet isthmus {"));
    assert_eq!(rules(&pod), "");
    let output = pod.prepared(ROOT, &script, &["/mnt/bin/isthmus", "proxy", "--pod"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("user 0 and group 0") && said.contains("as user or group 1337"), "{said}");
}

#[test]
fn two_capabilities_are_enough_and_without_nft_there_is_iptables() {
    if !is_possible() {
        return;
    }
    let mut world = World::new();
    let pod = world.pod("a", "10.71.0.11", "fd71::11");
    let script = format!("mkdir /mnt/bin; mount --bind {} /mnt/bin", directory());
    let least = ["setpriv", "--bounding-set=-all,+net_admin,+net_raw", "--inh-caps=-all", "--"];
    for (path, by) in [("", "nft"), ("PATH=/mnt/programs", "iptables-legacy")] {
        let programs = "mkdir /mnt/programs; for name in iptables ip6tables; do for end in save restore; do\n\
                        ln -s $(command -v $name-legacy-$end) /mnt/programs/$name-legacy-$end; done; done";
        let capture = ["env", path, "/mnt/bin/isthmus", "capture"];
        let command: Vec<_> = least.iter().chain(&capture).copied().filter(|word| !word.is_empty()).collect();
        let output = pod.prepared(ROOT, &format!("{script}; {programs}"), &command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.starts_with(&format!("captured by {by}: ")), "{said}{complaint}");
    }
    assert!(rules(&pod).contains("-A OUTPUT -j ISTHMUS_OUTBOUND"));
    let addresses = pod.ok(ROOT, &["ip", "-6", "addr", "show", "lo"]);
    let own = addresses.lines().find(|line| line.contains("inet6 ::6/128 "));
    assert!(own.is_some_and(|line| line.contains("deprecated")), "{addresses}");
}

fn directory() -> String {
    std::path::Path::new(env!("CARGO_BIN_EXE_isthmus")).parent().unwrap().display().to_string()
}
