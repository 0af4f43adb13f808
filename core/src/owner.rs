//! The workload that a pod is of, as Istio's metrics have it: what a person wrote and named, not what controllers made of it.

/// Labels by which a ReplicaSet tells its pods from those of others of the same Deployment (or of Argo's Rollout); its name
/// ends in the same.
const HASHES: [&str; 2] = ["pod-template-hash", "rollouts-pod-template-hash"];
/// How many digits the time has that a CronJob puts behind its name, to name a Job: minutes, and seconds in older releases.
const CRON_DIGITS: std::ops::RangeInclusive<usize> = 8..=10;

/// The workload of a pod by the object that controls it: the Deployment of a ReplicaSet, the CronJob of a Job that one made,
/// else that object itself. `label` looks a label of the pod up.
#[must_use]
pub fn workload<'a>(kind: &str, owner: &'a str, label: impl Fn(&str) -> Option<&'a str>) -> &'a str {
    let without = |hash: &str| owner.strip_suffix(hash)?.strip_suffix('-').filter(|rest| !rest.is_empty());
    let made_of = match kind {
        "ReplicaSet" => HASHES.iter().find_map(|name| without(label(name).filter(|hash| !hash.is_empty())?)),
        "Job" => owner.rsplit_once('-').filter(|(name, time)| !name.is_empty() && is_time(time)).map(|(name, _)| name),
        _ => None,
    };
    made_of.unwrap_or(owner)
}

fn is_time(text: &str) -> bool {
    CRON_DIGITS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &str, owner: &str, labels: &[(&str, &'static str)]) -> String {
        let label = |name: &str| labels.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        // The owner's text lives as long as the labels'.
        workload(kind, owner.to_owned().leak(), label).to_owned()
    }

    #[test]
    fn a_pod_of_a_replica_set_is_its_deployments() {
        assert_eq!(of("ReplicaSet", "reviews-v1-7c9d4b", &[("pod-template-hash", "7c9d4b")]), "reviews-v1");
        assert_eq!(of("ReplicaSet", "reviews-55", &[("rollouts-pod-template-hash", "55")]), "reviews");
        assert_eq!(of("ReplicaSet", "by-hand", &[]), "by-hand", "nobody made it of anything");
        assert_eq!(of("ReplicaSet", "by-hand", &[("pod-template-hash", "7c9d4b")]), "by-hand");
        assert_eq!(of("ReplicaSet", "by-hand", &[("pod-template-hash", "")]), "by-hand");
    }

    #[test]
    fn a_pod_of_a_job_is_the_cron_jobs_that_made_it_and_else_the_jobs() {
        assert_eq!(of("Job", "backup-29384756", &[]), "backup");
        assert_eq!(of("Job", "backup-1700000000", &[]), "backup");
        assert_eq!(of("Job", "backup-2024", &[]), "backup-2024");
        assert_eq!(of("Job", "-29384756", &[]), "-29384756");
    }

    #[test]
    fn all_else_is_named_as_it_is() {
        for kind in ["StatefulSet", "DaemonSet", "ReplicationController", "Machine"] {
            assert_eq!(of(kind, "db-12345678", &[("pod-template-hash", "12345678")]), "db-12345678");
        }
    }
}
