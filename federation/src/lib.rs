//! Who offers what: the Raft-replicated federation of clusters that do not hold each other's keys.
//!
//! Raft trusts its leader, and in a small mesh every cluster votes; so nothing is believed because it is in the log.
//! Each cluster's federation key is fixed by its join entry, and every statement is verified by it before it is applied,
//! whichever way it came. A member that was taken over can stop writes; it can forge nothing.
//!
//! ```text
//!  control ─ publish ─► view ─ delta ─► sessions ═══► view of every other member ─ watch ─► its control
//!                        └── batch ──► Raft log ═══► state ──┘
//! ```
//!
//! | module | idea |
//! | --- | --- |
//! | [`state`] | what the log makes: pure, verifies everything |
//! | [`raft`] | openraft on redb, over sessions |
//! | [`session`] | one stream between two members, opened by whichever can dial |
//! | [`view`], [`watcher`] | what this member knows now, and the history watchers resume from |
//! | [`voters`] | who of the members votes |
//! | [`token`], [`join`] | how a cluster gets in |
//! | [`member`] | the running member: writes find the leader, voters are kept |
//! | [`service`], [`admin`] | its gRPC, and what an operator asks |

pub mod admin;
mod config;
mod error;
pub mod join;
pub mod member;
pub mod raft;
pub mod service;
pub mod session;
pub mod state;
pub mod token;
pub mod view;
pub mod voters;
pub mod watcher;

use std::{net::SocketAddr, time::Duration};

pub use config::{Config, PORT, Timing};
pub use error::{Error, Refusal};
use isthmus_runtime::{
    admin::Admin,
    drain::Drain,
    enrolment, grpc, key, listen, metrics,
    readiness::Readiness,
    tls::{self, Accept, ClientAuth},
};
use isthmus_wire::federation::member_server::MemberServer;
use tokio::sync::watch;

use crate::{config::ALPN, member::Member, service::Service};

/// Snapshots of large meshes come in one message.
const LARGEST_MESSAGE: usize = 64 << 20;
/// How long calls may finish once the process drains.
const GRACE: Duration = Duration::from_secs(1);

/// Runs a member until the drain.
///
/// # Errors
/// When its address is taken, it gets no identity, or its disk is damaged.
pub async fn run(config: Config, drain: Drain) -> Result<(), Error> {
    let admin = Admin::bind(&config.common, "federation")?;
    let registry = metrics::registry("federation")?;
    let (ready, later) = watch::channel(None);
    let readiness = Readiness::new();
    let part = readiness.needs("member");
    drain.close_after(GRACE);
    let certificates = admin.certificates();
    tokio::spawn(admin.router(admin::routes(later)).serve(registry, readiness, drain.clone()));
    let key = key::federation_key(&config.federation_key)?;
    let listener = listen::tcp(SocketAddr::new(config.common.address, PORT))?;
    let identity = enrolment::enrol(&config.common, &drain).await?;
    certificates.add_leaf(&identity);
    let member = Member::open(config, identity.clone(), key, drain.clone()).await?;
    ready.send_replace(Some(std::sync::Arc::clone(&member)));
    part.ready();
    // A joiner has no identity anyone here knows yet; everything else asks for one.
    let tls = tls::server_config(&identity, Accept::Any, &[ALPN, b"h2"], ClientAuth::Optional);
    let service = MemberServer::new(Service(std::sync::Arc::clone(&member))).max_decoding_message_size(LARGEST_MESSAGE);
    tokio::select! {
        () = grpc::serve(listener, tls, tonic::service::Routes::new(service), drain.clone()) => {}
        // A member whose Raft stopped would be one in name only: it ends, says why, and is started again.
        reason = member.stopped() => return Err(Error::Raft(reason)),
    }
    if let Some(raft) = member.raft() {
        let _ = raft.shutdown().await;
    }
    Ok(())
}
