//! A book's reviews: v1 without stars, v2 with black ones, v3 with red ones.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::{
    reply::{Reply, json as reply_json},
    server::Application,
};

/// Who reviewed, and what they wrote.
const REVIEWS: [(&str, &str); 2] = [
    ("Reviewer1", "Twins, a shipwreck and one long day of being taken for someone else. It holds together to the end."),
    ("Reviewer2", "Funny on every page, and shorter than most of his others."),
];

pub(super) async fn answer(application: &Application, id: u64, headers: &HeaderMap) -> Reply {
    let color = match &*application.itself.version {
        "v1" => None,
        "v2" => Some("black"),
        _ => Some("red"),
    };
    let ratings = match color {
        Some(_) => Some(application.outbound.get("ratings", &format!("/ratings/{id}"), headers).await),
        None => None,
    };
    let reviews = REVIEWS.iter().map(|(reviewer, text)| {
        let mut review = json!({"reviewer": reviewer, "text": text});
        if let (Some(color), Some(ratings)) = (color, &ratings) {
            put(&mut review, "rating", rating(ratings, reviewer, color));
        }
        review
    });
    let mut answer = json!({
        "id": id.to_string(),
        "podname": application.itself.workload,
        "clustername": application.itself.cluster,
        "reviews": reviews.collect::<Vec<_>>(),
        "servedBy": application.itself,
    });
    if let Some(Ok(ratings)) = &ratings {
        put(&mut answer, "ratedBy", ratings.get("servedBy").cloned().unwrap_or_default());
    }
    reply_json(StatusCode::OK, &answer)
}

fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

fn rating(ratings: &Result<Value, crate::error::CallError>, reviewer: &str, color: &str) -> Value {
    match ratings {
        Ok(ratings) => {
            let stars = ratings.pointer(&format!("/ratings/{reviewer}")).and_then(Value::as_u64).unwrap_or(0);
            json!({"stars": stars, "color": color})
        }
        Err(reason) => json!({"error": "Ratings service is currently unavailable", "reason": reason.to_string()}),
    }
}
