//! Policies of which nothing follows here, because others come first for each service that they are for.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Inputs,
    finding::{Finding, Kind, listed},
    orders::{Ordered, named},
};
use crate::{name::ServiceName, resource::Body};

/// A finding for each such policy of the own cluster. One that is for no service is not among them: nothing precedes it.
pub(super) fn found(inputs: &Inputs<'_>, orders: &BTreeMap<ServiceName, Ordered>, findings: &mut Vec<Finding>) {
    let mut binding = BTreeSet::<&String>::new();
    let mut preceded = BTreeMap::<&String, BTreeSet<&String>>::new();
    for ordered in orders.values() {
        let Some((first, others)) = ordered.policies.split_first() else { continue };
        binding.insert(first);
        for other in others {
            preceded.entry(other).or_default().insert(first);
        }
    }
    for (file, object) in &inputs.objects {
        let Body::FailoverPolicy(_) = &object.body else { continue };
        let itself = named(object, &inputs.setting.cluster);
        let Some(by) = preceded.get(&itself).filter(|_| !binding.contains(&itself)) else { continue };
        findings.push(Finding {
            file: (*file).to_owned(),
            line: object.line,
            field: "spec.services".into(),
            kind: Kind::Overridden,
            reason: format!(
                "for each service here that it is for another policy comes first: {}; the more specific does, then the \
                 importer's own, then the older",
                listed(by.iter().copied())
            ),
        });
    }
}
