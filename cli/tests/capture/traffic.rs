//! With sidecars: what an application calls goes where it was meant to, and what calls it arrives.

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use isthmus_core::statement::Protocol;

use crate::{
    mesh::{Mesh, Offered, Sidecar, Told},
    world::{Pod, ROOT, World, eventually, is_possible},
};

const CURL: &str = "10.71.0.11";
const DETAILS: &str = "10.71.0.12";
const OUT: &str = "198.51.100.9";
/// The application's ports: HTTP, a greeter whose port says that it is TCP, and one whose port says nothing.
const PORTS: [Offered; 3] = [
    ("web", 9080, 9080, Protocol::Detect),
    ("tcp-hello", 2525, 2525, Protocol::Tcp),
    ("x", 2526, 2526, Protocol::Detect),
];

/// Two captured pods with sidecars, and somebody outside.
struct Scene {
    world: World,
    curl: Pod,
    details: Pod,
    sidecars: Vec<Sidecar>,
    _mesh: Mesh,
}

impl Scene {
    fn new(options: &[&str], more: &[(&str, &str)]) -> Self {
        Self::as_user(crate::world::SIDECAR, options, more)
    }

    fn as_user(who: (u32, u32), options: &[&str], more: &[(&str, &str)]) -> Self {
        let mut world = World::new();
        let (curl, details) = (world.pod("curl", CURL, "fd71::11"), world.pod("details", DETAILS, "fd71::12"));
        let out = world.pod("out", OUT, "fd72::9");
        world.application(&curl, "curl", "9080", &["2525", "2526"]);
        world.application(&details, "details", "9080", &["2525", "2526"]);
        world.application(&out, "out", "80", &["2525"]);
        world.names(&["reviews.bookinfo.svc.cluster.local=10.96.0.99", "outside.test=198.51.100.9"]);
        world.service("10.96.0.9:80", "198.51.100.9:80");
        world.service("[fd96::9]:80", "[fd72::9]:80");
        let mesh = Mesh::new(&world);
        let told: Vec<Told> = vec![
            mesh.service("details", 300, &["10.96.0.7", "fd96::7"], &PORTS, &[("details", DETAILS)]),
            mesh.service("curl", 301, &["10.96.0.8", "fd96::8"], &PORTS, &[("curl", CURL)]),
            mesh.service("plain", 302, &["10.96.0.9", "fd96::9"], &[("http", 80, 80, Protocol::Http)], &[]),
        ];
        let mut sidecars = vec![];
        for (pod, name, address) in [(&curl, "curl", CURL), (&details, "details", DETAILS)] {
            pod.capture(options);
            sidecars.push(mesh.sidecar_as(who, pod, name, address, &told, more));
        }
        Self { world, curl, details, sidecars, _mesh: mesh }
    }

    /// What an application answers, with what it saw of the client.
    fn get(&self, url: &str) -> String {
        self.curl.get(url).unwrap_or_else(|why| panic!("{url}: {why}"))
    }
}

/// Whether a connection was ended at once. When the reset comes decides what it meets: curl's connecting, sending or receiving.
fn is_refused(why: &str) -> bool {
    ["curl: (7) ", "curl: (55) ", "curl: (56) "].iter().any(|code| why.starts_with(code))
}

/// Who calls, as the application is told by its own sidecar.
const PROVEN: &str = "URI=spiffe://east.mesh.test/ns/bookinfo/sa/curl at 127.0.0.6 ";

#[test]
fn what_an_application_calls_goes_where_it_was_meant_to() {
    if !is_possible() {
        return;
    }
    let scene = Scene::new(&[], &[]);
    services_are_called_by_their_addresses_and_names(&scene);
    names_that_are_not_the_meshs_are_the_clusters(&scene);
    what_is_no_service_of_the_mesh_is_reached_as_without_one(&scene);
    calls_to_oneself_arrive(&scene, PROVEN);
    servers_that_speak_first_are_heard(&scene);
    the_node_reaches_the_application_and_nothing_else(&scene);
    connections_that_ended_leave_nothing_open(&scene);
}

