//! Malformed reviews, floods of them, and those who hold connections open: one clear error each, and the next pod is
//! injected as if nothing had been.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http_body_util::{BodyExt, channel::Channel};
use hyper::client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use isthmus_control::webhook::{
    Injector,
    review::{Request, Verdict},
    validation,
};
use isthmus_inject::Values;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::ground::{Ground, JSON, LIMIT, creation, review};

fn pod() -> Value {
    json!({ "metadata": { "name": "a" }, "spec": { "containers": [{ "name": "a" }] } })
}

async fn is_injected(ground: &Ground) {
    let response = ground.review("/inject", creation("shop", &pod())).await;
    assert_eq!(response["patchType"], "JSONPatch", "{response}");
}

#[tokio::test]
async fn each_malformed_review_gets_one_error_that_names_what_is_wrong() {
    let ground = Ground::new(21);
    let good = review(creation("shop", &pod())).to_string();
    let wrong = |from: &str, to: &str| good.replacen(from, to, 1).into_bytes();
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, code, words) in [
        (b"".to_vec(), 400, "this is no AdmissionReview: EOF"),
        (b"{".to_vec(), 400, "this is no AdmissionReview: EOF"),
        (b"\xff\xfe".to_vec(), 400, "this is no AdmissionReview"),
        (nested.into_bytes(), 400, "this is no AdmissionReview: "),
        (b"{}".to_vec(), 400, "not an AdmissionReview of admission.k8s.io/v1"),
        (wrong("k8s.io/v1", "k8s.io/v1beta1"), 400, "of \"admission.k8s.io/v1beta1\""),
        (wrong("\"request\":{", "\"request\":null,\"x\":{"), 400, "has no request"),
        (wrong("\"uid\":\"8f3a\"", "\"uid\":7"), 400, "invalid type: integer `7`"),
        (vec![b' '; 5 * 1024 * 1024], 413, "at most 4194304 bytes"),
    ] {
        for path in ["/inject", "/validate"] {
            let (got, said) = ground.curl(path, &JSON, &body).await;
            assert_eq!(got, code, "{path}: {said}");
            assert!(said.contains(words) && said.lines().count() == 1 && said.len() < 400, "{path}: {said}");
        }
    }
    let (code, said) = ground.curl("/inject", &["--header", "content-type: text/yaml"], good.as_bytes()).await;
    assert_eq!((code, said.as_str()), (415, "a review is sent as application/json\n"));
    // curl takes an HTTP/2 answer before the end of its own words for an error.
    for (path, arguments, code) in
        [("/else", ["--http1.1", "--show-error"], 404), ("/inject", ["--http1.1", "--get"], 405)]
    {
        assert_eq!(ground.curl(path, &arguments, b"").await.0, code);
    }
    // A pod that is none is the person's error, not the webhook's.
    let response = ground.review("/inject", creation("shop", &json!({ "spec": { "containers": 7 } }))).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.containers is a number, not a list"), "{message}");
    assert_eq!(ground.counted("inject", "malformed"), 10);
    is_injected(&ground).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_malformed_reviews_touches_nobody_else() {
    let ground = Ground::new(22);
    let mut flood = vec![];
    for turn in 0..8u8 {
        let mut stream = ground.connect().await;
        flood.push(tokio::spawn(async move {
            let body = vec![b'{' + turn % 3; 1000];
            let head =
                "POST /inject HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n";
            let request = [head.as_bytes(), &body].concat();
            let mut answers = 0;
            for _ in 0..250 {
                stream.write_all(&request).await.unwrap();
                let mut said = vec![0; 4096];
                let length = stream.read(&mut said).await.unwrap();
                assert!(said[..length].starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&said[..length]));
                answers += 1;
            }
            answers
        }));
    }
    for _ in 0..5 {
        is_injected(&ground).await;
    }
    let mut answers = 0;
    for one in flood {
        answers += tokio::time::timeout(LIMIT, one).await.expect("the flood ends").unwrap();
    }
    assert_eq!((answers, ground.counted("inject", "malformed")), (2000, 2000));
    assert_eq!(ground.counted("inject", "injected"), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_held_open_beyond_all_places_keep_nobody_waiting() {
    let ground = Ground::new(23);
    let mut flood = vec![];
    for turn in 0..400 {
        // Silent; in the middle of a handshake; in the middle of a body that never comes.
        if turn % 8 == 0 {
            let mut stream = ground.connect().await;
            let head =
                "POST /inject HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 90000\r\n\r\n{";
            stream.write_all(head.as_bytes()).await.unwrap();
            tokio::spawn(async move { stream.read(&mut [0; 64]).await });
        } else {
            let mut stream = TcpStream::connect(ground.address).await.unwrap();
            stream.write_all(&[22, 3, 1][..turn % 4]).await.unwrap();
            flood.push(stream);
        }
    }
    is_injected(&ground).await;
    let first = tokio::time::timeout(LIMIT, flood[0].read(&mut [0; 1])).await.expect("the first has to leave");
    assert!(matches!(first, Ok(0) | Err(_)), "{first:?}");
}

/// More reviews than there are places, none of which ever ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reviews_held_open_beyond_all_places_lose_theirs_to_the_next() {
    let ground = Ground::new(25);
    let (mut bodies, mut answers) = (vec![], FuturesUnordered::new());
    for _ in 0..3 {
        let connection = ground.connect().await;
        // As many as the server takes, from the first: what waits for its word about it would not be open yet.
        let mut builder = client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_max_send_streams(200);
        let (mut sender, serving) = builder.handshake(TokioIo::new(connection)).await.unwrap();
        tokio::spawn(serving);
        for _ in 0..200 {
            let (more, body) = Channel::<Bytes>::new(1);
            let request = http::Request::post("https://x/inject").header("content-type", "application/json").body(body);
            sender.ready().await.unwrap();
            answers.push(tokio::spawn(sender.send_request(request.unwrap())));
            bodies.push(more);
        }
    }
    // Whichever connection was served first: who came first has to leave.
    let first = tokio::time::timeout(LIMIT, answers.next()).await.expect("an answer").unwrap().unwrap().unwrap();
    assert_eq!(first.status(), 429);
    let said = first.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(said, "too many reviews at once\n");
    is_injected(&ground).await;
}

