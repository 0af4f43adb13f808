//! Control as a process: opens its state, starts the desk and everything around it, and ends with the drain.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use isthmus_ca::Ca;
use isthmus_core::statement::{Content, Lease};
use isthmus_kubernetes::{calls, leader::Candidacy};
use isthmus_runtime::{
    admin::Admin,
    disk::Keeper,
    drain::Drain,
    enrolment::system_identity,
    grpc,
    identity::Identity,
    key, listen, logs, metrics as metric,
    readiness::Readiness,
    tls::{self, Accept, ClientAuth},
};
use isthmus_wire::{
    feed::feed_server::FeedServer, identity::certificate_authority_server::CertificateAuthorityServer,
    replicas::replicas_server::ReplicasServer,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    address::Address,
    api,
    authority::Authority,
    cluster::{Cluster, Shown},
    compiler::{Compiled, Setting},
    config::{Config, Source},
    desk::{self, Desk},
    error::Error,
    feed,
    handle::Handle,
    heard::Heard,
    keeping,
    listener::{self, Listener},
    metrics::Metrics,
    names, plugged,
    replicas::{
        self,
        service::Spoken,
        siblings::{Replicas, Siblings},
    },
    sources::{self, files},
    speaker::Speaker,
    table::Snapshot,
    voice::{self, Found, Voice},
    whereabouts::Resolver,
};

/// What is logged unless the configuration says otherwise. kube's client logs each request that fails, as an error; what that
/// means is said by who asked.
const LOG: &str = "info,kube_client=off,kube_runtime=off";
/// The feed's and the CA's port.
const FEED_PORT: u16 = 15012;
/// Statements found under the own name that wait for the speaker.
const FOUND: usize = 64;

/// Runs one cluster's control plane until the drain.
///
/// # Errors
/// When it cannot begin: a taken port, an unreadable state, no certificate authority.
pub async fn run(config: Config, drain: Drain) -> Result<(), Error> {
    // The binary may have set up logging already; its choice stays.
    let _ = logs::init("control", config.common.log.as_deref().unwrap_or(LOG), false);
    let admin = Admin::bind(&config.common, "control")?;
    isthmus_runtime::disk::make_dir(&config.common.state_dir)?;
    let registry = metric::registry("control")?;
    let metrics = Metrics::new(&registry)?;
    let readiness = Readiness::new();
    drain.close_after(GRACE);
    let mut tasks = JoinSet::new();
    let cluster = match config.source()? {
        Source::Kubernetes(access) => {
            calls::register(&registry)?;
            Some(Cluster::open(access, &config, &drain).await?)
        }
        Source::Files(_) => None,
    };
    let (authority, source) = open_authority(&config, cluster.as_ref()).await?;
    let identity = authority.identity(&config, &drain)?;
    let certificates = admin.certificates();
    certificates.add_leaf(&identity);
    certificates.add("authority", authority.ends());
    let parts = Parts::new(&config, &authority, identity.clone(), metrics, readiness.clone(), drain.clone());
    let (desk, deeds) = parts.start(&mut tasks).await?;
    let ca = authority.service(cluster.as_ref().map(Cluster::reviewer));
    serve(&config, (ca, deeds), &identity, (desk.clone(), authority.ca()), (&mut tasks, &drain))?;
    let places = keeping::Places {
        source,
        vault: cluster.as_ref().map(Cluster::vault),
        events: cluster.as_ref().map(|cluster| cluster.events(&config, (&mut tasks, &drain))),
    };
    let (roots, standing) = authority.follow(&config, places, desk.clone(), (&mut tasks, &drain));
    if let Some(cluster) = cluster {
        let shown = Shown { registry: &registry, certificates: &certificates };
        cluster.start(&config, &authority, shown, roots, (&mut tasks, &drain))?;
    }
    let snapshots = desk.snapshots();
    let dump = move || snapshots.borrow().as_deref().map_or(serde_json::Value::Null, dump);
    let admin = admin.router(api::router(desk)).router(api::authority(standing)).config_dump(dump);
    tasks.spawn(admin.serve(registry, readiness, drain.clone()));
    tracing::info!(cluster = %config.common.cluster, address = %config.common.address, "control runs");
    drain.draining().await;
    finish(tasks).await;
    Ok(())
}

/// What signs here, and where another one may come from.
async fn open_authority(
    config: &Config,
    cluster: Option<&Cluster>,
) -> Result<(Authority, Option<plugged::Source>), Error> {
    let (brought, source) = match (cluster, &config.ca.cacerts) {
        (Some(cluster), _) => (cluster.brought(config)?, Some(cluster.source())),
        (None, Some(dir)) => (plugged::begin(dir, config).await?, Some(plugged::Source::Directory(dir.clone()))),
        (None, None) => (None, None),
    };
    Ok((Authority::open(config, brought)?, source))
}

