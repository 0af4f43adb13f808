//! Whose policies and verbs bind a cluster (DESIGN.md decision 10): its own, and those of the clusters it lists as its
//! operators; where it lists none, those of the operators of the mesh.

use crate::{name::ClusterName, statement::Content};

/// What a cluster says of its operators, found among all that it says.
#[must_use]
pub fn listed<'a>(contents: impl IntoIterator<Item = &'a Content>) -> Option<&'a [ClusterName]> {
    contents.into_iter().find_map(|content| match content {
        Content::Operators { clusters } => Some(clusters.as_slice()),
        _ => None,
    })
}

/// Whose policies and verbs bind `cluster`, itself first. `listed` is what it says of its operators, `mesh` who operates
/// the mesh.
#[must_use]
pub fn binding(cluster: &ClusterName, listed: Option<&[ClusterName]>, mesh: &[ClusterName]) -> Vec<ClusterName> {
    let others = listed.unwrap_or(mesh).iter().filter(|other| *other != cluster);
    std::iter::once(cluster).chain(others).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_bound_by_itself_and_by_whom_it_lists_or_else_by_the_operators_of_the_mesh() {
        let [east, west, eu] = ["east", "west", "eu"].map(|name| name.parse::<ClusterName>().unwrap());
        let mesh = [east.clone()];
        assert_eq!(binding(&west, None, &mesh), [west.clone(), east.clone()]);
        assert_eq!(binding(&west, Some(std::slice::from_ref(&eu)), &mesh), [west.clone(), eu]);
        assert_eq!(binding(&west, Some(&[]), &mesh), vec![west], "nobody else");
        assert_eq!(binding(&east, None, &mesh), vec![east.clone()]);
    }
}
