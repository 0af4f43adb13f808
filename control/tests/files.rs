//! Files on disk to resources at a client: edits take effect, bad files do not, restarts change nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use hickory_proto::{op::ResponseCode, rr::RecordType};
use isthmus_core::model::{EndpointState, Resource};
use isthmus_runtime::feed::Role;
use support::{Client, Ground, registration, until};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata:
  name: reviews
  namespace: bookinfo
spec:
  selector:
    app: reviews
  ports:
    - name: http
      port: 9080
      targetPort: 9080
";

const EXPORT: &str = "
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceExport
metadata:
  name: reviews
  namespace: bookinfo
";

fn local(client: &Client) -> Vec<(String, EndpointState)> {
    match client.known.get("endpoints/bookinfo/reviews") {
        Some(Resource::Endpoints(endpoints)) => {
            endpoints.local.iter().map(|endpoint| (endpoint.id.to_string(), endpoint.state)).collect()
        }
        _ => vec![],
    }
}

fn ports(client: &Client) -> Vec<u16> {
    match client.known.get("service/bookinfo/reviews") {
        Some(Resource::Service(service)) => service.ports.iter().map(|port| port.port).collect(),
        _ => vec![],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_arrives_as_a_delta_and_a_bad_file_leaves_the_last_good_one_in_force() {
    let ground = Ground::new(66);
    ground.write("reviews.yaml", SERVICE);
    let control = ground.start();
    let identity = ground.identity("bookinfo", "reviews", "reviews-v1").await;
    let mut client = ground.subscribe(&identity, Role::Proxy, "reviews-v1");
    client.reporter.register(registration("reviews-v1", "bookinfo", "reviews", "127.66.11.1:15006"));
    client.until("its own endpoint", |client| !local(client).is_empty() && ports(client) == [9080]).await;
    ground.write("reviews.yaml", &SERVICE.replace("port: 9080\n", "port: 9081\n"));
    client.until("the edited port", |client| ports(client) == [9081]).await;
    ground.write("reviews.yaml", &SERVICE.replace("port: 9080\n", "port: many\n"));
    ground.write("export.yaml", EXPORT);
    client
        .until("the export beside the bad file", |client| {
            matches!(client.known.get("service/bookinfo/reviews"), Some(Resource::Service(service)) if service.clusterset)
        })
        .await;
    assert_eq!(ports(&client), [9081], "the last good content is in force");
    let rows = ground.rows("/api/config").await;
    let bad = rows.iter().find(|row| row["file"] == "reviews.yaml").unwrap();
    assert_eq!(bad["in_force"], true);
    let error = &bad["errors"][0];
    assert!(error["line"].as_u64().unwrap() > 1 && error["field"].as_str().unwrap().contains("port"), "{error}");
    client.leave();
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_on_the_same_disk_changes_nothing_even_with_a_bad_file() {
    let ground = Ground::new(67);
    ground.write("reviews.yaml", SERVICE);
    let control = ground.start();
    let identity = ground.identity("bookinfo", "reviews", "reviews-v1").await;
    let mut client = ground.subscribe(&identity, Role::Proxy, "reviews-v1");
    client.reporter.register(registration("reviews-v1", "bookinfo", "reviews", "127.67.11.1:15006"));
    client.until("its own endpoint", |client| !local(client).is_empty()).await;
    let before = client.known.clone();
    client.leave();
    ground.write("reviews.yaml", "kind: Nonsense\n");
    until("the fault", || async {
        ground.rows("/api/config").await.iter().any(|row| row["errors"].as_array().is_some_and(|all| !all.is_empty()))
    })
    .await;
    control.stop().await;
    let control = ground.start();
    // Another client: it has nothing on its own disk, so all it knows comes from the new run.
    let other = ground.identity("bookinfo", "ratings", "ratings-v1").await;
    let mut other = ground.subscribe(&other, Role::Proxy, "ratings-v1");
    other.until("what was in force before", |client| client.known.len() >= before.len()).await;
    assert_eq!(other.known, before);
    other.leave();
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_refuses_is_shown_until_it_takes_it() {
    let ground = Ground::new(68);
    ground.write("reviews.yaml", SERVICE);
    let control = ground.start();
    let identity = ground.identity("bookinfo", "reviews", "reviews-v1").await;
    let mut client = ground.subscribe(&identity, Role::Proxy, "reviews-v1");
    loop {
        let update = client.next().await;
        let has = update.upserts.iter().any(|(key, _, _)| key == "service/bookinfo/reviews");
        if has {
            update.ack.refuse(vec![("service/bookinfo/reviews".into(), "too many words".into())]);
            break;
        }
        update.ack.accept();
    }
    let refusals = || async { ground.rows("/api/proxies").await[0]["refusals"].clone() };
    until("the refusal", || async { refusals().await["service/bookinfo/reviews"] == "too many words" }).await;
    ground.write("reviews.yaml", &SERVICE.replace("port: 9080\n", "port: 9081\n"));
    client.until("the next version", |client| ports(client) == [9081]).await;
    until("nothing refused", || async { refusals().await.as_object().is_some_and(|all| all.is_empty()) }).await;
    client.leave();
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_service_has_a_name_and_what_is_not_exported_has_none() {
    let ground = Ground::new(69);
    ground.write("reviews.yaml", SERVICE);
    let control = ground.start();
    let server = std::net::SocketAddr::new(ground.at(1), 15053);
    let name = "reviews.bookinfo.svc.clusterset.local.";
    until("control is ready", || async { !ground.rows("/api/services").await.is_empty() }).await;
    let code = || async { support::dns(server, name, RecordType::A).await.metadata.response_code };
    // The zone follows what is in force at once, but not in the same instant.
    until("an answer that counts", || async { code().await != ResponseCode::ServFail }).await;
    assert_eq!(code().await, ResponseCode::NXDomain);
    ground.write("export.yaml", EXPORT);
    until("an address", || async { !support::dns(server, name, RecordType::A).await.answers.is_empty() }).await;
    let address = support::dns(server, name, RecordType::A).await.answers[0].data.to_string();
    assert_eq!(address, "127.69.11.16", "the first service address of the workload DNS answers for");
    let port = support::dns(server, name, RecordType::SRV).await.answers[0].data.to_string();
    assert!(port.contains("9080"), "{port}");
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_and_the_member_may_be_named_by_hosts() {
    let ground = Ground::new(71);
    let named = |port: u16| isthmus_control::address::Address::try_from(format!("localhost:{port}")).unwrap();
    let config = isthmus_control::Config { member: named(15050), gateways: vec![named(15444)], ..ground.config() };
    let control = ground.start_with(config);
    let identity = ground.identity("bookinfo", "reviews", "reviews-v1").await;
    let mut client = ground.subscribe(&identity, Role::Proxy, "reviews-v1");
    client
        .until("their addresses", |client| match client.known.get("mesh") {
            Some(Resource::Mesh(mesh)) => {
                let is_local = |address: &std::net::SocketAddr| address.ip().is_loopback();
                mesh.member.is_some_and(|member| is_local(&member) && member.port() == 15050)
                    && mesh.gateways.iter().any(|gateway| is_local(gateway) && gateway.port() == 15444)
            }
            _ => false,
        })
        .await;
    client.leave();
    control.stop().await;
}
