//! Pure: the federation member: its disk, and how long it waits for others.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Object, Setting, number, one, put};

/// As the base has them: heartbeat, shortest and longest time without one.
const TIMING: [(&str, &str, u32); 3] = [
    ("heartbeat", "heartbeat_ms", 500),
    ("electionMin", "election_min_ms", 3000),
    ("electionMax", "election_max_ms", 6000),
];

pub(super) fn set(objects: &mut [Object], what: &str, value: &str) -> Result<()> {
    if let Some(timed) = what.strip_prefix("timing.") {
        let (_, name, base) = TIMING.iter().find(|(of, ..)| *of == timed).context("no such time")?;
        return number(objects, &format!("{name}: {base}"), value);
    }
    let member = &mut one(objects, "StatefulSet", "isthmus-federation")?.document;
    // What is set of a disk that is not there says nothing.
    let has_disk = member.pointer("/spec/volumeClaimTemplates").is_some();
    match what {
        "persistence.enabled" if value == "false" => without_disk(member),
        "persistence.size" if has_disk => {
            put(claim(member)?, &["spec", "resources", "requests", "storage"], json!(value))
        }
        "persistence.storageClass" if has_disk => {
            let class = if value == "-" { "" } else { value };
            put(claim(member)?, &["spec", "storageClassName"], json!(class))
        }
        "persistence.whenDeleted" if has_disk => {
            put(member, &["spec", "persistentVolumeClaimRetentionPolicy", "whenDeleted"], json!(value))
        }
        _ if what.starts_with("persistence.") => Ok(()),
        _ => bail!("federation.{what} has no place in the base"),
    }
}

fn without_disk(member: &mut Value) -> Result<()> {
    let spec = member.pointer_mut("/spec").and_then(Value::as_object_mut).context("the base's member is empty")?;
    spec.remove("volumeClaimTemplates");
    spec.remove("persistentVolumeClaimRetentionPolicy");
    let volumes = member.pointer_mut("/spec/template/spec/volumes").and_then(Value::as_array_mut);
    volumes.context("the base's member has no volumes")?.push(json!({ "name": "state", "emptyDir": {} }));
    Ok(())
}

fn claim(member: &mut Value) -> Result<&mut Value> {
    member.pointer_mut("/spec/volumeClaimTemplates/0").context("the base's member has no disk")
}

/// Times that make sense together; a member refuses others, and then it is late.
///
/// # Errors
/// When they do not.
pub(super) fn timing(settings: &[Setting]) -> Result<()> {
    let of = |(name, _, base): (&str, &str, u32)| {
        let key = format!("federation.timing.{name}");
        let said = settings.iter().find(|setting| setting.key == key);
        said.map_or(Ok(base), |setting| setting.value.parse::<u32>())
    };
    let [heartbeat, least, most] = TIMING;
    let (heartbeat, least, most) = (of(heartbeat)?, of(least)?, of(most)?);
    anyhow::ensure!(
        heartbeat < least && least < most,
        "federation.timing: heartbeat must be below electionMin, and electionMin below electionMax"
    );
    Ok(())
}
