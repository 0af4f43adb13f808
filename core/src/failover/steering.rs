//! All of it for one service in one importing cluster: from the order, what is seen and what was before to each
//! cluster's share; why, since when, and what would change it. Decide every [`super::BEAT`].

mod settled;
mod words;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use self::words::Told;
use super::{
    breaker::{self, Breaker, Verdict},
    climb::{Climb, Least},
    order::{Member, Order},
    policy::{Failback, FailoverPolicy, WhenNothingHealthy},
    shares::{self, Place, Strength, tier_share},
    window::Window,
};
use crate::{model::Standing, name::ClusterName};

/// What is seen of a cluster now.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight<'a> {
    /// The judge left it.
    pub left: bool,
    /// How it stands, and why, in the judge's words.
    pub standing: (Standing, &'a str),
    /// What verbs leave of it, 0 to 1, and which one leaves least.
    pub verbs: (f64, &'a str),
    /// What requests to it showed.
    pub window: &'a Window,
}

/// A tier, decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// For people.
    pub name: String,
    /// The part it takes of the requests that reach it, 0 to 1.
    pub share: f64,
    /// Its clusters.
    pub members: Vec<Steered>,
}

/// A cluster, decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Steered {
    /// As in the order.
    pub member: Member,
    /// Its share, 0 to 1.
    pub share: f64,
    /// Why.
    pub why: String,
    /// What would change it; empty: nothing is wrong.
    pub next: String,
    /// Since when it is for this reason.
    pub since: Duration,
}

/// What lies behind a share: the first that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Verb,
    Left,
    Empty,
    TooFew,
    Requests,
    Unhealthy,
    Held,
    Waiting,
    Returning,
    Fine,
}

/// What a cluster's share still waits for, in durations: kept over a restart, whose clock begins anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wait {
    /// What its requests showed.
    breaker: breaker::Kept,
    /// When its path was lost: seconds ago, and the share it was left.
    path: Vec<(u64, f64)>,
    /// When it was in other trouble.
    trouble: Vec<(u64, f64)>,
}

#[derive(Clone, Debug)]
struct Course {
    climb: Climb,
    breaker: Breaker,
    path: Least,
    trouble: Least,
    cause: Option<Cause>,
    since: Duration,
    share: f64,
    /// When it was decided last.
    at: Duration,
    /// What an earlier run kept: it lasts from the first decision on.
    kept: Option<Wait>,
}

impl Course {
    fn new(climb: Climb, share: f64, kept: Option<Wait>) -> Self {
        let (breaker, path, trouble, since, at) = Default::default();
        Self { climb, breaker, path, trouble, cause: None, since, share, at, kept }
    }

    fn wait(&self) -> Wait {
        self.kept.clone().unwrap_or_else(|| Wait {
            breaker: self.breaker.kept(self.at),
            path: self.path.kept(self.at),
            trouble: self.trouble.kept(self.at),
        })
    }

    fn go_on(&mut self, now: Duration) {
        self.at = now;
        if let Some(kept) = self.kept.take() {
            self.breaker = Breaker::restored(now, kept.breaker);
            self.path = Least::restored(now, &kept.path);
            self.trouble = Least::restored(now, &kept.trouble);
        }
    }
}

/// One service's.
#[derive(Clone, Debug, Default)]
pub struct Steering {
    courses: BTreeMap<ClusterName, Course>,
}

impl Steering {
    /// With the shares that an earlier run gave and what they wait for: a restart moves nothing.
    #[must_use]
    pub fn restored(shares: &BTreeMap<ClusterName, f64>, mut waits: BTreeMap<ClusterName, Wait>) -> Self {
        let course = |(name, share): (&ClusterName, &f64)| {
            (name.clone(), Course::new(Climb::restored(*share), *share, waits.remove(name)))
        };
        Self { courses: shares.iter().map(course).collect() }
    }

    /// What to keep for the next run.
    #[must_use]
    pub fn shares(&self) -> BTreeMap<ClusterName, f64> {
        self.courses.iter().map(|(name, course)| (name.clone(), course.share)).collect()
    }

    /// What to keep beside the shares, of each cluster that waits for something.
    #[must_use]
    pub fn waits(&self) -> BTreeMap<ClusterName, Wait> {
        let all = self.courses.iter().map(|(name, course)| (name.clone(), course.wait()));
        all.filter(|(_, wait)| *wait != Wait::default()).collect()
    }

    /// Decides.
    pub fn decide<'a>(
        &mut self,
        now: Duration,
        order: &Order,
        policy: &FailoverPolicy,
        sight: impl Fn(&ClusterName) -> Sight<'a>,
    ) -> Vec<Tier> {
        let is_member =
            |name: &ClusterName| order.tiers.iter().flat_map(|tier| &tier.members).any(|one| one.cluster == *name);
        self.courses.retain(|name, _| is_member(name));
        let tier = |tier: &super::order::Tier| {
            let members: Vec<_> = tier
                .members
                .iter()
                .map(|member| {
                    let course = self
                        .courses
                        .entry(member.cluster.clone())
                        .or_insert_with(|| Course::new(Climb::default(), 0.0, None));
                    course.decide(now, member, policy, &sight(&member.cluster))
                })
                .collect();
            Tier::of(&tier.name, members, policy.leave.healthy_share)
        };
        order.tiers.iter().map(tier).collect()
    }
}

