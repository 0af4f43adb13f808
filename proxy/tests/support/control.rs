//! A control that says nothing and remembers what sidecars report.

use std::sync::{Arc, Mutex};

use futures_util::stream::{Pending, pending};
use isthmus_wire::feed::{
    FeedRequest, FeedResponse, Report, ServiceEvidence,
    feed_request::Request as Said,
    feed_server::{Feed, FeedServer},
};
use tonic::{Request, Response, Status, Streaming};

/// What came, of all sidecars.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Of>>);

#[derive(Default)]
struct Of {
    streams: usize,
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
    type StreamStream = Pending<Result<FeedResponse, Status>>;

    async fn stream(&self, request: Request<Streaming<FeedRequest>>) -> Result<Response<Self::StreamStream>, Status> {
        self.0.lock().unwrap().streams += 1;
        let (heard, mut requests) = (self.0.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if let Some(Said::Report(report)) = request.request {
                    heard.lock().unwrap().reports.push(report);
                }
            }
        });
        Ok(Response::new(pending()))
    }
}
