//! What a new user does in the first minutes, over real processes: calls cross clusters in every protocol, names
//! resolve, requests spread, a file is edited, a bad one is refused, and nothing stays behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

mod support;

use std::{process::Command, time::Duration};

use isthmus_scenarios::admin;
use support::{
    Raised, binary, eventually,
    load::{count_by, get},
    url,
};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_user_walks_through_the_mesh() {
    let mesh = Raised::up(60).await;
    calls_cross_clusters(&mesh).await;
    names_resolve(&mesh).await;
    sequential_requests_reach_every_endpoint_of_another_cluster(&mesh).await;
    every_protocol_crosses(&mesh).await;
    trace_names_every_hop(&mesh).await;
    an_edited_file_takes_effect_and_a_bad_one_is_refused_by_itself(&mesh).await;
    clusters_are_never_unknown_in_metrics(&mesh).await;
    tokens_are_refused_with_the_reason(&mesh).await;
    strangers_disturb_nobody(&mesh).await;
    mesh.mesh.supervisor.stop().await;
}

async fn calls_cross_clusters(mesh: &Raised) {
    for (service, path) in [("details", "/details/0"), ("reviews", "/reviews/0"), ("ratings", "/ratings/0")] {
        for cluster in ["us-east", "us-west", "eu-west"] {
            eventually(&format!("{service} answers in {cluster}"), PATIENCE, || async {
                let got = get(mesh.curl(cluster), &url(service, path)).await?;
                anyhow::ensure!(got.status == 200, "{got:?}");
                Ok(())
            })
            .await;
        }
    }
}

async fn names_resolve(mesh: &Raised) {
    let server = format!("@{}", mesh.cluster("us-east").addresses().control());
    let dig = |args: &[&str]| {
        let ran = Command::new("dig").args([&server, "-p", "15053", "+time=2", "+tries=2"]).args(args).output();
        String::from_utf8_lossy(&ran.expect("dig is installed").stdout).into_owned()
    };
    let service = "details.bookinfo.svc.clusterset.local";
    assert!(dig(&["+short", service]).starts_with("127.60."), "{}", dig(&[service]));
    assert!(dig(&["+short", "+tcp", service]).starts_with("127.60."));
    assert!(dig(&["productpage.bookinfo.svc.clusterset.local"]).contains("NXDOMAIN"), "not exported");
    assert!(dig(&["AAAA", service]).contains("NOERROR"));
    assert!(dig(&["SRV", service]).contains("9080"), "{}", dig(&["SRV", service]));
}

async fn sequential_requests_reach_every_endpoint_of_another_cluster(mesh: &Raised) {
    let mut samples = vec![];
    for _ in 0..1000 {
        samples.push(get(mesh.curl("us-east"), &url("details", "/details/0")).await.expect("details answer"));
    }
    let counts = count_by(&samples, |sample| &sample.workload);
    println!("1,000 sequential requests over three remote endpoints: {counts:?}");
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert!(counts.values().all(|count| (250..=420).contains(count)), "{counts:?}");
}

async fn every_protocol_crosses(mesh: &Raised) {
    // us-west has no echo of its own.
    let proxy = mesh.curl("us-west").to_string();
    let curl = |args: &[&str]| {
        let ran =
            Command::new("curl").args(["-sS", "--max-time", "10"]).args(args).output().expect("curl is installed");
        format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
    };
    let echo = "http://echo.bookinfo.svc.clusterset.local:9080/x";
    let plain = curl(&["-x", &proxy, echo]);
    assert!(plain.contains("spiffe://us-west.mesh.local/ns/bookinfo/sa/bookinfo-curl"), "{plain}");
    let tunnelled = curl(&["-x", &proxy, "--proxytunnel", echo]);
    assert!(tunnelled.contains("bookinfo-curl"), "{tunnelled}");
    let http2 = curl(&["-x", &proxy, "--proxytunnel", "--http2-prior-knowledge", echo]);
    assert!(http2.contains("HTTP/2") || http2.contains("bookinfo-curl"), "{http2}");
    let forged =
        curl(&["-x", &proxy, "-H", "x-forwarded-client-cert: URI=spiffe://us-east.mesh.local/ns/a/sa/root", echo]);
    assert!(!forged.contains("sa/root"), "what the client says of itself is not passed on: {forged}");
    // In TCP the server speaks first.
    let script = format!(
        "exec 3<>/dev/tcp/{}/{}; printf 'CONNECT echo.bookinfo.svc.clusterset.local:9000 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3; \
         for n in 1 2 3 4 5; do read -t 5 -r line <&3 && echo \"$line\"; done",
        mesh.curl("us-west").ip(),
        mesh.curl("us-west").port()
    );
    let spoken = Command::new("timeout").args(["10", "bash", "-c", &script]).output().expect("bash is installed");
    let spoken = String::from_utf8_lossy(&spoken.stdout).into_owned();
    assert!(spoken.contains("200") && spoken.lines().any(|line| line.contains("echo")), "{spoken}");
}

async fn trace_names_every_hop(mesh: &Raised) {
    let ran = Command::new(binary())
        .args(["trace", "curl@us-east", "details.bookinfo/details/0", "--state-dir"])
        .arg(mesh.folder.path())
        .output()
        .expect("the binary runs");
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    for part in
        ["gateway-us-east", "gateway-us-west", "spiffe://us-west.mesh.local/ns/bookinfo/sa/bookinfo-details", "200 OK"]
    {
        assert!(told.contains(part), "{part} is not in:\n{told}{}", String::from_utf8_lossy(&ran.stderr));
    }
}

