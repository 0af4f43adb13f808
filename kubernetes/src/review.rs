//! Whose a service account token is, by the API server's word (TokenReview, `authentication.k8s.io/v1`).
//!
//! A token counts only for the audience it was made for, as long as it lives, and as long as the pod that it is bound to is
//! there: the API server looks all of that up each time. No error holds the token.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};

/// The audience of a workload's token, as pods enrol with it.
pub use isthmus_runtime::enrolment::AUDIENCE;

/// An API server that has not answered in so long is asked again by whoever needs it.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Tokens have about 1 KiB; what is far longer is none and is not sent on.
const LONGEST: usize = 16 * 1024;
/// Names of service accounts as users.
const ACCOUNT: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Who has a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewed {
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// The pod it is bound to.
    pub pod: String,
    /// That pod's UID.
    pub pod_uid: String,
}

/// Why a token proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The API server did not make it.
    #[error(
        "the token is not one of this cluster's API server ({0}); mount a projected service account token, and send it as it is"
    )]
    Forged(String),
    /// It is for somebody else.
    #[error("the token is for another audience than {wanted} ({said}); project it with `audience: {wanted}`")]
    Audience {
        /// What it should be for.
        wanted: String,
        /// What the API server said.
        said: String,
    },
    /// It is too old.
    #[error("the token has expired; read its file again before each use, the kubelet renews it there")]
    Expired,
    /// Its pod, or its service account, was deleted.
    #[error("the pod or the service account that the token is bound to is gone; a new pod has a new token")]
    Gone,
    /// It is bound to no pod.
    #[error("the token of {account} is bound to no pod, so it may be anybody's; use a projected token of the pod")]
    Unbound {
        /// `namespace/name`.
        account: String,
    },
    /// It is a user's.
    #[error("the token is that of {0:?}, which is no service account; only workloads' tokens count here")]
    NoServiceAccount(String),
    /// The API server could not be asked.
    #[error("the API server does not answer, so no token can be checked now; try again later")]
    Unanswered(#[source] Option<kube::Error>),
    /// It may not be asked.
    #[error(
        "the API server lets this process review no tokens; its role needs `create` of `tokenreviews` (ClusterRole \
         system:auth-delegator)"
    )]
    Forbidden(#[source] kube::Error),
}

/// Asks the API server whose a token is.
///
/// # Errors
/// [`ReviewError`]; of them only [`ReviewError::Unanswered`] may pass by itself.
pub async fn review(client: &Client, token: &str, audience: &str) -> Result<Reviewed, ReviewError> {
    if token.len() > LONGEST || token.is_empty() {
        return Err(ReviewError::Forged(format!("it has {} bytes", token.len())));
    }
    let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![audience.to_owned()]) };
    let asked = TokenReview { spec, ..TokenReview::default() };
    let api = Api::<TokenReview>::all(client.clone());
    let sent = PostParams::default();
    let answer = tokio::time::timeout(ANSWERS_WITHIN, api.create(&sent, &asked)).await;
    let answer = answer.map_err(|_| ReviewError::Unanswered(None))?.map_err(|error| match &error {
        kube::Error::Api(status) if status.code == 403 => ReviewError::Forbidden(error),
        _ => ReviewError::Unanswered(Some(error)),
    })?;
    read(answer.status.unwrap_or_default(), audience)
}

fn read(status: TokenReviewStatus, audience: &str) -> Result<Reviewed, ReviewError> {
    let said = status.error.unwrap_or_default();
    if status.authenticated != Some(true) {
        return Err(refused(said, audience));
    }
    // An API server that knows nothing of audiences says nothing of them, and takes any token.
    if !status.audiences.unwrap_or_default().iter().any(|one| one == audience) {
        let said = "the API server did not say that it is".to_owned();
        return Err(ReviewError::Audience { wanted: audience.to_owned(), said });
    }
    let user = status.user.unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let Some((namespace, account)) = name.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':')) else {
        return Err(ReviewError::NoServiceAccount(name));
    };
    let extra: BTreeMap<String, Vec<String>> = user.extra.unwrap_or_default();
    let first = |key: &str| extra.get(key).and_then(|all| all.first()).cloned();
    let (Some(pod), Some(pod_uid)) = (first(POD_NAME), first(POD_UID)) else {
        return Err(ReviewError::Unbound { account: format!("{namespace}/{account}") });
    };
    Ok(Reviewed { namespace: namespace.to_owned(), service_account: account.to_owned(), pod, pod_uid })
}

