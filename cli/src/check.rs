//! `check`: what is wrong with a cluster, before the mesh is installed and after, and what to do about it.
//!
//! ```text
//! gather ──► facts: objects, and what the mesh's own admin endpoints say ──► verdicts ──► findings
//! ```
//! Verdicts are pure functions of facts; what could not be asked is a finding too.
//!
//! | module | idea |
//! | --- | --- |
//! | [`finding`] | a thing, how bad it is, why, and the remedy |
//! | [`gather`] | asks the API server, and the mesh through it |
//! | [`ground`] | pure: the cluster the mesh stands on, or is to stand on |
//! | [`clock`] | pure: whose clock is wrong |
//! | [`parts`] | pure: what is installed |
//! | [`trust`] | pure: roots, bundles, until when they are believed |
//! | [`certificates`] | pure: leaves that are not renewed, and which authority signs |
//! | [`pods`] | pure: sidecars that are missing or old, and whether the webhook answers |
//! | [`stuck`] | pure: sidecars that do not come up |
//! | [`ports`] | pure: ports that somebody else takes |
//! | [`mesh`] | pure: what member and control say |

mod certificates;
mod clock;
mod finding;
mod gather;
mod ground;
mod mesh;
mod parts;
mod pods;
mod ports;
mod stuck;
mod trust;

use anyhow::{Result, bail};

use crate::{
    args::{Form, Output},
    out,
    reach::Reach,
};
use finding::{Finding, Severity};
pub use pods::{is_over, sidecar};

/// Looks the cluster over.
///
/// # Errors
/// When something is an error, or there is no way to the cluster.
pub async fn run(reach: &Reach, output: Output) -> Result<()> {
    let facts = gather::facts(reach).await?;
    let mut findings = facts.failed.clone();
    findings.extend(ground::verdicts(&facts.ground));
    findings.extend(facts.ground.pods.iter().flat_map(|pods| ports::verdicts(pods)));
    findings.extend(clock::verdicts(&facts.clock));
    match &facts.installed {
        None if !facts.is_known => {}
        None => findings.push(
            Finding::note("Mesh", "it is not installed here")
                .remedy("isthmus install --cluster NAME, or the Helm chart"),
        ),
        Some(installed) => {
            findings.extend(parts::verdicts(installed));
            findings.extend(trust::verdicts(installed, clock::now()));
            findings.extend(certificates::verdicts(&installed.certificates, clock::now()));
            findings.extend(pods::verdicts(installed));
            findings.extend(stuck::verdicts(&installed.pods));
            findings.extend(mesh::verdicts(&installed.mesh, &pods::names(&installed.pods)));
        }
    }
    match output.output {
        Form::Json => out::line(serde_json::to_string_pretty(&findings)?),
        Form::Table => out::line(finding::table(&findings)),
    }
    match findings.iter().filter(|finding| finding.severity == Severity::Error).count() {
        0 => Ok(()),
        1 => bail!("one thing is wrong"),
        count => bail!("{count} things are wrong"),
    }
}
