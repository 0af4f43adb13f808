//! Why a share is what it is, and what would change it, in words.

use std::time::Duration;

use super::{
    super::{breaker::Verdict, order::Member, policy::FailoverPolicy},
    Cause, Sight,
};
use crate::{model::Standing, resource::duration::written};

/// What is told of a cluster.
pub(super) struct Told<'a> {
    pub(super) member: &'a Member,
    pub(super) policy: &'a FailoverPolicy,
    pub(super) sight: &'a Sight<'a>,
    pub(super) verdict: &'a Verdict,
    /// How long it is not tried, or does not rise, if nothing happens.
    pub(super) wait: Duration,
    /// Why its requests cannot be judged.
    pub(super) doubt: Option<String>,
}

impl Told<'_> {
    /// Why, and what would change it; the latter empty when nothing is wrong.
    pub(super) fn words(&self, cause: Cause) -> (String, String) {
        let Member { healthy, total, .. } = *self.member;
        let (leave, failback) = (&self.policy.leave, self.policy.failback);
        let after = written(failback.after.max(super::super::STABLE));
        let seen = match self.verdict {
            Verdict::Leave(why) | Verdict::Hold(why) => why.clone(),
            Verdict::Fine => String::new(),
        };
        let whole = (f64::from(total) * leave.healthy_share).ceil();
        let ramp = format!("along a ramp of {}", written(failback.ramp));
        let back = format!("returns {after} after that, {ramp}");
        let wait = written(Duration::from_secs(self.wait.as_millis().div_ceil(1000) as u64));
        match cause {
            Cause::Verb => (self.sight.verbs.1.to_owned(), "ends when it is taken back or its time is over".into()),
            Cause::Left => (self.sight.standing.1.to_owned(), format!("path and lease hold again; it {back}")),
            Cause::Empty => ("it has no endpoints".into(), format!("one is ready; it {back}")),
            Cause::TooFew => (
                format!("{healthy} of {total} endpoints healthy, fewer than {}", leave.healthy_at_least),
                format!("{} are healthy; it {back}", leave.healthy_at_least),
            ),
            Cause::Requests => {
                (seen, format!("it is tried again in {wait}, {ramp}; each further time the wait is twice as long"))
            }
            Cause::Unhealthy => {
                (format!("{healthy} of {total} endpoints healthy"), format!("{whole:.0} are healthy; the rest {back}"))
            }
            Cause::Held => (format!("its share stays: {seen}"), "that falls below the lower limit".into()),
            Cause::Waiting => ("healthy again".into(), format!("it returns in {wait} if it holds, {ramp}")),
            Cause::Returning => (self.doubted("returning along the ramp".into()), "trouble would stop it".into()),
            Cause::Fine => (self.fine(), String::new()),
        }
    }

    fn fine(&self) -> String {
        let healthy = self.doubted(format!("{} of {} endpoints healthy", self.member.healthy, self.member.total));
        match self.sight.standing {
            (Standing::Alive | Standing::Returning, _) => healthy,
            (_, "") => healthy,
            (_, why) => format!("{healthy}; {why}"),
        }
    }

    fn doubted(&self, well: String) -> String {
        self.doubt.as_ref().map_or_else(|| well.clone(), |doubt| format!("{well}; {doubt}"))
    }
}