fn services_are_called_by_their_addresses_and_names(scene: &Scene) {
    for url in ["http://10.96.0.7:9080/a?b=c", "http://[fd96::7]:9080/a?b=c", "http://242.240.1.44:9080/a?b=c"] {
        let said = scene.get(url);
        let host = url.split('/').nth(2).unwrap();
        assert!(said.starts_with("details for By=") && said.contains(PROVEN), "{url}: {said}");
        assert!(said.ends_with(&format!("host {host} path /a?b=c\n")), "{url}: {said}");
    }
    let said = scene.get("http://details.bookinfo.svc.clusterset.local:9080/x");
    assert!(
        said.contains(PROVEN) && said.ends_with("host details.bookinfo.svc.clusterset.local:9080 path /x\n"),
        "{said}"
    );
    let said = scene.curl.get("http://10.96.0.7:9080/missing").unwrap_err();
    assert!(said.contains("404"), "{said}");
    let said = scene.curl.get("http://242.240.9.9:9080/").unwrap_err();
    assert!(is_refused(&said), "nobody has that address: {said}");
    // A pod's own address: inner TLS to that pod, as bytes.
    let said = scene.get("http://10.71.0.12:9080/");
    assert!(said.starts_with("details for nobody at 127.0.0.6 "), "{said}");
    eventually("the connection is told of as proven", || {
        let metrics = scene.details.ok(ROOT, &["curl", "-s", &format!("http://{DETAILS}:15020/metrics")]);
        let proven = metrics.lines().any(|line| {
            line.starts_with("istio_tcp_connections_opened_total{")
                && line.contains("source_workload=\"curl-1\"")
                && line.contains("connection_security_policy=\"mutual_tls\"")
        });
        if proven { Ok(()) } else { Err(metrics) }
    });
    // A family in which the mesh knows no endpoint: plainly, to the sidecar of that pod.
    let said = scene.get("http://[fd71::12]:9080/");
    assert!(said.starts_with("details for nobody at ::6 "), "{said}");
}

fn names_that_are_not_the_meshs_are_the_clusters(scene: &Scene) {
    // The cluster's own nameserver has two seconds to answer; when it is held up for longer the sidecar says that it failed.
    let dig = |words: &[&str], is: &dyn Fn(&str) -> bool| {
        eventually(&format!("dig {words:?}"), || {
            let said = scene.curl.ok(ROOT, &[["dig", "+tries=1", "+timeout=20"].as_slice(), words].concat());
            let said = said.lines().map(str::trim).collect::<Vec<_>>().join("\n");
            if is(&said) { Ok(()) } else { Err(said) }
        });
    };
    let is_unknown = |said: &str| said.contains("status: NXDOMAIN");
    for how in ["+notcp", "+tcp"] {
        dig(&["+short", how, "details.bookinfo.svc.clusterset.local"], &|said| said == "242.240.1.44");
        dig(&["+short", how, "reviews.bookinfo.svc.cluster.local"], &|said| said == "10.96.0.99");
        dig(&[how, "nobody.bookinfo.svc.cluster.local"], &is_unknown);
        dig(&[how, "nobody.bookinfo.svc.clusterset.local"], &is_unknown);
    }
    // Whomever the application asks, its question comes here; a long answer by TCP after it was cut by UDP.
    dig(&["+short", "@192.0.2.53", "outside.test"], &|said| said == OUT);
    dig(&["+short", "@fd72::53", "details.bookinfo.svc.clusterset.local"], &|said| said == "242.240.1.44");
    dig(&["+short", "TXT", "outside.test"], &|said| said.lines().count() == 10);
}

fn what_is_no_service_of_the_mesh_is_reached_as_without_one(scene: &Scene) {
    for (url, from) in
        [("http://198.51.100.9/", CURL), ("http://[fd72::9]/", "fd71::11"), ("http://outside.test/", CURL)]
    {
        assert!(scene.get(url).starts_with(&format!("out for nobody at {from} ")), "{url}");
    }
    // A service of the cluster for which nobody with a sidecar is there.
    assert!(scene.get("http://10.96.0.9/").starts_with(&format!("out for nobody at {CURL} ")));
    assert!(scene.get("http://[fd96::9]/").starts_with("out for nobody at fd71::11 "));
    let said = scene.curl.get("http://198.51.100.9:81/").unwrap_err();
    assert!(is_refused(&said), "{said}");
}

