//! Files take effect as they are edited; rules of hosts, weights, subsets and timeouts reach into other clusters.

use isthmus_scenarios::admin;

use crate::{
    PATIENCE,
    protocols::switched,
    support::{
        Raised, eventually,
        load::{Client, Sample, count_by, get},
        url,
    },
};

pub async fn an_edited_file_takes_effect_and_a_bad_one_is_refused_by_itself(mesh: &Raised) {
    let config = mesh.mesh.state.config(&mesh.cluster("us-east").name);
    let file = config.join("late.yaml");
    let service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: late\n  namespace: bookinfo\nspec:\n  selector:\n    app: reviews\n  ports:\n    - name: http\n      port: 9080\n";
    std::fs::write(&file, service).expect("the file is written");
    let late = "http://late.bookinfo.svc.cluster.local:9080/reviews/0";
    becomes(mesh, "us-east", late, "the new service answers", |got| got.status == 200).await;
    std::fs::write(&file, service.replace("port: 9080", "port: ninety")).expect("the file is written");
    eventually("the bad file is shown with file, line, field and reason", PATIENCE, || async {
        let files = admin::read(mesh.control("us-east"), "/api/config").await?;
        let row = files.as_array().and_then(|all| all.iter().find(|one| one["file"] == "late.yaml").cloned());
        let fault = row.as_ref().map(|row| row["errors"][0].clone()).unwrap_or_default();
        anyhow::ensure!(fault["line"] == 11 && fault["field"] == "spec.ports[0].port", "{files}");
        anyhow::ensure!(
            fault["reason"].as_str().is_some_and(|why| why.contains("\"port: ninety\" is not a whole number")),
            "{files}"
        );
        anyhow::ensure!(row.is_some_and(|row| row["in_force"] == true), "{files}");
        Ok(())
    })
    .await;
    assert_eq!(get(mesh.curl("us-east"), late).await.expect("the last good one answers").status, 200);
    std::fs::remove_file(&file).expect("the file is removed");
    becomes(mesh, "us-east", late, "the service is gone with its file", |got| got.status == 404).await;
}

/// The reviews' versions are a cluster each: v1 in us-east, v2 in us-west, v3 in eu-west.
pub async fn rules_work_across_clusters(mesh: &Raised) {
    a_subset_is_found_where_it_runs(mesh).await;
    weights_split_between_other_clusters(mesh).await;
    a_host_leads_to_another_clusters_service(mesh).await;
    a_timeout_holds_for_another_clusters_answer(mesh).await;
    an_upgrade_follows_the_rules_too(mesh).await;
    every_proxy_has_taken_what_it_was_sent(mesh).await;
}

async fn a_subset_is_found_where_it_runs(mesh: &Raised) {
    let reviews = url("reviews", "/reviews/0");
    let jason = tokio::process::Command::new("curl")
        .args(["-sS", "--max-time", "20", "-x", &mesh.curl("us-east").to_string(), "-H", "end-user: jason", &reviews])
        .output()
        .await
        .expect("curl is installed");
    let said = String::from_utf8_lossy(&jason.stdout);
    assert!(said.contains("\"podname\":\"reviews-v2-b\"") && said.contains("us-west"), "{said}");
}

async fn weights_split_between_other_clusters(mesh: &Raised) {
    let file = mesh.mesh.state.config(&mesh.cluster("us-east").name).join("reviews-routes.yaml");
    let before = std::fs::read_to_string(&file).expect("the demo's rules");
    let (rules, _) = before.split_once("  http:\n").expect("its routes");
    let to = |subset: &str| {
        format!(
            "        - destination:\n            host: reviews.bookinfo.svc.clusterset.local\n            subset: {subset}\n          weight: 50\n"
        )
    };
    std::fs::write(&file, format!("{rules}  http:\n    - route:\n{}{}", to("v2"), to("v3"))).expect("written");
    let reviews = url("reviews", "/reviews/0");
    becomes(mesh, "us-east", &reviews, "the split is in force", |got| got.cluster != "us-east").await;
    let client = Client::new(mesh.curl("us-east"));
    let mut samples = vec![];
    for _ in 0..200 {
        samples.push(client.get(&reviews).await.expect("reviews answer"));
    }
    let counts = count_by(&samples, |sample| &sample.workload);
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["reviews-v2-b", "reviews-v3-a"], "{counts:?}");
    // Five deviations of 200 throws of a coin.
    assert!(counts.values().all(|count| (65..=135).contains(count)), "{counts:?}");
    std::fs::write(&file, before).expect("written");
    becomes(mesh, "us-east", &reviews, "the demo's rules are back", |got| got.cluster == "us-east").await;
}

