//! By which certificates the leaves of a cluster are believed: the one that signs, one that is about to, and those that
//! signed until a while ago, as long as leaves of theirs live. In `anchors.json`, because a control that restarts must go
//! on believing what it issued.
//!
//! Replicas of control have one list. Each raises the ends of what it signs with and of what it announces, and of two lists
//! the union counts, of each certificate with its later end: so nothing that somebody raised is lost, in whatever order
//! lists come, and what nobody raises any more ends.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_runtime::disk;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::CaError;

/// The file.
pub(crate) const FILE: &str = "anchors.json";
/// Layout of the file.
const LAYOUT: u32 = 1;
/// Most that are kept, as many as others believe of one domain (`runtime::trust`); what ends first goes first.
const MOST: usize = 16;
/// Ends are raised in time: looks at them are some seconds apart, and clocks of replicas differ a little.
const MARGIN: Duration = Duration::from_secs(60);
/// Ends are raised by so much of a leaf's life at once, since each raise is a write that all replicas read.
const RAISE: u32 = 24;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    certificate: String,
    /// Unix seconds until which leaves of it may live.
    #[serde(default)]
    until: Option<u64>,
}

/// The certificates by their ends, the last first: what signs ends after all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct List(Vec<(String, u64)>);

impl List {
    fn of(ends: BTreeMap<String, u64>) -> Self {
        let mut all: Vec<_> = ends.into_iter().collect();
        all.sort_by_key(|(certificate, until)| (Reverse(*until), certificate.clone()));
        all.truncate(MOST);
        Self(all)
    }

    fn ends(&self) -> BTreeMap<String, u64> {
        self.0.iter().cloned().collect()
    }

    /// What either has, each with its later end.
    fn merged(&self, other: &Self) -> Self {
        let mut ends = self.ends();
        for (certificate, until) in &other.0 {
            let end = ends.entry(certificate.clone()).or_default();
            *end = (*end).max(*until);
        }
        Self::of(ends)
    }

    /// The same, with a certificate that ends at `end` where it ended before `least`.
    fn raised(&self, certificate: &str, least: u64, end: u64) -> Self {
        let mut ends = self.ends();
        let known = ends.entry(certificate.to_owned()).or_default();
        if *known < least {
            *known = end;
        }
        Self::of(ends)
    }

    /// The same, with a certificate that ends after all others.
    fn led_by(&self, certificate: &str) -> Self {
        let last = self.0.iter().filter(|(other, _)| other != certificate).map(|(_, until)| *until).max();
        let least = last.map_or(0, |last| last.saturating_add(1));
        self.raised(certificate, least, least)
    }

    fn alive(&self, now: u64) -> Self {
        Self(self.0.iter().filter(|(_, until)| *until > now).cloned().collect())
    }
}

/// The certificates, the one that signs first.
pub(crate) struct Anchors {
    file: PathBuf,
    list: List,
    /// How long leaves live after the last was signed.
    leaf_life: Duration,
}

impl Anchors {
    pub(crate) fn open(dir: &Path, leaf_life: Duration, now: SystemTime) -> Result<Self, CaError> {
        let mut all = Self { file: dir.join(FILE), list: List::default(), leaf_life };
        if let Some(bytes) = disk::read(&all.file)? {
            all.list = all.parse(&bytes, now)?;
        }
        Ok(all)
    }

    /// One that is about to sign; refused where there is no place for it.
    pub(crate) fn coming(&mut self, der: &CertificateDer<'_>, now: SystemTime) -> Result<(), CaError> {
        let certificate = STANDARD.encode(der);
        let (least, end) = (unix(now + self.leaf_life / 2), unix(now + self.leaf_life));
        let list = self.list.raised(&certificate, least, end);
        if list.0.iter().all(|(known, _)| *known != certificate) {
            return Err(CaError::Crowded { most: MOST });
        }
        self.put(list)
    }

    /// The one that signs from now on, or still.
    pub(crate) fn signing(&mut self, der: &CertificateDer<'_>, now: SystemTime) -> Result<(), CaError> {
        let certificate = STANDARD.encode(der);
        let needed = self.leaf_life + MARGIN;
        let raise = (self.leaf_life / RAISE).max(Duration::from_secs(1));
        let list = self.list.raised(&certificate, unix(now + needed), unix(now + needed + raise));
        self.put(list.led_by(&certificate))
    }

    /// Lets go of those whose leaves are over.
    pub(crate) fn forget(&mut self, now: SystemTime) -> Result<(), CaError> {
        self.put(self.list.alive(unix(now)))
    }

    /// Takes what another list has and this one has not. What is over is over, whoever still has it.
    pub(crate) fn merge(&mut self, bytes: &[u8], now: SystemTime) -> Result<(), CaError> {
        let other = self.parse(bytes, now)?;
        self.put(self.list.merged(&other.alive(unix(now))))
    }

    fn put(&mut self, list: List) -> Result<(), CaError> {
        if list != self.list {
            disk::write_atomic(&self.file, &bytes(&self.file, &list)?)?;
        }
        self.list = list;
        Ok(())
    }

    /// As the file has it.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, CaError> {
        bytes(&self.file, &self.list)
    }

    pub(crate) fn all(&self) -> Vec<CertificateDer<'static>> {
        let der = |(text, _): &(String, u64)| STANDARD.decode(text).ok();
        self.list.0.iter().filter_map(der).map(CertificateDer::from).collect()
    }

    /// Files of earlier builds say no end of what signs.
    fn parse(&self, bytes: &[u8], now: SystemTime) -> Result<List, CaError> {
        let kept: Vec<Kept> = disk::parse_versioned(&self.file, LAYOUT, bytes)?;
        let unsaid = unix(now + self.leaf_life);
        Ok(List::of(kept.into_iter().map(|one| (one.certificate, one.until.unwrap_or(unsaid))).collect()))
    }
}

