//! To another cluster, over a link.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::Request;
use isthmus_core::{ladder::Tier, name::ClusterName, retry::Fault};
use isthmus_wire::tunnel::{Accept, Reason};

use super::{
    Hop, Opening, Outcome, Target, Tried,
    failed::{Answered, Failed},
    http2,
};
use crate::{
    body::Body,
    connect::ConnectError,
    pool::link::{Ask, Link, LinkKey, MOST},
    worker::Worker,
};

/// One try at an endpoint of another cluster; a `safe` request leaves a path that is lost meanwhile.
pub(super) async fn exchange(
    worker: &Rc<Worker>,
    target: &Target<'_>,
    tier: &Tier,
    cluster: &ClusterName,
    tried: &mut Tried,
    request: Request<Body>,
    safe: bool,
) -> Result<Outcome, Failed> {
    let exchanged = over_link(worker, target, tier, cluster, tried, request, safe).await;
    worker.shared.saw(cluster, |evidence| match &exchanged {
        Ok(_) => evidence.succeeded += 1,
        Err(failed) if failed.fault == Fault::UpstreamRequestTimeout => evidence.unanswered += 1,
        Err(_) => evidence.failed += 1,
    });
    exchanged
}

async fn over_link(
    worker: &Rc<Worker>,
    target: &Target<'_>,
    tier: &Tier,
    cluster: &ClusterName,
    tried: &mut Tried,
    request: Request<Body>,
    safe: bool,
) -> Result<Outcome, Failed> {
    let began = Instant::now();
    let key = target.link_to(cluster);
    let link = match link(worker, target, tier, &key, tried).await {
        Ok(link) => link,
        Err(error) => {
            let error_text = error.to_string();
            target.steps.add(|| Hop::new("gateway", cluster.to_string(), "").took(began).failed(&error_text));
            return Err(Failed::unsent(request, fault(&error), format!("{cluster}: {error_text}")));
        }
    };
    target.steps.add(|| gateway_hop(cluster, &link).took(began));
    tried.remote.push(Arc::clone(&link.vital));
    let using = link.enter();
    let asked = target.steps.are_kept().then(Instant::now);
    let sent = send(target, cluster, &link, request, safe).await;
    if sent.as_ref().is_err_and(|failed| failed.path_lost) {
        tried.lost.push(link.accept.gateway.clone());
        worker.links.look();
    }
    target.steps.add(|| {
        let hop = endpoint_hop(&link).took(asked.unwrap_or(began));
        hop.ended(sent.as_ref().err().map(|failed| failed.detail.as_str()))
    });
    if !sent.as_ref().is_err_and(|failed| failed.path_lost) {
        let resting = || target.view.remotes.resting(cluster);
        target.judge(&link.vital, tier.usable as usize, resting, &sent);
    }
    let (answer, peer) = sent?;
    Ok(Outcome::answered(answer, peer, Arc::clone(&link.vital.upstream), Box::new(using)))
}

/// Sends it and waits for the answer; a safe one only as long as its way is there.
async fn send(
    target: &Target<'_>,
    cluster: &ClusterName,
    link: &Rc<Link>,
    mut request: Request<Body>,
    safe: bool,
) -> Answered {
    http2::to_absolute_form(&mut request, target);
    let mut way = link.way.clone();
    let sending = link.sender.borrow_mut().try_send_request(request);
    let sent = tokio::select! {
        answered = target.in_time(sending) => answered.and_then(|answered| match answered {
            Ok(answer) => Ok((answer.map(Body::Incoming), Rc::clone(&link.peer))),
            Err(mut error) => Err(Failed::unanswered(error.take_message(), error.error())),
        }),
        () = way.lost(), if safe => Err(lost(cluster, link)),
    };
    match sent {
        Err(broken) if broken.sent && !broken.path_lost => Err(cause(broken, cluster, link).await),
        sent => sent,
    }
}

fn fault(error: &ConnectError) -> Fault {
    match error {
        ConnectError::Timeout { .. } => Fault::UpstreamRequestTimeout,
        ConnectError::Refused(refuse) if refuse.reason() == Reason::Overloaded => Fault::UpstreamOverflow,
        _ => Fault::UpstreamConnectionFailure,
    }
}

fn gateway_hop(cluster: &ClusterName, link: &Link) -> Hop {
    let accept = &link.accept;
    let rtt = Duration::from_micros(accept.rtt_us);
    Hop::new(
        "gateway",
        format!("{} → {}", accept.local_gateway, accept.gateway),
        format!("{cluster} by tunnel {}, round trip {rtt:?}", accept.tunnel),
    )
    .by(&accept.gateway_identity)
}

fn endpoint_hop(link: &Link) -> Hop {
    let party = link.peer.party();
    Hop::new("endpoint", link.accept.endpoint_id.clone(), format!("in {}", link.accept.zone)).by(&party.principal)
}

/// What breaks because a gateway died is told so by the notices, at the same moment or a little later.
const SAID_SOON: Duration = Duration::from_millis(50);

/// Why a connection broke: with all others over its gateway or tunnel, or for its own sake.
async fn cause(broken: Failed, cluster: &ClusterName, link: &Link) -> Failed {
    if broken.fault != Fault::UpstreamConnectionTermination {
        return broken;
    }
    let mut way = link.way.clone();
    match tokio::time::timeout(SAID_SOON, way.lost()).await {
        Ok(()) => lost(cluster, link),
        Err(_) => broken,
    }
}

fn lost(cluster: &ClusterName, link: &Link) -> Failed {
    let Accept { local_gateway, gateway, .. } = &link.accept;
    Failed::path_lost(format!("the way to {cluster} by {local_gateway} and {gateway} was lost while an answer was due"))
}

/// A link for a request: an idle one, or one that is opened for it; another one in the background when that is due.
async fn link(
    worker: &Rc<Worker>,
    target: &Target<'_>,
    tier: &Tier,
    key: &LinkKey,
    tried: &Tried,
) -> Result<Rc<Link>, ConnectError> {
    let most = (MOST / worker.shared.config.workers.max(1)).max(1);
    loop {
        let choice = worker.links.choose(
            key,
            &Ask {
                usable: tier.usable,
                most,
                tried: &tried.remote,
                lost: &tried.lost,
                has_way: &|| worker.shared.has_way(&key.cluster),
                random: fastrand::u64(..),
            },
        );
        match (choice.link, choice.open) {
            (Some(link), None) => return Ok(link),
            (Some(link), Some(avoid)) => {
                let opening = Opening::new(target, tier, key, avoid);
                let worker = Rc::clone(worker);
                tokio::task::spawn_local(async move {
                    let _ = opening.open(&worker).await;
                });
                return Ok(link);
            }
            (None, Some(avoid)) => return Opening::new(target, tier, key, avoid).open(worker).await,
            (None, None) => worker.links.ended(key).await.map_err(ConnectError::Shared)?,
        }
    }
}
