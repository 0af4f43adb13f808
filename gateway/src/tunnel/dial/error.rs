//! Why a dial came to nothing.

use isthmus_runtime::tls;
use quinn::ConnectionError::{self, ApplicationClosed, ConnectionClosed, TimedOut, TransportError};

use super::DIAL_LIMIT;
use crate::{trouble::Trouble, tunnel::control::ControlError};

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("{0} has no address: {1}")]
    Address(String, String),
    #[error("cannot dial: {0}")]
    Setup(String),
    #[error("no handshake: {0}")]
    Handshake(#[from] ConnectionError),
    #[error("no hello: {0}")]
    Hello(ControlError),
    #[error("the peer says it is of cluster {0:?}")]
    OtherCluster(String),
    #[error("no handshake within {DIAL_LIMIT:?}")]
    Late,
}

impl DialError {
    /// Whether somebody answered and was not who it should be, or did not take us: a human has to look.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Handshake(TransportError(_) | ConnectionClosed(_)) | Self::OtherCluster(_))
    }

    /// The same for people who look at the path, of a gateway's address.
    pub(super) fn trouble(&self, gateway: &str) -> Trouble {
        let text = |reason: &[u8]| tls::explain_text(&String::from_utf8_lossy(reason)).to_owned();
        let words = match self {
            Self::Late | Self::Handshake(TimedOut) => format!("{gateway} does not answer"),
            Self::Handshake(TransportError(ours)) if !ours.reason.is_empty() => text(ours.reason.as_bytes()),
            Self::Handshake(ConnectionClosed(theirs)) if !theirs.reason.is_empty() => {
                format!("{gateway} does not take this cluster's gateway: {}", text(&theirs.reason))
            }
            Self::Handshake(ApplicationClosed(theirs)) if !theirs.reason.is_empty() => {
                format!("{gateway} ended the tunnel: {}", text(&theirs.reason))
            }
            Self::Address(..) => self.to_string(),
            other => format!("{gateway}: {other}"),
        };
        if self.is_refusal() { Trouble::refusal(&words) } else { Trouble::silence(&words) }
    }
}

#[cfg(test)]
mod tests {
    use quinn::{ConnectionClose, TransportErrorCode};
    use quinn_proto::TransportError;

    use super::*;

    const AT: &str = "127.2.3.1:15443";
    const SHOWN: &str =
        "invalid peer certificate: Other(OtherError(certificate of a is not valid yet (is a clock wrong?)))";
    const OWN: &str = "certificate of a is not valid yet (is a clock wrong?)";

    #[test]
    fn a_refused_certificate_is_told_in_the_refusal_s_own_words_whoever_refused_it() {
        let code = TransportErrorCode::crypto(46);
        let ours = TransportError { code, frame: None, reason: SHOWN.into() };
        assert_eq!(DialError::Handshake(ours.into()).trouble(AT), Trouble::refusal(OWN));
        let theirs = ConnectionClose { error_code: code, frame_type: None, reason: SHOWN.into() };
        let told = format!("{AT} does not take this cluster's gateway: {OWN}");
        assert_eq!(DialError::Handshake(ConnectionClosed(theirs)).trouble(AT), Trouble::refusal(&told));
    }

    #[test]
    fn what_else_goes_wrong_is_told_with_the_gateway() {
        let silent = Trouble::silence("127.2.3.1:15443 does not answer");
        assert_eq!([DialError::Late.trouble(AT), DialError::Handshake(TimedOut).trouble(AT)], [silent.clone(), silent]);
        let address = DialError::Address("gw.example:15443".into(), "no such name".into());
        let told = Trouble::silence("gw.example:15443 has no address: no such name");
        assert_eq!(address.trouble("gw.example:15443"), told);
        let other = DialError::OtherCluster("north".into()).trouble(AT);
        assert_eq!(other, Trouble::refusal("127.2.3.1:15443: the peer says it is of cluster \"north\""));
    }
}