fn bytes(file: &Path, list: &List) -> Result<Vec<u8>, CaError> {
    let kept = |(certificate, until): &(String, u64)| Kept { certificate: certificate.clone(), until: Some(*until) };
    Ok(disk::versioned(file, LAYOUT, &list.0.iter().map(kept).collect::<Vec<_>>())?)
}

/// The union of two files; `None`: one of them is none.
pub(crate) fn merged(here: &[u8], there: &[u8]) -> Option<Vec<u8>> {
    let file = Path::new(FILE);
    // Of what says no end its own replica knows it.
    let list = |bytes: &[u8]| {
        let kept: Vec<Kept> = disk::parse_versioned(file, LAYOUT, bytes).ok()?;
        let ends = kept.into_iter().map(|one| (one.certificate, one.until.unwrap_or_default()));
        Some(List::of(ends.collect()))
    };
    bytes(file, &list(here)?.merged(&list(there)?)).ok()
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFE: Duration = Duration::from_secs(2400);

    fn der(byte: u8) -> CertificateDer<'static> {
        CertificateDer::from(vec![byte])
    }

    #[test]
    fn what_signed_is_believed_as_long_as_leaves_of_it_live_over_a_restart_too() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let open = || Anchors::open(dir.path(), LIFE, now).unwrap();
        let [old, new] = [1, 2].map(der);
        let mut anchors = open();
        anchors.signing(&old, now).unwrap();
        assert_eq!(open().all(), std::slice::from_ref(&old));
        anchors.coming(&new, now).unwrap();
        assert_eq!(open().all(), [old.clone(), new.clone()]);
        anchors.signing(&new, now).unwrap();
        let mut again = open();
        assert_eq!(again.all(), [new.clone(), old]);
        again.forget(now + LIFE).unwrap();
        again.signing(&new, now + LIFE).unwrap();
        assert_eq!(again.all().len(), 2);
        again.forget(now + LIFE * 2).unwrap();
        assert_eq!(open().all(), [new]);
    }

    #[test]
    fn what_signs_is_raised_now_and_then_and_always_ends_after_its_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let start = SystemTime::now();
        let mut anchors = Anchors::open(dir.path(), LIFE, start).unwrap();
        let mut written = std::collections::BTreeSet::new();
        for seconds in (0..2400).step_by(10) {
            let now = start + Duration::from_secs(seconds);
            anchors.signing(&der(1), now).unwrap();
            assert!(anchors.list.0[0].1 > unix(now + LIFE + Duration::from_secs(10)));
            written.insert(anchors.bytes().unwrap());
        }
        assert!((2..=24).contains(&written.len()), "{}", written.len());
    }

    #[test]
    fn one_more_than_there_is_place_for_is_refused_and_the_one_that_signs_stays() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let mut anchors = Anchors::open(dir.path(), LIFE, now).unwrap();
        for byte in 0..u8::try_from(MOST).unwrap() {
            anchors.signing(&der(byte), now).unwrap();
        }
        let before = anchors.all();
        assert!(matches!(anchors.coming(&der(99), now), Err(CaError::Crowded { .. })));
        assert_eq!(anchors.all(), before);
        assert_eq!(before[0], der(15));
    }

    #[test]
    fn a_file_of_an_earlier_build_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"version":1,"body":[{"certificate":"AQ=="},{"certificate":"Ag==","until":9}]}"#;
        std::fs::write(dir.path().join(FILE), text).unwrap();
        let mut anchors = Anchors::open(dir.path(), LIFE, SystemTime::now()).unwrap();
        assert_eq!(anchors.all(), [der(1), der(2)]);
        anchors.forget(SystemTime::now()).unwrap();
        assert_eq!(anchors.all(), [der(1)]);
    }

    fn lists() -> impl Strategy<Value = List> {
        // More certificates than are kept, and ends that are equal now and then.
        proptest::collection::btree_map(0u8..24, 1u64..30, 0..24)
            .prop_map(|ends| List::of(ends.into_iter().map(|(byte, end)| (format!("c{byte}"), end)).collect()))
    }

    proptest! {
        #[test]
        fn in_whatever_order_lists_come_the_outcome_is_the_same(a in lists(), b in lists(), c in lists()) {
            prop_assert_eq!(a.merged(&b), b.merged(&a));
            prop_assert_eq!(a.merged(&b).merged(&c), a.merged(&b.merged(&c)));
            prop_assert_eq!(a.merged(&a), a.clone());
            prop_assert_eq!(a.merged(&b).merged(&b), a.merged(&b));
        }

        #[test]
        fn nothing_is_lost_and_no_end_goes_back_but_for_want_of_place(a in lists(), b in lists()) {
            let (merged, both) = (a.merged(&b), [&a.0[..], &b.0[..]].concat());
            let lost = |(name, end): &&(String, u64)| !merged.0.iter().any(|(other, until)| other == name && until >= end);
            for (_, end) in both.iter().filter(lost) {
                prop_assert!(merged.0.len() == MOST && merged.0.iter().all(|(_, until)| until >= end));
            }
        }

        #[test]
        fn what_signs_leads_and_only_it_changes(a in lists(), byte in 0u8..24) {
            let name = format!("c{byte}");
            let led = a.led_by(&name);
            prop_assert_eq!(&led.0[0].0, &name);
            for one in led.0.iter().skip(1) {
                prop_assert!(a.0.contains(one) && one.1 < led.0[0].1);
            }
        }
    }
}
