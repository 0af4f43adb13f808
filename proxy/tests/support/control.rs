//! A control that says what it is told to, and remembers what sidecars report.

use std::sync::{Arc, Mutex};

use isthmus_core::model::Resource;
use isthmus_wire::feed::{
    FeedRequest, FeedResponse, Report, Resource as WireResource, ServiceEvidence,
    feed_request::Request as Said,
    feed_server::{Feed, FeedServer},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// What came, of all sidecars.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Of>>);

#[derive(Default)]
struct Of {
    streams: usize,
    said: u64,
    listen: Vec<mpsc::UnboundedSender<Result<FeedResponse, Status>>>,
    reports: Vec<Report>,
}

impl Heard {
    pub fn service(&self) -> FeedServer<Self> {
        FeedServer::new(self.clone())
    }

    /// How many sidecars came.
    pub fn streams(&self) -> usize {
        self.0.lock().unwrap().streams
    }

    /// Tells whoever came of a resource.
    pub fn say(&self, resource: &Resource) {
        let mut of = self.0.lock().unwrap();
        of.said += 1;
        let (nonce, body) = (of.said, serde_json::to_vec(resource).unwrap());
        let upserts = vec![WireResource { key: resource.key(), version: 1 + nonce, body }];
        let response = FeedResponse { nonce, run: "test".into(), upserts, synced: true, ..FeedResponse::default() };
        of.listen.retain(|one| one.send(Ok(response.clone())).is_ok());
        assert!(!of.listen.is_empty(), "a sidecar listens");
    }

    /// The sum of what was reported of a service and a cluster.
    pub fn of(&self, service: &str, cluster: &str) -> ServiceEvidence {
        let mut sum = ServiceEvidence::default();
        for one in self.0.lock().unwrap().reports.iter().flat_map(|report| &report.services) {
            if one.service != service || one.cluster != cluster {
                continue;
            }
            sum.requests += one.requests;
            sum.errors += one.errors;
            sum.wanted += one.wanted;
            sum.limited += one.limited;
            sum.refused += one.refused;
            sum.latency.resize(one.latency.len(), 0);
            sum.latency.iter_mut().zip(&one.latency).for_each(|(sum, more)| *sum += more);
        }
        sum
    }
}

#[tonic::async_trait]
impl Feed for Heard {
    type StreamStream = UnboundedReceiverStream<Result<FeedResponse, Status>>;

    async fn stream(&self, request: Request<Streaming<FeedRequest>>) -> Result<Response<Self::StreamStream>, Status> {
        let (say, said) = mpsc::unbounded_channel();
        {
            let mut of = self.0.lock().unwrap();
            of.streams += 1;
            of.listen.push(say);
        }
        let (heard, mut requests) = (self.0.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if let Some(Said::Report(report)) = request.request {
                    heard.lock().unwrap().reports.push(report);
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(said)))
    }
}
