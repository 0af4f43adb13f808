//! The right to open streams at the local gateways (DESIGN.md decision 16).
//!
//! The CA derives a pass's key from a root that only it and the gateways hold: key = HMAC-SHA256(root, ticket). The
//! sidecar sends the ticket and a MAC over the header; the gateway derives the key again. No key ever travels, and a
//! gateway need not know who has a pass.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, hmac};
use isthmus_core::name::SpiffeId;
use isthmus_wire::{
    identity::{Pass, PassTicket},
    tunnel::SignedHeader,
};
use prost::Message;

/// Bytes of a root's id.
pub const ROOT_ID: usize = 8;

/// Why a signed header is not accepted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PassError {
    /// The ticket cannot be decoded.
    #[error("malformed ticket: {0}")]
    Malformed(String),
    /// Its root is not one of those in force.
    #[error("the ticket is of a pass root that is not in force here; the workload must renew, or this gateway must")]
    UnknownRoot,
    /// Its time is over.
    #[error("the pass of {id} expired {seconds} s ago: does its renewal fail, or is a clock wrong?")]
    Expired {
        /// Whose.
        id: SpiffeId,
        /// Seconds since.
        seconds: u64,
    },
    /// The MAC does not fit.
    #[error("the header's MAC is not right: header or ticket was changed, or the sender has no pass")]
    Forged,
}

/// First [`ROOT_ID`] bytes of SHA-256 of a pass root.
#[must_use]
pub fn root_id(root: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, root).as_ref().iter().take(ROOT_ID).copied().collect()
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

/// Makes a pass under a root.
#[must_use]
pub fn issue(root: &[u8], id: &SpiffeId, not_after: SystemTime) -> Pass {
    let not_after = not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let ticket = PassTicket { spiffe_id: id.to_string(), not_after, root_id: root_id(root) }.encode_to_vec();
    let key = mac(root, &ticket);
    Pass { ticket, key }
}

/// Signs a header's bytes with a pass.
#[must_use]
pub fn sign_header(pass: &Pass, header: Vec<u8>) -> SignedHeader {
    let mac = mac(&pass.key, &header);
    SignedHeader { header, ticket: pass.ticket.clone(), mac }
}

/// Who signed a header, and the header's bytes. The ticket's claims count only once the MAC has been checked.
///
/// # Errors
/// [`PassError`].
pub fn verify_signed_header(
    pass_roots: &[Vec<u8>],
    signed: &SignedHeader,
    now: SystemTime,
) -> Result<(SpiffeId, Vec<u8>), PassError> {
    let malformed = |reason: String| PassError::Malformed(reason);
    let ticket = PassTicket::decode(signed.ticket.as_slice()).map_err(|error| malformed(error.to_string()))?;
    let root = pass_roots.iter().find(|root| root_id(root) == ticket.root_id).ok_or(PassError::UnknownRoot)?;
    let expected = mac(&mac(root, &signed.ticket), &signed.header);
    verify_slices_are_equal(&expected, &signed.mac).map_err(|_| PassError::Forged)?;
    let id: SpiffeId =
        ticket.spiffe_id.parse().map_err(|error: isthmus_core::name::InvalidName| malformed(error.to_string()))?;
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if now >= ticket.not_after {
        return Err(PassError::Expired { id, seconds: now - ticket.not_after });
    }
    Ok((id, signed.header.clone()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id() -> SpiffeId {
        "spiffe://east.mesh/ns/bookinfo/sa/reviews".parse().unwrap()
    }

    #[test]
    fn a_signed_header_names_its_sender_under_either_root_in_force() {
        let now = SystemTime::now();
        let (old, new) = (vec![1u8; 32], vec![2u8; 32]);
        for root in [&old, &new] {
            let pass = issue(root, &id(), now + Duration::from_secs(60));
            let signed = sign_header(&pass, b"header".to_vec());
            let (who, header) = verify_signed_header(&[new.clone(), old.clone()], &signed, now).unwrap();
            assert_eq!((who, header.as_slice()), (id(), &b"header"[..]));
        }
        let signed = sign_header(&issue(&old, &id(), now + Duration::from_secs(60)), vec![]);
        assert_eq!(verify_signed_header(&[new], &signed, now), Err(PassError::UnknownRoot));
    }

    #[test]
    fn no_changed_byte_passes_and_neither_does_an_expired_ticket() {
        let now = SystemTime::now();
        let root = vec![7u8; 32];
        let pass = issue(&root, &id(), now + Duration::from_secs(60));
        let signed = sign_header(&pass, b"header".to_vec());
        let roots = [root.clone()];
        let changed = |mut bytes: Vec<u8>, at: usize| {
            bytes[at] ^= 1;
            bytes
        };
        for at in 0..signed.mac.len() {
            let forged = SignedHeader { mac: changed(signed.mac.clone(), at), ..signed.clone() };
            assert_eq!(verify_signed_header(&roots, &forged, now), Err(PassError::Forged));
        }
        for at in 0..signed.ticket.len() {
            let forged = SignedHeader { ticket: changed(signed.ticket.clone(), at), ..signed.clone() };
            assert!(verify_signed_header(&roots, &forged, now).is_err());
        }
        let forged = SignedHeader { header: b"other".to_vec(), ..signed.clone() };
        assert_eq!(verify_signed_header(&roots, &forged, now), Err(PassError::Forged));
        let cut = SignedHeader { mac: signed.mac[..4].to_vec(), ..signed };
        assert_eq!(verify_signed_header(&roots, &cut, now), Err(PassError::Forged));
        let late = sign_header(&issue(&root, &id(), now - Duration::from_secs(5)), vec![]);
        assert!(matches!(verify_signed_header(&roots, &late, now), Err(PassError::Expired { .. })));
    }
}
