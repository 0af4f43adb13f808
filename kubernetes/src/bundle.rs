//! The roots by which the API server believes the mesh's webhooks. The manifests leave that field out; control owns it
//! alone, by server-side apply, and puts right what somebody else wrote there.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use isthmus_runtime::{backoff::Backoff, drain::Drain};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use tokio::sync::watch;

use crate::vault::MANAGER;

/// The configurations of webhooks.
const INJECTION: &str = "isthmus-injection";
const VALIDATION: &str = "isthmus-validation";
/// What somebody changed is put right within so long.
const LOOK: Duration = Duration::from_secs(10);

/// Keeps the bundle right, until the drain. A configuration that is not there is nobody's fault: its webhook is off.
pub async fn keep(client: Client, roots: watch::Receiver<String>, drain: Drain) {
    let mut backoff = Backoff::new(Duration::from_millis(500), LOOK);
    loop {
        let bundle = STANDARD.encode(&*roots.borrow());
        let pause = match round(&client, &bundle).await {
            Ok(()) => {
                backoff.reset();
                LOOK
            }
            Err(error) => {
                tracing::warn!(%error, "the webhooks' bundle is not written yet; no pod is injected until it is");
                backoff.next()
            }
        };
        if drain.unless(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

async fn round(client: &Client, bundle: &str) -> Result<(), kube::Error> {
    put::<MutatingWebhookConfiguration>(client, INJECTION, bundle).await?;
    put::<ValidatingWebhookConfiguration>(client, VALIDATION, bundle).await
}

async fn put<K>(client: &Client, name: &str, bundle: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let api = Api::<K>::all(client.clone());
    let Some(found) = api.get_opt(name).await? else { return Ok(()) };
    let found = serde_json::to_value(&found).map_err(kube::Error::SerdeError)?;
    let Some(apply) = wanted::<K>(&found, name, bundle) else { return Ok(()) };
    api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(apply)).await?;
    tracing::info!(configuration = name, "the API server believes our webhooks by this cluster's roots");
    Ok(())
}

/// What to apply; `None`: each webhook has the bundle. Webhooks are told apart by their names.
fn wanted<K: Resource<DynamicType = ()>>(found: &Value, name: &str, bundle: &str) -> Option<Value> {
    let webhooks = found.get("webhooks")?.as_array()?;
    let has = |webhook: &Value| webhook.pointer("/clientConfig/caBundle").and_then(Value::as_str) == Some(bundle);
    if webhooks.iter().all(has) {
        return None;
    }
    let one = |webhook: &Value| json!({ "name": webhook.get("name"), "clientConfig": { "caBundle": bundle } });
    let webhooks: Vec<_> = webhooks.iter().map(one).collect();
    let (version, kind) = (K::api_version(&()), K::kind(&()));
    Some(json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name }, "webhooks": webhooks }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bundle_is_applied_and_only_where_it_is_another() {
        let webhook =
            |name: &str, bundle: &str| json!({ "name": name, "clientConfig": { "caBundle": bundle, "service": {} } });
        let found = |of: &[Value]| json!({ "webhooks": of });
        let of = |found: Value| wanted::<MutatingWebhookConfiguration>(&found, INJECTION, "Ym9vaw==");
        assert_eq!(of(found(&[webhook("a", "Ym9vaw==")])), None);
        let applied = of(found(&[webhook("a", "Ym9vaw=="), webhook("b", "Cg==")])).unwrap();
        let bundled = |name: &str| json!({ "name": name, "clientConfig": { "caBundle": "Ym9vaw==" } });
        assert_eq!(applied["webhooks"], json!([bundled("a"), bundled("b")]));
        assert_eq!(applied["kind"], "MutatingWebhookConfiguration");
    }
}
