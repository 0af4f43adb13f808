//! What operators do for a while: drain a cluster, evacuate a service from one, pin it to one, drill. Each is an object
//! of its own: who, when, why, and when it ends by itself.
//!
//! No cluster trusts another's clock: a verb carries how long, and each cluster counts from when it heard it first. The
//! writer says again now and then for how long it is in force by its own count, so that who hears of it late does not begin
//! anew. It ends its verb when the time is over; who cannot hear that ends it by the own count. An end is said under the
//! verb's name, with who, why and how: so everybody's history has it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    name::{ClusterName, ServiceName},
    resource::duration,
};

/// A verb that does not say how long holds so long.
pub const DEFAULT_FOR: Duration = Duration::from_secs(24 * 3600);
/// No verb holds longer: what is to last is written into a policy.
pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// Letters of a reason.
const LONGEST_REASON: usize = 500;

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "camelCase")]
pub enum Deed {
    /// Traffic leaves a cluster, evenly over a while.
    Drain {
        /// The cluster.
        cluster: ClusterName,
        /// From all to nothing in so long.
        #[serde(with = "duration::text")]
        over: Duration,
    },
    /// The traffic of one service leaves a cluster.
    Evacuate {
        /// The service.
        service: ServiceName,
        /// The cluster.
        cluster: ClusterName,
        /// From all to nothing in so long.
        #[serde(with = "duration::text")]
        over: Duration,
    },
    /// A service is taken from one cluster as long as that can serve it.
    Pin {
        /// The service.
        service: ServiceName,
        /// The cluster.
        cluster: ClusterName,
    },
    /// As a drain at once, to see what happens; each cluster stops it for itself when its error rates rise.
    Drill {
        /// The cluster.
        cluster: ClusterName,
    },
}

/// A verb in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Verb {
    /// Its name, unique among its cluster's: `drain-eu-west`.
    pub name: String,
    /// What is done.
    pub deed: Deed,
    /// Ends by itself after so long.
    #[serde(rename = "for", with = "duration::text")]
    pub lasts: Duration,
    /// Who did it.
    pub by: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// When, Unix milliseconds by the writer's clock; for people.
    pub at_ms: u64,
    /// For how long it was in force when it was said, by the writer's own count; no clock of the day is in it.
    #[serde(default, with = "duration::text", skip_serializing_if = "Duration::is_zero")]
    pub elapsed: Duration,
    /// That it is over, and how; it is said for a while, so that everybody hears of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// How a verb ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Who took it back; none: nobody, its time was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Why a verb makes no sense, whatever mesh it is for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// It would be over before it is done.
    #[error(
        "it would take {} until all has left (--over), and ends by itself after {} (--for): say a shorter --over, or a longer --for",
        duration::written(*over),
        duration::written(*lasts)
    )]
    Unfinished {
        /// From all to nothing in so long.
        over: Duration,
        /// Ends after so long.
        lasts: Duration,
    },
    /// It would hold too long, or not at all.
    #[error(
        "{} is no time for it (--for): say one above nothing and up to {}; what is to last is for a FailoverPolicy",
        duration::written(*.0),
        duration::written(LONGEST)
    )]
    Lasts(Duration),
    /// What people read.
    #[error(
        "{what} has control characters or more than {LONGEST_REASON} letters: it is shown and kept as one line, so write it as one"
    )]
    Text {
        /// Which: the reason, or who.
        what: &'static str,
    },
}

/// Whether a text may be shown and kept as a line.
///
/// # Errors
/// [`Nonsense::Text`].
pub fn check_text(what: &'static str, text: &str) -> Result<(), Nonsense> {
    let wrong = text.chars().any(char::is_control) || text.chars().count() > LONGEST_REASON;
    if wrong { Err(Nonsense::Text { what }) } else { Ok(()) }
}

impl Verb {
    /// Whether it makes sense, whatever mesh it is for.
    ///
    /// # Errors
    /// [`Nonsense`].
    pub fn check(&self) -> Result<(), Nonsense> {
        check_text("the reason", &self.reason)?;
        check_text("who does it", &self.by)?;
        if self.lasts.is_zero() || self.lasts > LONGEST {
            return Err(Nonsense::Lasts(self.lasts));
        }
        match self.deed {
            Deed::Drain { over, .. } | Deed::Evacuate { over, .. } if over > self.lasts => {
                Err(Nonsense::Unfinished { over, lasts: self.lasts })
            }
            _ => Ok(()),
        }
    }
}

