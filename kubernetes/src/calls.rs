//! What this process asks of API servers, counted: by it a test holds the rights that control has to what it really calls,
//! and an operator sees who asks how much.
//!
//! In the words that rights are given in (Kubernetes' authorization attributes): a GET is `get`, `list` or `watch`, by whether
//! it names an object and asks to be told of changes. What is no resource (`/version`) is not counted.

use std::{
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use http::{Method, Request, Response, Uri};
use isthmus_runtime::metrics::{
    self, Registry,
    prometheus::{IntCounterVec, Opts},
};
use tower::{Layer, Service};

/// One of a process, because a process has several clients.
static REQUESTS: LazyLock<Option<IntCounterVec>> = LazyLock::new(|| {
    let opts = Opts::new("isthmus_kubernetes_requests_total", "Requests to the API server, by what they ask of it");
    // The name and the labels are well formed, or the tests of this file fail.
    IntCounterVec::new(opts, &["verb", "group", "resource", "subresource", "code"]).ok()
});

/// Serves the counts with the metrics of a role.
///
/// # Errors
/// When a name is registered already.
pub fn register(registry: &Registry) -> Result<(), metrics::Error> {
    REQUESTS.as_ref().map_or(Ok(()), |requests| registry.register(Box::new(requests.clone())))
}

/// What a request asks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    verb: &'static str,
    /// Empty: the core one.
    group: String,
    resource: String,
    /// Empty: none.
    subresource: String,
}

impl Call {
    /// `None`: of no resource.
    fn of(method: &Method, uri: &Uri) -> Option<Self> {
        let mut parts = uri.path().split('/').filter(|part| !part.is_empty());
        let group = match parts.next()? {
            "api" => "",
            "apis" => parts.next()?,
            _ => return None,
        };
        let _version = parts.next()?;
        let mut parts: Vec<&str> = parts.collect();
        // `namespaces/<name>` is a namespace; what follows it is of the namespace, but for its own subresources.
        if let ["namespaces", _, rest, ..] = parts.as_slice()
            && !["status", "finalize"].contains(rest)
        {
            parts.drain(..2);
        }
        let (resource, rest) = parts.split_first()?;
        let subresource = rest.get(1).copied().unwrap_or_default();
        let verb = verb(method, !rest.is_empty(), is_watch(uri))?;
        let [group, resource, subresource] = [group, resource, subresource].map(str::to_owned);
        Some(Self { verb, group, resource, subresource })
    }

    /// `code`: that of the answer; none: there was no answer.
    fn count(&self, code: Option<u16>) {
        let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        if let Some(requests) = REQUESTS.as_ref() {
            requests.with_label_values(&[self.verb, &self.group, &self.resource, &self.subresource, &code]).inc();
        }
    }
}

fn verb(method: &Method, is_named: bool, is_watch: bool) -> Option<&'static str> {
    Some(match (method.as_str(), is_named) {
        ("GET" | "HEAD", _) if is_watch => "watch",
        ("GET" | "HEAD", true) => "get",
        ("GET" | "HEAD", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => return None,
    })
}

fn is_watch(uri: &Uri) -> bool {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    pairs.any(|pair| matches!(pair, "watch=true" | "watch=1"))
}

/// Counts what goes through a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counting;

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted(inner)
    }
}

/// A client whose requests are counted, each when its answer begins.
#[derive(Clone, Debug)]
pub(crate) struct Counted<S>(S);

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = Call::of(request.method(), request.uri());
        let answer = self.0.call(request);
        Box::pin(async move {
            let answered = answer.await;
            if let Some(call) = call {
                call.count(answered.as_ref().ok().map(|answer| answer.status().as_u16()));
            }
            answered
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, uri: &str) -> Option<[String; 4]> {
        let call = Call::of(&method.parse().unwrap(), &uri.parse().unwrap())?;
        Some([call.verb.to_owned(), call.group, call.resource, call.subresource])
    }

    #[test]
    fn requests_are_in_the_words_that_rights_are_given_in() {
        for (method, uri, words) in [
            ("GET", "/api/v1/pods?limit=500", ["list", "", "pods", ""]),
            ("GET", "/api/v1/pods?watch=true&resourceVersion=7", ["watch", "", "pods", ""]),
            ("GET", "/api/v1/namespaces/shop/pods/a", ["get", "", "pods", ""]),
            ("GET", "/api/v1/namespaces/shop/pods/a/log", ["get", "", "pods", "log"]),
            ("GET", "/api/v1/namespaces/shop/pods", ["list", "", "pods", ""]),
            ("GET", "/api/v1/namespaces", ["list", "", "namespaces", ""]),
            ("GET", "/api/v1/namespaces/shop", ["get", "", "namespaces", ""]),
            ("PATCH", "/api/v1/namespaces/shop/status", ["patch", "", "namespaces", "status"]),
            ("PATCH", "/api/v1/namespaces/shop/configmaps/isthmus-roots?x", ["patch", "", "configmaps", ""]),
            (
                "POST",
                "/apis/authentication.k8s.io/v1/tokenreviews",
                ["create", "authentication.k8s.io", "tokenreviews", ""],
            ),
            (
                "PUT",
                "/apis/coordination.k8s.io/v1/namespaces/m/leases/l",
                ["update", "coordination.k8s.io", "leases", ""],
            ),
            ("PATCH", "/apis/a.b/v1/namespaces/n/things/t/status", ["patch", "a.b", "things", "status"]),
            ("DELETE", "/apis/a.b/v1/namespaces/n/things/t", ["delete", "a.b", "things", ""]),
            ("DELETE", "/apis/a.b/v1/namespaces/n/things", ["deletecollection", "a.b", "things", ""]),
        ] {
            assert_eq!(of(method, uri).unwrap(), words, "{method} {uri}");
        }
        for uri in ["/version", "/apis", "/api/v1", "/apis/a.b/v1", "/", "/healthz"] {
            assert_eq!(of("GET", uri), None, "{uri}");
        }
    }

    #[tokio::test]
    async fn what_goes_through_a_client_is_counted_with_its_answer() {
        let answers = |code: u16| {
            tower::service_fn(move |_: Request<()>| async move {
                let answer = Response::builder().status(code).body(());
                if code == 500 { Err("no answer") } else { Ok(answer.unwrap()) }
            })
        };
        // A resource of this test's own, since the counts are the process's.
        for code in [200, 403, 403, 500] {
            let request = Request::get("/apis/counted.test/v1/things").body(()).unwrap();
            let _ = Counting.layer(answers(code)).call(request).await;
        }
        let registry = Registry::new();
        register(&registry).unwrap();
        let text = String::from_utf8(metrics::render(&registry)).unwrap();
        for (code, count) in [("200", 1), ("403", 2), ("none", 1)] {
            let line = format!(
                "isthmus_kubernetes_requests_total{{code=\"{code}\",group=\"counted.test\",resource=\"things\",\
                 subresource=\"\",verb=\"list\"}} {count}"
            );
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }
}
