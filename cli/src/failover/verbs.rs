//! What operators do for a while, done and taken back: said to the control of an operator, or to the one concerned.

mod choice;
mod who;
mod words;

use anyhow::{Result, anyhow, bail};
use isthmus_control::{failover::rows::VerbRow, handle::Wish};
use isthmus_core::{
    failover::verb::{DEFAULT_FOR, Deed},
    name::ServiceName,
};
use isthmus_scenarios::admin::{self, Refused};

pub use choice::{first, ordered};
pub use who::who;

use super::{
    clock,
    controls::{Control, Controls, LIMIT, Silent, nobody, told},
    in_force::{self, InForce, merged},
};
use crate::{
    args::{Act, Form, Look, Place},
    out,
    reach::Reach,
    table,
};

/// Does it, and says what is in force now.
pub async fn act(reach: &Reach, deed: Deed, act: Act) -> Result<()> {
    let controls = ordered(reach, Controls::of(reach, &act.place).await?, &act.place, deed.cluster()).await;
    let wish = Wish { deed, lasts: act.lasts, by: who(), reason: act.reason };
    let (at, done) = first(&controls, &wish).await?;
    let lasts = wish.lasts.unwrap_or(DEFAULT_FOR);
    out::raw(&words::done(&wish, &at.name, &done, &clock::from_now(lasts)));
    choice::binds_all(&at.name, &done, &act.place)
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

/// Takes it back wherever it was done.
pub async fn undo(reach: &Reach, deed: &Deed, place: &Place) -> Result<()> {
    let what = match deed {
        Deed::Evacuate { service, cluster, .. } => format!("evacuation of {service} from {cluster}"),
        Deed::Pin { service, .. } => format!("pin of {service}"),
        Deed::Drain { cluster, .. } => format!("drain of {cluster}"),
        Deed::Drill { cluster } => format!("drill of {cluster}"),
    };
    take_back(&Controls::of(reach, place).await?, &deed.name(), &what).await
}

/// A pin is named by its service alone.
pub async fn unpin(reach: &Reach, service: ServiceName, place: &Place) -> Result<()> {
    let any = "any".parse()?;
    undo(reach, &Deed::Pin { service, cluster: any }, place).await
}

async fn take_back(controls: &Controls, name: &str, what: &str) -> Result<()> {
    let path = format!("/api/verbs/{name}");
    let (mut taken, mut refusals, mut silent) = (vec![], vec![], vec![]);
    for control in &controls.0 {
        match admin::delete(control.admin, &path, LIMIT).await {
            Ok(_) => taken.push(control.name.as_str()),
            Err(error) => sort(control, &error, &mut refusals, &mut silent),
        }
    }
    if taken.is_empty() {
        return Err(elsewhere(controls, name, what).await.unwrap_or_else(|| refused(refusals, &silent)));
    }
    out::raw(&words::taken_back(what, &taken));
    out::raw(&told(&silent));
    Ok(())
}

/// Where it was done, if it is in force and nobody who was asked did it.
async fn elsewhere(controls: &Controls, name: &str, what: &str) -> Option<anyhow::Error> {
    let answers = controls.ask::<Vec<VerbRow>>("/api/verbs").await.ok()?;
    let one = merged(&answers.said).into_iter().find(|one| one.name == name)?;
    let rest = clock::span(one.ends_in_seconds);
    Some(match answers.silent.iter().find(|silent| silent.cluster == one.writer) {
        Some(silent) => anyhow!(
            "the {what} was done in {}, whose control does not answer ({}); it ends by itself in {rest}, or start that \
             control again and take it back then",
            one.writer,
            silent.why
        ),
        None => anyhow!(
            "the {what} was done in {}; take it back there, with --at {}; it ends by itself in {rest}",
            one.writer,
            one.writer
        ),
    })
}

/// Ends it without a word; that it is not there any more is no error.
pub async fn end(at: &Control, name: &str) -> Result<()> {
    match admin::delete(at.admin, &format!("/api/verbs/{name}"), LIMIT).await {
        Err(error) if error.downcast_ref::<Refused>().is_none() => {
            bail!("{name} could not be taken back in {}: {error:#}; it ends by itself", at.name)
        }
        _ => Ok(()),
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
