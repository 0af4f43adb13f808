//! Probes in the words of Kubernetes (`core/v1`, `Probe`), by the path under which the kubelet asks for them.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderName, HeaderValue, uri::PathAndQuery};
use serde::{Deserialize, Serialize};

/// Kubernetes' own default.
const TIMEOUT_SECONDS: u32 = 1;

/// One probe: exactly one of the three ways to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// By a GET that must be answered with a status of 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// By a connection that must be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocket>,
    /// By `grpc.health.v1.Health/Check`, which must say SERVING.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Grpc>,
    /// It may take so long.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u32,
}

fn timeout_seconds() -> u32 {
    TIMEOUT_SECONDS
}

/// A GET.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    /// Of what; none: `/`.
    #[serde(default)]
    pub path: String,
    /// The application's port, a number.
    pub port: Port,
    /// How.
    #[serde(default)]
    pub scheme: Scheme,
    /// More headers; `Host` among them is the one that is sent.
    #[serde(default)]
    pub http_headers: Vec<Header>,
}

/// How a GET is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Scheme {
    /// In plain.
    #[default]
    Http,
    /// By TLS, whose certificate is not looked at, as the kubelet does not.
    Https,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpSocket {
    /// The application's port, a number.
    pub port: Port,
}

/// A call of the health service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grpc {
    /// The application's port.
    pub port: Port,
    /// The service whose health is asked for; none: the server's.
    #[serde(default)]
    pub service: Option<String>,
}

/// A port's number. Kubernetes takes names too, which only whoever has the pod's containers can resolve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Port {
    /// A number.
    Number(u16),
    /// A name, which is refused.
    Name(String),
    /// Not given.
    #[default]
    None,
}

impl Port {
    /// The number.
    pub(crate) fn number(&self) -> Option<u16> {
        match self {
            Self::Number(number) => Some(*number).filter(|number| *number != 0),
            Self::Name(_) | Self::None => None,
        }
    }
}

/// Why probes are refused.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// It is no JSON of probes.
    #[error("the probes are no JSON object of probes by path: {0}")]
    Json(#[from] serde_json::Error),
    /// One of them is none.
    #[error("the probe {path:?} {reason}")]
    Probe {
        /// By which path it is asked for.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads `ISTHMUS_PROBES`.
///
/// # Errors
/// [`Invalid`], with the path of the probe and the reason.
pub fn parse(json: &str) -> Result<BTreeMap<String, Probe>, Invalid> {
    let probes: BTreeMap<String, Probe> = serde_json::from_str(json)?;
    for (path, probe) in &probes {
        probe.check(path).map_err(|reason| Invalid::Probe { path: path.clone(), reason })?;
    }
    Ok(probes)
}

impl Probe {
    /// How long it may take.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.max(1).into())
    }

    /// Whether it can be asked.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(&self, path: &str) -> Result<(), String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
        if !path.starts_with("/app-health/") || !path.bytes().all(plain) {
            return Err("has a path that is not /app-health/<container>/<probe>".into());
        }
        let port = match (&self.http_get, &self.tcp_socket, &self.grpc) {
            (Some(get), None, None) => {
                get.check()?;
                &get.port
            }
            (None, Some(socket), None) => &socket.port,
            (None, None, Some(grpc)) => &grpc.port,
            _ => return Err("must have exactly one of httpGet, tcpSocket and grpc".into()),
        };
        match port {
            Port::Name(name) => Err(format!("names its port {name:?}; the number of that port must be written")),
            port if port.number().is_none() => Err("has no port from 1 to 65535".into()),
            _ => Ok(()),
        }
    }
}

impl HttpGet {
    fn check(&self) -> Result<(), String> {
        let path = self.path();
        path.parse::<PathAndQuery>().map_err(|error| format!("has the path {path:?}, which is none: {error}"))?;
        for Header { name, value } in &self.http_headers {
            let good = name.parse::<HeaderName>().is_ok() && value.parse::<HeaderValue>().is_ok();
            if !good {
                return Err(format!("has the header {name:?}, whose name or value is none"));
            }
        }
        Ok(())
    }

    /// With its slash.
    pub(crate) fn path(&self) -> String {
        if self.path.starts_with('/') { self.path.clone() } else { format!("/{}", self.path) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_read_in_kubernetes_words() {
        let json = r#"{"/app-health/web/livez": {"httpGet": {"path": "/live?x=1", "port": 8080, "scheme": "HTTPS",
            "httpHeaders": [{"name": "Host", "value": "a.test"}]}, "timeoutSeconds": 5},
            "/app-health/web/readyz": {"tcpSocket": {"port": 8080}, "periodSeconds": 3},
            "/app-health/web/startupz": {"grpc": {"port": 9000, "service": null}}}"#;
        let probes = parse(json).unwrap();
        let live = &probes["/app-health/web/livez"];
        assert_eq!((live.timeout(), live.http_get.as_ref().unwrap().scheme), (Duration::from_secs(5), Scheme::Https));
        assert_eq!(probes["/app-health/web/readyz"].timeout(), Duration::from_secs(1));
        assert_eq!(probes["/app-health/web/startupz"].grpc.as_ref().unwrap().service, None);
    }

    #[test]
    fn a_wrong_probe_is_named_with_what_is_wrong() {
        let said = |probe: &str| parse(&format!(r#"{{"/app-health/web/livez": {probe}}}"#)).unwrap_err().to_string();
        for (probe, wrong) in [
            ("{}", "exactly one of"),
            (r#"{"httpGet": {"port": 80}, "tcpSocket": {"port": 80}}"#, "exactly one of"),
            (r#"{"httpGet": {"port": "http"}}"#, "names its port \"http\""),
            (r#"{"tcpSocket": {"port": 0}}"#, "no port"),
            (r#"{"httpGet": {"port": 80, "path": "/a b"}}"#, "which is none"),
            (r#"{"httpGet": {"port": 80, "httpHeaders": [{"name": "a b", "value": ""}]}}"#, "the header \"a b\""),
        ] {
            let said = said(probe);
            assert!(said.contains("/app-health/web/livez") && said.contains(wrong), "{said}");
        }
        assert!(parse("[]").unwrap_err().to_string().contains("no JSON object of probes"));
        assert!(parse(r#"{"/healthz": {"tcpSocket": {"port": 1}}}"#).unwrap_err().to_string().contains("/healthz"));
    }
}
