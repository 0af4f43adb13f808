//! A whole control whose source is a real API server, which is then taken away.
//!
//! Run it with a cluster of your own that nothing depends on:
//! `ISTHMUS_KUBECONFIG=… ISTHMUS_BREAK='…' ISTHMUS_HEAL='…' cargo test -p isthmus-control --test cluster -- --ignored`. The two
//! commands stop the API server and start it again; `ISTHMUS_IMAGE` names an image with a shell that the nodes have, `KUBECTL`
//! the program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{collections::BTreeMap, io::Write as _, path::PathBuf, process::Stdio};

use isthmus_ca::{Ca, Settings};
use isthmus_control::Config;
use isthmus_core::model::{Endpoint, EndpointState, Resource, Service};
use isthmus_kubernetes::Access;
use isthmus_runtime::{
    drain::Drain,
    enrolment::system_identity,
    feed::{Registration, Role},
    identity::Identity,
};
use support::{Client, Ground, east, member::Fake, mesh, registration, until};

const DEFINITIONS: &str = include_str!("../../kubernetes/tests/same/definitions.yaml");
/// What is installed: of it the rights that control has.
const BASE: &str = include_str!("../../deploy/kustomize/base/isthmus.yaml");
const NAMESPACE: &str = "isthmus-test-source";
const ROUTE: &str = "route: [{destination: {host: reviews}}]";

fn said(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

fn kubeconfig() -> PathBuf {
    std::env::var_os("ISTHMUS_KUBECONFIG")
        .expect("ISTHMUS_KUBECONFIG names the kubeconfig of a cluster for tests")
        .into()
}

/// Runs kubectl as a user would; its answer, or what it complained of.
fn kubectl(arguments: &str, input: &str) -> Result<String, String> {
    let mut command = std::process::Command::new(said("KUBECTL", "kubectl"));
    command.arg("--kubeconfig").arg(kubeconfig()).args(arguments.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("kubectl is there");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn apply(text: &str) {
    kubectl("apply -f -", text).unwrap_or_else(|error| panic!("{error}"));
}

/// Control's account and all that the chart lets it ask of the API server; nothing else of the chart is there.
fn rights() -> String {
    let kinds = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
    let is_right = |document: &&str| kinds.iter().any(|kind| document.contains(&format!("\nkind: {kind}\n")));
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: isthmus-system}\n";
    std::iter::once(namespace).chain(BASE.split("\n---\n").filter(is_right)).collect::<Vec<_>>().join("\n---\n")
}

fn shell(variable: &str) {
    let command = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is a command for the API server"));
    let status = std::process::Command::new("sh").args(["-c", &command]).status().unwrap();
    assert!(status.success(), "{command}");
}

fn service(port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: reviews, namespace: {NAMESPACE}}}\nspec:\n  selector: {{app: reviews}}\n  \
         ports: [{{name: http, port: {port}, targetPort: web}}]\n"
    )
}

fn route(rule: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews, namespace: {NAMESPACE}}}\nspec:\n  \
         hosts: [reviews]\n  http:\n    - {rule}\n"
    )
}

fn pod() -> String {
    let image = said("ISTHMUS_IMAGE", "localhost/box:1");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: reviews-1, namespace: {NAMESPACE}, labels: {{app: reviews, version: v1}}}}\n\
         spec:\n  serviceAccountName: reviews\n  terminationGracePeriodSeconds: 1\n  containers:\n    - name: app\n      \
         image: {image}\n      imagePullPolicy: Never\n      command: [sleep, \"100000\"]\n      \
         ports: [{{name: web, containerPort: 9080}}]\n      \
         readinessProbe: {{exec: {{command: [test, -e, /tmp/ready]}}, periodSeconds: 1, failureThreshold: 1}}\n"
    )
}

/// A namespace of the test's own; gone with it.
struct Room;

impl Room {
    fn make() -> Self {
        let _ = kubectl(&format!("delete namespace {NAMESPACE} --ignore-not-found --wait"), "");
        apply(DEFINITIONS);
        apply(&rights());
        // Each control of the tests is a new one, with a CA of its own.
        let secrets = "isthmus-ca isthmus-federation-key --ignore-not-found";
        kubectl(&format!("-n isthmus-system delete secret {secrets}"), "").unwrap();
        kubectl("wait --for condition=established crd --all --timeout 20s", "").unwrap();
        apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n"));
        apply(&format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: reviews, namespace: {NAMESPACE}}}\n"));
        apply(&format!("{}---\n{}---\n{}", service(9080), pod(), route(ROUTE)));
        Self
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = kubectl(&format!("delete namespace {NAMESPACE} --wait=false"), "");
    }
}

