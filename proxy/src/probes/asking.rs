//! Asks the application as the kubelet would, at the pod's own address, past what captures.

mod redirect;

use std::{net::SocketAddr, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version, header};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use self::redirect::Way;
use super::{
    Application, Probe,
    config::{Grpc, Header, HttpGet, Port, Scheme},
};
use crate::dial::Dial;

/// Longest answer of the health service that is read, bytes.
const MAX_ANSWER: usize = 4096;
/// `grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: i32 = 1;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct CheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct CheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Asks once; the reason when the answer is no, or there is none in time.
pub(super) async fn ask(probe: &Probe, application: Application, agent: Option<&HeaderValue>) -> Result<(), String> {
    let within = probe.timeout();
    let asking = async {
        if let Some(get) = &probe.http_get {
            http(get, application, agent).await
        } else if let Some(grpc) = &probe.grpc {
            health(grpc, application).await
        } else {
            let port = probe.tcp_socket.as_ref().map(|socket| socket.port.clone()).unwrap_or_default();
            connect(application, &port).await.map(drop)
        }
    };
    let asked = tokio::time::timeout(within, asking).await;
    asked.unwrap_or_else(|_| Err(format!("no answer within {within:?}")))
}

async fn connect(application: Application, port: &Port) -> Result<(TcpStream, SocketAddr), String> {
    let to = SocketAddr::new(application.address, port.number().ok_or("the probe has no port")?);
    let dial = Dial::application(to, application.capture, None);
    let stream = dial.connect().await.map_err(|error| format!("no connection to {to}: {error}"))?;
    Ok((stream, to))
}

async fn http(get: &HttpGet, application: Application, agent: Option<&HeaderValue>) -> Result<(), String> {
    let mut way = Way::of(get).ok_or("the probe has no port")?;
    for _ in 0..redirect::MOST {
        let (status, location) = once(get, &way, application, agent).await?;
        match way.onward(application.address, status, location.as_deref()) {
            Some(onward) => way = onward,
            None => return judged(status),
        }
    }
    Err(format!("it redirects {} times", redirect::MOST))
}

/// As the kubelet judges it.
fn judged(status: StatusCode) -> Result<(), String> {
    if (200..400).contains(&status.as_u16()) { Ok(()) } else { Err(format!("it answers {status}")) }
}

/// One request: the status of its answer, and where that leads.
async fn once(
    get: &HttpGet,
    way: &Way,
    application: Application,
    agent: Option<&HeaderValue>,
) -> Result<(StatusCode, Option<String>), String> {
    let (stream, to) = connect(application, &Port::Number(way.port)).await?;
    let mut request = Request::get(&way.path).body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    *request.headers_mut() = headers(get, way, to, agent);
    match way.scheme {
        Scheme::Http => send(stream, request).await,
        Scheme::Https => {
            let name = ServerName::IpAddress(to.ip().into());
            let connector = TlsConnector::from(unverified()?);
            let stream = connector.connect(name, stream).await.map_err(|error| format!("no TLS with {to}: {error}"))?;
            send(stream, request).await
        }
    }
}

fn headers(get: &HttpGet, way: &Way, to: SocketAddr, agent: Option<&HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(host) = HeaderValue::from_str(&to.to_string()) {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.extend(agent.map(|agent| (header::USER_AGENT, agent.clone())));
    for Header { name, value } in &get.http_headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>())
            && (way.keeps_host || name != header::HOST)
        {
            headers.insert(name, value);
        }
    }
    headers
}

async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<(StatusCode, Option<String>), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let answered = sender.send_request(request).await.map_err(|error| error.to_string());
    connection.abort();
    let answer = answered?;
    let location = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    Ok((answer.status(), location.map(str::to_owned)))
}

async fn health(grpc: &Grpc, application: Application) -> Result<(), String> {
    let (stream, to) = connect(application, &grpc.port).await?;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let body = CheckRequest { service: grpc.service.clone().unwrap_or_default() }.encode_to_vec();
    let mut framed = BytesMut::with_capacity(body.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(body.len()).unwrap_or_default());
    framed.put_slice(&body);
    let request = Request::post(format!("http://{to}/grpc.health.v1.Health/Check"))
        .version(Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(framed.freeze()))
        .map_err(|error| error.to_string())?;
    let answered = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let headers = answer.headers().clone();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        serving(&headers, &trailers, &body.to_bytes())
    };
    let answered = answered.await;
    connection.abort();
    answered
}

/// Whether the health service said that it serves.
fn serving(headers: &HeaderMap, trailers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let said = |name: &str| trailers.get(name).or_else(|| headers.get(name)).and_then(|value| value.to_str().ok());
    let status = said("grpc-status").unwrap_or("none");
    if status != "0" {
        return Err(format!("gRPC status {status}: {}", said("grpc-message").unwrap_or_default()));
    }
    let answer = body.get(5..).and_then(|message| CheckResponse::decode(message).ok());
    match answer.map(|answer| answer.status) {
        Some(SERVING) => Ok(()),
        other => Err(format!("it does not say SERVING but {other:?}")),
    }
}

/// TLS as the kubelet does it for a probe: with whoever answers.
fn unverified() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Anybody(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Takes every certificate: what is asked is whether the application answers, on an address that is this pod's own.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
