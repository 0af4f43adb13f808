//! From when and until when certificates are valid: of one, and of those that a process lives by, for its operators.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use prometheus::{
    GaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::{
    extensions::ParsedExtension,
    prelude::{FromDer, X509Certificate},
};

use crate::identity::Identity;

/// Bytes are no certificate; what the parser said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate: {0}")]
pub struct NotACertificate(String);

/// From when and until when it is valid.
///
/// # Errors
/// [`NotACertificate`].
pub fn validity(certificate: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), NotACertificate> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| NotACertificate(error.to_string()))?;
    let at = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let validity = parsed.validity();
    Ok((at(validity.not_before.timestamp()), at(validity.not_after.timestamp())))
}

/// By which key it was signed: the authority key identifier (RFC 5280, 4.2.1.1), in hexadecimal; `None`: it does not say.
#[must_use]
pub fn authority(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let key = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(identifier) => identifier.key_identifier.as_ref(),
        _ => None,
    })?;
    Some(key.0.iter().map(|byte| format!("{byte:02x}")).collect())
}

type Validity = (SystemTime, SystemTime);
type Look = Box<dyn Fn() -> (Validity, Option<String>) + Send + Sync>;

/// Certificates that a process lives by, each as it is when somebody looks. Cheap to clone; all clones see the same.
#[derive(Clone, Default)]
pub struct Certificates(Arc<Mutex<Vec<(&'static str, Look)>>>);

/// One of them, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `leaf`, `authority`, `webhook`.
    pub certificate: &'static str,
    /// Unix seconds.
    pub not_before: u64,
    /// Unix seconds.
    pub not_after: u64,
    /// The identifier of the key that signed it, in hexadecimal; of a leaf alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

impl Certificates {
    /// One more. `look`: from when and until when it is valid.
    pub fn add(&self, name: &'static str, look: impl Fn() -> (SystemTime, SystemTime) + Send + Sync + 'static) {
        self.0.lock().push((name, Box::new(move || (look(), None))));
    }

    /// The own leaf.
    pub fn add_leaf(&self, identity: &Identity) {
        let identity = identity.clone();
        let look = move || {
            let leaf = identity.leaf();
            ((leaf.not_before, leaf.not_after), leaf.chain().first().and_then(authority))
        };
        self.0.lock().push(("leaf", Box::new(look)));
    }

    /// All of them.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let unix = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let row = |(certificate, look): &(&'static str, Look)| {
            let ((not_before, not_after), authority) = look();
            Row { certificate, not_before: unix(not_before), not_after: unix(not_after), authority }
        };
        self.0.lock().iter().map(row).collect()
    }

    fn gauges() -> Option<GaugeVec> {
        let help = "Unix time at which a certificate of this process ends.";
        GaugeVec::new(Opts::new("isthmus_certificate_expiry_timestamp_seconds", help), &["certificate"]).ok()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.rows())
    }
}

impl Collector for Certificates {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }
    fn collect(&self) -> Vec<MetricFamily> {
        let Some(gauges) = Self::gauges() else { return Vec::new() };
        for row in self.rows() {
            gauges.with_label_values(&[row.certificate]).set(row.not_after as f64);
        }
        gauges.collect()
    }
}