fn calls_to_oneself_arrive(scene: &Scene, proven: &str) {
    for (url, from) in
        [("http://127.0.0.1:9080/", "127.0.0.1"), ("http://[::1]:9080/", "::1"), ("http://10.71.0.11:9080/", CURL)]
    {
        assert!(scene.get(url).starts_with(&format!("curl for nobody at {from} ")), "{url}");
    }
    for url in ["http://10.96.0.8:9080/", "http://[fd96::8]:9080/", "http://curl.bookinfo.svc.clusterset.local:9080/"] {
        let said = scene.get(url);
        assert!(said.starts_with("curl for By=") && said.contains(proven), "{url}: {said}");
    }
}

fn servers_that_speak_first_are_heard(scene: &Scene) {
    let details = "220 details greets 127.0.0.6 250 ping";
    for (host, port, said) in [
        ("10.96.0.7", 2525, details),
        ("10.96.0.7", 2526, details),
        ("fd96::7", 2525, details),
        ("fd96::7", 2526, details),
        ("details.bookinfo.svc.clusterset.local", 2526, details),
        (DETAILS, 2525, details),
        (OUT, 2525, "220 out greets 10.71.0.11 250 ping"),
        ("fd72::9", 2525, "220 out greets fd71::11 250 ping"),
        ("10.96.0.8", 2525, "220 curl greets 127.0.0.6 250 ping"),
    ] {
        assert_eq!(scene.curl.greeting(host, port).as_deref(), Ok(said), "{host} {port}");
    }
    for (host, from) in [(DETAILS, "127.0.0.6"), ("fd71::12", "::6")] {
        for port in [2525, 2526] {
            let said = scene.world.node.greeting(host, port);
            assert_eq!(said, Ok(format!("220 details greets {from} 250 ping")), "{host} {port}");
        }
    }
}

fn the_node_reaches_the_application_and_nothing_else(scene: &Scene) {
    let node = &scene.world.node;
    assert!(
        node.get("http://10.71.0.12:9080/x").unwrap().starts_with("details for nobody at 127.0.0.6 host 10.71.0.12")
    );
    assert!(node.get("http://[fd71::12]:9080/x").unwrap().starts_with("details for nobody at ::6 "));
    // A caller that shows nothing cannot say who it is.
    let forged = ["curl", "-s", "-H", "x-forwarded-client-cert: URI=spiffe://me", "http://10.71.0.12:9080/"];
    assert!(node.ok(ROOT, &forged).starts_with("details for nobody "));
    eventually("the access log has it as plain HTTP", || {
        let log = scene.sidecars[1].log();
        if log.contains("\"GET /x HTTP/1.1\" 200 ") { Ok(()) } else { Err(log) }
    });
    assert!(node.get("http://10.71.0.12:15020/metrics").unwrap().contains("istio_requests_total"));
    for port in [15000, 15001, 15053, 15080] {
        let said = node.get(&format!("http://10.71.0.12:{port}/"));
        assert!(said.as_ref().is_err_and(|why| is_refused(why)), "{port}: {said:?}");
    }
    // Where the application does not listen: HTTP is told so, everybody else's connection is reset.
    assert!(node.get("http://10.71.0.12:9999/").is_err_and(|why| why.contains("503")));
    assert!(node.greeting(DETAILS, 9999).is_err_and(|why| why.contains("ConnectionResetError")));
    // Without an identity nobody gets in by the inner port.
    assert!(node.get("http://10.71.0.12:15006/").is_err() && node.greeting(DETAILS, 15006).is_err());
    // Nobody who dials the sidecar's own ports is led round in circles.
    for url in ["http://10.71.0.11:15001/", "http://127.0.0.1:15001/", "http://10.71.0.12:15001/"] {
        assert!(scene.curl.get(url).is_err_and(|why| is_refused(&why)), "{url}");
    }
}

fn connections_that_ended_leave_nothing_open(scene: &Scene) {
    let before: Vec<_> = scene.sidecars.iter().map(Sidecar::open).collect();
    // Ended by the client in the middle, to a service, to a pod, to the outside, and to nobody.
    let script = "import socket\nfor n in range(400):\n try:\n  s = socket.create_connection((('10.96.0.7', '10.71.0.12', \
                  '198.51.100.9', '242.240.9.9')[n % 4], 2525), 10)\n  s.recv(9)\n  s.close()\n except OSError: pass\n";
    scene.curl.ok(ROOT, &["python3", "-c", script]);
    eventually("no more is open than a few idle connections", || {
        let now: Vec<_> = scene.sidecars.iter().map(Sidecar::open).collect();
        let few = before.iter().zip(&now).all(|(before, now)| *now < before + 20);
        if few { Ok(()) } else { Err(format!("{before:?}, then {now:?}")) }
    });
}

