//! A book's details.

use http::StatusCode;
use serde_json::json;

use crate::{
    reply::{Reply, json as reply_json},
    server::Application,
};

pub(super) fn answer(application: &Application, id: u64) -> Reply {
    let details = json!({
        "id": id,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
        "servedBy": application.itself,
    });
    reply_json(StatusCode::OK, &details)
}
