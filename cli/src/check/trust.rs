//! Pure: whom pods and the API server believe, and until when.

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_kubernetes::roots::{ENTRY, NAME};
use serde_json::Value;
use x509_parser::pem::Pem;

use super::{finding::Finding, gather::Installed};
use crate::rollout::{list, text};

const DAY: i64 = 86_400;
/// A root that ends needs a rotation, which takes planning.
const SOON: i64 = 30 * DAY;

/// What somebody wrote over, control writes again.
const REWRITTEN: &str = "control writes ConfigMap isthmus-system/isthmus-roots again within a minute; if it is broken then too: \
                         `kubectl -n isthmus-system logs deployment/isthmus-control`";

pub fn verdicts(installed: &Installed, now: i64) -> Vec<Finding> {
    let system = installed.roots.iter().find(|map| text(map, "/metadata/namespace") == "isthmus-system");
    let Some(roots) = system.map(pem).filter(|roots| !roots.is_empty()) else {
        return vec![
            Finding::error(
                "Roots",
                "control has not written whom pods believe (ConfigMap isthmus-system/isthmus-roots)",
            )
            .remedy("`kubectl -n isthmus-system logs deployment/isthmus-control` says why"),
        ];
    };
    let mut all = vec![everywhere(roots, &installed.roots, &installed.namespaces)];
    all.extend(lifetimes(roots, now));
    all.push(bundles(roots, &installed.webhooks));
    all
}

fn pem(map: &Value) -> &str {
    map.get("data").and_then(|data| data.get(ENTRY)).and_then(Value::as_str).unwrap_or_default()
}

/// Each namespace has the same roots.
fn everywhere(roots: &str, maps: &[Value], namespaces: &[Value]) -> Finding {
    const WHAT: &str = "Roots";
    let live = namespaces.iter().filter(|namespace| text(namespace, "/status/phase") != "Terminating");
    let names: Vec<_> = live.map(|namespace| text(namespace, "/metadata/name")).collect();
    let of = |name: &str| maps.iter().find(|map| text(map, "/metadata/namespace") == name).map(pem);
    let without = |wrong: fn(Option<&str>, &str) -> bool| -> Vec<&str> {
        names.iter().copied().filter(|name| wrong(of(name), roots)).collect()
    };
    let missing = without(|there, _| there.is_none());
    let others = without(|there, roots| there.is_some_and(|there| there != roots));
    if missing.is_empty() && others.is_empty() {
        return Finding::ok(WHAT, format!("the same in all {} namespaces", names.len()));
    }
    let mut why = vec![];
    if !missing.is_empty() {
        why.push(format!("pods wait for ConfigMap {NAME} in {}", missing.join(", ")));
    }
    if !others.is_empty() {
        why.push(format!("pods believe others than control's in {}", others.join(", ")));
    }
    Finding::error(WHAT, why.join("; ")).remedy(
        "control writes them within a minute; if not, `kubectl -n isthmus-system logs deployment/isthmus-control`",
    )
}

fn lifetimes(roots: &str, now: i64) -> Vec<Finding> {
    let mut all = vec![];
    for (index, pem) in Pem::iter_from_buffer(roots.as_bytes()).enumerate() {
        let Ok(pem) = pem else {
            all.push(Finding::error("Certificate authority", "one of its roots is no PEM").remedy(REWRITTEN));
            continue;
        };
        all.push(match pem.parse_x509() {
            // The first one signs; the others signed before, or will.
            Ok(root) if index > 0 => Finding::ok(
                "Certificate authority",
                format!("{} is believed too: it signed before, or signs soon", root.subject()),
            ),
            Ok(root) => {
                let (begins, ends) = (root.validity().not_before.timestamp(), root.validity().not_after.timestamp());
                lifetime(&root.subject().to_string(), (begins, ends), now)
            }
            Err(error) => {
                let why = format!("one of its roots is no certificate: {error}");
                Finding::error("Certificate authority", why).remedy(REWRITTEN)
            }
        });
    }
    all
}

