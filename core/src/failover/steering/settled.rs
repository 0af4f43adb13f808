//! Where shares come to rest if all stays as it is seen: what [`Steering::decide`] gives once its ramps are over.

use std::time::Duration;

use super::{Course, Member, Order, Sight, Steered, Steering, Tier, health, most, rounded};
use crate::{
    failover::{
        breaker::{Breaker, Verdict},
        climb::Climb,
        policy::FailoverPolicy,
    },
    name::ClusterName,
};

impl Steering {
    /// The tiers when no share moves any more. What errors or latency have left stays left: it is tried again after a
    /// while, and nobody knows what that will show.
    #[must_use]
    pub fn settled<'a>(
        &self,
        now: Duration,
        order: &Order,
        policy: &FailoverPolicy,
        sight: impl Fn(&ClusterName) -> Sight<'a>,
    ) -> Vec<Tier> {
        let fresh = Course::new(Climb::default(), 0.0, None);
        let member = |member: &Member| {
            let course = self.courses.get(&member.cluster).unwrap_or(&fresh);
            let share = course.rest(now, member, policy, &sight(&member.cluster));
            let (why, next) = Default::default();
            Steered { member: member.clone(), share, why, next, since: Duration::ZERO }
        };
        let tier = |tier: &crate::failover::order::Tier| {
            Tier::of(&tier.name, tier.members.iter().map(member).collect(), policy.leave.healthy_share)
        };
        order.tiers.iter().map(tier).collect()
    }
}

impl Course {
    fn rest(&self, now: Duration, member: &Member, policy: &FailoverPolicy, sight: &Sight<'_>) -> f64 {
        let mut breaker = match &self.kept {
            Some(kept) => Breaker::restored(now, kept.breaker.clone()),
            None => self.breaker.clone(),
        };
        let verdict = breaker.judge(now, sight.window, &policy.leave, &policy.failback);
        let most = most(health(member, policy), sight, &verdict);
        let stays = matches!(verdict, Verdict::Hold(_)) && !self.climb.is_new();
        rounded(if stays { most.min(self.share) } else { most })
    }
}
