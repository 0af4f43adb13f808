//! What the head of a request says for its line and its labels: shared with the request, so that no text is copied for
//! a log that may be off.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A request's head, as far as it is told.
#[derive(Clone)]
pub(crate) struct Head {
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    forwarded_for: Option<HeaderValue>,
}

impl Head {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let header = |name| request.headers().get(name).cloned();
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            host: header(header::HOST),
            user_agent: header(header::USER_AGENT),
            request_id: header(REQUEST_ID),
            forwarded_for: header(FORWARDED_FOR),
        }
    }

    pub(crate) fn method(&self) -> &str {
        self.method.as_str()
    }

    /// With its query.
    pub(crate) fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    pub(crate) fn version(&self) -> &'static str {
        match self.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            _ => "HTTP/1.1",
        }
    }

    /// Of the target, or the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        self.uri.authority().map_or_else(|| said(self.host.as_ref()), |authority| authority.as_str())
    }

    pub(crate) fn user_agent(&self) -> &str {
        said(self.user_agent.as_ref())
    }

    pub(crate) fn request_id(&self) -> &str {
        said(self.request_id.as_ref())
    }

    pub(crate) fn forwarded_for(&self) -> &str {
        said(self.forwarded_for.as_ref())
    }
}

fn said(value: Option<&HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The protocol that labels name: gRPC is told by its content type.
pub(crate) fn protocol(headers: &HeaderMap) -> &'static str {
    if said(headers.get(header::CONTENT_TYPE)).starts_with("application/grpc") { "grpc" } else { "http" }
}

/// The body's announced length; 0 where none is.
pub(crate) fn announced(headers: &HeaderMap) -> u64 {
    said(headers.get(header::CONTENT_LENGTH)).parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_the_targets_and_else_the_hosts() {
        let request = |uri: &str| Request::get(uri).header("host", "said:80").body(()).unwrap();
        assert_eq!(Head::of(&request("http://meant:81/a?b=c")).authority(), "meant:81");
        assert_eq!(Head::of(&request("http://meant:81/a?b=c")).path(), "/a?b=c");
        assert_eq!(Head::of(&request("/a")).authority(), "said:80");
        assert_eq!(Head::of(&request("/a")).user_agent(), "");
    }
}