fn rule(host: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: test-{host}\n  namespace: bookinfo\nspec:\n  hosts:\n    - {host}.bookinfo.svc.clusterset.local\n  http:\n{http}"
    )
}

async fn a_host_leads_to_another_clusters_service(mesh: &Raised) {
    let file = mesh.mesh.state.config(&mesh.cluster("us-east").name).join("test.yaml");
    let route = "    - route:\n        - destination:\n            host: details.bookinfo.svc.clusterset.local\n";
    std::fs::write(&file, rule("ratings", route)).expect("written");
    let there = |got: &Sample| got.status == 200 && got.workload.starts_with("details-");
    becomes(mesh, "us-east", &url("ratings", "/details/0"), "ratings are answered by details", there).await;
    std::fs::remove_file(&file).expect("removed");
    let back = |got: &Sample| got.status == 200 && got.workload.starts_with("ratings-");
    becomes(mesh, "us-east", &url("ratings", "/ratings/0"), "ratings answer again", back).await;
}

/// us-west has no echo of its own.
async fn a_timeout_holds_for_another_clusters_answer(mesh: &Raised) {
    let file = mesh.mesh.state.config(&mesh.cluster("us-west").name).join("test.yaml");
    let route = "    - route:\n        - destination:\n            host: echo.bookinfo.svc.clusterset.local\n      timeout: 300ms\n";
    std::fs::write(&file, rule("echo", route)).expect("written");
    let late = |got: &Sample| got.status == 504 && got.error.contains("(UT)");
    becomes(mesh, "us-west", &url("echo", "/delay/10000"), "the timeout is in force", late).await;
    std::fs::remove_file(&file).expect("removed");
    becomes(mesh, "us-west", &url("echo", "/delay/400"), "the timeout is gone", |got| got.status == 200).await;
}

/// v2 of the echo runs only in eu-west; v1 there and in us-east.
async fn an_upgrade_follows_the_rules_too(mesh: &Raised) {
    let file = mesh.mesh.state.config(&mesh.cluster("us-west").name).join("test.yaml");
    let host = "echo.bookinfo.svc.clusterset.local";
    let subset = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: echo\n  namespace: bookinfo\nspec:\n  host: {host}\n  subsets:\n    - name: second\n      labels:\n        version: v2\n"
    );
    let route = format!("    - route:\n        - destination:\n            host: {host}\n            subset: second\n");
    std::fs::write(&file, rule("echo", &route) + &subset).expect("written");
    let second = |got: &Sample| got.error.is_empty() && got.status == 200 && got.workload == "echo-v2-b";
    let client = Client::new(mesh.curl("us-west"));
    eventually("eight requests in a row reach the second version", PATIENCE, || async {
        for _ in 0..8 {
            let got = client.get(&url("echo", "/status/200")).await?;
            anyhow::ensure!(second(&got), "{got:?}");
        }
        Ok(())
    })
    .await;
    let address = mesh.service_address("us-west", "echo").await;
    for _ in 0..8 {
        let stream = tokio::net::TcpStream::connect(address).await.expect("the sidecar listens for the service");
        let (mut socket, received) = switched(stream).await;
        assert_eq!(received["workload"], "echo-v2-b", "{received}");
        socket.close(None).await.expect("it is open");
    }
    std::fs::remove_file(&file).expect("removed");
}

async fn every_proxy_has_taken_what_it_was_sent(mesh: &Raised) {
    for cluster in ["us-east", "us-west", "eu-west"] {
        eventually(&format!("every proxy of {cluster} acknowledges"), PATIENCE, || async {
            let proxies = admin::read(mesh.control(cluster), "/api/proxies").await?;
            let all = proxies.as_array().cloned().unwrap_or_default();
            anyhow::ensure!(all.len() == 6, "five sidecars and a gateway: {proxies}");
            for one in all {
                let taken = one["connected"] == true && one["sent"] == one["acked"] && one["sent"].as_u64() > Some(0);
                anyhow::ensure!(taken && one["refusals"].as_object().is_some_and(|all| all.is_empty()), "{one}");
            }
            Ok(())
        })
        .await;
    }
}

/// Waits until an answer is as expected.
async fn becomes(mesh: &Raised, cluster: &str, url: &str, what: &str, is: impl Fn(&Sample) -> bool) {
    eventually(what, PATIENCE, || async {
        let got = get(mesh.curl(cluster), url).await?;
        anyhow::ensure!(is(&got), "{got:?}");
        Ok(())
    })
    .await;
}