/// A kubeconfig of control's own service account, in the ground's folder; `change` may lead it another way.
fn own_kubeconfig(ground: &Ground, change: impl FnOnce(&mut serde_json::Value)) -> PathBuf {
    let view = kubectl("config view --raw --flatten --minify -o json", "").unwrap();
    let mut view: serde_json::Value = serde_json::from_str(&view).unwrap();
    let token = kubectl("-n isthmus-system create token control", "").unwrap();
    view["users"][0]["user"] = serde_json::json!({"token": token.trim()});
    change(&mut view["clusters"][0]["cluster"]);
    let file = ground.path("kubeconfig");
    std::fs::write(&file, view.to_string()).unwrap();
    file
}

fn ground() -> (Ground, impl Fn(&Ground) -> Config) {
    let ground = Ground::new(70);
    let kubeconfig = own_kubeconfig(&ground, |_| ());
    let config = move |ground: &Ground| Config {
        config_dir: None,
        kubernetes: Some(Access { kubeconfig: Some(kubeconfig.clone()), ..Access::default() }),
        // As the Secret has it.
        federation_key: Some(ground.path("key.der")),
        gateways: vec![],
        zones: vec![],
        ..ground.config()
    };
    (ground, config)
}

/// A member that knows of no other cluster: before one tells, nothing is said of how objects stand.
async fn member(ground: &Ground, config: &Config) {
    let authority = config.ca_dir().join("authority.json");
    until("control has an authority", || async { authority.exists() }).await;
    let ca = Ca::open_or_create(&config.ca_dir(), &mesh(), &east(), Settings::default()).unwrap();
    let federation = system_identity(ca.trust_domain(), "federation").unwrap();
    let identity = ca.local_identity(&federation, Drain::new()).unwrap();
    Fake::default().serve(&identity, ground.member(), Drain::new());
}

/// Enrols as a sidecar of the pod does: by a token of its service account, which the API server knows.
async fn enrolled(ground: &Ground, name: &str) -> Identity {
    let bound = "--audience isthmus.dev --bound-object-kind Pod --bound-object-name reviews-1";
    let token = kubectl(&format!("-n {NAMESPACE} create token reviews {bound}"), "").unwrap();
    ground.enrolled((NAMESPACE, "reviews", name), |minted| minted.token = token.trim().to_owned()).await
}

fn of(client: &Client) -> Option<&Service> {
    match client.known.get(&format!("service/{NAMESPACE}/reviews")) {
        Some(Resource::Service(service)) => Some(service),
        _ => None,
    }
}

fn local(client: &Client) -> Option<&Endpoint> {
    endpoint(client, "reviews")
}

fn endpoint<'a>(client: &'a Client, service: &str) -> Option<&'a Endpoint> {
    match client.known.get(&format!("endpoints/{NAMESPACE}/{service}")) {
        Some(Resource::Endpoints(endpoints)) => endpoints.local.first(),
        _ => None,
    }
}

fn state(client: &Client) -> Option<EndpointState> {
    local(client).map(|endpoint| endpoint.state)
}

/// As its sidecar registers the pod.
async fn sidecar() -> Registration {
    let ip = std::cell::RefCell::new(String::new());
    until("the pod's address", || async {
        let asked = kubectl(&format!("-n {NAMESPACE} get pod reviews-1 -o jsonpath={{.status.podIP}}"), "");
        *ip.borrow_mut() = asked.unwrap_or_default();
        !ip.borrow().is_empty()
    })
    .await;
    let inbound = format!("{}:15006", ip.into_inner());
    let said = registration("reviews-1", NAMESPACE, "nobody", &inbound);
    Registration { region: String::new(), zone: String::new(), ..said }
}

