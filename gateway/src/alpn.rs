//! Which protocols a TLS client offers, from the first bytes of its connection, without a handshake.

use rustls::server::Acceptor;

/// Longest ClientHello that is waited for, bytes: with post-quantum key shares it has some 2,000.
pub const MAX_HELLO: usize = 16 * 1024;

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub enum First {
    /// More bytes are needed.
    More,
    /// A ClientHello that offers these protocols.
    Hello(Vec<Vec<u8>>),
    /// No TLS; the reason.
    Stranger(String),
}

/// Reads the ClientHello at the front of `bytes`.
#[must_use]
pub fn read(bytes: &[u8]) -> First {
    let (mut acceptor, mut rest) = (Acceptor::default(), bytes);
    loop {
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let offered = accepted.client_hello().alpn().map(|names| names.map(<[u8]>::to_vec).collect());
                return First::Hello(offered.unwrap_or_default());
            }
            Ok(None) if rest.is_empty() && bytes.len() >= MAX_HELLO => {
                return First::Stranger(format!("no ClientHello ends within {MAX_HELLO} bytes"));
            }
            Ok(None) if rest.is_empty() => return First::More,
            Ok(None) => {
                if let Err(error) = acceptor.read_tls(&mut rest) {
                    return First::Stranger(error.to_string());
                }
            }
            Err((error, _)) => return First::Stranger(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use isthmus_runtime::{
        tls::{self, Accept},
        trust::TrustRoots,
    };

    use super::*;

    fn hello(alpn: &[&[u8]]) -> Vec<u8> {
        let config = tls::anonymous_client_config(TrustRoots::new(), Accept::Any, alpn);
        let name = "member.isthmus.internal".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_offer_is_read_from_a_whole_hello_and_a_cut_one_is_waited_for() {
        let whole = hello(&[b"isthmus-member/1", b"h2"]);
        assert_eq!(read(&whole), First::Hello(vec![b"isthmus-member/1".to_vec(), b"h2".to_vec()]));
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]), First::More, "{cut}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(noise in proptest::collection::vec(0u8.., 0..200), at in 0usize..4096, byte: u8) {
            let mut changed = hello(&[b"isthmus-member/1"]);
            let at = at % changed.len();
            changed[at] = byte;
            for bytes in [noise.clone(), [&[0x16, 3, 1, 0, 100][..], &noise].concat(), changed] {
                let _ = read(&bytes);
            }
        }
    }

    #[test]
    fn strangers_are_told_apart() {
        assert!(matches!(read(b"GET / HTTP/1.1\r\n\r\n"), First::Stranger(_)));
        assert!(matches!(read(&[0xA9, 1, 0, 0, 0, 0]), First::Stranger(_)));
    }
}