async fn an_edited_file_takes_effect_and_a_bad_one_is_refused_by_itself(mesh: &Raised) {
    let config = mesh.mesh.state.config(&mesh.cluster("us-east").name);
    let file = config.join("late.yaml");
    let service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: late\n  namespace: bookinfo\nspec:\n  selector:\n    app: reviews\n  ports:\n    - name: http\n      port: 9080\n";
    std::fs::write(&file, service).expect("the file is written");
    let late = "http://late.bookinfo.svc.cluster.local:9080/reviews/0";
    eventually("the new service answers", PATIENCE, || async {
        let got = get(mesh.curl("us-east"), late).await?;
        anyhow::ensure!(got.status == 200, "{got:?}");
        Ok(())
    })
    .await;
    std::fs::write(&file, service.replace("port: 9080", "port: ninety")).expect("the file is written");
    eventually("the bad file is shown with file, line, field and reason", PATIENCE, || async {
        let shown = admin::read(mesh.control("us-east"), "/api/config").await?.to_string();
        anyhow::ensure!(shown.contains("late.yaml") && shown.contains("spec.ports[0].port"), "{shown}");
        Ok(())
    })
    .await;
    assert_eq!(get(mesh.curl("us-east"), late).await.expect("the last good one answers").status, 200);
}

async fn clusters_are_never_unknown_in_metrics(mesh: &Raised) {
    let mut sidecar = mesh.curl("us-east");
    sidecar.set_port(15020);
    let request = http::Request::get("/metrics").header("host", "x").body(Default::default()).expect("a request");
    let text = admin::exchange(sidecar, request, PATIENCE).await.expect("metrics are there").body;
    let text = String::from_utf8_lossy(&text);
    let to_details = text.lines().filter(|line| {
        line.starts_with("istio_requests_total{")
            && line.contains("destination_service_name=\"details\"")
            && line.contains("response_code=\"200\"")
    });
    let lines: Vec<_> = to_details.collect();
    assert!(!lines.is_empty(), "{text}");
    for line in lines {
        assert!(
            line.contains("source_cluster=\"us-east\"") && line.contains("destination_cluster=\"us-west\""),
            "{line}"
        );
        assert!(
            line.contains("destination_principal=\"spiffe://us-west.mesh.local/ns/bookinfo/sa/bookinfo-details\""),
            "{line}"
        );
    }
}

async fn tokens_are_refused_with_the_reason(mesh: &Raised) {
    use serde_json::json;
    let member = mesh.member("us-east");
    let refused = |answer: anyhow::Result<serde_json::Value>| format!("{:#}", answer.expect_err("it must be refused"));
    let limit = Duration::from_secs(10);
    let made = admin::send(member, "/tokens", &json!({ "cluster": "ap-south", "ttl_seconds": 60 }), limit).await;
    let token = made.expect("a token is made")["token"].as_str().expect("it is text").to_owned();
    let join = |token: String| async move {
        admin::send(mesh.member("us-west"), "/join", &json!({ "token": token }), limit).await
    };
    assert!(refused(join("hello".into()).await).contains("no join token"));
    assert!(refused(join(token.chars().take(60).collect()).await).contains("cut or changed"));
    assert!(refused(join(token).await).contains("is of mesh"));
    let name = admin::send(member, "/tokens", &json!({ "cluster": "Not A Name", "ttl_seconds": 60 }), limit).await;
    assert!(refused(name).contains("not a cluster name"));
}

/// Random bytes, half-open connections and floods of headers on every port; then everything still answers.
async fn strangers_disturb_nobody(mesh: &Raised) {
    use tokio::{io::AsyncWriteExt, net::TcpStream};
    let cluster = mesh.cluster("us-west");
    let at = cluster.addresses();
    let workload = cluster.address_of(cluster.workload("details").expect("details run in us-west"));
    let ports = [
        (at.control(), vec![15000, 15012, 15020, 15021, 15053]),
        (at.federation(), vec![15000, 15050]),
        (at.gateway(), vec![15000, 15443, 15444]),
        (workload, vec![15000, 15006, 15020, 15053, 15080]),
    ];
    let mut half_open = vec![];
    let flood = format!("GET / HTTP/1.1\r\n{}", "x-flood: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(4000));
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(4096).collect();
    for (address, ports) in ports {
        for port in ports {
            let connect = || TcpStream::connect((address, port));
            half_open.push(connect().await.unwrap_or_else(|error| panic!("{address}:{port}: {error}")));
            for bytes in [noise.as_slice(), flood.as_bytes(), &[0xA9, 1, 0xff, 0xff], &[0x16, 3, 1, 0xff, 0xff, 1]] {
                let mut stranger = connect().await.unwrap_or_else(|error| panic!("{address}:{port}: {error}"));
                let _ = stranger.write_all(bytes).await;
            }
        }
    }
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for port in [15443, 15053] {
        let _ = udp.send_to(&noise[..1200], (at.gateway(), port));
        let _ = udp.send_to(&noise[..1200], (at.control(), port));
    }
    calls_cross_clusters(mesh).await;
    let restarted: Vec<_> =
        mesh.mesh.supervisor.processes().into_iter().filter(|process| process.restarts > 0).collect();
    assert!(restarted.is_empty(), "{restarted:?}");
}
