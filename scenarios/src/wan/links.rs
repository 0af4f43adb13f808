//! All links of a network: the router asks them for verdicts, commands and tests change them while it runs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use isthmus_core::name::ClusterName;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub use super::counts::Counts;
use super::{
    link::{Link, Packet, Reason, Verdict},
    settings::{Change, Settings},
};

/// One end of links: a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its name.
    pub name: ClusterName,
    /// Its number in the address plan.
    pub number: u8,
}

/// One direction of a link as it is now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// From this cluster.
    pub from: ClusterName,
    /// To this one.
    pub to: ClusterName,
    /// How it treats packets.
    pub settings: Settings,
    /// It is not what it was when the network was raised.
    pub changed: bool,
    /// What became of them.
    pub counts: Counts,
    /// What decides all that is random in the network.
    #[serde(default)]
    pub seed: u64,
}

/// Which links are meant: all, those of one cluster, those between two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// One end; none: every link.
    pub one: Option<ClusterName>,
    /// The other end; none: every other cluster.
    pub other: Option<ClusterName>,
    /// Only from the one to the other.
    #[serde(default)]
    pub one_way: bool,
}

struct Cell {
    link: Link,
    raised: Settings,
    counts: Counts,
}

/// All links of a network.
pub struct Links {
    begun: Instant,
    seed: u64,
    ends: Vec<End>,
    cells: Mutex<BTreeMap<(u8, u8), Cell>>,
}

impl Links {
    /// One each way between any two ends, as `like` says; `seed` decides all that is random.
    #[must_use]
    pub fn new(seed: u64, ends: Vec<End>, like: impl Fn(&End, &End) -> Settings) -> Self {
        let mut cells = BTreeMap::new();
        for from in &ends {
            for to in ends.iter().filter(|to| to.number != from.number) {
                let own = seed ^ (u64::from(from.number) << 40) ^ (u64::from(to.number) << 48);
                let raised = like(from, to);
                let link = Link::new(own, raised);
                cells.insert((from.number, to.number), Cell { link, raised, counts: Counts::default() });
            }
        }
        Self { begun: Instant::now(), seed, ends, cells: Mutex::new(cells) }
    }

    /// The links' time.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A packet comes from one end to another. `None`: there is no such link.
    pub(super) fn offer(&self, now: Duration, from: u8, to: u8, packet: Packet) -> Option<Verdict> {
        let mut cells = self.cells.lock();
        let cell = cells.get_mut(&(from, to))?;
        let verdict = cell.link.offer(now, packet);
        let counter = match verdict {
            Verdict::Arrives(_) => &mut cell.counts.under_way,
            Verdict::Dropped(why) => cell.counts.dropped(why),
        };
        *counter += 1;
        Some(verdict)
    }

    /// A packet was dropped before its link saw it.
    pub(super) fn refused(&self, from: u8, to: u8, why: Reason) {
        if let Some(cell) = self.cells.lock().get_mut(&(from, to)) {
            *cell.counts.dropped(why) += 1;
        }
    }

    /// A packet has come to the end of its way: whether it is handed over. A cut holds back what is under way too, so
    /// that nothing arrives after it.
    pub(super) fn ends(&self, from: u8, to: u8) -> bool {
        let mut cells = self.cells.lock();
        let Some(cell) = cells.get_mut(&(from, to)) else { return false };
        cell.counts.under_way = cell.counts.under_way.saturating_sub(1);
        if cell.link.settings().cut {
            cell.counts.cut += 1;
            return false;
        }
        true
    }

    /// It was handed over; whether the device at the other end took it.
    pub(super) fn arrived(&self, from: u8, to: u8, bytes: usize, taken: bool) {
        let mut cells = self.cells.lock();
        let Some(Cell { counts, .. }) = cells.get_mut(&(from, to)) else { return };
        if taken {
            counts.passed += 1;
            counts.passed_bytes += bytes as u64;
        } else {
            counts.untaken += 1;
        }
    }

    /// The largest packet of a link.
    pub(super) fn largest(&self, from: u8, to: u8) -> u16 {
        self.cells.lock().get(&(from, to)).map_or(u16::MAX, |cell| cell.link.settings().largest())
    }

    /// Changes the links that are meant, all of them or none; how many directions that were.
    ///
    /// # Errors
    /// When a cluster is not there, or a link cannot be like this.
    pub fn change(&self, scope: &Scope, change: &Change) -> Result<usize> {
        self.set(scope, |cell| cell.link.settings().after(change))
    }

    /// Makes the links that are meant what they were when the network was raised.
    ///
    /// # Errors
    /// When a cluster is not there.
    pub fn heal(&self, scope: &Scope) -> Result<usize> {
        self.set(scope, |cell| Ok(cell.raised))
    }

    fn set(&self, scope: &Scope, wanted: impl Fn(&Cell) -> Result<Settings>) -> Result<usize> {
        let meant = self.meant(scope)?;
        let now = self.now();
        let mut cells = self.cells.lock();
        let new = meant.iter().filter_map(|pair| cells.get(pair)).map(wanted).collect::<Result<Vec<_>>>()?;
        for (pair, settings) in meant.iter().zip(new) {
            if let Some(cell) = cells.get_mut(pair) {
                cell.link.set(now, settings);
            }
        }
        Ok(meant.len())
    }