impl Tier {
    /// With the share that its clusters give it, by the trigger part.
    #[must_use]
    pub fn of(name: &str, members: Vec<Steered>, trigger: f64) -> Self {
        let strength =
            |one: &Steered| Strength { share: one.share, healthy: one.member.healthy, total: one.member.total };
        // What has no part of a tier carries nothing of it.
        let strengths: Vec<_> = members.iter().filter(|one| one.member.weight > 0).map(strength).collect();
        Self { name: name.to_owned(), share: tier_share(&strengths, trigger), members }
    }
}

impl Course {
    fn decide(&mut self, now: Duration, member: &Member, policy: &FailoverPolicy, sight: &Sight<'_>) -> Steered {
        self.go_on(now);
        let Failback { after, ramp } = policy.failback;
        let after = after.max(super::STABLE);
        let verdict = self.breaker.judge(now, sight.window, &policy.leave, &policy.failback);
        let health = health(member, policy);
        let path = if sight.left { 0.0 } else { 1.0 };
        let limit = most(health, sight, &verdict);
        // The judge has let the path prove itself for the stable time already, and the breaker has waited itself.
        let path_after = after.saturating_sub(super::STABLE);
        let path = self.path.of(now, path, path_after);
        let trouble = self.trouble.of(now, health.min(sight.verbs.0), after);
        // Trouble of a while ago still bounds how far it may rise, trouble of now what it has.
        let most = if self.climb.is_new() { limit } else { limit.min(path.min(trouble).max(self.share)) };
        let risen = self.climb.advance(now, most, ramp, !matches!(verdict, Verdict::Hold(_)));
        self.share = rounded(risen);
        let rises_in = self.path.stays(now, self.share, path_after).max(self.trouble.stays(now, self.share, after));
        let waits = most < limit && !rises_in.is_zero();
        let cause = self.cause(member, policy, sight, &verdict, health, waits);
        if self.cause.replace(cause) != Some(cause) {
            self.since = now;
        }
        let told = Told {
            member,
            policy,
            sight,
            verdict: &verdict,
            wait: self.breaker.tried_again_in(now).unwrap_or(rises_in),
            doubt: self.breaker.doubt(now, sight.window, &policy.leave),
        };
        let (why, next) = told.words(cause);
        Steered { member: member.clone(), share: self.share, why, next, since: self.since }
    }

    fn cause(
        &self,
        member: &Member,
        policy: &FailoverPolicy,
        sight: &Sight<'_>,
        verdict: &Verdict,
        health: f64,
        waits: bool,
    ) -> Cause {
        match verdict {
            _ if sight.verbs.0 < 1.0 => Cause::Verb,
            _ if sight.left => Cause::Left,
            _ if member.total == 0 => Cause::Empty,
            _ if member.healthy < policy.leave.healthy_at_least => Cause::TooFew,
            Verdict::Leave(_) => Cause::Requests,
            _ if health < 1.0 => Cause::Unhealthy,
            Verdict::Hold(_) if self.share < 1.0 => Cause::Held,
            _ if self.share < 1.0 && waits => Cause::Waiting,
            _ if self.share < 1.0 => Cause::Returning,
            _ => Cause::Fine,
        }
    }
}

/// Which clusters may serve: those with something healthy; where none has that, those with anything, if all is to be tried.
pub fn serves(tiers: &[Tier], when: Option<WhenNothingHealthy>) -> impl Fn(&Steered) -> bool + use<> {
    let nothing = tiers.iter().flat_map(|tier| &tier.members).all(|one| one.member.healthy == 0);
    let all = nothing && when == Some(WhenNothingHealthy::TryAll);
    move |one| one.member.healthy > 0 || all && one.member.total > 0
}

/// The part of all requests of each cluster.
#[must_use]
pub fn parts(tiers: &[Tier], when: Option<WhenNothingHealthy>) -> BTreeMap<ClusterName, f64> {
    let serves = serves(tiers, when);
    let places = |tier: &Tier| {
        let place = |one: &Steered| Place { weight: f64::from(one.member.weight) * one.share, usable: serves(one) };
        (tier.share, tier.members.iter().map(place).collect::<Vec<_>>())
    };
    let try_left = when != Some(WhenNothingHealthy::Fail);
    let parts = shares::parts(&tiers.iter().map(places).collect::<Vec<_>>(), try_left);
    let members = tiers.iter().flat_map(|tier| &tier.members).map(|one| one.member.cluster.clone());
    members.zip(parts.into_iter().flatten()).collect()
}

/// What a share may be at most, by all that is seen now.
fn most(health: f64, sight: &Sight<'_>, verdict: &Verdict) -> f64 {
    if sight.left || matches!(verdict, Verdict::Leave(_)) { 0.0 } else { health.min(sight.verbs.0) }
}

/// To thousandths: less would be noise in what is told.
fn rounded(share: f64) -> f64 {
    (share * 1000.0).round() / 1000.0
}

/// min(1, healthy part ÷ trigger part), and nothing below the floor.
fn health(member: &Member, policy: &FailoverPolicy) -> f64 {
    let Member { healthy, total, .. } = *member;
    if total == 0 || healthy < policy.leave.healthy_at_least {
        return 0.0;
    }
    (f64::from(healthy) / f64::from(total) / policy.leave.healthy_share).min(1.0)
}

#[cfg(test)]
mod tests;
