//! Which control does it: that of a cluster whose verbs bind the others, else that of the cluster concerned, for a cluster
//! may always drain itself. One that does not answer in time may have done it, so no other is asked then.

use std::time::Duration;

use anyhow::{Result, bail};
use futures_util::future::join_all;
use isthmus_control::handle::{Done, Wish};
use isthmus_core::name::ClusterName;
use isthmus_scenarios::{
    admin::{self, Refused, Unreached},
    operator,
};

use super::{refused, sort};
use crate::{
    args::{Member, Place},
    failover::controls::{Control, Controls, LIMIT},
    reach::Reach,
};

/// The controls in the order in which they are asked to do something to `cluster`; as they are where one is named.
pub async fn ordered(reach: &Reach, mut controls: Controls, place: &Place, cluster: &ClusterName) -> Controls {
    if !is_named(place) && controls.0.len() > 1 {
        let operators = operators(reach, &controls).await;
        controls.0.sort_by_key(|control| rank(&control.name, &operators, cluster.as_str()));
    }
    controls
}

fn is_named(place: &Place) -> bool {
    place.at.is_some() || place.control.is_some()
}

/// Operators, then the cluster concerned, then the rest, each in the mesh's order.
fn rank(name: &str, operators: &[String], concerned: &str) -> u8 {
    match name {
        name if operators.iter().any(|operator| operator == name) => 0,
        name if name == concerned => 1,
        _ => 2,
    }
}

/// Who operates the mesh, as the first member says that answers; nobody where none does.
async fn operators(reach: &Reach, controls: &Controls) -> Vec<String> {
    let ask = |control: &Control| {
        let at = control.name.parse::<ClusterName>().ok();
        async move {
            let member = reach.member(&Member { at, member: None }, None).await.ok()?;
            tokio::time::timeout(LIMIT, operator::operators(member)).await.ok()?.ok()
        }
    };
    let said = join_all(controls.0.iter().map(ask)).await;
    said.into_iter().flatten().find(|operators| !operators.is_empty()).unwrap_or_default()
}

/// The first control that does it. Where none does, the first refusal is told: it names the remedy.
///
/// # Errors
/// When none does it, or one may have done it.
pub async fn first<'a>(controls: &'a Controls, wish: &Wish) -> Result<(&'a Control, Done)> {
    within(controls, wish, LIMIT).await
}

async fn within<'a>(controls: &'a Controls, wish: &Wish, limit: Duration) -> Result<(&'a Control, Done)> {
    let body = serde_json::to_value(wish)?;
    let (mut refusals, mut silent) = (vec![], vec![]);
    for control in &controls.0 {
        match admin::send(control.admin, "/api/verbs", &body, limit).await {
            Ok(done) => return Ok((control, serde_json::from_value(done)?)),
            Err(error) if error.is::<Refused>() || error.is::<Unreached>() => {
                sort(control, &error, &mut refusals, &mut silent);
            }
            Err(error) => bail!(
                "the control of {} was told of the {} and has not answered ({error:#}); it may be in force: isthmus failover \
                 verbs; no other control was asked",
                control.name,
                wish.deed
            ),
        }
    }
    Err(refused(refusals, &silent))
}

/// What was done where nobody said where must be what was meant: in force in all clusters.
///
/// # Errors
/// When it is in force in some only.
pub fn binds_all(at: &str, done: &Done, place: &Place) -> Result<()> {
    if is_named(place) || done.free.is_empty() {
        return Ok(());
    }
    let names = |of: &[ClusterName]| of.iter().map(ClusterName::as_str).collect::<Vec<_>>().join(", ");
    let (binds, free) = (names(&done.binds), names(&done.free));
    bail!(
        "it is in force in {binds} alone: {free} did not take it from {at}, which is not among their operators; do it there \
         too, with --at, or at one of their operators (isthmus cluster operators)"
    )
}

#[cfg(test)]
mod tests {
    use isthmus_core::failover::verb::Deed;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const DONE: &str = r#"{"name":"drain-us","local":false,"binds":["us"],"free":[]}"#;

    fn name(text: &str) -> ClusterName {
        text.parse().unwrap()
    }

    fn wish() -> Wish {
        let deed = Deed::Drain { cluster: name("us"), over: Duration::ZERO };
        Wish { deed, lasts: None, by: "ann@desk".into(), reason: String::new() }
    }

    async fn listening() -> (TcpListener, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        (listener, at)
    }

    fn control(name: &str, admin: std::net::SocketAddr) -> Control {
        Control { name: name.into(), admin }
    }

    #[test]
    fn an_operator_is_asked_first_and_then_the_cluster_concerned() {
        let operators = ["eu".to_owned()];
        let mut names = ["ap", "us", "eu"];
        names.sort_by_key(|name| rank(name, &operators, "us"));
        assert_eq!(names, ["eu", "us", "ap"]);
        names.sort_by_key(|name| rank(name, &[], "ap"));
        assert_eq!(names, ["ap", "eu", "us"], "nobody says who operates the mesh");
    }

    #[test]
    fn what_binds_some_only_is_a_failure_unless_the_place_was_named() {
        let done =
            Done { binds: vec![name("us")], free: vec![name("ap"), name("eu")], ..serde_json::from_str(DONE).unwrap() };
        let said = binds_all("us", &done, &Place::default()).unwrap_err().to_string();
        assert!(said.starts_with("it is in force in us alone: ap, eu did not take it from us"), "{said}");
        binds_all("us", &done, &Place { at: Some(name("us")), control: None }).unwrap();
        binds_all("us", &Done { free: vec![], ..done }, &Place::default()).unwrap();
    }

    #[tokio::test]
    async fn after_a_control_that_says_nothing_no_other_is_asked() {
        let ((_mute, mute), (other, at)) = (listening().await, listening().await);
        let controls = Controls(vec![control("eu", mute), control("us", at)]);
        let error = within(&controls, &wish(), Duration::from_millis(200)).await.unwrap_err().to_string();
        assert!(error.contains("the control of eu was told of the drain of us over 0s"), "{error}");
        assert!(error.contains("it may be in force: isthmus failover verbs"), "{error}");
        let asked = futures_util::FutureExt::now_or_never(other.accept());
        assert!(asked.is_none(), "us was asked too");
    }

    #[tokio::test]
    async fn after_a_control_that_is_not_there_the_next_is_asked() {
        let (gone, free) = listening().await;
        drop(gone);
        let (other, at) = listening().await;
        let answer = tokio::spawn(async move {
            let (mut stream, _) = other.accept().await.unwrap();
            let mut question = [0; 4096];
            while !String::from_utf8_lossy(&question).contains("}") {
                assert_ne!(stream.read(&mut question).await.unwrap(), 0, "it went away");
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", DONE.len());
            stream.write_all(format!("{head}{DONE}").as_bytes()).await.unwrap();
        });
        let controls = Controls(vec![control("eu", free), control("us", at)]);
        let (at, done) = within(&controls, &wish(), LIMIT).await.unwrap();
        assert_eq!((at.name.as_str(), done.name.as_str()), ("us", "drain-us"));
        answer.await.unwrap();
    }
}