    fn meant(&self, scope: &Scope) -> Result<Vec<(u8, u8)>> {
        let (one, other) = (self.number(scope.one.as_ref())?, self.number(scope.other.as_ref())?);
        if one.is_none() && (other.is_some() || scope.one_way) {
            bail!("one way of a link is that from a cluster to others: name it");
        }
        if one.is_some() && one == other {
            bail!(
                "a link has two ends, and {} is one; name another cluster",
                scope.one.as_ref().map_or("", |n| n.as_str())
            );
        }
        let ends = |from: u8, to: u8| one.is_none_or(|one| one == from) && other.is_none_or(|other| other == to);
        let cells = self.cells.lock();
        let pairs = cells.keys().copied();
        Ok(pairs.filter(|(from, to)| ends(*from, *to) || !scope.one_way && ends(*to, *from)).collect())
    }

    fn number(&self, name: Option<&ClusterName>) -> Result<Option<u8>> {
        let Some(name) = name else { return Ok(None) };
        match self.ends.iter().find(|end| end.name == *name) {
            Some(end) => Ok(Some(end.number)),
            None => {
                let names = self.ends.iter().map(|end| end.name.as_str()).collect::<Vec<_>>().join(", ");
                bail!("no cluster {name} in this network; there are {names}")
            }
        }
    }

    /// Every direction as it is now.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let name = |number: u8| self.ends.iter().find(|end| end.number == number).map(|end| end.name.clone());
        let cells = self.cells.lock();
        let row = |(&(from, to), cell): (&(u8, u8), &Cell)| {
            let settings = *cell.link.settings();
            let changed = settings != cell.raised;
            Some(Row { from: name(from)?, to: name(to)?, settings, changed, counts: cell.counts, seed: self.seed })
        };
        cells.iter().filter_map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wan::link::Protocol;

    fn links() -> Links {
        let end = |(name, number): (&str, u8)| End { name: name.parse().unwrap(), number };
        let like = |_: &End, _: &End| Settings { delay_us: 5, ..Settings::default() };
        Links::new(1, [("east", 1), ("west", 2), ("north", 3)].map(end).to_vec(), like)
    }

    fn scope(one: &str, other: &str, one_way: bool) -> Scope {
        let name = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        Scope { one: name(one), other: name(other), one_way }
    }

    fn cut(links: &Links) -> Vec<String> {
        let cut = links.rows().into_iter().filter(|row| row.settings.cut);
        cut.map(|row| format!("{}>{}", row.from, row.to)).collect()
    }

    #[test]
    fn a_scope_means_a_pair_one_way_of_it_all_of_a_cluster_or_everything() {
        let links = links();
        let after = |scope| {
            links.heal(&Scope::default()).unwrap();
            links.change(&scope, &Change::cut()).unwrap();
            cut(&links)
        };
        assert_eq!(after(scope("west", "east", false)), ["east>west", "west>east"]);
        assert_eq!(after(scope("west", "east", true)), ["west>east"]);
        assert_eq!(after(scope("north", "", false)), ["east>north", "west>north", "north>east", "north>west"]);
        assert_eq!(after(scope("north", "", true)), ["north>east", "north>west"]);
        assert_eq!(after(scope("", "", false)).len(), 6);
        links.heal(&scope("west", "", false)).unwrap();
        assert_eq!(cut(&links), ["east>north", "north>east"]);
        assert_eq!(links.rows()[0].settings, Settings { delay_us: 5, ..Settings::default() });
    }

    #[test]
    fn who_is_not_there_is_named_beside_those_who_are_and_nothing_changes() {
        let links = links();
        let refused = |scope, change| links.change(&scope, &change).unwrap_err().to_string();
        assert_eq!(
            refused(scope("west", "south", false), Change::cut()),
            "no cluster south in this network; there are east, west, north"
        );
        assert!(refused(scope("west", "west", false), Change::cut()).contains("name another"));
        assert!(refused(scope("", "", true), Change::cut()).contains("name it"));
        refused(Scope::default(), Change { loss: Some(3.0), cut: Some(true), ..Change::default() });
        assert!(cut(&links).is_empty());
    }

    #[test]
    fn every_packet_is_counted_once_and_a_cut_stops_what_is_under_way() {
        let links = links();
        let packet = Packet { bytes: 100, protocol: Protocol::Tcp };
        let count = || links.rows()[0].counts;
        assert!(matches!(links.offer(Duration::ZERO, 1, 2, packet), Some(Verdict::Arrives(_))));
        assert!(matches!(links.offer(Duration::ZERO, 1, 2, packet), Some(Verdict::Arrives(_))));
        assert_eq!(count().under_way, 2);
        assert!(links.ends(1, 2));
        links.arrived(1, 2, 100, true);
        links.change(&scope("east", "west", true), &Change::cut()).unwrap();
        assert!(!links.ends(1, 2));
        links.offer(Duration::ZERO, 1, 2, packet).unwrap();
        assert_eq!(count(), Counts { passed: 1, passed_bytes: 100, cut: 2, ..Counts::default() });
        assert!(links.offer(Duration::ZERO, 1, 9, packet).is_none());
    }

    #[test]
    fn what_no_link_saw_and_what_no_device_took_has_not_passed_and_is_counted() {
        let links = links();
        [Reason::Overrun, Reason::Closed, Reason::Foreign].into_iter().for_each(|why| links.refused(1, 2, why));
        links.offer(Duration::ZERO, 1, 2, Packet { bytes: 100, protocol: Protocol::Tcp });
        assert!(links.ends(1, 2));
        links.arrived(1, 2, 100, false);
        let row = &links.rows()[0];
        assert_eq!(row.counts, Counts { overrun: 1, closed: 1, foreign: 1, untaken: 1, ..Counts::default() });
        assert_eq!(row.seed, 1);
    }
}