impl Deed {
    /// The name that a verb of it has: one a deed and object, so that the same deed again replaces it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Drain { cluster, .. } => format!("drain-{cluster}"),
            Self::Evacuate { service, cluster, .. } => {
                format!("evacuate-{}-{}-{cluster}", service.namespace(), service.name())
            }
            Self::Pin { service, .. } => format!("pin-{}-{}", service.namespace(), service.name()),
            Self::Drill { cluster } => format!("drill-{cluster}"),
        }
    }

    /// The cluster it is about.
    #[must_use]
    pub fn cluster(&self) -> &ClusterName {
        match self {
            Self::Drain { cluster, .. }
            | Self::Evacuate { cluster, .. }
            | Self::Pin { cluster, .. }
            | Self::Drill { cluster } => cluster,
        }
    }

    /// The service it is about; `None`: all.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Drain { .. } | Self::Drill { .. } => None,
            Self::Evacuate { service, .. } | Self::Pin { service, .. } => Some(service),
        }
    }

    /// Whether it is about this service.
    #[must_use]
    pub fn is_about(&self, of: &ServiceName) -> bool {
        self.service().is_none_or(|service| service == of)
    }

    /// What it leaves of its cluster's share so long after it began; a pin leaves all.
    #[must_use]
    pub fn leaves(&self, after: Duration) -> f64 {
        match self {
            Self::Drain { over, .. } | Self::Evacuate { over, .. } if !over.is_zero() => {
                (1.0 - after.as_secs_f64() / over.as_secs_f64()).clamp(0.0, 1.0)
            }
            Self::Pin { .. } => 1.0,
            _ => 0.0,
        }
    }
}

impl std::fmt::Display for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Drain { cluster, over } => write!(f, "drain of {cluster} over {}", duration::written(*over)),
            Self::Evacuate { service, cluster, over } => {
                write!(f, "evacuation of {service} from {cluster} over {}", duration::written(*over))
            }
            Self::Pin { service, cluster } => write!(f, "pin of {service} to {cluster}"),
            Self::Drill { cluster } => write!(f, "drill of {cluster}"),
        }
    }
}

/// Whether a verb of `writer` binds a cluster that is bound by `bound_by` ([`crate::consent::binding`]): its own, its
/// operators', and what a cluster does to itself, for a cluster may always drain itself.
#[must_use]
pub fn binds(deed: &Deed, writer: &ClusterName, bound_by: &[ClusterName]) -> bool {
    let to_itself = matches!(deed, Deed::Drain { .. } | Deed::Evacuate { .. }) && deed.cluster() == writer;
    to_itself || bound_by.contains(writer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(over: u64) -> Deed {
        Deed::Drain { cluster: "eu".parse().unwrap(), over: Duration::from_secs(over) }
    }

    #[test]
    fn a_cluster_may_always_drain_itself_and_others_only_with_consent() {
        let [eu, us, west] = ["eu", "us", "west"].map(|name| name.parse::<ClusterName>().unwrap());
        let drill = Deed::Drill { cluster: eu.clone() };
        let bound = [west.clone(), us.clone()];
        assert!(binds(&drain(0), &eu, &bound) && binds(&drain(0), &us, &bound) && binds(&drill, &us, &bound));
        assert!(!binds(&drill, &eu, &bound), "a drill is for operators");
        assert!(!binds(&drain(0), &"other".parse().unwrap(), &bound));
    }

    fn verb(over: u64) -> Verb {
        Verb {
            name: drain(over).name(),
            deed: drain(over),
            lasts: DEFAULT_FOR,
            by: "ann".into(),
            reason: "kernel".into(),
            at_ms: 7,
            elapsed: Duration::ZERO,
            ended: None,
        }
    }

    #[test]
    fn a_verb_reads_as_it_was_said() {
        let mut verb = verb(600);
        let json = serde_json::to_string(&verb).unwrap();
        assert!(json.contains(r#""over":"10m""#) && json.contains(r#""for":"24h""#), "{json}");
        assert!(!json.contains("elapsed") && !json.contains("ended"), "as releases before it said it: {json}");
        assert_eq!(serde_json::from_str::<Verb>(&json).unwrap(), verb);
        verb.elapsed = Duration::from_secs(90);
        verb.ended = Some(Ended { by: Some("bob".into()), reason: "done".into() });
        let json = serde_json::to_string(&verb).unwrap();
        assert_eq!(serde_json::from_str::<Verb>(&json).unwrap(), verb);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_remedy() {
        let lasts = |seconds| Verb { lasts: Duration::from_secs(seconds), ..verb(7200) };
        assert_eq!(lasts(7200).check(), Ok(()));
        let said = lasts(3600).check().unwrap_err().to_string();
        assert!(said.contains("take 2h until all has left (--over), and ends by itself after 1h (--for)"), "{said}");
        assert!(lasts(0).check().is_err() && lasts(30 * 86_400).check().is_ok());
        let said = lasts(30 * 86_400 + 1).check().unwrap_err().to_string();
        assert!(said.contains("up to 720h"), "{said}");
        for reason in ["two\nlines", "a \u{1b}[31mcolour", &"x".repeat(501)] {
            let said = Verb { reason: reason.to_owned(), ..verb(0) }.check().unwrap_err().to_string();
            assert!(said.starts_with("the reason has control characters"), "{said}");
        }
        assert!(Verb { by: "a\tb".into(), ..verb(0) }.check().is_err());
    }

    proptest! {
        #[test]
        fn a_drain_never_gives_back(over in 0u64..100, a in 0u64..200, b in 0u64..200) {
            let leaves = |at| drain(over).leaves(Duration::from_secs(at));
            prop_assert!(leaves(a.max(b)) <= leaves(a.min(b)));
            prop_assert!((0.0..=1.0).contains(&leaves(a)) && leaves(over).abs() < f64::EPSILON);
        }
    }
}
