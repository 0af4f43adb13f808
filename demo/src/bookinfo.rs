//! Istio's Bookinfo, written anew: the same services, ports and paths, so that what is written for it works here.

mod details;
mod page;
mod ratings;
mod reviews;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use crate::{
    config::App,
    reply::{self, Reply},
    server::Application,
};

pub(crate) async fn answer(application: &Application, request: Request<Incoming>) -> Reply {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered");
    }
    let path = request.uri().path().to_owned();
    let parts = path.trim_matches('/').split('/').collect::<Vec<_>>();
    match (application.app, parts.as_slice()) {
        (App::Details, ["details", id]) => numbered(id, |id| details::answer(application, id)),
        (App::Ratings, ["ratings", id]) => numbered(id, |id| ratings::answer(application, id)),
        (App::Reviews, ["reviews", id]) => match id.parse() {
            Ok(id) => reviews::answer(application, id, request.headers()).await,
            Err(_) => not_a_number(),
        },
        (App::Details | App::Ratings | App::Reviews, [""]) => {
            let hello = format!("{:?}, as in Bookinfo; ask for /<its name>/<a number>, or /health", application.app);
            reply::json(StatusCode::OK, &serde_json::json!({"hello": hello, "servedBy": application.itself}))
        }
        (App::Productpage, parts) => page::answer(application, parts, &request).await,
        _ => reply::text(StatusCode::NOT_FOUND, format!("{path} is not here")),
    }
}

fn numbered(id: &str, answer: impl FnOnce(u64) -> Reply) -> Reply {
    id.parse().map_or_else(|_| not_a_number(), answer)
}

fn not_a_number() -> Reply {
    reply::json(StatusCode::BAD_REQUEST, &serde_json::json!({"error": "please provide numeric product ID"}))
}