/// Tasks have so long to write what they hold: the servers serve on until everything closes.
const GRACE: Duration = Duration::from_millis(300);
/// Servers end by themselves once everything closes, and only then are their ports free; what does not is cut.
const CLOSING: Duration = Duration::from_secs(1);

/// What was under way may finish.
async fn finish(mut tasks: JoinSet<()>) {
    let _ = tokio::time::timeout(GRACE + CLOSING, async { while tasks.join_next().await.is_some() {} }).await;
    tasks.shutdown().await;
}

fn serve(
    config: &Config,
    (ca, deeds): (CertificateAuthorityServer<isthmus_ca::service::Service>, Spoken),
    identity: &Identity,
    (desk, believed): (Handle, Ca),
    (tasks, drain): (&mut JoinSet<()>, &Drain),
) -> Result<(), Error> {
    let address = std::net::SocketAddr::new(config.common.address, FEED_PORT);
    let listener = listen::tcp(address).map_err(|source| Error::Listen { address, source })?;
    let trust_domain = config.common.cluster.trust_domain(&config.common.mesh);
    let accept = Accept::TrustDomain(trust_domain.clone());
    let tls = tls::server_config(identity, accept, &[grpc::ALPN], ClientAuth::Optional);
    let control = system_identity(&trust_domain, "control")?;
    let feed = FeedServer::new(feed::Service::new(desk.clone(), trust_domain, drain.clone()));
    let replicas =
        ReplicasServer::new(replicas::service::Service::new((desk, believed), deeds, control, drain.clone()));
    let routes = tonic::service::Routes::new(feed).add_service(ca).add_service(replicas);
    tasks.spawn(grpc::serve(listener, tls, routes, drain.clone()));
    Ok(())
}

/// All that is not the server.
struct Parts<'a> {
    config: &'a Config,
    ca: Ca,
    setting: Setting,
    identity: Identity,
    metrics: Metrics,
    readiness: Readiness,
    drain: Drain,
}

impl<'a> Parts<'a> {
    fn new(
        config: &'a Config,
        authority: &Authority,
        identity: Identity,
        metrics: Metrics,
        readiness: Readiness,
        drain: Drain,
    ) -> Self {
        let core = isthmus_core::compile::Setting {
            mesh: config.common.mesh.clone(),
            cluster: config.common.cluster.clone(),
            region: config.common.locality.region.clone(),
            zones: config.zones.clone(),
            nodes: BTreeMap::new(),
            gateways: config.gateways.iter().filter_map(Address::literal).collect(),
            advertise: config.advertise_gateways.clone(),
            member: config.member.literal(),
            roots: authority.roots(),
        };
        let setting = Setting { core, dns_for: config.dns_for };
        Self { config, ca: authority.ca(), setting, identity, metrics, readiness, drain }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.config.common.state_dir.join(name)
    }

    async fn start(self, tasks: &mut JoinSet<()>) -> Result<(Handle, Spoken), Error> {
        let (tell, messages) = mpsc::channel(desk::QUEUE);
        let (snapshots, shown) = watch::channel(None);
        let (contents, to_say) = watch::channel(None);
        let (lease, with_lease) = watch::channel(Lease::default());
        let (compiled, named) = watch::channel(None);
        let (found, to_rise) = mpsc::channel(FOUND);
        let (deeds, spoken) = watch::channel(None);
        let handle = Handle::new(tell, shown);
        let disk = desk::Disk {
            registrations: Keeper::new(self.file("registrations.json"), "registrations"),
            decisions: Keeper::new(self.file("decisions.json"), "decisions"),
            indexes: Keeper::new(self.file("indexes.json"), "addresses of services"),
            failover: Keeper::new(self.file("failover.json"), "verbs, shares and history of failover"),
        };
        let ready = self.readiness.needs("model");
        let outputs = desk::Outputs { snapshots, contents, lease, compiled, deeds, ready };
        let mut desk = Desk::open(self.setting.clone(), disk, outputs, self.metrics.clone())?;
        if matches!(self.config.source()?, Source::Kubernetes(_)) {
            desk = desk.replicated();
        }
        let drain = self.drain.clone();
        tasks.spawn(desk.run(messages, drain.clone()));
        let candidacy = self.sources(&handle, named.clone(), tasks).await?;
        tasks.spawn(self.listener(handle.clone(), found)?.run(drain.clone()));
        tasks.spawn(self.voice(handle.clone(), (to_say, with_lease, candidacy), to_rise)?.run(drain.clone()));
        tasks.spawn(follow_trust(handle.snapshots(), self.identity.clone()));
        names::start(&self.setting, self.config.common.address, named, tasks, &drain)?;
        Ok((handle, spoken))
    }

