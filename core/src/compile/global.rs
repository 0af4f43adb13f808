//! Which services go by their own name to other clusters too, as a Service or its Namespace says.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Inputs,
    finding::{Finding, Kind},
};
use crate::resource::{Body, Object, kubernetes::GLOBAL};

/// Whether an object says so.
pub(super) fn is_said(object: &Object) -> bool {
    let of = |map: &BTreeMap<String, String>| map.get(GLOBAL).is_some_and(|value| value == "true");
    of(&object.metadata.annotations) || of(&object.metadata.labels)
}

/// Namespaces of which all services do.
pub(super) fn namespaces<'a>(inputs: &'a Inputs<'_>) -> BTreeSet<&'a str> {
    let namespaces = inputs.objects.iter().filter(|(_, object)| matches!(object.body, Body::Namespace));
    namespaces.filter(|(_, object)| is_said(object)).map(|(_, object)| object.metadata.name.as_str()).collect()
}

/// Whoever wrote `yes` meant something, and would wait for it in vain.
pub(super) fn unclear(inputs: &Inputs<'_>) -> Vec<Finding> {
    let read = inputs.objects.iter().filter(|(_, object)| matches!(object.body, Body::Service(_) | Body::Namespace));
    read.flat_map(|(file, object)| of_object(file, object)).collect()
}

fn of_object(file: &str, object: &Object) -> impl Iterator<Item = Finding> {
    let maps = [("annotations", &object.metadata.annotations), ("labels", &object.metadata.labels)];
    let written = maps.into_iter().filter_map(|(of, map)| Some((of, map.get(GLOBAL)?)));
    let wrong = written.filter(|(_, value)| !["true", "false"].contains(&value.as_str()));
    wrong.map(move |(of, value)| Finding {
        file: file.to_owned(),
        line: object.line,
        field: format!("metadata.{of}[{GLOBAL}]"),
        kind: Kind::Invalid,
        reason: format!("{value:?} is neither \"true\" nor \"false\", and counts as \"false\""),
    })
}
