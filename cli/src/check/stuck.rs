//! Pure: pods whose sidecar does not come up, and what keeps it: its capture that the kernel refused, an image that is not to be
//! had, a process that ends.

use std::collections::BTreeMap;

use isthmus_inject::words::{CAPTURE, PROXY};
use serde_json::Value;

use super::finding::Finding;
use crate::rollout::{list, text};

/// What a container waits for while nothing is wrong.
const ON_THE_WAY: [&str; 2] = ["PodInitializing", "ContainerCreating"];
/// Of what a container said at its end so much is told, characters.
const SAID: usize = 300;

/// Of all pods.
pub fn verdicts(pods: &[Value]) -> Vec<Finding> {
    let mut wrong = BTreeMap::<&str, Vec<(&str, &str, String)>>::new();
    for pod in pods {
        if let Some((container, reason)) = stuck(pod) {
            let of = wrong.entry(text(pod, "/metadata/namespace")).or_default();
            of.push((text(pod, "/metadata/name"), container, reason));
        }
    }
    wrong.into_iter().filter_map(|(namespace, pods)| finding(namespace, &pods)).collect()
}

/// One a namespace: what keeps one pod's sidecar often keeps all of them.
fn finding(namespace: &str, pods: &[(&str, &str, String)]) -> Option<Finding> {
    let (pod, container, reason) = pods.first()?;
    let others = match pods.len() - 1 {
        0 => String::new(),
        count => format!(" (and of {count} pods more)"),
    };
    let why = format!("{container} of {pod}{others} does not run: {reason}");
    let kernel =
        if *container == CAPTURE { "; it needs nf_tables or iptables in its node's kernel, and NET_ADMIN" } else { "" };
    let remedy = format!("`kubectl -n {namespace} logs {pod} -c {container}`, and `describe pod`, say more{kernel}");
    Some(Finding::error(format!("Sidecars in {namespace}"), why).remedy(remedy))
}

/// The container of ours that does not come up, and why.
fn stuck(pod: &Value) -> Option<(&'static str, String)> {
    let statuses = list(pod, "/status/initContainerStatuses");
    [CAPTURE, PROXY].into_iter().find_map(|name| {
        let status = statuses.iter().find(|status| text(status, "/name") == name)?;
        Some((name, reason(status)?))
    })
}

fn reason(status: &Value) -> Option<String> {
    let ended = |state: &str| {
        let ended = status.pointer(&format!("/{state}/terminated"))?;
        let code = ended.get("exitCode").and_then(Value::as_i64).filter(|code| *code != 0)?;
        let said: String = text(ended, "/message").trim().chars().take(SAID).collect();
        Some(if said.is_empty() { format!("it ended with {code}") } else { said.replace('\n', " ") })
    };
    let waiting = text(status, "/state/waiting/reason");
    if waiting.is_empty() || ON_THE_WAY.contains(&waiting) {
        return ended("state");
    }
    let said = ended("lastState").unwrap_or_else(|| text(status, "/state/waiting/message").to_owned());
    Some(format!("{waiting}: {said}").trim_end_matches([':', ' ']).to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::finding::Severity;

    fn pod(name: &str, container: &str, status: Value) -> Value {
        let mut status = status;
        status["name"] = container.into();
        json!({ "metadata": { "name": name, "namespace": "shop" }, "status": { "initContainerStatuses": [status] } })
    }

    #[test]
    fn what_keeps_a_sidecar_from_running_is_told_once_a_namespace() {
        let refused = json!({
            "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 20s" } },
            "lastState": { "terminated": { "exitCode": 1, "message": "isthmus: nft: no such\nprotocol" } },
        });
        let pods = ["a", "b"].map(|name| pod(name, CAPTURE, refused.clone()));
        let found = verdicts(&pods);
        assert_eq!((found.len(), found[0].severity), (1, Severity::Error));
        let why =
            "isthmus-capture of a (and of 1 pods more) does not run: CrashLoopBackOff: isthmus: nft: no such protocol";
        assert_eq!(found[0].why, why);
        assert!(found[0].remedy.as_deref().unwrap().contains("nf_tables"));
        let image = json!({ "state": { "waiting": { "reason": "ImagePullBackOff", "message": "not found" } } });
        let found = verdicts(&[pod("a", PROXY, image)]);
        assert!(found[0].why.ends_with("ImagePullBackOff: not found"), "{found:?}");
    }

    #[test]
    fn what_begins_runs_or_did_its_work_is_not_told() {
        let fine = [
            json!({ "state": { "waiting": { "reason": "PodInitializing" } } }),
            json!({ "state": { "running": {} }, "lastState": { "terminated": { "exitCode": 1 } } }),
            json!({ "state": { "terminated": { "exitCode": 0 } } }),
        ];
        let pods = fine.map(|status| pod("a", PROXY, status));
        assert_eq!(verdicts(&pods), []);
        let others = pod("a", "init-db", json!({ "state": { "terminated": { "exitCode": 1 } } }));
        assert_eq!(verdicts(&[others]), []);
    }
}
