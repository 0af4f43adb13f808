//! One other cluster: its tunnels, and how the path to it stands because of them.

use std::{sync::Arc, time::Instant};

use super::{Detail, Told, View};
use crate::{
    path::{Path, Seen, State},
    trouble::Troubles,
    tunnel::Tunnel,
};

/// Why a path is down whose tunnels did not end yet.
const SILENT: &str = "no answer comes on its tunnels";

#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Whether the table has it.
    pub(super) known: bool,
    /// Whether it says where its gateways are.
    pub(super) named: bool,
    /// Whether a tunnel was ever dialled to where it says: from then on streams go by those alone.
    pub(super) reached: bool,
    /// `None`: there was no way to it yet that could be judged.
    pub(super) path: Option<Path>,
    /// When anything was heard on a tunnel that streams go by.
    pub(super) heard: Option<Instant>,
    pub(super) tunnels: Vec<Arc<Tunnel>>,
    /// Why there is no way, until there is one.
    pub(super) troubles: Troubles,
}

impl Peer {
    pub(super) fn expect(&mut self, named: bool, now: Instant) {
        (self.known, self.named) = (true, named);
        self.reached &= named;
        if named || !self.tunnels.is_empty() {
            self.path.get_or_insert_with(|| Path::new(now));
        }
    }

    pub(super) fn up(&mut self, tunnel: Arc<Tunnel>, now: Instant) {
        self.reached |= self.named && tunnel.label.dialled;
        let place = self.tunnels.partition_point(|one| one.label.dialled >= tunnel.label.dialled);
        self.tunnels.insert(place, tunnel);
        if self.known {
            self.path.get_or_insert_with(|| Path::new(now));
        }
    }

    pub(super) fn carries(&self, tunnel: &Tunnel) -> bool {
        tunnel.label.dialled || !self.reached
    }

    /// The tunnels that streams go by.
    fn carriers(&self) -> impl Iterator<Item = &Arc<Tunnel>> {
        self.tunnels.iter().filter(|tunnel| self.carries(tunnel))
    }

    /// Them, with how each is. One whose gateway drains is as good as before until another is up:
    /// what leads over it is not sent away before there is somewhere to go.
    fn seen(&self, now: Instant) -> Vec<(&Arc<Tunnel>, Seen)> {
        let has_other = self.carriers().any(|tunnel| tunnel.seen(now) == Seen::Up);
        let of = |tunnel: &Tunnel| match tunnel.seen(now) {
            Seen::Draining if !has_other && tunnel.still_takes(now) => Seen::Up,
            seen => seen,
        };
        self.carriers().map(|tunnel| (tunnel, of(tunnel))).collect()
    }

    /// Tunnels that take new streams.
    pub(super) fn usable(&self, now: Instant) -> impl Iterator<Item = &Arc<Tunnel>> {
        self.seen(now).into_iter().filter(|(_, seen)| *seen == Seen::Up).map(|(tunnel, _)| tunnel)
    }

    pub(super) fn judge(&mut self, now: Instant) {
        self.tunnels.iter().for_each(|tunnel| tunnel.listen(now));
        self.heard = self.heard(now);
        let seen: Vec<_> = self.seen(now).into_iter().map(|(_, seen)| seen).collect();
        if let Some(path) = &mut self.path {
            path.judge(seen, now);
            if path.state() == State::Up {
                self.troubles.clear();
            }
        }
    }

    /// `None`: not yet. By a gateway that no tunnel of a cluster ever led to, whose gateways nobody can dial, no stream goes.
    pub(super) fn told(&self, now: Instant) -> Option<Told> {
        let state = match &self.path {
            Some(path) => path.is_settled().then(|| path.state())?,
            None => self.known.then_some(State::Lost)?,
        };
        let tunnels = self.seen(now).into_iter().chain(self.left(now));
        let tunnels = tunnels.map(|(tunnel, seen)| (tunnel.label.id.clone(), seen)).collect();
        Some(Told { view: View { state, rtt_us: self.rtt_us() }, tunnels })
    }

    /// Tunnels that carried while there were no others: nothing new goes by them, and what is under way ends there.
    fn left(&self, now: Instant) -> impl Iterator<Item = (&Arc<Tunnel>, Seen)> {
        let left = self.tunnels.iter().filter(|tunnel| !self.carries(tunnel) && tunnel.opened() > 0);
        left.map(move |tunnel| (tunnel, tunnel.seen(now).max(Seen::Draining)))
    }

    /// When anything was heard on a tunnel that streams go by. as far as is known at `now`.
    fn heard(&self, now: Instant) -> Option<Instant> {
        self.carriers().map(|tunnel| tunnel.heard()).chain(self.heard).max().map(|heard| heard.min(now))
    }

    fn rtt_us(&self) -> u64 {
        let best = self.carriers().map(|tunnel| tunnel.rtt().as_micros()).min().unwrap_or(0);
        u64::try_from(best).unwrap_or(u64::MAX)
    }

    pub(super) fn detail(&self, now: Instant) -> Option<Detail> {
        let state = self.path.as_ref().filter(|path| path.is_settled())?.state();
        let seen = self.seen(now);
        let count = u64::try_from(seen.len()).unwrap_or(1).max(1);
        let loss = seen.iter().map(|(tunnel, _)| u64::from(tunnel.loss_ppm())).sum::<u64>() / count;
        let silent = self.heard(now).map_or(0, |heard| now.saturating_duration_since(heard).as_millis());
        let up = seen.iter().filter(|(_, seen)| *seen != Seen::Suspect).count();
        Some(Detail {
            view: View { state, rtt_us: self.rtt_us() },
            loss_ppm: u32::try_from(loss).unwrap_or(u32::MAX),
            silent_ms: u64::try_from(silent).unwrap_or(u64::MAX),
            tunnels: u32::try_from(up).unwrap_or(u32::MAX),
            why: self.why(state),
        })
    }

    fn why(&self, state: State) -> String {
        match (state, self.troubles.told()) {
            (State::Up, _) => String::new(),
            (_, Some(told)) => told.to_owned(),
            (State::Suspect | State::Lost, None) if !self.tunnels.is_empty() => SILENT.into(),
            (_, None) => String::new(),
        }
    }
}