#[tokio::test]
async fn the_drain_tells_open_connections_to_go_and_serves_who_still_comes() {
    let ground = Ground::new(24);
    let mut idle = ground.connect().await;
    idle.write_all(b"GET /else HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let length = idle.read(&mut [0; 4096]).await.unwrap();
    assert!(length > 0);
    ground.drain.trigger().drain("the test says so");
    let ended = tokio::time::timeout(LIMIT, idle.read(&mut [0; 1])).await.expect("it is closed");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    is_injected(&ground).await;
    let mut late = ground.connect().await;
    ground.drain.trigger().close("the test says so");
    let ended = tokio::time::timeout(LIMIT, late.read(&mut [0; 1])).await.expect("it is closed");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

/// Any JSON.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let fields = proptest::collection::vec(("[a-zA-Z/~.]{1,6}", inner.clone()), 0..3);
        prop_oneof![
            proptest::collection::vec(inner, 0..3).prop_map(Value::from),
            fields.prop_map(|fields| fields.into_iter().collect())
        ]
    })
}

const FIELDS: [&str; 8] = ["uid", "kind", "namespace", "operation", "object", "oldObject", "dryRun", "subResource"];

proptest! {
    #[test]
    fn no_json_breaks_what_reads_reviews(document in anything(), field in prop::sample::select(&FIELDS[..]), old: bool) {
        let _ = Request::read(document.to_string().as_bytes());
        let mut asked = review(creation("shop", &pod()));
        asked["request"][field] = document.clone();
        if old {
            asked["request"]["oldObject"] = json!({ "spec": 1 });
        }
        if let Ok(request) = Request::read(asked.to_string().as_bytes()) {
            let values = Values::new("mesh.example".parse().unwrap(), "us-east".parse().unwrap());
            let labels = BTreeMap::from([("istio-injection".to_owned(), "enabled".to_owned())]);
            let injector = Injector::new(Arc::new(ArcSwap::from_pointee(values)), Arc::new(move |_| Some(labels.clone())));
            let injected = injector.review(&request).verdict().unwrap().answer(&request);
            prop_assert!(injected["response"]["allowed"].is_boolean());
            let validated = validation::review(&request);
            prop_assert!(validated.answer(&request)["response"]["allowed"].is_boolean());
            let changed = Verdict { changed: Some(document), ..Verdict::allowed() };
            prop_assert!(changed.answer(&request)["response"]["uid"].is_string());
        }
    }

    #[test]
    fn no_bytes_break_it_either(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Request::read(&bytes).is_err());
    }
}
