//! `bootstrap`, `token create`, `join`: `up` joins its clusters by the same functions.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use isthmus_scenarios::{mesh, operator, state::StateDir};

use crate::{
    args::{Member, Membership, Token},
    out,
};

pub async fn run(state: &StateDir, command: Membership) -> Result<()> {
    match command {
        Membership::Bootstrap(member) => {
            operator::bootstrap(address(state, &member, true)?).await?;
            out::line("bootstrapped; let other clusters join with `isthmus token create --cluster NAME`");
        }
        Membership::Token(Token::Create { cluster, ttl, member }) => {
            out::line(operator::create_token(address(state, &member, true)?, cluster.as_str(), ttl).await?);
        }
        Membership::Join { token, member } => {
            operator::join(address(state, &member, false)?, token.trim()).await?;
            out::line("joined");
        }
    }
    Ok(())
}

/// The member that is meant: an address, a cluster of the mesh on this machine, or there the first.
fn address(state: &StateDir, member: &Member, or_first: bool) -> Result<SocketAddr> {
    if let Some(address) = member.member {
        return Ok(address);
    }
    if member.at.is_none() && !or_first {
        anyhow::bail!("which member shall join? Name its cluster with --at, or its admin endpoint with --member");
    }
    let plan = state.plan()?;
    let cluster = match &member.at {
        Some(name) => plan.cluster(name.as_str()).with_context(|| format!("no cluster {name} in this mesh"))?,
        None => plan.clusters.first().context("the mesh has no clusters")?,
    };
    Ok(mesh::member(cluster))
}
