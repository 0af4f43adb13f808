//! What operators do for a while, done and taken back: said to the control of an operator, or to the one concerned.

mod choice;
mod undo;
mod who;
mod words;

use anyhow::{Result, anyhow};
use isthmus_control::{failover::rows::VerbRow, handle::Wish};
use isthmus_core::failover::verb::{DEFAULT_FOR, Deed};
use isthmus_scenarios::admin::Refused;

pub use choice::{first, ordered};
pub use undo::{end, undo, unpin};
pub use who::who;

use super::{
    clock,
    controls::{Control, Controls, Silent, nobody, told},
    in_force::{self, InForce, merged},
};
use crate::{
    args::{Act, Form, How, Look},
    out,
    reach::Reach,
    table,
};

/// Does it, and says what is in force now.
pub async fn act(reach: &Reach, deed: Deed, act: Act) -> Result<()> {
    let Act { lasts, how: How { reason, place, output } } = act;
    let controls = ordered(reach, Controls::of(reach, &place).await?, &place, deed.cluster()).await;
    let wish = Wish { deed, lasts, by: who(), reason };
    let (at, done) = first(&controls, &wish).await?;
    let all = Controls::all(reach, &place).await?;
    let silent = match all.ask::<Vec<VerbRow>>("/api/verbs").await {
        Ok(answers) => answers.silent,
        Err(_) => vec![],
    };
    if output.output == Form::Json {
        let all = serde_json::json!({ "wish": wish, "done_in": at.name, "done": done, "silent": silent });
        out::line(serde_json::to_string_pretty(&all)?);
    } else {
        let end = clock::from_now(wish.lasts.unwrap_or(DEFAULT_FOR));
        out::raw(&words::done(&words::Said { wish: &wish, at: &at.name, done: &done, silent: &silent, end: &end }));
    }
    choice::binds_all(&at.name, &done, &place)
}

/// Who answered and refused it, and who did not answer.
fn sort(control: &Control, error: &anyhow::Error, refusals: &mut Vec<String>, silent: &mut Vec<Silent>) {
    match error.downcast_ref::<Refused>() {
        Some(Refused(why)) => refusals.push(why.clone()),
        None => silent.push(Silent { cluster: control.name.clone(), why: format!("{error:#}") }),
    }
}

fn refused(refusals: Vec<String>, silent: &[Silent]) -> anyhow::Error {
    let Some(first) = refusals.into_iter().next() else { return anyhow!(nobody(silent)) };
    let names: Vec<_> = silent.iter().map(|one| one.cluster.as_str()).collect();
    match names.is_empty() {
        true => anyhow!(first),
        false => anyhow!("{first} (no answer of {})", names.join(", ")),
    }
}

/// `isthmus failover verbs`.
pub async fn list(reach: &Reach, look: &Look) -> Result<()> {
    let answers = Controls::of(reach, &look.place).await?.ask::<Vec<VerbRow>>("/api/verbs").await?;
    let verbs = merged(&answers.said);
    if look.output.output == Form::Json {
        let all = serde_json::json!({ "verbs": verbs, "silent": answers.silent });
        out::line(serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    out::raw(&told(&answers.silent));
    match verbs.is_empty() {
        true => out::line("nothing is drained, evacuated, pinned or drilled"),
        false => out::line(listed(&verbs)),
    }
    Ok(())
}

fn listed(verbs: &[InForce]) -> String {
    let dash = |text: String| if text.is_empty() { "-".into() } else { text };
    let row = |one: &InForce| {
        vec![
            one.what.clone(),
            one.by.clone(),
            dash(one.reason.clone()),
            clock::time_of_day(one.at_ms),
            if one.local { format!("{} (local)", one.writer) } else { one.writer.clone() },
            dash(one.binds.join(",")),
            dash(one.free.join(",")),
            format!("{:.0} %", one.leaves * 100.0),
            clock::span(one.ends_in_seconds),
            one.undo.clone(),
        ]
    };
    let headings = ["WHAT", "BY", "REASON", "AT", "DONE IN", "BINDS", "NOT", "LEAVES", "ENDS IN", "ENDS AT ONCE BY"];
    table::of(&headings, verbs.iter().map(row))
}

/// A line for each that is in force.
pub fn lines(verbs: &[InForce]) -> String {
    verbs.iter().map(|one| format!("» {}\n", in_force::line(one))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::in_force::tests::row;

    #[test]
    fn the_first_refusal_is_told_and_who_did_not_answer() {
        let silent = [Silent { cluster: "us".into(), why: "refused".into() }];
        let said = refused(vec!["no cluster mars; there are a, b".into(), "other".into()], &silent).to_string();
        assert_eq!(said, "no cluster mars; there are a, b (no answer of us)");
        assert!(refused(vec![], &silent).to_string().starts_with("no control answers (us: refused"));
    }

    #[test]
    fn a_verb_is_a_row_with_who_why_and_how_it_ends() {
        let verbs = merged(&[("east".into(), vec![row("east", true)]), ("eu".into(), vec![row("east", false)])]);
        let table = listed(&verbs);
        let last = table.lines().nth(1).unwrap();
        for part in
            ["drain of eu over 10m", "ann@desk", "kernel", "east", "40 %", "1h 59m", "isthmus cluster undrain eu"]
        {
            assert!(last.contains(part), "{part} is not in {last}");
        }
        assert!(lines(&verbs).starts_with("» drain of eu over 10m, by ann@desk at east: kernel; in force in east"));
    }
}
