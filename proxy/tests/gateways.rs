//! Two local gateways: what one of them says, and what its end costs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail loudly"
)]

mod support;

use std::net::SocketAddr;

use isthmus_wire::tunnel::notice::State;
use support::{
    Cluster, LIMIT, PORT, Sidecar, by_gateways, endpoint, eventually,
    gateway::Gateway,
    group,
    http::{self, Gate},
    picture,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

const URL: &str = "http://details.bookinfo.svc.clusterset.local:9080/x";

/// East has a client and two gateways, west the one endpoint of `details`, whose answers wait at a gate.
struct Scene {
    client: Sidecar,
    _far: Sidecar,
    first: Gateway,
    second: Gateway,
    gate: Gate,
    _clusters: (Cluster, Cluster),
}

impl Scene {
    /// On places of its own.
    async fn new(place: u8) -> Self {
        let (east, west) = (Cluster::new("east", 156), Cluster::new("west", 157));
        let (own, gate) = (endpoint(&west, "details-1", "details", place), Gate::open());
        let inbound = own.address;
        let far = west.sidecar("details-1", "details", place, picture(&west, &[&east], vec![own], vec![]));
        gate.application(far.port(PORT), "details-1").await;
        let [first_at, second_at] = [2 * place - 1, 2 * place].map(|at| SocketAddr::new(east.at.gateway_at(at), 15444));
        let leads = || vec![("west", vec![("details-1", inbound)])];
        let (first, second) = (Gateway::start(first_at, leads()).await, Gateway::start(second_at, leads()).await);
        let seen = picture(&east, &[&west], vec![], vec![(&west, group(&west, "details", 1))]);
        let client = east.sidecar("curl", "curl", place, by_gateways(seen, &[first_at, second_at]));
        let scene = Self { client, _far: far, first, second, gate, _clusters: (east, west) };
        eventually("both gateways are used", || async {
            http::ok(scene.explicit(), URL).await?;
            let open = (scene.first.streams("first"), scene.second.streams("first"));
            if open.0 > 0 && open.1 > 0 { Ok(()) } else { Err(format!("{open:?}")) }
        })
        .await;
        scene
    }

    fn explicit(&self) -> SocketAddr {
        self.client.port(15080)
    }

    /// So many requests at once; when it returns all of them are with the application, which does not answer.
    async fn under_way(&self, method: &'static str, count: usize) -> JoinSet<Result<(String, String), String>> {
        self.gate.set(false);
        let (explicit, before) = (self.explicit(), self.gate.count());
        let mut requests = JoinSet::new();
        for _ in 0..count {
            requests.spawn(http::ask(method, explicit, URL));
        }
        self.gate.came(before + count).await;
        requests
    }
}

impl Scene {
    /// The second drains.
    async fn all_leads_over_the_first(&self) {
        self.second.say("", "", State::Draining);
        eventually("all leads over the first", || async {
            http::ok(self.explicit(), URL).await?;
            let open = self.second.streams("first");
            if open == 0 { Ok(()) } else { Err(format!("{open} lead over the second")) }
        })
        .await;
    }

    async fn nothing_leads_over_the_first(&self, tunnel: &str) {
        eventually("its connections end with their last requests", || async {
            let open = self.first.streams(tunnel);
            if open == 0 { Ok(()) } else { Err(format!("{open} are open")) }
        })
        .await;
    }
}

async fn all_are_answered(requests: JoinSet<Result<(String, String), String>>) {
    for answer in requests.join_all().await {
        let (status, body) = answer.expect("an answer");
        assert!(status.contains(" 200"), "{status}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_drains_keeps_what_is_under_way_and_gets_nothing_new() {
    let scene = Scene::new(1).await;
    let gets = scene.under_way("GET", 8).await;
    let came = scene.gate.count();
    scene.first.say("", "", State::Draining);
    let posts = scene.under_way("POST", 8).await;
    assert_eq!(scene.gate.count(), came + 8, "nothing that was under way is sent again");
    scene.gate.set(true);
    all_are_answered(gets).await;
    all_are_answered(posts).await;
    scene.nothing_leads_over_the_first("first").await;
    let asked = scene.first.asked();
    for _ in 0..20 {
        http::ok(scene.explicit(), URL).await.expect("no request fails");
    }
    assert_eq!(scene.first.asked(), asked, "nothing new goes there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_drains_is_left_and_its_gateway_is_used_on() {
    let scene = Scene::new(2).await;
    scene.first.lead_over("second");
    scene.first.say("west", "first", State::Draining);
    scene.nothing_leads_over_the_first("first").await;
    scene.second.say("", "", State::Draining);
    eventually("another tunnel of the same gateway is used", || async {
        http::ok(scene.explicit(), URL).await?;
        let open = scene.first.streams("second");
        if open > 0 { Ok(()) } else { Err("nothing leads over it".to_owned()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_when_a_gateway_dies_is_sent_again_and_not_paid_for() {
    // The budget would pay for some thirty.
    const MANY: usize = 100;
    let scene = Scene::new(3).await;
    scene.all_leads_over_the_first().await;
    let requests = scene.under_way("GET", MANY).await;
    let came = scene.gate.count();
    scene.second.say("", "", State::Up);
    scene.first.kill();
    scene.gate.came(came + MANY).await;
    scene.gate.set(true);
    all_are_answered(requests).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_outlives_any_number_of_tunnels_that_are_lost_one_after_the_other() {
    let scene = Scene::new(8).await;
    scene.all_leads_over_the_first().await;
    let requests = scene.under_way("GET", 3).await;
    let mut lost = "first".to_owned();
    for number in 1..=5 {
        let (next, came) = (format!("tunnel-{number}"), scene.gate.count());
        scene.first.lead_over(&next);
        scene.first.say("west", &lost, State::Lost);
        scene.gate.came(came + 3).await;
        lost = next;
    }
    scene.gate.set(true);
    all_are_answered(requests).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_falls_silent_with_its_connections_open_is_left_and_what_is_under_way_moves() {
    let scene = Scene::new(5).await;
    let requests = scene.under_way("GET", 8).await;
    let came = scene.gate.count();
    scene.first.freeze();
    // How many lead over it is the sidecar's choice; every one of those comes a second time.
    scene.gate.came(came + 1).await;
    scene.gate.set(true);
    all_are_answered(requests).await;
    let asked = scene.first.asked();
    for _ in 0..20 {
        http::ok(scene.explicit(), URL).await.expect("no request fails");
    }
    assert_eq!(scene.first.asked(), asked, "nothing new goes there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_drains_ends_when_nothing_is_under_way() {
    let scene = Scene::new(4).await;
    let mut idle = TcpStream::connect(scene.explicit()).await.unwrap();
    let ask = format!("GET {URL} HTTP/1.1\r\nhost: x\r\n\r\n");
    idle.write_all(ask.as_bytes()).await.unwrap();
    assert_eq!(idle.read_u8().await.unwrap(), b'H', "it is kept open after its answer");
    let posts = scene.under_way("POST", 1).await;
    scene.client.drain.trigger().drain("a test");
    let mut rest = Vec::new();
    tokio::time::timeout(LIMIT, idle.read_to_end(&mut rest)).await.expect("an idle connection is closed").unwrap();
    assert!(!scene.client.drain.is_closed(), "a request is under way");
    scene.gate.set(true);
    all_are_answered(posts).await;
    tokio::time::timeout(LIMIT, scene.client.drain.closed()).await.unwrap();
    assert_eq!(scene.client.drain.reason().as_deref(), Some("nothing is under way any more"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_place_is_not_left_for_a_moment_without_a_way_but_for_longer_it_is() {
    let scene = Scene::new(6).await;
    let lose = || {
        scene.first.say("west", "", State::Suspect);
        scene.second.say("west", "", State::Suspect);
    };
    lose();
    eventually("both ways are lost, and a request that waits too long is told so", || async {
        let (status, body) = http::get(scene.explicit(), URL).await?;
        if status.contains(" 503") { Ok(()) } else { Err(format!("{status}: {body}")) }
    })
    .await;
    // Each of these finds no way; it comes back while they wait.
    let mut requests = JoinSet::new();
    for method in ["GET", "POST", "GET", "POST"] {
        requests.spawn(http::ask(method, scene.explicit(), URL));
    }
    scene.second.say("west", "", State::Up);
    all_are_answered(requests).await;
}