/// The reason as the API server words it, since it alone knows; what is in no known words is a token that it did not make.
fn refused(said: String, audience: &str) -> ReviewError {
    match () {
        () if said.contains("token audiences") => ReviewError::Audience { wanted: audience.to_owned(), said },
        () if said.contains("has expired") => ReviewError::Expired,
        () if said.contains("invalidated") => ReviewError::Gone,
        () => ReviewError::Forged(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn answered(status: Value) -> Result<Reviewed, ReviewError> {
        read(serde_json::from_value(status).unwrap(), AUDIENCE)
    }

    fn bound() -> Value {
        json!({
            "authenticated": true,
            "audiences": ["isthmus.dev"],
            "user": {
                "username": "system:serviceaccount:bookinfo:reviews",
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["reviews-1"],
                    "authentication.kubernetes.io/pod-uid": ["c3b9a5e7-4f41-4c60-9582-284659dc8811"],
                },
            },
        })
    }

    #[test]
    fn a_bound_token_names_namespace_account_and_pod() {
        let reviewed = answered(bound()).unwrap();
        assert_eq!((reviewed.namespace.as_str(), reviewed.service_account.as_str()), ("bookinfo", "reviews"));
        assert_eq!(reviewed.pod, "reviews-1");
        assert_eq!(reviewed.pod_uid, "c3b9a5e7-4f41-4c60-9582-284659dc8811");
    }

    /// The texts are those of an API server of Kubernetes 1.35.
    #[test]
    fn each_reason_of_the_api_server_has_its_own_error() {
        let error = |text: &str| answered(json!({"error": text, "user": {}})).unwrap_err();
        let audience = "[invalid bearer token, token audiences [\"https://kubernetes.default.svc.cluster.local\"] is invalid \
                        for the target audiences [\"isthmus.dev\"]]";
        assert!(matches!(error(audience), ReviewError::Audience { .. }));
        assert!(error(audience).to_string().contains("`audience: isthmus.dev`"));
        let expired = "[invalid bearer token, service account token has expired]";
        assert!(matches!(error(expired), ReviewError::Expired));
        let gone = "[invalid bearer token, service account token has been invalidated]";
        assert!(matches!(error(gone), ReviewError::Gone));
        for forged in
            ["[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]", "invalid bearer token"]
        {
            assert!(matches!(error(forged), ReviewError::Forged(_)), "{forged}");
        }
    }

    #[test]
    fn what_is_bound_to_no_pod_is_no_workload_or_is_not_said_to_be_for_us_is_refused() {
        let mut unbound = bound();
        unbound["user"]["extra"] = json!({});
        let error = answered(unbound).unwrap_err().to_string();
        assert!(error.contains("bookinfo/reviews is bound to no pod"), "{error}");
        let mut person = bound();
        person["user"]["username"] = "kubernetes-admin".into();
        assert!(matches!(answered(person), Err(ReviewError::NoServiceAccount(_))));
        let mut unaware = bound();
        unaware["audiences"] = Value::Null;
        assert!(matches!(answered(unaware), Err(ReviewError::Audience { .. })));
    }
    #[tokio::test]
    async fn an_api_server_that_does_not_answer_is_no_word_on_the_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: c\nusers: []\n\
                          clusters: [{name: c, cluster: {server: 'https://127.70.1.1:1'}}]\n\
                          contexts: [{name: c, context: {cluster: c, user: ''}}]\n";
        std::fs::write(file.path(), kubeconfig).unwrap();
        let access = crate::Access { kubeconfig: Some(file.path().into()), ..crate::Access::default() };
        let client = access.client().await.unwrap();
        let error = review(&client, "a.b.c", AUDIENCE).await.unwrap_err();
        assert!(matches!(error, ReviewError::Unanswered(_)), "{error}");
        let long = "a".repeat(LONGEST + 1);
        assert!(matches!(review(&client, &long, AUDIENCE).await, Err(ReviewError::Forged(_))), "it is not sent on");
    }
}
