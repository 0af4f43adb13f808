//! `bootstrap`, `token create`, `join`, `cluster eject`, `cluster operators`: `up` joins its clusters by the same functions.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use isthmus_core::name::ClusterName;
use isthmus_federation::token::Token as Parsed;
use isthmus_scenarios::{mesh, operator, state::StateDir};

use crate::{
    args::{Member, Membership, Token},
    out,
};

pub async fn run(state: &StateDir, command: Membership) -> Result<()> {
    match command {
        Membership::Bootstrap(member) => {
            operator::bootstrap(address(state, &member, None)?).await?;
            out::line("bootstrapped; let other clusters join with `isthmus token create --cluster NAME`");
        }
        Membership::Token(Token::Create { cluster, ttl, member }) => {
            out::line(operator::create_token(address(state, &member, None)?, cluster.as_str(), ttl).await?);
        }
        Membership::Join { token, member } => {
            let parsed = Parsed::parse(&token).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
            operator::join(address(state, &member, Some(&parsed.cluster))?, token.trim()).await?;
            out::line(format_args!("{} joined mesh {}", parsed.cluster, parsed.mesh));
        }
    }
    Ok(())
}

/// Puts a cluster out of the mesh.
pub async fn eject(state: &StateDir, cluster: &ClusterName, member: &Member) -> Result<()> {
    operator::eject(address(state, member, None)?, cluster.as_str()).await?;
    out::line(format_args!("{cluster} is out of the mesh; it may come back with a new key and a new token"));
    Ok(())
}

/// Gives the only vote of a mesh of two clusters to this one.
pub async fn move_vote(state: &StateDir, cluster: &ClusterName, member: &Member) -> Result<()> {
    operator::move_vote(address(state, member, None)?, cluster.as_str()).await?;
    out::line(format_args!("{cluster} has the vote"));
    Ok(())
}

/// Names the operators of the mesh, or prints them.
pub async fn operators(state: &StateDir, clusters: &[ClusterName], member: &Member) -> Result<()> {
    let member = address(state, member, None)?;
    if !clusters.is_empty() {
        let names: Vec<_> = clusters.iter().map(ClusterName::as_str).collect();
        operator::name_operators(member, &names).await?;
    }
    operator::operators(member).await?.iter().for_each(out::line);
    Ok(())
}

/// The member that is meant: an address; or of the mesh on this machine that of the cluster named, of the cluster
/// that joins, or the first.
fn address(state: &StateDir, member: &Member, joins: Option<&str>) -> Result<SocketAddr> {
    if let Some(address) = member.member {
        return Ok(address);
    }
    let elsewhere =
        |cluster: &str| format!("the token is for {cluster}; name its member's admin endpoint with --member");
    let plan = match joins {
        Some(cluster) => state.plan().with_context(|| elsewhere(cluster))?,
        None => state.plan()?,
    };
    let cluster = match (&member.at, joins) {
        (Some(name), _) => plan.named(name.as_str())?,
        (None, Some(name)) => plan.named(name).with_context(|| elsewhere(name))?,
        (None, None) => plan.clusters.first().context("the mesh has no clusters")?,
    };
    Ok(mesh::member(cluster))
}
