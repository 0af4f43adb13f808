//! The page: details and reviews side by side, as HTML, or as JSON for who accepts that.

use http::{HeaderMap, Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::{
    error::CallError,
    reply::{self, Reply},
    server::Application,
};

const TITLE: &str = "The Comedy of Errors";

pub(super) async fn answer(application: &Application, parts: &[&str], request: &Request<Incoming>) -> Reply {
    let headers = request.headers();
    match parts {
        [""] | ["index.html"] => {
            let link = "<!doctype html><title>Bookinfo</title><a href=\"/productpage\">The page</a>\n";
            reply::reply(StatusCode::OK, "text/html; charset=utf-8", link)
        }
        ["productpage"] => page(application, headers).await,
        ["api", "v1", "products"] => reply::json(StatusCode::OK, &json!([{"id": 0, "title": TITLE}])),
        ["api", "v1", "products", id] => pass(application, "details", &format!("/details/{id}"), headers).await,
        ["api", "v1", "products", id, "reviews"] => {
            pass(application, "reviews", &format!("/reviews/{id}"), headers).await
        }
        ["api", "v1", "products", id, "ratings"] => {
            pass(application, "ratings", &format!("/ratings/{id}"), headers).await
        }
        _ => reply::text(StatusCode::NOT_FOUND, "not here; try /productpage"),
    }
}

async fn pass(application: &Application, service: &str, path: &str, headers: &HeaderMap) -> Reply {
    match application.outbound.get(service, path, headers).await {
        Ok(value) => reply::json(StatusCode::OK, &value),
        Err(reason) => {
            let status = match &reason {
                CallError::Status { status, .. } => *status,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            reply::json(status, &json!({"error": reason.to_string()}))
        }
    }
}

async fn page(application: &Application, headers: &HeaderMap) -> Reply {
    let (details, reviews) = tokio::join!(
        application.outbound.get("details", "/details/0", headers),
        application.outbound.get("reviews", "/reviews/0", headers),
    );
    let wants_json = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if wants_json.is_some_and(|accept| accept.contains("application/json")) {
        let page = json!({
            "title": TITLE,
            "details": part(&details),
            "reviews": part(&reviews),
            "servedBy": application.itself,
        });
        return reply::json(StatusCode::OK, &page);
    }
    reply::reply(StatusCode::OK, "text/html; charset=utf-8", html(application, &details, &reviews))
}

fn part(outcome: &Result<Value, CallError>) -> Value {
    match outcome {
        Ok(value) => value.clone(),
        Err(reason) => json!({"error": reason.to_string()}),
    }
}

fn html(application: &Application, details: &Result<Value, CallError>, reviews: &Result<Value, CallError>) -> String {
    let itself = &application.itself;
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{TITLE}</title>\n<h1>{TITLE}</h1>\n\
         <h2>Book Details</h2>\n{}\n<h2>Book Reviews</h2>\n{}\n\
         <footer>{} {} in {} ({})</footer>\n",
        details_html(details),
        reviews_html(reviews),
        escape(&itself.workload),
        escape(&itself.version),
        escape(&itself.cluster),
        escape(&itself.zone),
    )
}

fn details_html(details: &Result<Value, CallError>) -> String {
    let rows = match details {
        Ok(Value::Object(details)) => details
            .iter()
            .filter(|(key, _)| *key != "servedBy" && *key != "id")
            .map(|(key, value)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(key), escape(&plain(value))))
            .collect::<String>(),
        Ok(_) => "<p>Sorry, the details are not what they should be.</p>".into(),
        Err(reason) => return sorry("product details", reason),
    };
    format!("<dl>\n{rows}</dl>")
}

fn reviews_html(reviews: &Result<Value, CallError>) -> String {
    let reviews = match reviews {
        Ok(reviews) => reviews,
        Err(reason) => return sorry("product reviews", reason),
    };
    let list = reviews.get("reviews").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut html = String::new();
    for review in &list {
        let text = plain(review.get("text").unwrap_or(&Value::Null));
        let reviewer = plain(review.get("reviewer").unwrap_or(&Value::Null));
        html.push_str(&format!(
            "<blockquote>{}<cite>{}</cite>{}</blockquote>\n",
            escape(&text),
            escape(&reviewer),
            stars(review)
        ));
    }
    let by = plain(reviews.get("podname").unwrap_or(&Value::Null));
    let cluster = plain(reviews.get("clustername").unwrap_or(&Value::Null));
    format!("{html}<p>Reviews served by {} on cluster {}</p>", escape(&by), escape(&cluster))
}

fn stars(review: &Value) -> String {
    let Some(rating) = review.get("rating") else { return String::new() };
    match rating.get("stars").and_then(Value::as_u64) {
        Some(stars) => {
            let color = escape(&plain(rating.get("color").unwrap_or(&Value::Null)));
            let stars = usize::try_from(stars.min(5)).unwrap_or(0);
            format!("<span style=\"color:{color}\">{}{}</span>", "★".repeat(stars), "☆".repeat(5 - stars))
        }
        None => format!("<i>{}</i>", escape(&plain(rating.get("error").unwrap_or(&Value::Null)))),
    }
}

fn sorry(what: &str, reason: &CallError) -> String {
    format!("<p>Sorry, {what} are currently unavailable for this book.</p>\n<!-- {} -->", escape(&reason.to_string()))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace("--", "&#45;-")
}