fn lifetime(subject: &str, (begins, ends): (i64, i64), now: i64) -> Finding {
    const WHAT: &str = "Certificate authority";
    const REMEDY: &str =
        "bring another one: Secret cacerts in isthmus-system, in Istio's layout, is announced and then signs";
    let left = ends - now;
    // Of one that lives for weeks, as intermediates may, the last third is soon.
    let soon = SOON.min((ends - begins) / 3);
    match left {
        ..=0 => Finding::error(WHAT, format!("{subject} ended {} days ago", -left / DAY)).remedy(REMEDY),
        _ if left < soon => Finding::warning(WHAT, format!("{subject} ends in {} days", left / DAY)).remedy(REMEDY),
        _ => Finding::ok(WHAT, format!("{subject} lasts {} days more", left / DAY)),
    }
}

/// The API server believes our webhooks by what control wrote into their configurations.
fn bundles(roots: &str, configurations: &[Value]) -> Finding {
    const WHAT: &str = "Bundles of the webhooks";
    let bundle = STANDARD.encode(roots);
    let wrong = |webhook: &&Value| text(webhook, "/clientConfig/caBundle") != bundle;
    let names: Vec<_> = configurations
        .iter()
        .filter(|configuration| list(configuration, "/webhooks").iter().any(|webhook| wrong(&webhook)))
        .map(|configuration| text(configuration, "/metadata/name"))
        .collect();
    if configurations.is_empty() {
        return Finding::note(WHAT, "there are no webhooks, so no pod is injected when it is made")
            .remedy("`isthmus inject -f` does it beforehand");
    }
    if names.is_empty() {
        return Finding::ok(WHAT, "as control's roots");
    }
    Finding::error(WHAT, format!("not as control's roots: {}", names.join(", "))).remedy(
        "control writes them within seconds; does somebody else write the field caBundle, such as a GitOps controller?",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::finding::Severity;

    fn map(namespace: &str, roots: &str) -> Value {
        json!({ "metadata": { "name": NAME, "namespace": namespace }, "data": { ENTRY: roots } })
    }

    #[test]
    fn a_namespace_without_the_roots_or_with_others_is_named() {
        let namespaces: Vec<_> = ["a", "b"].map(|name| json!({ "metadata": { "name": name } })).into();
        let judged = |maps: &[Value]| everywhere("x", maps, &namespaces);
        assert_eq!(judged(&[map("a", "x"), map("b", "x")]).severity, Severity::Ok);
        assert!(judged(&[map("a", "x")]).why.ends_with("in b"));
        assert!(judged(&[map("a", "y"), map("b", "x")]).why.contains("others than control's in a"));
    }

    #[test]
    fn a_root_is_told_before_it_ends() {
        assert_eq!(lifetime("r", (0, 400 * DAY), 0).severity, Severity::Ok);
        assert_eq!(lifetime("r", (-300 * DAY, 29 * DAY), 0).why, "r ends in 29 days");
        assert_eq!(lifetime("r", (-10 * DAY, 29 * DAY), 0).severity, Severity::Ok, "it lives for weeks");
        assert_eq!(lifetime("r", (-DAY, 0), 2 * DAY).severity, Severity::Error);
        let broken = &lifetimes("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0)[0];
        assert!(broken.severity == Severity::Error && broken.remedy.is_some(), "{broken:?}");
    }

    #[test]
    fn a_bundle_that_is_not_the_roots_is_an_error() {
        let configuration = |bundle: &str| {
            [
                json!({ "metadata": { "name": "isthmus-injection" }, "webhooks": [{ "clientConfig": { "caBundle": bundle } }] }),
            ]
        };
        assert_eq!(bundles("x", &configuration(&STANDARD.encode("x"))).severity, Severity::Ok);
        assert!(bundles("x", &configuration("")).why.contains("isthmus-injection"));
        assert_eq!(bundles("x", &[]).severity, Severity::Note);
    }

    #[test]
    fn without_roots_nothing_else_is_judged() {
        let findings = verdicts(&Installed::default(), 0);
        assert!(findings.len() == 1 && findings[0].why.contains("has not written"));
    }
}