const PROBES: &str = r#"{
    "/app-health/details/livez": {"httpGet": {"path": "/live", "port": 9080}, "timeoutSeconds": 9},
    "/app-health/details/readyz": {"httpGet": {"path": "/missing", "port": 9080}, "timeoutSeconds": 9},
    "/app-health/details/startupz": {"tcpSocket": {"port": 2525}, "timeoutSeconds": 9}}"#;

#[test]
fn the_kubelet_probes_the_application_by_its_sidecar() {
    if !is_possible() {
        return;
    }
    let scene = Scene::new(&[], &[("ISTHMUS_PROBES", PROBES)]);
    let node = &scene.world.node;
    let probe = |path: &str| node.get(&format!("http://{DETAILS}:15021{path}"));
    assert!(probe("/healthz/ready").unwrap().contains("\"ready\":true"));
    assert_eq!(probe("/app-health/details/livez").as_deref(), Ok("ok\n"));
    assert_eq!(probe("/app-health/details/startupz").as_deref(), Ok("ok\n"));
    assert!(probe("/app-health/details/readyz").unwrap_err().contains("503"));
    assert!(probe("/app-health/details/other").unwrap_err().contains("404"));
}

#[test]
fn by_tproxy_of_nft_the_application_sees_who_calls() {
    by_tproxy("nft");
}

#[test]
fn by_tproxy_of_iptables_the_application_sees_who_calls() {
    by_tproxy("iptables");
}

fn by_tproxy(with: &str) {
    if !is_possible() {
        return;
    }
    let options = ["--interception-mode", "TPROXY", "--with", with];
    let scene = Scene::as_user((0, 1337), &options, &[("ISTHMUS_INTERCEPTION_MODE", "TPROXY")]);
    let node = &scene.world.node;
    assert!(node.get("http://10.71.0.12:9080/").unwrap().starts_with("details for nobody at 10.71.0.1 "));
    assert!(node.get("http://[fd71::12]:9080/").unwrap().starts_with("details for nobody at fd71::1 "));
    let said = scene.get("http://10.96.0.7:9080/");
    assert!(said.contains("URI=spiffe://east.mesh.test/ns/bookinfo/sa/curl at 10.71.0.11 "), "{said}");
    assert_eq!(node.greeting(DETAILS, 2526).as_deref(), Ok("220 details greets 10.71.0.1 250 ping"));
    assert_eq!(scene.curl.greeting("10.96.0.7", 2525).as_deref(), Ok("220 details greets 10.71.0.11 250 ping"));
    assert!(scene.get("http://198.51.100.9/").starts_with("out for nobody at 10.71.0.11 "));
    calls_to_oneself_arrive(&scene, "URI=spiffe://east.mesh.test/ns/bookinfo/sa/curl at 10.71.0.11 ");
}

#[test]
fn a_sidecar_that_is_asked_to_end_serves_as_long_as_somebody_is_connected() {
    if !is_possible() {
        return;
    }
    let mut scene = Scene::new(&[], &[]);
    let script = "import socket, sys\ns = socket.create_connection(('198.51.100.9', 2525), 10)\nf = s.makefile('rw')\n\
                  print(f.readline().strip(), flush=True)\nfor line in sys.stdin:\n f.write(line)\n f.flush()\n print(f.readline().strip(), flush=True)\n";
    let mut client = scene
        .curl
        .command(ROOT, &["python3", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (client.stdin.take().unwrap(), BufReader::new(client.stdout.take().unwrap()).lines());
    assert!(output.next().unwrap().unwrap().starts_with("220 out"));
    scene.sidecars[0].terminate();
    // It takes new connections too: who opens them cannot have heard.
    eventually("it drains", || {
        let log = std::fs::read_to_string(scene.sidecars[0].errors()).unwrap();
        if log.contains("draining") { Ok(()) } else { Err(log) }
    });
    assert!(scene.get("http://10.96.0.7:9080/").contains(PROVEN));
    writeln!(input, "still there").unwrap();
    assert_eq!(output.next().unwrap().unwrap(), "250 still there");
    assert_eq!(scene.sidecars[0].ended(), None);
    drop(input);
    client.wait().unwrap();
    let well = eventually("it ends with its last connection", || scene.sidecars[0].ended().ok_or("it runs".to_owned()));
    assert!(well);
}
