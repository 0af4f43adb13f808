//! The server of Follow, beside the feed.

use std::sync::Arc;

use isthmus_ca::Ca;
use isthmus_core::name::SpiffeId;
use isthmus_runtime::{drain::Drain, grpc::PeerIdentity};
use isthmus_wire::replicas::{FollowRequest, Told, replicas_server, told::Told as What};
use tokio::sync::{broadcast::error::RecvError, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Deeds, hub::told};
use crate::handle::Handle;

/// What waits for a follower to take it.
const QUEUE: usize = 64;

/// What the replica that speaks keeps; `None`: another one speaks.
pub type Spoken = watch::Receiver<Option<Arc<Deeds>>>;

/// The service on 15012.
#[derive(Clone)]
pub struct Service {
    desk: Handle,
    ca: Ca,
    deeds: Spoken,
    control: SpiffeId,
    drain: Drain,
}

impl Service {
    /// For replicas that show this identity, the own one.
    #[must_use]
    pub fn new((desk, ca): (Handle, Ca), deeds: Spoken, control: SpiffeId, drain: Drain) -> Self {
        Self { desk, ca, deeds, control, drain }
    }
}

#[tonic::async_trait]
impl replicas_server::Replicas for Service {
    type FollowStream = ReceiverStream<Result<Told, Status>>;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        if PeerIdentity::of(&request).as_ref() != Some(&self.control) {
            let reason = format!("only {} may follow what this control's clients say", self.control);
            return Err(Status::permission_denied(reason));
        }
        let (out, answers) = mpsc::channel(QUEUE);
        let (service, name) = (self.clone(), request.into_inner().name);
        tokio::spawn(async move {
            tracing::info!(replica = name, "another replica follows");
            let ended = tokio::select! {
                ended = service.serve(&out) => ended,
                () = service.drain.draining() => Err(Status::unavailable("this control drains")),
                () = out.closed() => return,
            };
            if let Err(status) = ended {
                let _ = out.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

impl Service {
    async fn serve(&self, out: &mpsc::Sender<Result<Told, Status>>) -> Result<(), Status> {
        let send = async |what| out.send(Ok(what)).await.map_err(|_| Status::cancelled("the follower left"));
        let memory = self.desk.memory().await.ok_or_else(|| Status::unavailable("this control stops"))?;
        send(told(What::Memory(json(&memory)?))).await?;
        let (standing, mut news) = self.desk.hub().follow();
        for one in standing {
            send(one).await?;
        }
        let (mut deeds, mut believed) = (self.deeds.clone(), self.ca.watch_believed());
        deeds.mark_changed();
        believed.mark_changed();
        loop {
            tokio::select! {
                said = news.recv() => match said {
                    Ok(said) => send(said).await?,
                    Err(RecvError::Lagged(missed)) => {
                        return Err(Status::data_loss(format!("the follower is {missed} messages behind; it begins anew")));
                    }
                    Err(RecvError::Closed) => return Ok(()),
                },
                changed = believed.changed() => {
                    changed.map_err(|_| Status::unavailable("this control stops"))?;
                    let anchors = believed.borrow_and_update().clone();
                    send(told(What::Anchors(anchors))).await?;
                }
                changed = deeds.changed() => {
                    changed.map_err(|_| Status::unavailable("this control stops"))?;
                    let spoken = deeds.borrow_and_update().clone();
                    if let Some(spoken) = spoken {
                        send(told(What::Deeds(json(&*spoken)?))).await?;
                    }
                }
            }
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(value).map_err(|error| Status::internal(error.to_string()))
}
