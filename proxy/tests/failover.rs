//! What control decided is what a sidecar does: the order, what is excluded, limits; and what it tells control of it.
//!
//! All tests use the clusters 160 to 162, each on places of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail loudly"
)]

mod support;

use std::{net::SocketAddr, time::Instant};

use isthmus_core::{
    failover::policy::WhenNothingHealthy,
    model::{EndpointState, Endpoints, FailoverTier, Resource},
    plan::service_address,
};
use support::{
    Cluster, PORT, Sidecar, decided, endpoint, eventually, gateway::Gateway, group, http, metric, picture, tier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const URL: &str = "http://details.bookinfo.svc.clusterset.local:9080/x";
const FAILS: &str = "http://details.bookinfo.svc.clusterset.local:9080/fail";
const DETAILS: &str = "bookinfo/details";
/// More than a limit lets through in the time that a test may take.
const MANY: u32 = 20_000;

/// Two clusters that offer `details`, each with one endpoint named after it, and one that calls it through its gateway.
struct Ground {
    east: Cluster,
    west: Cluster,
    north: Cluster,
    gateway: Gateway,
    place: u8,
    _far: Vec<Sidecar>,
}

impl Ground {
    /// With this endpoint alone, or with both.
    async fn new(place: u8, alone: Option<&str>) -> Self {
        let east = Cluster::new("east", 160).with_gateway_at(place);
        let (west, north) = (Cluster::new("west", 161), Cluster::new("north", 162));
        let (mut far, mut ways) = (vec![], vec![]);
        for (cluster, name) in [(&west, "west-1"), (&north, "north-1")] {
            let at = SocketAddr::new(cluster.at.workload(place), 15006);
            ways.push((if name == "west-1" { "west" } else { "north" }, vec![(name, at)]));
            if alone.is_none_or(|alone| alone == name) {
                far.push(server(cluster, &east, name, place).await);
            }
        }
        let gateway = Gateway::start(east.gateway(), ways).await;
        Self { east, west, north, gateway, place, _far: far }
    }

    /// What a sidecar of east knows when control decided this; `None`: nothing yet.
    fn known(&self, tiers: Option<Vec<FailoverTier>>, when: Option<WhenNothingHealthy>) -> Vec<Resource> {
        let groups = [&self.west, &self.north].map(|cluster| (cluster, group(cluster, "details", 1)));
        let mut known = picture(&self.east, &[&self.west, &self.north], vec![], groups.into());
        known.retain(|resource| !matches!(resource, Resource::Failover(_)));
        known.extend(tiers.map(|tiers| decided(tiers, when)));
        known
    }

    /// The client under this decision.
    fn client(&self, tiers: Vec<FailoverTier>) -> Sidecar {
        self.east.sidecar("curl", "curl", self.place, self.known(Some(tiers), None))
    }

    /// Clusters to which links were opened, in order.
    fn asked(&self) -> Vec<String> {
        self.gateway.headers.lock().unwrap().iter().map(|header| header.cluster.clone()).collect()
    }
}

/// A sidecar with an endpoint of `details`, its application beside it.
async fn server(cluster: &Cluster, east: &Cluster, name: &'static str, place: u8) -> Sidecar {
    let own = endpoint(cluster, name, "details", place);
    let inbound = own.address;
    let sidecar = cluster.sidecar(name, "details", place, picture(cluster, &[east], vec![own], vec![]));
    http::application(sidecar.port(PORT), name).await;
    eventually("the far sidecar listens", || async {
        TcpStream::connect(inbound).await.map_err(|error| error.to_string())
    })
    .await;
    sidecar
}

/// A refusal that says this.
async fn refusal(client: &Sidecar, says: &str) -> String {
    eventually("a refusal", || async {
        let (status, body) = http::get(client.port(15080), URL).await?;
        if status.contains(" 503") && body.contains(says) { Ok(body) } else { Err(format!("{status}: {body}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decided_order_is_followed() {
    let ground = Ground::new(1, None).await;
    let client = ground.client(vec![tier(&ground.north, 1.0, None), tier(&ground.west, 1.0, None)]);
    eventually("a first answer", || http::ok(client.port(15080), URL)).await;
    for _ in 0..20 {
        assert_eq!(http::ok(client.port(15080), URL).await.expect("no request fails"), "north-1");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_the_cluster_that_comes_next_is_there_before_it_is_needed() {
    let ground = Ground::new(14, None).await;
    let client = ground.client(vec![tier(&ground.north, 1.0, None), tier(&ground.west, 1.0, None)]);
    eventually("one to the next", || async {
        let answer = http::ok(client.port(15080), URL).await?;
        assert_eq!(answer, "north-1");
        if ground.asked().iter().any(|cluster| cluster == "west") { Ok(()) } else { Err("none yet".to_owned()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_left_gets_nothing_while_another_lives() {
    let ground = Ground::new(2, None).await;
    let client = ground.client(vec![tier(&ground.north, 0.0, None), tier(&ground.west, 1.0, None)]);
    eventually("a first answer", || http::ok(client.port(15080), URL)).await;
    for _ in 0..20 {
        assert_eq!(http::ok(client.port(15080), URL).await.expect("no request fails"), "west-1");
    }
    assert!(ground.asked().iter().all(|cluster| cluster == "west"), "no connection either: {:?}", ground.asked());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_excluded_cluster_is_never_tried_even_when_all_else_fails() {
    let ground = Ground::new(3, Some("north-1")).await;
    let client = ground.client(vec![tier(&ground.west, 1.0, None)]);
    eventually("some tries in west", || async {
        let (status, body) = http::get(client.port(15080), URL).await?;
        assert!(status.contains(" 503"), "{status}: {body}");
        if ground.asked().len() > 3 { Ok(()) } else { Err(body) }
    })
    .await;
    assert!(ground.asked().iter().all(|cluster| cluster == "west"), "{:?}", ground.asked());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_control_has_decided_and_where_its_policy_says_fail_nothing_leaves_and_the_refusal_says_why() {
    let ground = Ground::new(4, Some("west-1")).await;
    let undecided = ground.east.sidecar("curl", "curl", 4, ground.known(None, None));
    let told = refusal(&undecided, DETAILS).await;
    assert!(told.contains("control has not decided"), "{told}");
    let nothing = ground.known(Some(vec![]), None);
    let constrained = ground.east.sidecar("curl-2", "curl", 5, nothing);
    let told = refusal(&constrained, DETAILS).await;
    assert!(told.contains("only where its failover policy lets nothing go (north, west)"), "{told}");
    let left = ground.known(Some(vec![tier(&ground.west, 0.0, None)]), Some(WhenNothingHealthy::Fail));
    let failing = ground.east.sidecar("curl-3", "curl", 6, left);
    let told = refusal(&failing, DETAILS).await;
    assert!(told.contains("cluster west: 1 of 1 endpoints usable, left"), "{told}");
    assert!(told.contains("whenNothingHealthy: Fail"), "{told}");
    eventually("control hears of refusals", || async {
        http::get(failing.port(15080), URL).await?;
        let heard = ground.east.heard.of(DETAILS, "");
        if heard.refused > 0 && heard.wanted == 0 { Ok(()) } else { Err(format!("{heard:?}")) }
    })
    .await;
    assert_eq!(ground.asked(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_ready_and_the_policy_says_so_what_is_not_ready_is_asked_in_other_clusters_too() {
    let ground = Ground::new(16, None).await;
    let unready = |when| {
        let mut known = ground.known(Some(vec![tier(&ground.west, 1.0, None)]), when);
        for resource in &mut known {
            if let Resource::Endpoints(endpoints) = resource {
                endpoints.remote.values_mut().flatten().for_each(|group| group.usable = 0);
            }
        }
        known
    };
    let waiting = ground.east.sidecar("curl-2", "curl", 5, unready(None));
    refusal(&waiting, DETAILS).await;
    assert_eq!(ground.asked(), [""; 0]);
    let trying = ground.east.sidecar("curl", "curl", 16, unready(Some(WhenNothingHealthy::TryAll)));
    assert_eq!(eventually("an answer", || http::ok(trying.port(15080), URL)).await, "west-1");
    let headers = ground.gateway.headers.lock().unwrap();
    assert!(!headers.is_empty() && headers.iter().all(|header| header.unready_too && header.cluster == "west"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_being_ready_ends_the_connections_that_other_clusters_hold_to_it() {
    let ground = Ground::new(17, Some("west-1")).await;
    let client = ground.client(vec![tier(&ground.west, 1.0, None)]);
    let kept = eventually("as many connections as are kept", || async {
        http::ok(client.port(15080), URL).await?;
        let asked = ground.gateway.asked();
        if asked >= 2 { Ok(asked) } else { Err(format!("{asked} streams")) }
    })
    .await;
    eventually("the far sidecar hears its control", || async {
        if ground.west.heard.streams() > 0 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    let mut own = endpoint(&ground.west, "west-1", "details", 17);
    own.state = EndpointState::Unready;
    let service = DETAILS.parse().unwrap();
    let remote = Default::default();
    ground.west.heard.say(&Resource::Endpoints(Endpoints { service, local: vec![own], remote }));
    // The last of them may have come to the sidecar only after it rested: that one is served.
    eventually("others are opened", || async {
        http::ok(client.port(15080), URL).await.expect("no request fails");
        let asked = ground.gateway.asked();
        if asked > kept { Ok(()) } else { Err(format!("{asked} streams")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_beyond_a_limit_is_refused_at_once_with_the_reason_and_counted() {
    let ground = Ground::new(7, None).await;
    // A cluster that was left is no place for what is too much elsewhere.
    let client = ground.client(vec![tier(&ground.west, 1.0, Some(20.0)), tier(&ground.north, 0.0, None)]);
    let explicit = client.port(15080);
    let heard = &ground.east.heard;
    eventually("the client tells control", || async { (heard.streams() == 1).then_some(()).ok_or("no".to_owned()) })
        .await;
    eventually("a first answer", || http::ok(explicit, URL)).await;
    let (began, mut answered, mut refused) = (Instant::now(), 0u32, 0u64);
    while answered < 20 || refused < 20 {
        let (status, body) = http::get(explicit, URL).await.unwrap();
        if status.contains(" 200") {
            assert_eq!(body, "west-1");
            answered += 1;
            assert!(answered < MANY, "nothing is refused");
            continue;
        }
        refused += 1;
        assert!(status.contains(" 503"), "{status}: {body}");
        let reason =
            "the limit of 20 requests a second to cluster west is used up, and no other place may take it (UO)";
        assert!(body.contains(reason), "{body}");
    }
    let most = at_most(20.0, began);
    assert!(f64::from(answered) <= most, "{answered} were answered, and {most:.1} would be a tenth beyond the limit");
    assert!(ground.asked().iter().all(|cluster| cluster == "west"), "{:?}", ground.asked());
    eventually("all of them in a counter", || async {
        let metrics = client.metrics().await;
        let limited = metric(&metrics, "isthmus_limited_requests_total", "destination_cluster=\"west\"");
        let told = metric(&metrics, "istio_requests_total", "response_flags=\"UO\"");
        let heard = heard.of(DETAILS, "").refused;
        let all = limited == told && told >= refused && heard >= refused;
        if all { Ok(()) } else { Err(format!("{limited}, {told}, {heard} of {refused}")) }
    })
    .await;
}

/// What a limit of so many a second lets through since then: a tenth beyond it, and what its bucket held at the beginning, which
/// is half a second's where nobody asked for so long before.
fn at_most(rate: f64, began: Instant) -> f64 {
    rate * (began.elapsed().as_secs_f64() * 1.1 + 0.5) + 1.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_beyond_a_limit_goes_to_the_next_place_that_may_take_it() {
    let ground = Ground::new(8, None).await;
    let client = ground.client(vec![tier(&ground.west, 1.0, Some(10.0)), tier(&ground.north, 1.0, None)]);
    eventually("a first answer", || http::ok(client.port(15080), URL)).await;
    let (began, mut west, mut north) = (Instant::now(), 0, 0);
    while west < 5 || north < 20 {
        match &*http::ok(client.port(15080), URL).await.expect("no request fails") {
            "west-1" => west += 1,
            _ => north += 1,
        }
        assert!(west + north < MANY, "{west} in west, {north} in north");
    }
    let most = at_most(10.0, began);
    assert!(f64::from(west) <= most, "{west} in west, and {most:.1} would be a tenth beyond the limit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_of_opaque_bytes_takes_one_of_a_limit() {
    let ground = Ground::new(9, None).await;
    let client = ground.client(vec![tier(&ground.west, 1.0, Some(10.0))]);
    let to = service_address(client.address, 16).unwrap();
    let connection = || async {
        let mut tcp = TcpStream::connect((to, PORT)).await.map_err(|error| error.to_string())?;
        tcp.write_all(b"\x00\x01\r\n\r\n").await.map_err(|error| error.to_string())?;
        Ok::<_, String>(tcp.read(&mut [0; 64]).await.is_ok_and(|read| read > 0))
    };
    eventually("a first answer", || async { connection().await?.then_some(()).ok_or_else(|| "refused".into()) }).await;
    let (began, mut answered, mut refused) = (Instant::now(), 0, 0);
    while answered < 5 || refused < 10 {
        if connection().await.unwrap() {
            answered += 1
        } else {
            refused += 1
        }
        assert!(answered + refused < MANY, "{answered} were carried, {refused} refused");
    }
    let most = at_most(10.0, began);
    assert!(f64::from(answered) <= most, "{answered} were carried, and {most:.1} would be a tenth beyond the limit");
    let told = metric(&client.metrics().await, "istio_tcp_connections_closed_total", "response_flags=\"UO\"");
    assert!(told >= 10, "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_hears_how_many_requests_there_were_how_many_failed_and_what_limits_kept_back() {
    let ground = Ground::new(10, None).await;
    let client = ground.client(vec![tier(&ground.west, 1.0, Some(20.0)), tier(&ground.north, 1.0, None)]);
    let heard = &ground.east.heard;
    eventually("the client tells control", || async { (heard.streams() == 1).then_some(()).ok_or("no".to_owned()) })
        .await;
    eventually("a first answer", || http::ok(client.port(15080), URL)).await;
    for _ in 0..30 {
        http::ok(client.port(15080), URL).await.expect("no request fails");
        assert!(http::get(client.port(15080), FAILS).await.unwrap().0.contains(" 500"));
    }
    // All that was wanted went somewhere: nothing is under way any more.
    let sum = eventually("all of it in reports", || async {
        let sum = [heard.of(DETAILS, "west"), heard.of(DETAILS, "north")];
        let ended: u64 = sum.iter().map(|one| one.requests).sum();
        let whole = sum.iter().all(|one| one.wanted == one.requests + one.limited);
        if whole && ended >= 61 { Ok(sum) } else { Err(format!("{sum:?}")) }
    })
    .await;
    let [west, north] = &sum;
    let (errors, requests) = (west.errors + north.errors, west.requests + north.requests);
    assert!(errors >= 30 && requests - errors >= 31, "{sum:?}");
    assert!(west.limited > 0 && north.limited == 0, "{sum:?}");
    assert!(sum.iter().all(|one| one.latency.iter().sum::<u64>() == one.requests), "{sum:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_hears_of_failures_that_only_grpc_tells() {
    let ground = Ground::new(15, Some("west-1")).await;
    let client = ground.client(vec![tier(&ground.west, 1.0, None)]);
    let heard = &ground.east.heard;
    eventually("the client tells control", || async { (heard.streams() == 1).then_some(()).ok_or("no".to_owned()) })
        .await;
    eventually("a first answer", || http::ok(client.port(15080), URL)).await;
    // Three failures in trailers, two in heads, and three of what is none.
    for path in ["grpc/14", "grpc/13", "grpc/2", "grpc/head/14", "grpc/head/4", "grpc/0", "grpc/5", "grpc/head/7"] {
        let url = URL.replace("/x", &format!("/{path}"));
        http::ok(client.port(15080), &url).await.expect("HTTP has nothing against it");
    }
    let told = eventually("all of it in reports", || async {
        let told = heard.of(DETAILS, "west");
        if told.requests >= 9 && told.errors >= 5 { Ok(told) } else { Err(format!("{told:?}")) }
    })
    .await;
    assert_eq!(told.errors, 5, "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_hears_of_the_own_cluster_exactly_what_was() {
    let east = Cluster::new("east", 160);
    let known = || picture(&east, &[], vec![endpoint(&east, "details-1", "details", 12)], vec![]);
    let _server = server(&east, &east, "details-1", 12).await;
    let client = east.sidecar("curl", "curl", 11, known());
    eventually("both are there and tell control", || async {
        let ready = http::ok(client.port(15021), "/healthz/ready").await?;
        (east.heard.streams() == 2).then_some(()).ok_or(ready)
    })
    .await;
    for _ in 0..10 {
        http::ok(client.port(15080), URL).await.expect("no request fails");
    }
    for _ in 0..3 {
        assert!(http::get(client.port(15080), FAILS).await.unwrap().0.contains(" 500"));
    }
    let told = eventually("all of it in reports", || async {
        let told = east.heard.of(DETAILS, "east");
        if told.requests >= 13 { Ok(told) } else { Err(format!("{told:?}")) }
    })
    .await;
    assert_eq!((told.requests, told.errors, told.wanted, told.limited), (13, 3, 13, 0), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_shows_what_was_decided() {
    let ground = Ground::new(13, None).await;
    let client = ground.client(vec![tier(&ground.north, 0.25, Some(50.0)), tier(&ground.west, 1.0, None)]);
    let question = "/trace?host=details.bookinfo.svc.clusterset.local&port=9080";
    let told = eventually("a trace", || async {
        let told = http::ok(client.port(15000), question).await?;
        if told.contains("cluster north") { Ok(told) } else { Err(told) }
    })
    .await;
    let north = "cluster north 25 % (1 of 1 usable, alive, limit 50 requests a second)";
    assert!(told.contains(&format!("{north}; cluster west 75 % (1 of 1 usable, alive)")), "{told}");
    drop(client);
    let known = ground.known(Some(vec![tier(&ground.north, 0.0, None), tier(&ground.west, 1.0, None)]), None);
    let client = ground.east.sidecar("curl-2", "curl", 14, known);
    let told = eventually("a trace", || async {
        let told = http::ok(client.port(15000), question).await?;
        if told.contains("cluster north") { Ok(told) } else { Err(told) }
    })
    .await;
    assert!(told.contains("cluster north 0 % (1 of 1 usable, alive, left)"), "{told}");
}
