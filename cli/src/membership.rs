//! `bootstrap`, `token create`, `join`, `cluster eject`, `cluster operators`: `up` joins its clusters by the same functions.

use std::{io::Write, net::SocketAddr};

use anyhow::Result;
use isthmus_core::name::ClusterName;
use isthmus_federation::token::Token as Parsed;
use isthmus_scenarios::{admin, operator};
use serde_json::Value;

use crate::{
    args::{Member, Membership, Token},
    install, out,
    reach::Reach,
    table::field,
};

pub async fn run(reach: &Reach, command: Membership) -> Result<()> {
    match command {
        Membership::Bootstrap(member) => {
            operator::bootstrap(reach.member(&member, None).await?, &reach.exposed().await?).await?;
            out::line("bootstrapped; let other clusters join with `isthmus token create --cluster NAME`");
        }
        Membership::Token(Token::Create { cluster, ttl, member }) => {
            let at = reach.member(&member, None).await?;
            begin(reach, at).await?;
            out::line(operator::create_token(at, cluster.as_str(), ttl).await?);
        }
        Membership::Join { token, installing, member } => {
            let token = if token == "-" { std::io::read_to_string(std::io::stdin())? } else { token };
            let parsed = Parsed::parse(&token).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
            let named = (parsed.cluster.as_str(), parsed.mesh.as_str());
            install::before_join(reach, &member, named, installing).await?;
            let to = reach.member(&member, Some(&parsed.cluster)).await?;
            operator::join(to, token.trim(), &reach.exposed().await?).await?;
            out::line(format_args!("{} joined mesh {}", parsed.cluster, parsed.mesh));
        }
    }
    Ok(())
}

/// On Kubernetes the first cluster that lets another one join begins the mesh: nothing else has to be typed between the
/// installation of two clusters and their mesh. It is said where no pipe reads.
async fn begin(reach: &Reach, member: SocketAddr) -> Result<()> {
    let Reach::Kubernetes(_) = reach else { return Ok(()) };
    let status = admin::read(member, "/status").await?;
    if status.get("joined").and_then(Value::as_bool) == Some(true) {
        return Ok(());
    }
    let begun = operator::bootstrap(member, &reach.exposed().await?).await?;
    let _ = writeln!(std::io::stderr(), "{} begins mesh {}", field(&begun, "cluster"), field(&begun, "mesh"));
    Ok(())
}

/// Puts a cluster out of the mesh.
pub async fn eject(reach: &Reach, cluster: &ClusterName, member: &Member) -> Result<()> {
    let done = operator::eject(reach.member(member, None).await?, cluster.as_str()).await?;
    if done.get("local") == Some(&Value::Bool(true)) {
        out::line(format_args!(
            "local: {cluster} is out for this cluster now, and for the others when there is a quorum ({})",
            field(&done, "why")
        ));
    } else {
        out::line(format_args!("{cluster} is out of the mesh; it may come back with a new key and a new token"));
    }
    Ok(())
}

/// Gives the only vote of a mesh of two clusters to this one.
pub async fn move_vote(reach: &Reach, cluster: &ClusterName, member: &Member) -> Result<()> {
    operator::move_vote(reach.member(member, None).await?, cluster.as_str()).await?;
    out::line(format_args!("{cluster} has the vote"));
    Ok(())
}

/// Names the operators of the mesh, or prints them.
pub async fn operators(reach: &Reach, clusters: &[ClusterName], member: &Member) -> Result<()> {
    let member = reach.member(member, None).await?;
    if !clusters.is_empty() {
        let names: Vec<_> = clusters.iter().map(ClusterName::as_str).collect();
        operator::name_operators(member, &names).await?;
    }
    operator::operators(member).await?.iter().for_each(out::line);
    Ok(())
}
