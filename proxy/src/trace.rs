//! `isthmus trace`: a real request on the very path requests take, told hop by hop.

use std::{rc::Rc, time::Instant};

use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use http::Request;
use isthmus_core::{
    ladder::{Ladder, Tier},
    name::HostScope,
    plan,
};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use crate::{
    body::Body,
    forward::{Hop, Steps, is_left, rate},
    outbound::{self, routed},
    snapshot::View,
    worker::Worker,
};

/// What is to be traced.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Question {
    host: String,
    port: u16,
    #[serde(default = "root")]
    path: String,
}

fn root() -> String {
    "/".into()
}

pub(crate) type Requests = mpsc::Receiver<(Question, oneshot::Sender<Vec<Hop>>)>;
type Asking = mpsc::Sender<(Question, oneshot::Sender<Vec<Hop>>)>;

pub(crate) fn channel() -> (Asking, Requests) {
    mpsc::channel(16)
}

/// `/trace?host=H&port=P&path=/x`.
pub(crate) fn routes(asking: Asking) -> Router {
    let ask = |State(asking): State<Asking>, Query(question): Query<Question>| async move {
        let (reply, hops) = oneshot::channel();
        if asking.send((question, reply)).await.is_err() {
            return Json(vec![Hop::new("sidecar", "", "").failed("the sidecar has no worker yet")]);
        }
        Json(hops.await.unwrap_or_default())
    };
    Router::new().route("/trace", get(ask).post(ask)).with_state(asking)
}

/// Answers on a worker.
pub(crate) async fn serve(worker: Rc<Worker>, mut requests: Requests) {
    while let Some((question, reply)) = requests.recv().await {
        let worker = Rc::clone(&worker);
        tokio::task::spawn_local(async move {
            let _ = reply.send(trace(&worker, &question).await);
        });
    }
}

async fn trace(worker: &Rc<Worker>, question: &Question) -> Vec<Hop> {
    let began = Instant::now();
    let own = worker.shared.connector.identity().spiffe();
    let mut sidecar =
        Hop::new("sidecar", worker.shared.config.common.name.clone(), worker.shared.config.common.cluster.to_string());
    sidecar.identity = own.to_string();
    let mut hops = vec![sidecar];
    let found = worker.shared.snapshot.load().host(&question.host);
    let Some((view, scope)) = found else {
        let detail = "neither an own service nor one that another cluster exports to this one";
        hops.push(Hop::new("name", question.host.clone(), "").took(began).failed(detail));
        return hops;
    };
    hops.push(Hop::new("name", question.host.clone(), address(worker, &view)).took(began));
    let looked = Instant::now();
    hops.push(policy(&view, scope).took(looked));
    let uri = format!("http://{}:{}{}", question.host, question.port, question.path);
    let request =
        match Request::get(&uri).header("host", format!("{}:{}", question.host, question.port)).body(Body::empty()) {
            Ok(request) => request,
            Err(error) => {
                hops.push(Hop::new("request", uri, "").failed(error));
                return hops;
            }
        };
    let sent = Instant::now();
    let steps = Steps::kept();
    let routed = routed(worker, &view, scope, question.port, request, &steps).await;
    hops.push(Hop::new("route", routed.route.clone(), ""));
    hops.extend(steps.into_hops());
    hops.push(match &routed.outcome.answer {
        Ok(answer) => {
            let status = answer.status();
            let by = outbound::text(answer.headers(), "x-served-by");
            let hop = Hop::new("answer", status.to_string(), by).took(sent);
            if status.is_server_error() { hop.failed("the application answers with an error") } else { hop }
        }
        Err(fault) => Hop::new("answer", fault.flag(), "").took(sent).failed(&routed.outcome.detail),
    });
    hops
}

fn address(worker: &Worker, view: &View) -> String {
    let config = &worker.shared.config;
    let on_workload = |index| plan::service_address(config.common.address, index);
    let address = match config.capture {
        Some(_) => view.service.set_address,
        None => view.service.address_index.and_then(on_workload),
    };
    address.map_or_else(|| "no address of its own".into(), |address| address.to_string())
}

fn policy(view: &View, called: HostScope) -> Hop {
    let ladder = view.ladders(None).map(|ladders| &ladders.of(view.scope(called)).ladder);
    let tiers = ladder.map_or(&[][..], Ladder::tiers);
    let part = |index| ladder.map_or(0.0, |ladder| ladder.part(index));
    let told: Vec<_> = tiers.iter().enumerate().map(|(index, tier)| rung(tier, part(index))).collect();
    let noun = if tiers.len() == 1 { "tier" } else { "tiers" };
    let hop = Hop::new("ladder", format!("{} {noun}", tiers.len()), told.join("; "));
    if tiers.iter().any(|tier| tier.usable > 0) { hop } else { hop.failed("no endpoint is usable anywhere") }
}

/// A rung, with the part of all requests that it gets: `cluster west 40 % (2 of 2 usable, alive, limit 50 requests a
/// second)`.
fn rung(tier: &Tier, part: f64) -> String {
    let standing = serde_json::to_value(tier.standing).unwrap_or_default();
    let standing = standing.as_str().unwrap_or_default();
    let left = if is_left(tier) { ", left" } else { "" };
    let limit = tier.limit.map(|limit| format!(", limit {}", rate(limit))).unwrap_or_default();
    let Tier { place, usable, total, .. } = tier;
    format!("{place} {:.0} % ({usable} of {total} usable, {standing}{left}{limit})", part * 100.0)
}
