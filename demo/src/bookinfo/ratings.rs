//! Stars by reviewer.

use http::StatusCode;
use serde_json::json;

use crate::{
    reply::{Reply, json as reply_json},
    server::Application,
};

pub(super) fn answer(application: &Application, id: u64) -> Reply {
    let ratings = json!({
        "id": id,
        "ratings": { "Reviewer1": 5, "Reviewer2": 4 },
        "servedBy": application.itself,
    });
    reply_json(StatusCode::OK, &ratings)
}
