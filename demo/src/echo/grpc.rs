//! The echo over gRPC; every application answers it.

use std::{collections::HashMap, pin::Pin};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response as HttpResponse, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio_stream::{Stream, StreamExt};
use tonic::{Response, Status, Streaming, codegen::Service};

use crate::{
    config::Itself,
    proto::{
        Heard, RepeatRequest, Said,
        echo_server::{Echo, EchoServer},
    },
    reply::Reply,
};

/// The most answers to one `Repeat`.
const MOST_REPEATS: u32 = 100_000;

/// What a gRPC probe asks.
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// A message of two bytes: field 1, `SERVING`.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

/// As `grpc.health.v1` says that all is well.
fn healthy() -> Reply {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(Bytes::from_static(SERVING)), Frame::trailers(trailers)].map(Ok);
    let mut reply = HttpResponse::new(StreamBody::new(tokio_stream::iter(frames)).boxed_unsync());
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    reply
}

pub(crate) async fn answer(itself: &Itself, request: Request<Incoming>) -> Reply {
    if request.uri().path() == HEALTH {
        return healthy();
    }
    let mut server = EchoServer::new(Ear { itself: itself.clone() });
    match server.call(request).await {
        Ok(reply) => reply.map(|body| body.map_err(Into::into).boxed_unsync()),
        Err(never) => match never {},
    }
}

struct Ear {
    itself: Itself,
}

type Answers = Pin<Box<dyn Stream<Item = Result<Heard, Status>> + Send>>;

impl Ear {
    fn heard(&self, metadata: &tonic::metadata::MetadataMap, text: String) -> Heard {
        let headers: HeaderMap = metadata.clone().into_headers();
        Heard {
            text,
            peer_identity: super::peer_identity(&headers).unwrap_or_default(),
            headers: super::lines(&headers).into_iter().collect::<HashMap<_, _>>(),
            workload: self.itself.workload.to_string(),
            version: self.itself.version.to_string(),
            cluster: self.itself.cluster.to_string(),
            zone: self.itself.zone.to_string(),
        }
    }
}

#[tonic::async_trait]
impl Echo for Ear {
    async fn say(&self, request: tonic::Request<Said>) -> Result<Response<Heard>, Status> {
        let (metadata, _, said) = request.into_parts();
        Ok(Response::new(self.heard(&metadata, said.text)))
    }

    type RepeatStream = Answers;

    async fn repeat(&self, request: tonic::Request<RepeatRequest>) -> Result<Response<Answers>, Status> {
        let (metadata, _, asked) = request.into_parts();
        if asked.times > MOST_REPEATS {
            return Err(Status::invalid_argument(format!("at most {MOST_REPEATS} times")));
        }
        let heard = self.heard(&metadata, asked.text);
        let answers = (0..asked.times).map(move |_| Ok(heard.clone()));
        Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
    }

    type ChatStream = Answers;

    async fn chat(&self, request: tonic::Request<Streaming<Said>>) -> Result<Response<Answers>, Status> {
        let (metadata, _, said) = request.into_parts();
        let template = self.heard(&metadata, String::new());
        let answers = said.map(move |said| said.map(|said| Heard { text: said.text, ..template.clone() }));
        Ok(Response::new(Box::pin(answers)))
    }
}
