//! A cluster is put out with one command: nobody hears it, nothing reaches it, and what was open to it is closed.

use isthmus_scenarios::operator;

use crate::{
    PATIENCE,
    support::{
        Raised, eventually,
        load::{Load, Target, count_by, get},
        url,
    },
};

/// By an operator's cluster only; eu-west is put out while it serves requests.
pub async fn an_ejected_cluster_is_out(mesh: &Raised) {
    let [east, west] = ["us-east", "us-west"].map(|cluster| mesh.member(cluster));
    let refused = operator::eject(west, "eu-west").await.expect_err("us-west is no operator");
    assert!(format!("{refused:#}").contains("us-west is no operator of this mesh"), "{refused:#}");
    let load = Load::start(Target { proxy: mesh.curl("us-west"), url: url("ratings", "/ratings/0"), rate: 20 });
    operator::eject(east, "eu-west").await.expect("us-east bootstrapped the mesh");
    for cluster in ["us-east", "us-west"] {
        eventually(&format!("{cluster} knows eu-west no more"), PATIENCE, || async {
            anyhow::ensure!(mesh.view(cluster, "eu-west").await.is_err(), "it does");
            Ok(())
        })
        .await;
    }
    // Details are in us-west only, which takes nothing from eu-west any more.
    eventually("eu-west gets nothing from the others", PATIENCE, || async {
        let got = get(mesh.curl("eu-west"), &url("details", "/details/0")).await?;
        anyhow::ensure!(got.failed(), "{got:?}");
        Ok(())
    })
    .await;
    let out = load.now();
    eventually("the others go on", PATIENCE, || async {
        anyhow::ensure!(load.since(out).len() > 20);
        Ok(())
    })
    .await;
    let samples = load.finish().await;
    let failed: Vec<_> = samples.iter().filter(|sample| sample.failed()).collect();
    assert!(failed.is_empty(), "{} of {} failed, such as {:?}", failed.len(), samples.len(), failed.first());
    let after: Vec<_> = samples.into_iter().filter(|sample| sample.due >= out).collect();
    assert_eq!(count_by(&after, |sample| &sample.cluster).into_keys().collect::<Vec<_>>(), ["us-east"]);
    assert_eq!(operator::operators(west).await.expect("the member answers"), ["us-east"]);
}
