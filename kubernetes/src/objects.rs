//! Objects of any kind as documents, for commands: applied, found, listed, deleted, each with an error that says what to do.

use std::{error::Error, time::SystemTime};

use http::{Request, header};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::Status,
};
use serde_json::Value;

use crate::reference::{ObjectKind, Reference};

/// What became of an object that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// It is another than before.
    Configured,
    /// It was so already.
    Unchanged,
}

/// The API server does not do it.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be {doing}: {said}; {remedy}")]
pub struct ObjectError {
    /// The object, or the kind.
    pub what: String,
    /// `applied`, `listed`.
    pub doing: &'static str,
    /// What it said, or why nobody said anything.
    pub said: String,
    /// What to do about it.
    pub remedy: String,
    /// The status that it answered with; `None`: it did not answer.
    pub code: Option<u16>,
}

/// What the API server says of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// `v1.35.4`.
    pub version: String,
    /// Its clock, by the header `Date`, as HTTP writes it.
    pub date: Option<String>,
    /// This machine's clock before it was asked, and after.
    pub between: (SystemTime, SystemTime),
}

/// All objects of a cluster.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    manager: &'static str,
}

impl Objects {
    /// Of a cluster; fields that are applied are `manager`'s.
    #[must_use]
    pub fn new(client: Client, manager: &'static str) -> Self {
        Self { client, manager }
    }

    fn api(&self, kind: &ObjectKind, namespace: Option<&str>) -> (Api<DynamicObject>, ApiResource) {
        let resource = kind.resource();
        let api = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        (api, resource)
    }

    /// Applies a document by server-side apply; `dry`: the API server says what would become of it.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn apply(&self, object: &Reference, document: &Value, dry: bool) -> Result<Change, ObjectError> {
        let before = self.find(object).await?;
        let mut how = PatchParams::apply(self.manager).force();
        how.dry_run = dry;
        let (api, _) = self.api(&object.kind, object.namespace.as_deref());
        let after = api.patch(&object.name, &how, &Patch::Apply(document)).await;
        let after = after.map_err(|error| refused(object.to_string(), "applied", error))?;
        Ok(before.map_or(Change::Created, |before| change(&before, &plain(&after))))
    }

    /// Creates an object and gives what became of it; `dry`: as far as the API server goes without keeping it.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn create(&self, object: &Reference, document: &Value, dry: bool) -> Result<Value, ObjectError> {
        let wrong = |error| refused(object.to_string(), "created", error);
        let (api, _) = self.api(&object.kind, object.namespace.as_deref());
        let document =
            serde_json::from_value(document.clone()).map_err(|error| wrong(kube::Error::SerdeError(error)))?;
        let how = PostParams { dry_run: dry, ..PostParams::default() };
        api.create(&how, &document).await.map(|made| plain(&made)).map_err(wrong)
    }

    /// An object, if it is there; none too where its kind is not.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn find(&self, object: &Reference) -> Result<Option<Value>, ObjectError> {
        let (api, _) = self.api(&object.kind, object.namespace.as_deref());
        let found = api.get_opt(&object.name).await;
        found.map(|found| found.as_ref().map(plain)).map_err(|error| refused(object.to_string(), "read", error))
    }

    /// Objects of a kind, of all namespaces where none is named; none where the kind is not known.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn list(
        &self,
        kind: &ObjectKind,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<Vec<Value>, ObjectError> {
        let (api, resource) = self.api(kind, namespace);
        match api.list(&ListParams::default().labels(selector)).await {
            Ok(list) => Ok(list.items.iter().map(plain).map(|object| typed(object, kind)).collect()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(vec![]),
            Err(error) => Err(refused(resource.plural, "listed", error)),
        }
    }

    /// Deletes an object; whether there was one.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn delete(&self, object: &Reference, dry: bool) -> Result<bool, ObjectError> {
        let (api, _) = self.api(&object.kind, object.namespace.as_deref());
        let mut how = DeleteParams::background();
        how.dry_run = dry;
        match api.delete(&object.name, &how).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(refused(object.to_string(), "deleted", error)),
        }
    }

    /// Version and clock of the API server.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn about(&self) -> Result<About, ObjectError> {
        let wrong = |error| refused("the API server's version".into(), "read", error);
        let request = Request::get("/version").body(kube::client::Body::empty());
        let request = request.map_err(|error| wrong(kube::Error::HttpError(error)))?;
        let before = SystemTime::now();
        let answer = self.client.send(request).await.map_err(wrong)?;
        let between = (before, SystemTime::now());
        let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok()).map(ToOwned::to_owned);
        let version = self.client.apiserver_version().await.map_err(wrong)?.git_version;
        Ok(About { version, date, between })
    }
}

/// Items of a list do not say their kind.
fn typed(mut object: Value, kind: &ObjectKind) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), kind.api_version.clone().into());
        fields.insert("kind".into(), kind.kind.clone().into());
    }
    object
}

fn plain(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// Of two states of an object; who owns which field, and how often it was written, is nobody's concern.
fn change(before: &Value, after: &Value) -> Change {
    let bare = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| !["managedFields", "resourceVersion", "generation"].contains(&key.as_str()));
        }
        object
    };
    if bare(before) == bare(after) { Change::Unchanged } else { Change::Configured }
}

fn refused(what: String, doing: &'static str, error: kube::Error) -> ObjectError {
    if let kube::Error::Api(status) = &error {
        let (said, remedy) = (status.message.clone(), remedy(status));
        return ObjectError { what, doing, said, remedy, code: Some(status.code) };
    }
    let (mut said, mut cause) = (error.to_string(), error.source());
    while let Some(next) = cause {
        let text = next.to_string();
        // Some errors say their cause themselves.
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = next.source();
    }
    let remedy = "does the API server answer? (`kubectl version`)".into();
    ObjectError { what, doing, said, remedy, code: None }
}

fn remedy(status: &Status) -> String {
    match status.code {
        403 if status.message.contains("being terminated") => "wait until it is gone, and try again".into(),
        401 => "log in to the cluster again: it does not know who you are".into(),
        403 => "ask whoever runs the cluster for that permission (`isthmus check` lists what is missing)".into(),
        404 => "its namespace or its kind is not there".into(),
        409 => "somebody else changes it at the same time, or it is being deleted; try again".into(),
        429 | 500.. => "the API server is in trouble; try again".into(),
        _ => "what it says has to be put right first".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_somebody_wrote_makes_an_object_another_one() {
        let object = |version: &str, replicas: u32| json!({ "metadata": { "name": "a", "resourceVersion": version, "managedFields": [version] }, "spec": { "replicas": replicas } });
        assert_eq!(change(&object("1", 2), &object("2", 2)), Change::Unchanged);
        assert_eq!(change(&object("1", 2), &object("2", 3)), Change::Configured);
    }

    #[test]
    fn a_refusal_names_the_object_and_the_remedy() {
        let status = Status { code: 403, message: "no".into(), ..Status::default() };
        let error = refused("Deployment a/b".into(), "applied", kube::Error::Api(Box::new(status)));
        assert_eq!((error.code, error.said.as_str()), (Some(403), "no"));
        let error = error.to_string();
        let ending = "forbidden: unable to create new content in namespace b because it is being terminated";
        assert!(remedy(&Status { code: 403, message: ending.into(), ..Status::default() }).contains("wait until"));
        assert!(error.starts_with("Deployment a/b cannot be applied") && error.contains("isthmus check"), "{error}");
    }
}
