//! `isthmus failover history`: what every cluster remembers, as one list in the order of its times.

use anyhow::Result;
use isthmus_control::failover::history::Event;
use serde::Serialize;

use super::{
    clock::time_of_day,
    controls::{Controls, told},
};
use crate::{
    args::{Form, Look},
    out,
    reach::Reach,
    table,
};

/// An event, and the cluster that remembers it.
#[derive(Clone, Debug, Serialize)]
struct Remembered {
    importer: String,
    #[serde(flatten)]
    event: Event,
}

pub async fn run(reach: &Reach, look: &Look) -> Result<()> {
    let answers = Controls::of(reach, &look.place).await?.ask::<Vec<Event>>("/api/history").await?;
    let events = merged(answers.said);
    if look.output.output == Form::Json {
        let all = serde_json::json!({ "events": events, "silent": answers.silent });
        out::line(serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    out::raw(&told(&answers.silent));
    match events.is_empty() {
        true => out::line("nothing has happened yet"),
        false => out::line(drawn(&events)),
    }
    Ok(())
}

/// Oldest first; events of one moment in the mesh's order.
fn merged(said: Vec<(String, Vec<Event>)>) -> Vec<Remembered> {
    let own = |(importer, events): (String, Vec<Event>)| {
        events.into_iter().map(move |event| Remembered { importer: importer.clone(), event })
    };
    let mut all: Vec<_> = said.into_iter().flat_map(own).collect();
    all.sort_by_key(|one| one.event.at_ms);
    all
}

fn drawn(events: &[Remembered]) -> String {
    let dash = |text: &str| if text.is_empty() { "-".into() } else { text.to_owned() };
    let row = |Remembered { importer, event }: &Remembered| {
        vec![
            time_of_day(event.at_ms),
            importer.clone(),
            event.kind.clone(),
            event.of.clone(),
            event.what.clone(),
            dash(&event.why),
            dash(&event.by),
        ]
    };
    table::of(&["TIME", "IMPORTER", "KIND", "OF", "WHAT", "WHY", "BY"], events.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clusters_remember_is_one_list_by_time() {
        let event = |at_ms, of: &str| Event {
            at_ms,
            kind: "service".into(),
            of: of.into(),
            what: "eu → us".into(),
            why: String::new(),
            by: String::new(),
        };
        let said = vec![
            ("us".into(), vec![event(1, "a"), event(30, "b")]),
            ("eu".into(), vec![event(1, "c"), event(20, "d")]),
        ];
        let merged = merged(said);
        assert_eq!(merged.iter().map(|one| one.event.of.as_str()).collect::<String>(), "acdb");
        let table = drawn(&merged);
        let last: Vec<_> = table.lines().last().unwrap().split_whitespace().skip(2).collect();
        assert_eq!(last, ["us", "service", "b", "eu", "→", "us", "-", "-"], "times of 1970 have their date");
    }
}
