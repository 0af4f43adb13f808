//! Verbs as operators do them at the desk, and take them back.

use isthmus_core::{
    failover::verb::{self, DEFAULT_FOR, Deed, Ended, Verb},
    name::ClusterName,
};

use super::{Desk, unix_ms};
use crate::{
    failover::doubts,
    handle::{Back, Done, TakenBack, Wish},
};

/// Who takes something back and does not say who.
const NOBODY: &str = "somebody who did not say who";

impl Desk {
    /// An operator does something for a while: in force here at once, said to the others, in the log when there is a
    /// quorum.
    pub(super) fn wish(&mut self, wish: Wish) -> Result<Done, String> {
        self.acts()?;
        let Wish { deed, lasts, by, reason } = wish;
        self.may(&deed)?;
        let (lasts, at_ms) = (lasts.unwrap_or(DEFAULT_FOR), unix_ms());
        let (elapsed, ended) = Default::default();
        let verb = Verb { name: deed.name(), deed, lasts, by, reason, at_ms, elapsed, ended };
        verb.check().map_err(|nonsense| nonsense.to_string())?;
        let (others, free) = self.bound(&verb.deed);
        let binds = std::iter::once(self.setting.cluster.clone()).chain(others).collect();
        let doubts = doubts::of(&verb.deed, &self.failover.steersman, &self.compiled.orders, &self.decider);
        let (name, quorum) = (verb.name.clone(), self.has_quorum());
        tracing::info!(verb = %verb.deed, by = verb.by, reason = verb.reason, quorum, "an operator acts");
        self.failover.verbs.add(verb);
        self.look_at_verbs();
        self.keep();
        self.tell_deeds();
        Ok(Done { name, local: true, quorum, binds, free, doubts })
    }

    /// What was heard of a quorum last says nothing without the member that would have to write.
    fn has_quorum(&self) -> bool {
        self.federation.quorum && self.speaker.member
    }

    /// The other members that a deed done here binds, and those that it does not.
    fn bound(&self, deed: &Deed) -> (Vec<ClusterName>, Vec<ClusterName>) {
        let world = self.world.clone().unwrap_or_default();
        let bound = |cluster: &ClusterName| verb::binds(deed, &self.setting.cluster, &world.bound_by(cluster));
        world.members.keys().cloned().partition(bound)
    }

    /// Whether what it is about is there. Whom it binds is told: it always binds the cluster that it is done in.
    fn may(&self, deed: &Deed) -> Result<(), String> {
        let own = &self.setting.cluster;
        self.is_member(deed.cluster())?;
        if let Deed::Evacuate { service, .. } | Deed::Pin { service, .. } = deed
            && !self.compiled.orders.contains_key(service)
        {
            return Err(format!("{own} knows no service {service}; `isthmus services` lists those it knows"));
        }
        Ok(())
    }

    fn is_member(&self, cluster: &ClusterName) -> Result<(), String> {
        let own = &self.setting.cluster;
        let world = self.world.clone().unwrap_or_default();
        if cluster == own || world.members.contains_key(cluster) {
            return Ok(());
        }
        let known = world.members.keys().chain([own]).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(format!("no cluster {cluster} is a member of this mesh; there are {known}"))
    }

    /// An operator takes a verb back: over here at once, and its end is said to the others with who and why.
    pub(super) fn take_back(&mut self, name: &str, back: Back) -> Result<TakenBack, String> {
        self.acts()?;
        verb::check_text("the reason", &back.reason).map_err(|nonsense| nonsense.to_string())?;
        verb::check_text("who takes it back", &back.by).map_err(|nonsense| nonsense.to_string())?;
        let by = if back.by.is_empty() { NOBODY.to_owned() } else { back.by };
        let now = self.moment().now;
        let of = self.failover.verbs.list(now).find(|one| one.writer == &self.setting.cluster && one.verb.name == name);
        let of = of.map(|one| (one.verb.deed.clone(), one.verb.lasts.saturating_sub(one.elapsed).as_secs()));
        let ended = Ended { by: Some(by.clone()), reason: back.reason.clone() };
        if !self.failover.verbs.take_back(name, ended) {
            return Err(self.is_not_here(name));
        }
        tracing::info!(verb = name, by, reason = back.reason, "an operator takes a verb back");
        let (still, ends_in_seconds) = of.map(|(deed, rest)| (self.bound(&deed).0, rest)).unwrap_or_default();
        self.look_at_verbs();
        self.changed();
        self.keep();
        self.tell_deeds();
        Ok(TakenBack { name: name.to_owned(), local: true, quorum: self.has_quorum(), still, ends_in_seconds })
    }

    /// Why a verb cannot be taken back here.
    fn is_not_here(&self, name: &str) -> String {
        let (own, verbs) = (&self.setting.cluster, &self.failover.verbs);
        if let Some(ended) = verbs.own_named(name).and_then(|verb| verb.ended.as_ref()) {
            let how = ended
                .by
                .as_ref()
                .map_or_else(|| "is over already".into(), |by| format!("was taken back already by {by}"));
            let heard = if verbs.is_written(name) { "" } else { "; others may not have heard of it yet" };
            return format!("{name} {how} in {own}{heard}");
        }
        if let Some(writer) = verbs.writer_of(name) {
            return format!("{name} was done in {writer}; take it back there, with --at {writer}");
        }
        let cluster = ["drain-", "drill-"].iter().find_map(|of| name.strip_prefix(of)?.parse::<ClusterName>().ok());
        let is_none = format!("no {name} is in force in {own}; `isthmus failover verbs` lists what is");
        cluster.and_then(|cluster| self.is_member(&cluster).err()).unwrap_or(is_none)
    }
}
