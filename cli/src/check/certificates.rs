//! Pure: whether what the mesh's processes live by is renewed in time, and which authority signs it.

use serde_json::Value;

use super::finding::Finding;
use crate::rollout::{list, text};

/// A certificate is renewed at half its life, give or take a tenth of that. What has less than two fifths left is overdue.
const OVERDUE: (i64, i64) = (2, 5);
/// Sidecars that are asked: each is asked through the API server, and what keeps one from renewing keeps others too.
pub const SIDECARS: usize = 20;

/// What a pod said of its certificates.
#[derive(Debug, Default)]
pub struct Told {
    /// `namespace/name`.
    pub pod: String,
    /// Its rows; `None`: it did not answer, or not so.
    pub rows: Option<Value>,
}

/// What the mesh says of what it lives by.
#[derive(Debug, Default)]
pub struct Certificates {
    /// Of the mesh's own pods, and of some with a sidecar.
    pub told: Vec<Told>,
    /// How many pods have a sidecar.
    pub sidecars: usize,
    /// How the authority stands that somebody may bring along.
    pub authority: Option<Value>,
}

/// `now` in Unix seconds.
pub fn verdicts(certificates: &Certificates, now: i64) -> Vec<Finding> {
    let mut all: Vec<_> = certificates.authority.iter().filter_map(authority).collect();
    all.extend(renewed(certificates, now));
    all
}

fn authority(standing: &Value) -> Option<Finding> {
    const WHAT: &str = "Signing";
    let truth = |key: &str| standing.get(key).and_then(Value::as_bool) == Some(true);
    let place = text(standing, "/place");
    if let Some(reason) = standing.get("refused").and_then(Value::as_str) {
        return Some(
            Finding::error(WHAT, format!("{reason} (what signed before signs on)"))
                .remedy("put it right; it is looked at every 10 s, announced, and then signs"),
        );
    }
    match () {
        () if place.is_empty() => None,
        () if truth("announced") => Some(Finding::note(
            WHAT,
            format!("{place} is announced; it signs once everybody had the time to hear of it"),
        )),
        () if truth("signs") => Some(Finding::ok(WHAT, format!("{place} signs"))),
        () => Some(Finding::ok(WHAT, format!("a root of the cluster's own signs; there is no {place}"))),
    }
}

fn renewed(certificates: &Certificates, now: i64) -> Vec<Finding> {
    const WHAT: &str = "Leaves";
    let (mut wrong, mut silent, mut first, mut good) = (vec![], vec![], i64::MAX, 0);
    for told in &certificates.told {
        let Some(rows) = &told.rows else {
            silent.push(told.pod.as_str());
            continue;
        };
        // Of the authority itself its roots say the same.
        for row in list(rows, "").iter().filter(|row| text(row, "/certificate") != "authority") {
            match late(&told.pod, row, now) {
                Some(finding) => wrong.push(finding),
                None => {
                    good += 1;
                    first = first.min(number(row, "not_after") - now);
                }
            }
        }
    }
    if !silent.is_empty() {
        let why = format!("{} do not say when their certificates end", silent.join(", "));
        wrong.push(Finding::note(WHAT, why).remedy("they are of an older release, or do not answer: restart them"));
    }
    if good > 0 {
        let asked = certificates.sidecars.min(SIDECARS);
        let of = format!(
            "{good} are renewed in time, of the mesh's pods and of {asked} of {} sidecars",
            certificates.sidecars
        );
        wrong.push(Finding::ok(WHAT, format!("{of}; the first ends in {}", span(first))));
    }
    wrong
}

fn number(row: &Value, key: &str) -> i64 {
    row.get(key).and_then(Value::as_i64).unwrap_or(0)
}

/// What is wrong with a certificate that should have been renewed by now.
fn late(pod: &str, row: &Value, now: i64) -> Option<Finding> {
    let (begins, ends) = (number(row, "not_before"), number(row, "not_after"));
    let (left, name) = (ends - now, text(row, "/certificate"));
    let (part, whole) = OVERDUE;
    if left.saturating_mul(whole) >= ends.saturating_sub(begins).saturating_mul(part) {
        return None;
    }
    let (namespace, pod_name) = pod.split_once('/').unwrap_or(("isthmus-system", pod));
    let remedy = format!(
        "`kubectl -n {namespace} logs {pod_name} --all-containers` says why it is not renewed; does it reach port 15012 of \
         Service isthmus-control?"
    );
    Some(if left <= 0 {
        let why = format!("the {name} of {pod} ended {} ago: nobody believes it any more", span(-left));
        Finding::error("Leaves", why).remedy(remedy)
    } else {
        let why = format!("the {name} of {pod} ends in {} and should have been renewed", span(left));
        Finding::warning("Leaves", why).remedy(remedy)
    })
}

/// A time as people say it.
fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::finding::Severity;

    const HOUR: i64 = 3600;

    fn of(rows: Option<Value>) -> Vec<Finding> {
        let told = vec![Told { pod: "bookinfo/reviews-1".into(), rows }];
        verdicts(&Certificates { told, sidecars: 30, authority: None }, 100 * HOUR)
    }

    fn leaf(left: i64) -> Option<Value> {
        Some(json!([{ "certificate": "leaf", "not_before": (76 * HOUR + left), "not_after": 100 * HOUR + left }]))
    }

    #[test]
    fn a_leaf_that_should_have_been_renewed_is_told_before_it_ends() {
        let fine = of(leaf(11 * HOUR));
        assert_eq!(fine.len(), 1);
        assert_eq!(fine[0].severity, Severity::Ok);
        assert!(fine[0].why.contains("20 of 30 sidecars; the first ends in 11 h"), "{}", fine[0].why);
        let late = of(leaf(9 * HOUR));
        assert_eq!((late.len(), late[0].severity), (1, Severity::Warning));
        assert!(late[0].why.contains("the leaf of bookinfo/reviews-1 ends in 9 h"), "{}", late[0].why);
        assert!(late[0].remedy.as_deref().unwrap().contains("kubectl -n bookinfo logs reviews-1"));
        let over = of(leaf(-90));
        assert_eq!(over[0].severity, Severity::Error);
        assert!(over[0].why.contains("ended 90 s ago"), "{}", over[0].why);
    }

    #[test]
    fn who_does_not_say_is_named_and_the_authoritys_own_end_is_not_a_leafs() {
        let silent = of(None);
        assert_eq!((silent.len(), silent[0].severity), (1, Severity::Note));
        assert!(silent[0].why.contains("bookinfo/reviews-1"));
        let ca = json!([{ "certificate": "authority", "not_before": 0, "not_after": 101 * HOUR }]);
        assert_eq!(of(Some(ca)), []);
    }

    #[test]
    fn an_authority_that_is_refused_says_why_and_what_signs_is_named() {
        let standing = |signs: bool, announced: bool, refused: Option<&str>| {
            let place = "Secret isthmus-system/cacerts";
            authority(&json!({ "place": place, "signs": signs, "announced": announced, "refused": refused })).unwrap()
        };
        let refused = standing(false, false, Some("Secret isthmus-system/cacerts, entry ca-key.pem: cut"));
        assert!(refused.severity == Severity::Error && refused.why.contains("ca-key.pem: cut (what signed before"));
        assert_eq!(standing(false, true, None).severity, Severity::Note);
        assert_eq!(standing(true, false, None), Finding::ok("Signing", "Secret isthmus-system/cacerts signs"));
        assert!(standing(false, false, None).why.contains("of the cluster's own"));
        assert_eq!(authority(&Value::Null), None);
    }
}