    /// Whoever tells of objects, and of where things are; how this replica stands among others.
    async fn sources(
        &self,
        desk: &Handle,
        compiled: watch::Receiver<Option<Arc<Compiled>>>,
        tasks: &mut JoinSet<()>,
    ) -> Result<watch::Receiver<Candidacy>, Error> {
        // On hosts there is one control.
        let (candidacy, stands) = watch::channel(Candidacy::Leads);
        match self.config.source()? {
            Source::Files(directory) => {
                let source = files::Source::open(directory.clone(), self.file("sources.json"), desk.clone())?;
                tasks.spawn(source.run(self.drain.clone()));
            }
            Source::Kubernetes(access) => {
                candidacy.send_replace(Candidacy::Unasked);
                let (replicas, all) = watch::channel(None);
                tasks.spawn(self.siblings(desk.clone(), all)?.run(self.drain.clone()));
                let source = sources::cluster::Source::open(
                    access.clone(),
                    (self.config.common.cluster.clone(), self.config.common.name.clone()),
                    self.file("cluster.json"),
                    desk.clone(),
                    compiled,
                    sources::cluster::Tells { candidacy, replicas },
                )?;
                source.start(tasks, &self.drain).await?;
            }
        }
        if let Some(resolver) = Resolver::of(self.config) {
            tasks.spawn(resolver.run(desk.clone(), self.drain.clone()));
        }
        Ok(stands)
    }

    fn siblings(&self, desk: Handle, replicas: watch::Receiver<Option<Replicas>>) -> Result<Siblings, Error> {
        let trust_domain = self.config.common.cluster.trust_domain(&self.config.common.mesh);
        Ok(Siblings {
            name: self.config.common.name.clone(),
            port: FEED_PORT,
            identity: self.identity.clone(),
            control: system_identity(&trust_domain, "control")?,
            desk,
            ca: self.ca.clone(),
            replicas,
        })
    }

    fn member(&self) -> Result<tonic::transport::Channel, Error> {
        let trust_domain = self.config.common.cluster.trust_domain(&self.config.common.mesh);
        let accept = Accept::one(system_identity(&trust_domain, "federation")?);
        Ok(grpc::channel(&self.identity, &self.config.member, accept))
    }

    fn listener(&self, desk: Handle, found: mpsc::Sender<Found>) -> Result<Listener, Error> {
        let file = Arc::new(Keeper::new(self.file("heard.json"), "what other clusters say"));
        let on_disk = listener::last_heard(file.path())?;
        let (mesh, own) = (self.setting.mesh.clone(), self.setting.cluster.clone());
        let heard = Heard::new(mesh, own, on_disk, &self.metrics);
        let channel = self.member()?;
        Ok(Listener { heard, file, channel, found, desk, metrics: self.metrics.clone() })
    }

    fn voice(
        &self,
        desk: Handle,
        (contents, lease, candidacy): (
            watch::Receiver<Option<Vec<Content>>>,
            watch::Receiver<Lease>,
            watch::Receiver<Candidacy>,
        ),
        found: mpsc::Receiver<Found>,
    ) -> Result<Voice, Error> {
        let file = Keeper::new(self.file("epoch.json"), "the epoch, without which nothing is said to other clusters,");
        let on_disk = voice::last_epoch(file.path())?;
        let key = key::federation_key(self.config.federation_key())?;
        let (mesh, cluster) = (self.setting.mesh.clone(), self.setting.cluster.clone());
        let speaker = Speaker::new(mesh, cluster, key, on_disk.epoch);
        let (channel, metrics) = (self.member()?, self.metrics.clone());
        Ok(Voice { speaker, file, on_disk, candidacy, channel, contents, lease, found, desk, metrics })
    }
}

/// The own process believes the roots it compiled.
async fn follow_trust(mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>, identity: Identity) {
    while snapshots.changed().await.is_ok() {
        let snapshot = snapshots.borrow_and_update().clone();
        let Some(snapshot) = snapshot else { continue };
        if let Some(isthmus_core::model::Resource::Trust(trust)) =
            snapshot.entries.get("trust").map(|entry| &entry.resource)
        {
            identity.set_trust(isthmus_runtime::trust::TrustRoots::from_model(trust));
        }
    }
}

fn dump(snapshot: &Snapshot) -> serde_json::Value {
    let resources: Vec<_> = snapshot
        .entries
        .iter()
        .map(|(key, entry)| serde_json::json!({ "key": key, "version": entry.version, "resource": entry.resource }))
        .collect();
    serde_json::json!({ "run": *snapshot.run, "version": snapshot.version, "resources": resources })
}
