//! Redirects as the kubelet takes them: one that stays with who was asked is followed, one that leads elsewhere is an answer.

use std::net::IpAddr;

use http::{StatusCode, Uri};

use crate::probes::config::{HttpGet, Scheme};

/// Requests of one probe, with those that redirects lead to.
pub(super) const MOST: usize = 10;

/// What is asked of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) scheme: Scheme,
    pub(super) port: u16,
    /// With its query.
    pub(super) path: String,
    /// Whether the probe's own `Host` is sent: a redirect that names a host means that one.
    pub(super) keeps_host: bool,
}

impl Way {
    /// The first; `None`: it has no port.
    pub(super) fn of(get: &HttpGet) -> Option<Self> {
        Some(Self { scheme: get.scheme, port: get.port.number()?, path: get.path(), keeps_host: true })
    }

    /// Where an answer of `host` leads; `None`: nowhere, it is the last.
    pub(super) fn onward(&self, host: IpAddr, status: StatusCode, location: Option<&str>) -> Option<Self> {
        if ![301, 302, 303, 307, 308].contains(&status.as_u16()) {
            return None;
        }
        let location = location.filter(|location| !location.is_empty())?.split('#').next().unwrap_or_default();
        let whole =
            if location.starts_with("//") { format!("{}:{location}", self.word()) } else { location.to_owned() };
        if whole.contains("://") && !whole.starts_with(['/', '?']) {
            return self.named(host, &whole);
        }
        let path = self.path.split('?').next().unwrap_or_default();
        let path = match location {
            "" => self.path.clone(),
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            query if query.starts_with('?') => format!("{path}{query}"),
            beside => format!("{}/{beside}", path.rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        Some(Self { path, ..self.clone() })
    }

    fn named(&self, host: IpAddr, whole: &str) -> Option<Self> {
        let uri: Uri = whole.parse().ok()?;
        let name = uri.host()?.trim_matches(['[', ']']);
        if name.parse() != Ok(host) {
            return None;
        }
        let (scheme, port) = match uri.scheme_str()? {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            _ => return None,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Some(Self { scheme, port: uri.port_u16().unwrap_or(port), path, keeps_host: false })
    }

    fn word(&self) -> &'static str {
        match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_with_who_was_asked_is_followed_and_what_leads_elsewhere_is_not() {
        let way = |scheme, port, path: &str, keeps_host| Way { scheme, port, path: path.into(), keeps_host };
        let (first, http) = (way(Scheme::Http, 8080, "/a/live?x=1", true), Scheme::Http);
        for (location, onward) in [
            ("/ready", Some(way(http, 8080, "/ready", true))),
            ("ready?y=2", Some(way(http, 8080, "/a/ready?y=2", true))),
            ("?y=2", Some(way(http, 8080, "/a/live?y=2", true))),
            ("/ready#top", Some(way(http, 8080, "/ready", true))),
            ("/to?next=https://a.test/", Some(way(http, 8080, "/to?next=https://a.test/", true))),
            ("http://10.0.0.7:81/ready", Some(way(http, 81, "/ready", false))),
            ("http://10.0.0.7", Some(way(http, 80, "/", false))),
            ("https://10.0.0.7/", Some(way(Scheme::Https, 443, "/", false))),
            ("//10.0.0.7/ready", Some(way(http, 80, "/ready", false))),
            ("https://login.test/", None),
            ("http://10.0.0.8:8080/ready", None),
            ("ftp://10.0.0.7/", None),
            ("http://[", None),
        ] {
            assert_eq!(first.onward([10, 0, 0, 7].into(), StatusCode::FOUND, Some(location)), onward, "{location}");
        }
        let six = first.onward("fd00::7".parse().unwrap(), StatusCode::FOUND, Some("http://[fd00::7]:81/b"));
        assert_eq!(six, Some(way(http, 81, "/b", false)));
        for (status, location) in [(200, Some("/b")), (304, Some("/b")), (302, None), (302, Some(""))] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(first.onward([10, 0, 0, 7].into(), status, location), None);
        }
    }
}
