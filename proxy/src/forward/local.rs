//! To an endpoint of the own cluster.

use std::{borrow::Cow, rc::Rc, sync::Arc, time::Instant};

use http::{Request, Version};
use isthmus_core::{
    balance::{self, Load},
    ladder::Tier,
    model::Endpoint,
    retry::Fault,
};

use super::{
    Hop, Outcome, Target, Tried,
    failed::{Answered, Failed},
    http1, http2,
};
use crate::{
    body::Body,
    connect::Inner,
    metadata,
    pool::{Peer, Place},
    snapshot::View,
    worker::{InnerHttp2, Worker},
};

/// One try at an endpoint of a tier that was not tried yet.
pub(super) async fn exchange(
    worker: &Rc<Worker>,
    target: &Target<'_>,
    tier: &Tier,
    tried: &mut Tried,
    request: Request<Body>,
) -> Result<Outcome, Failed> {
    let view = target.view;
    let chosen = pick(view, tier, &tried.local);
    let Some((index, endpoint, vital)) =
        chosen.and_then(|index| Some((index, view.endpoints.local.get(index)?, view.vitals.get(index)?)))
    else {
        let detail = format!("no endpoint left in {}", tier.place);
        return Err(Failed::unsent(request, Fault::NoHealthyUpstream, detail));
    };
    tried.local.push(index);
    let open = vital.enter();
    let began = Instant::now();
    let place = Place::inside(endpoint.address, view.service.name.clone(), target.port);
    // gRPC needs HTTP/2's trailers and streams; an HTTP/1.1 request finds more connections to spread over.
    let sent = if request.version() == Version::HTTP_2 {
        over_http2(worker, target, endpoint, place, request).await
    } else {
        over_http1(worker, target, endpoint, place, request).await
    };
    target.steps.add(|| {
        let place = format!("{} in {}", endpoint.address, tier.place);
        let hop = Hop::new("endpoint", endpoint.id.to_string(), place).by(&endpoint.identity).took(began);
        hop.ended(sent.as_ref().err().map(|failed| failed.detail.as_str()))
    });
    let resting = || view.vitals.iter().filter(|vital| vital.is_ejected()).count();
    target.judge(vital, view.vitals.len(), resting, &sent);
    let (answer, peer) = sent?;
    Ok(Outcome::answered(answer, peer, Arc::clone(&vital.upstream), Box::new(open)))
}

async fn over_http1(
    worker: &Rc<Worker>,
    target: &Target<'_>,
    endpoint: &Endpoint,
    place: Place,
    request: Request<Body>,
) -> Answered {
    let connection = match worker.http1.take(&place) {
        Some(idle) => idle,
        None => {
            let opened = match connect(worker, target, endpoint, Inner::Http1).await {
                Ok((stream, peer)) => http1::handshake(stream, peer).await.map_err(|error| error.to_string()),
                Err(error) => Err(error),
            };
            match opened {
                Ok(connection) => connection,
                Err(error) => return Err(Failed::unsent(request, Fault::UpstreamConnectionFailure, error)),
            }
        }
    };
    http1::send(worker, place, connection, request, target.per_try).await
}

async fn over_http2(
    worker: &Rc<Worker>,
    target: &Target<'_>,
    endpoint: &Endpoint,
    place: Place,
    mut request: Request<Body>,
) -> Answered {
    let kept = worker.inner_http2.borrow().get(&place).filter(|(sender, _)| !sender.is_closed()).cloned();
    let (mut sender, peer) = match kept {
        Some(kept) => kept,
        None => match open_http2(worker, target, endpoint).await {
            Ok(opened) => {
                worker.inner_http2.borrow_mut().insert(place, opened.clone());
                opened
            }
            Err(error) => return Err(Failed::unsent(request, Fault::UpstreamConnectionFailure, error)),
        },
    };
    http2::to_absolute_form(&mut request, target);
    match target.in_time(sender.try_send_request(request)).await? {
        Ok(answer) => Ok((answer.map(Body::Incoming), peer)),
        Err(mut error) => Err(Failed::unanswered(error.take_message(), error.error())),
    }
}

async fn open_http2(worker: &Rc<Worker>, target: &Target<'_>, endpoint: &Endpoint) -> Result<InnerHttp2, String> {
    let (stream, peer) = connect(worker, target, endpoint, Inner::Http2).await?;
    let sender = http2::handshake(stream).await.map_err(|error| error.to_string())?;
    Ok((sender, peer))
}

async fn connect(
    worker: &Rc<Worker>,
    target: &Target<'_>,
    endpoint: &Endpoint,
    inner: Inner,
) -> Result<(crate::connect::Direct, Rc<Peer>), String> {
    let (service, within) = (&target.view.service.name, target.view.service.policy.connect_timeout);
    let connected = worker.shared.connector.direct(endpoint, service, target.port, inner, within).await;
    let (stream, arrived) = connected.map_err(|error| error.to_string())?;
    let cluster = worker.shared.config.common.cluster.to_string();
    let assumed = metadata::assumed(endpoint.id.as_str(), endpoint.identity.namespace(), cluster, String::new());
    Ok((stream, Rc::new(Peer::new(Some(arrived), Some(endpoint.identity.clone()), assumed))))
}

/// P2C over the tier's endpoints that were not tried and do not rest; those that rest when nothing else is left.
fn pick(view: &View, tier: &Tier, tried: &[usize]) -> Option<usize> {
    let fresh = |index: &usize| !tried.contains(index);
    let awake = |index: &usize| fresh(index) && view.vitals.get(*index).is_some_and(|vital| !vital.is_ejected());
    let candidates: Cow<'_, [usize]> = if tried.is_empty() && tier.endpoints.iter().all(awake) {
        tier.endpoints.as_slice().into()
    } else {
        let some: Vec<_> = tier.endpoints.iter().copied().filter(awake).collect();
        if some.is_empty() {
            tier.endpoints.iter().copied().filter(fresh).collect::<Vec<_>>().into()
        } else {
            some.into()
        }
    };
    let load = |at: usize| {
        let index = candidates.get(at).copied().unwrap_or_default();
        let weight = view.endpoints.local.get(index).map_or(0, |one| one.weight);
        Load { weight, open: view.vitals.get(index).map_or(0, |vital| vital.open()) }
    };
    balance::pick(candidates.len(), load, fastrand::u64(..)).and_then(|at| candidates.get(at).copied())
}
