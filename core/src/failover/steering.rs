//! All of it for one service in one importing cluster: from the order, what is seen and what was before to each
//! cluster's share; why, since when, and what would change it. Decide every [`super::BEAT`].

mod settled;

use std::{collections::BTreeMap, time::Duration};

use super::{
    breaker::{Breaker, Verdict},
    climb::{Climb, Least},
    order::{Member, Order},
    policy::{Failback, FailoverPolicy},
    shares::{Strength, tier_share},
    window::Window,
};
use crate::{model::Standing, name::ClusterName, resource::duration::written};

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
    Returning,
    Fine,
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
}

impl Course {
    fn new(climb: Climb, share: f64) -> Self {
        let (breaker, path, trouble) = Default::default();
        Self { climb, breaker, path, trouble, cause: None, since: Duration::ZERO, share }
    }
}

/// One service's.
#[derive(Clone, Debug, Default)]
pub struct Steering {
    courses: BTreeMap<ClusterName, Course>,
}

impl Steering {
    /// With the shares that an earlier run gave: a restart moves nothing.
    #[must_use]
    pub fn restored(shares: &BTreeMap<ClusterName, f64>) -> Self {
        let course = |(name, share): (&ClusterName, &f64)| (name.clone(), Course::new(Climb::restored(*share), *share));
        Self { courses: shares.iter().map(course).collect() }
    }

    /// What to keep for the next run.
    #[must_use]
    pub fn shares(&self) -> BTreeMap<ClusterName, f64> {
        self.courses.iter().map(|(name, course)| (name.clone(), course.share)).collect()
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
                        .or_insert_with(|| Course::new(Climb::default(), 0.0));
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
        let strengths: Vec<_> = members.iter().map(strength).collect();
        Self { name: name.to_owned(), share: tier_share(&strengths, trigger), members }
    }
}

impl Course {
    fn decide(&mut self, now: Duration, member: &Member, policy: &FailoverPolicy, sight: &Sight<'_>) -> Steered {
        let Failback { after, ramp } = policy.failback;
        let after = after.max(super::STABLE);
        let verdict = self.breaker.judge(now, sight.window, &policy.leave, &policy.failback);
        let health = health(member, policy);
        let path = if sight.left { 0.0 } else { 1.0 };
        let requests = if matches!(verdict, Verdict::Leave(_)) { 0.0 } else { 1.0 };
        let limit = most(health, sight, &verdict);
        // The judge has let the path prove itself for the stable time already.
        let path = self.path.of(now, path, after.saturating_sub(super::STABLE));
        let trouble = self.trouble.of(now, health.min(requests).min(sight.verbs.0), after);
        // Trouble of a while ago still bounds how far it may rise, trouble of now what it has.
        let calm = path.min(trouble);
        let most = if self.climb.is_new() { limit } else { limit.min(calm.max(self.share)) };
        let risen = self.climb.advance(now, most, ramp, !matches!(verdict, Verdict::Hold(_)));
        self.share = rounded(risen);
        let cause = self.cause(member, policy, sight, &verdict, health);
        if self.cause.replace(cause) != Some(cause) {
            self.since = now;
        }
        let (why, next) = words(cause, member, policy, sight, &verdict);
        Steered { member: member.clone(), share: self.share, why, next, since: self.since }
    }

    fn cause(
        &self,
        member: &Member,
        policy: &FailoverPolicy,
        sight: &Sight<'_>,
        verdict: &Verdict,
        health: f64,
    ) -> Cause {
        match verdict {
            _ if sight.verbs.0 < 1.0 => Cause::Verb,
            _ if sight.left => Cause::Left,
            _ if member.total == 0 => Cause::Empty,
            _ if member.healthy < policy.leave.healthy_at_least => Cause::TooFew,
            Verdict::Leave(_) => Cause::Requests,
            _ if health < 1.0 => Cause::Unhealthy,
            Verdict::Hold(_) if self.share < 1.0 => Cause::Held,
            _ if self.share < 1.0 => Cause::Returning,
            _ => Cause::Fine,
        }
    }
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

fn words(
    cause: Cause,
    member: &Member,
    policy: &FailoverPolicy,
    sight: &Sight<'_>,
    verdict: &Verdict,
) -> (String, String) {
    let Member { healthy, total, .. } = *member;
    let (leave, failback) = (&policy.leave, policy.failback);
    let after = written(failback.after.max(super::STABLE));
    let seen = match verdict {
        Verdict::Leave(why) | Verdict::Hold(why) => why.clone(),
        Verdict::Fine => String::new(),
    };
    let whole = (f64::from(total) * leave.healthy_share).ceil();
    let back = format!("returns {after} after that, along a ramp of {}", written(failback.ramp));
    match cause {
        Cause::Verb => (sight.verbs.1.to_owned(), "ends when it is taken back or its time is over".into()),
        Cause::Left => (sight.standing.1.to_owned(), format!("path and lease hold again; it {back}")),
        Cause::Empty => ("it has no endpoints".into(), format!("one is ready; it {back}")),
        Cause::TooFew => (
            format!("{healthy} of {total} endpoints healthy, fewer than {}", leave.healthy_at_least),
            format!("{} are healthy; it {back}", leave.healthy_at_least),
        ),
        Cause::Requests => {
            (seen, "it is tried again after a while; each further time the while is twice as long".into())
        }
        Cause::Unhealthy => {
            (format!("{healthy} of {total} endpoints healthy"), format!("{whole:.0} are healthy; the rest {back}"))
        }
        Cause::Held => (format!("its share stays: {seen}"), "that falls below the lower limit".into()),
        Cause::Returning => ("returning along the ramp".into(), "trouble would stop it".into()),
        Cause::Fine => (fine(member, sight), String::new()),
    }
}

fn fine(member: &Member, sight: &Sight<'_>) -> String {
    let healthy = format!("{} of {} endpoints healthy", member.healthy, member.total);
    match sight.standing {
        (Standing::Alive | Standing::Returning, _) => healthy,
        (_, "") => healthy,
        (_, why) => format!("{healthy}; {why}"),
    }
}

#[cfg(test)]
mod tests;