/// What does not come from the rest of a cluster that is not the test's.
fn own(client: &Client) -> BTreeMap<String, Resource> {
    let of_room = client.known.iter().filter(|(key, _)| key.contains(NAMESPACE));
    of_room.map(|(key, resource)| (key.clone(), resource.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: ISTHMUS_KUBECONFIG, ISTHMUS_BREAK, ISTHMUS_HEAL"]
async fn objects_and_pods_arrive_and_an_api_server_that_is_gone_changes_nothing() {
    let _room = Room::make();
    let (ground, config) = ground();
    let control = ground.start_with(config(&ground));
    let identity = enrolled(&ground, "reviews-1").await;
    let mut client = ground.subscribe(&identity, Role::Proxy, "reviews-1");
    client.reporter.register(sidecar().await);
    client.until("an endpoint that is not ready", |client| state(client) == Some(EndpointState::Unready)).await;
    let endpoint = local(&client).unwrap();
    assert_eq!(endpoint.targets, BTreeMap::from([(9080, 9080)]), "the named port is the pod's");
    assert_eq!(endpoint.labels.get("version").map(String::as_str), Some("v1"), "the labels are the pod's");
    assert!(!endpoint.locality.zone.is_empty(), "the zone is its node's: {:?}", endpoint.locality);
    kubectl(&format!("-n {NAMESPACE} exec reviews-1 -- touch /tmp/ready"), "").unwrap();
    client.until("a ready endpoint", |client| state(client) == Some(EndpointState::Ready)).await;

    client.until("its route", |client| of(client).is_some_and(|service| service.routes.len() == 1)).await;
    apply(&route("mirror: {host: reviews}"));
    let file = format!("VirtualService/{NAMESPACE}/reviews");
    until("the fault of the bad route", || async {
        let rows = ground.rows("/api/config").await;
        rows.iter()
            .any(|row| row["file"] == file.as_str() && row["in_force"] == true && row["errors"][0]["field"] != "")
    })
    .await;
    assert_eq!(of(&client).unwrap().routes.len(), 1, "the last good route is in force");

    let other = enrolled(&ground, "ratings-1").await;
    shell("ISTHMUS_BREAK");
    until("an API server that is gone", || async { kubectl("get --raw /livez --request-timeout 1s", "").is_err() })
        .await;
    let before = own(&client);
    client.leave();
    control.stop().await;
    // A new run, with its disk alone; and a client that has nothing of its own.
    let control = ground.start_with(config(&ground));
    let mut other = ground.subscribe(&other, Role::Proxy, "ratings-1");
    other.until("what was in force before", |client| own(client).len() == before.len()).await;
    assert_eq!(own(&other), before);

    shell("ISTHMUS_HEAL");
    until("an API server", || async { kubectl("get --raw /readyz --request-timeout 1s", "").is_ok() }).await;
    apply(&service(9081));
    other.until("the edited port", |client| of(client).is_some_and(|service| service.ports[0].port == 9081)).await;
    kubectl(&format!("-n {NAMESPACE} delete pod reviews-1 --wait=false"), "").unwrap();
    other.until("no endpoint without its pod", |client| local(client).is_none()).await;
    other.leave();
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: ISTHMUS_KUBECONFIG"]
async fn a_kind_that_is_taken_away_takes_its_objects_along_and_one_that_comes_is_noticed() {
    let _room = Room::make();
    let (ground, config) = ground();
    let control = ground.start_with(config(&ground));
    let identity = enrolled(&ground, "ratings-1").await;
    let mut client = ground.subscribe(&identity, Role::Proxy, "ratings-1");
    let routes = |client: &Client| of(client).map(|service| service.routes.len());
    client.until("a route", |client| routes(client) == Some(1)).await;
    kubectl("delete crd virtualservices.networking.istio.io", "").unwrap();
    client.until("no route", |client| routes(client) == Some(0)).await;
    apply(DEFINITIONS);
    kubectl("wait --for condition=established crd --all --timeout 20s", "").unwrap();
    until("the route is taken", || async { kubectl("apply -f -", &route(ROUTE)).is_ok() }).await;
    client.until("the route again", |client| routes(client) == Some(1)).await;
    client.leave();
    control.stop().await;
}

/// A way to the API server that can be cut.
struct Relay {
    open: std::sync::Arc<tokio::sync::watch::Sender<bool>>,
    kubeconfig: PathBuf,
}

impl Relay {
    /// A kubeconfig that leads over it is put into the ground's folder.
    async fn start(ground: &Ground) -> Self {
        let listener = tokio::net::TcpListener::bind((ground.at(9), 0)).await.unwrap();
        let mut server = String::new();
        let kubeconfig = own_kubeconfig(ground, |cluster| {
            server = cluster["server"].as_str().unwrap().strip_prefix("https://").unwrap().to_owned();
            cluster["tls-server-name"] = server.rsplit_once(':').unwrap().0.into();
            cluster["server"] = format!("https://{}", listener.local_addr().unwrap()).into();
        });
        let open = std::sync::Arc::new(tokio::sync::watch::Sender::new(true));
        let gate = open.clone();
        tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let (mut gate, server) = (gate.subscribe(), server.clone());
                tokio::spawn(async move {
                    let relayed = async {
                        let mut there = tokio::net::TcpStream::connect(server).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                    };
                    tokio::select! {
                        () = relayed => {}
                        _ = gate.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { open, kubeconfig }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: ISTHMUS_KUBECONFIG, ISTHMUS_BREAK, ISTHMUS_HEAL"]
async fn what_changed_while_nobody_looked_is_found_when_the_history_is_gone_too() {
    let _room = Room::make();
    let (ground, config) = ground();
    let relay = Relay::start(&ground).await;
    let access = Access { kubeconfig: Some(relay.kubeconfig.clone()), ..Access::default() };
    let control = ground.start_with(Config { kubernetes: Some(access), ..config(&ground) });
    let identity = enrolled(&ground, "ratings-1").await;
    let mut client = ground.subscribe(&identity, Role::Proxy, "ratings-1");
    let shown = |client: &Client| of(client).map(|service| (service.ports[0].port, service.routes.len()));
    client.until("port and route", |client| shown(client) == Some((9080, 1))).await;
    relay.open.send_replace(false);
    apply(&service(9081));
    apply(&service(9082));
    kubectl(&format!("-n {NAMESPACE} delete virtualservice reviews"), "").unwrap();
    // An API server that was started anew knows no event from before.
    shell("ISTHMUS_BREAK");
    until("an API server that is gone", || async { kubectl("get --raw /livez --request-timeout 1s", "").is_err() })
        .await;
    shell("ISTHMUS_HEAL");
    until("an API server", || async { kubectl("get --raw /readyz --request-timeout 1s", "").is_ok() }).await;
    assert_eq!(shown(&client), Some((9080, 1)), "nothing has changed here");
    relay.open.send_replace(true);
    client.until("what is there now", |client| shown(client) == Some((9082, 0))).await;
    client.leave();
    control.stop().await;
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: FailoverPolicy\nmetadata: {{name: near, namespace: {NAMESPACE}}}\nspec: {spec}\n"
    )
}

/// A part of the policy as the API server has it.
fn of_policy(path: &str) -> String {
    kubectl(&format!("-n {NAMESPACE} get failoverpolicy near -o jsonpath={{{path}}}"), "").unwrap_or_default()
}

/// A condition of it, by its type.
fn condition(kind: &str) -> String {
    format!(".status.conditions[?(@.type==\"{kind}\")]")
}

const ACCEPTED: &str = ".status.conditions[?(@.type==\"Accepted\")]";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: ISTHMUS_KUBECONFIG"]
async fn the_leader_says_once_how_an_object_stands() {
    let _room = Room::make();
    let (ground, config) = ground();
    let control = ground.start_with(config(&ground));
    member(&ground, &config(&ground)).await;
    let accepted = || of_policy(&format!("{ACCEPTED}.status"));
    apply(&policy("{services: {names: [reviews]}, constraints: {never: [us-west]}}"));
    until("it is accepted", || async { accepted() == "True" }).await;
    apply(&policy("{services: {names: [reviews]}, nonsense: 1}"));
    until("it is refused", || async { accepted() == "False" }).await;
    let (message, generation) = (of_policy(&format!("{ACCEPTED}.message")), of_policy(".metadata.generation"));
    assert!(message.contains("nonsense") && message.contains("stays in force"), "{message}");
    assert_eq!(of_policy(&format!("{ACCEPTED}.observedGeneration")), generation);
    assert_eq!(of_policy(&format!("{}.status", condition("ResolvedRefs"))), "Unknown");
    assert_eq!(of_policy(&format!("{}.reason", condition("Programmed"))), "Invalid");
    assert_eq!(of_policy(".metadata.managedFields[?(@.subresource==\"status\")].manager"), "isthmus-status");
    let uid = of_policy(".metadata.uid");
    until("an Event says so", || async {
        let about = format!("involvedObject.uid={uid},type=Warning,reason=Invalid");
        let told = kubectl(
            &format!("-n {NAMESPACE} get events --field-selector {about} -o jsonpath={{.items[*].message}}"),
            "",
        );
        told.is_ok_and(|message| message.contains("nonsense"))
    })
    .await;
    let version = of_policy(".metadata.resourceVersion");
    apply(&service(9081));
    until("another change is in force", || async {
        let rows = ground.rows("/api/services").await;
        rows.iter().any(|row| row["service"] == format!("{NAMESPACE}/reviews") && row["ports"][0] == "9081/http")
    })
    .await;
    assert_eq!(of_policy(".metadata.resourceVersion"), version, "nothing more is written");
    control.stop().await;
}

/// A part of the route as the API server has it.
fn of_route(path: &str) -> String {
    kubectl(&format!("-n {NAMESPACE} get virtualservice reviews -o jsonpath={{{path}}}"), "").unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: ISTHMUS_KUBECONFIG"]
async fn a_route_says_what_it_names_that_is_not_there_and_what_others_say_of_it_stays() {
    let _room = Room::make();
    let (ground, config) = ground();
    let control = ground.start_with(config(&ground));
    member(&ground, &config(&ground)).await;
    let resolved = |path: &str| of_route(&format!("{}.{path}", condition("ResolvedRefs")));
    until("all that it names is there", || async { resolved("status") == "True" }).await;
    assert_eq!(of_route(&format!("{}.status", condition("Programmed"))), "True");
    let mut all: serde_json::Value = serde_json::from_str(&of_route(".status")).unwrap();
    let foreign = serde_json::json!({"type": "Reconciled", "status": "True"});
    all["conditions"].as_array_mut().unwrap().push(foreign);
    let patch = ground.path("patch.json");
    std::fs::write(&patch, serde_json::json!({"status": all}).to_string()).unwrap();
    let how = format!(
        "-n {NAMESPACE} patch virtualservice reviews --subresource status --type merge --patch-file {}",
        patch.display()
    );
    kubectl(&how, "").unwrap();
    apply(&route("route: [{destination: {host: ratings}}]"));
    until("what is not there is named", || async {
        resolved("message").contains(&format!("no Service {NAMESPACE}/ratings"))
    })
    .await;
    assert_eq!((resolved("status").as_str(), resolved("reason").as_str()), ("False", "BackendNotFound"));
    assert_eq!(of_route(&format!("{ACCEPTED}.status")), "True");
    assert_eq!(of_route(&format!("{}.status", condition("Reconciled"))), "True", "what another one says");
    control.stop().await;
}

fn slice(ip: &str, ready: bool) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: ledger, namespace: {NAMESPACE}}}\nspec:\n  ports: [{{name: sql, port: 5432}}]\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: ledger-1\n  namespace: {NAMESPACE}\n  \
         labels: {{kubernetes.io/service-name: ledger}}\naddressType: IPv4\nendpoints: [{{addresses: [{ip}], \
         conditions: {{ready: {ready}}}}}]\nports: [{{name: sql, port: 5433}}]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: ISTHMUS_KUBECONFIG"]
async fn an_address_of_a_slice_that_is_a_pod_of_the_mesh_answers_for_a_service_without_a_selector() {
    let _room = Room::make();
    let (ground, config) = ground();
    let control = ground.start_with(config(&ground));
    let identity = enrolled(&ground, "reviews-1").await;
    let mut client = ground.subscribe(&identity, Role::Proxy, "reviews-1");
    let registration = sidecar().await;
    let ip = registration.inbound.rsplit_once(':').unwrap().0.to_owned();
    client.reporter.register(registration);
    apply(&slice(&ip, true));
    let state = |client: &Client| endpoint(client, "ledger").map(|endpoint| endpoint.state);
    client.until("an endpoint", |client| state(client) == Some(EndpointState::Ready)).await;
    assert_eq!(endpoint(&client, "ledger").unwrap().targets, BTreeMap::from([(5432, 5433)]));
    apply(&slice(&ip, false));
    client.until("its slice's word", |client| state(client) == Some(EndpointState::Unready)).await;
    kubectl(&format!("-n {NAMESPACE} delete endpointslice ledger-1"), "").unwrap();
    client.until("none without a slice", |client| state(client).is_none()).await;
    client.leave();
    control.stop().await;
}
