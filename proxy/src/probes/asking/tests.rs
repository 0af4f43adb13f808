//! Applications that answer probes in every way.

use std::convert::Infallible;

use http::{Response, StatusCode};
use http_body_util::StreamBody;
use hyper::{body::Frame, service::service_fn};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{capture::Mode, probes::parse};

const ADDRESS: [u8; 4] = [127, 71, 0, 5];

fn application() -> Application {
    Application { address: ADDRESS.into(), capture: Some(Mode::Redirect) }
}

async fn listening() -> (TcpListener, u16) {
    let listener = TcpListener::bind(SocketAddr::new(ADDRESS.into(), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// With more patience than a probe has that says nothing of it: a machine that stalls answers late.
async fn asked(probe: &str, port: u16) -> Result<(), String> {
    asked_as_it_is(&probe.replacen('{', r#"{"timeoutSeconds": 20, "#, 1), port).await
}

async fn asked_as_it_is(probe: &str, port: u16) -> Result<(), String> {
    let json = format!(r#"{{"/app-health/web/livez": {}}}"#, probe.replace("PORT", &port.to_string()));
    let probes = parse(&json).unwrap();
    ask(&probes["/app-health/web/livez"], application(), Some(&HeaderValue::from_static("kube-probe/1.35"))).await
}

/// Answers with the status that the path names, and leads to what its query says, when the request has what a kubelet sends.
async fn answer<B>(request: Request<B>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let as_sent = text("host") == "a.test" && text("x-probe") == "1" && text("user-agent") == "kube-probe/1.35";
    let status = request.uri().path().trim_start_matches('/').parse().ok().filter(|_| as_sent);
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status.unwrap_or(StatusCode::IM_A_TEAPOT);
    let mut location = request.uri().query().and_then(|query| HeaderValue::from_str(query).ok());
    if request.uri().path() == "/loop" {
        *response.status_mut() = StatusCode::FOUND;
        location = Some(HeaderValue::from_static("loop"));
    }
    response.headers_mut().extend(location.map(|location| (header::LOCATION, location)));
    Ok(response)
}

const GET: &str = r#"{"httpGet": {"path": "STATUS", "port": PORT, "scheme": "SCHEME", "httpHeaders":
    [{"name": "Host", "value": "a.test"}, {"name": "X-Probe", "value": "1"}]}}"#;

#[tokio::test]
async fn by_http_what_the_kubelet_takes_is_taken_with_its_headers() {
    let (listener, port) = listening().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = hyper::server::conn::http1::Builder::new();
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    let get = |status| GET.replace("STATUS", status).replace("SCHEME", "HTTP");
    assert_eq!(asked(&get("/200"), port).await, Ok(()));
    assert_eq!(asked(&get("302"), port).await, Ok(()));
    assert!(asked(&get("/500"), port).await.unwrap_err().contains("500"));
    assert_eq!(asked(&get("/302?/200"), port).await, Ok(()));
    assert!(asked(&get("/302?/500"), port).await.unwrap_err().contains("500"), "it leads to its own answer");
    assert_eq!(asked(&get("/302?https://login.test/500"), port).await, Ok(()), "elsewhere is not asked");
    assert_eq!(asked(&get("/302?302"), port).await, Ok(()), "the second leads nowhere");
    assert_eq!(asked(&get("/302"), port).await, Ok(()), "and so does this one");
    assert_eq!(asked(&get("/loop"), port).await, Err("it redirects 10 times".into()));
    assert!(asked(r#"{"httpGet": {"path": "/200", "port": PORT}}"#, port).await.unwrap_err().contains("418"));
}

#[tokio::test]
async fn by_https_any_certificate_will_do() {
    let (listener, port) = listening().await;
    let key = rcgen::generate_simple_self_signed(["nobody.test".to_owned()]).unwrap();
    let secret = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![key.cert.der().clone()], secret.into()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.unwrap();
            let serving = hyper::server::conn::http1::Builder::new();
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    let get = |status| GET.replace("STATUS", status).replace("SCHEME", "HTTPS");
    assert_eq!(asked(&get("/204"), port).await, Ok(()));
    assert!(asked(&get("/404"), port).await.unwrap_err().contains("404"));
}

#[tokio::test]
async fn by_tcp_a_connection_is_enough() {
    let (listener, port) = listening().await;
    assert_eq!(asked(r#"{"tcpSocket": {"port": PORT}}"#, port).await, Ok(()));
    let (_, from) = listener.accept().await.unwrap();
    assert_eq!(from.ip(), crate::capture::APPLICATION_V4);
    drop(listener);
    let reason = asked(r#"{"tcpSocket": {"port": PORT}}"#, port).await.unwrap_err();
    assert!(reason.contains(&port.to_string()) && reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn who_takes_the_connection_and_says_nothing_is_too_late() {
    let (_listener, port) = listening().await;
    let reason = asked_as_it_is(&GET.replace("STATUS", "/200").replace("SCHEME", "HTTP"), port).await.unwrap_err();
    assert_eq!(reason, "no answer within 1s");
}

type Frames = futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

/// A health service: `up` serves, `down` does not, nobody else is known.
async fn check(request: Request<hyper::body::Incoming>) -> Result<Response<StreamBody<Frames>>, Infallible> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let asked = CheckRequest::decode(&body[5..]).unwrap();
    let (grpc, status) = match asked.service.as_str() {
        "" | "up" => ("0", SERVING),
        "down" => ("0", 2),
        _ => ("5", 0),
    };
    let message = CheckResponse { status }.encode_to_vec();
    let framed = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], message.as_slice()].concat();
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static(grpc))]);
    let frames = vec![Ok(Frame::data(framed.into())), Ok(Frame::trailers(trailers))];
    Ok(Response::new(StreamBody::new(futures_util::stream::iter(frames))))
}

#[tokio::test]
async fn by_grpc_the_service_must_say_that_it_serves() {
    let (listener, port) = listening().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service_fn(check)));
        }
    });
    assert_eq!(asked(r#"{"grpc": {"port": PORT}}"#, port).await, Ok(()));
    assert_eq!(asked(r#"{"grpc": {"port": PORT, "service": "up"}}"#, port).await, Ok(()));
    assert!(asked(r#"{"grpc": {"port": PORT, "service": "down"}}"#, port).await.unwrap_err().contains("SERVING"));
    assert!(asked(r#"{"grpc": {"port": PORT, "service": "x"}}"#, port).await.unwrap_err().contains("gRPC status 5"));
}
