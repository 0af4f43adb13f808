//! Whatever bytes come where a frame or a message is due: an error or a message, never a panic, and never more memory
//! than the bytes themselves.

#![allow(clippy::unwrap_used, reason = "a test that fails says so by a panic")]

use bytes::BytesMut;
use isthmus_wire::{
    federation::{JoinRequest, MemberRecord, SessionFrame, SignedStatement, WatchEvent},
    feed::{FeedRequest, FeedResponse},
    frame::{self, FrameError, HEADER, Kind, MAGIC, MAX_MESSAGE},
    identity::{IssueRequest, PassTicket},
    signing,
    tunnel::{Answer, Header, Metadata, Notice, SignedHeader, TunnelMessage},
};
use proptest::prelude::*;
use prost::Message;

fn noise(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..most)
}

/// Bytes that begin as a frame of some kind, so that more than the first check is reached.
fn almost_a_frame() -> impl Strategy<Value = Vec<u8>> {
    (0u8..10, any::<u16>(), noise(200)).prop_map(|(kind, length, rest)| {
        let mut bytes = vec![MAGIC, kind];
        bytes.extend((length % 260).to_be_bytes());
        bytes.extend(rest);
        bytes
    })
}

/// A header with something in every field.
fn header() -> impl Strategy<Value = Header> {
    (".{0,40}", ".{0,40}", any::<u32>(), proptest::collection::vec(".{0,20}", 0..5))
        .prop_map(|(service, cluster, port, avoid)| Header { service, cluster, port, avoid, ..Header::default() })
}

proptest! {
    #[test]
    fn a_frame_is_taken_whole_or_refused_or_waited_for(bytes in prop_oneof![noise(64), almost_a_frame()]) {
        let mut buffer = BytesMut::from(bytes.as_slice());
        match frame::take(&mut buffer) {
            Ok(Some((_, message))) => {
                prop_assert!(message.len() <= MAX_MESSAGE);
                prop_assert_eq!(HEADER + message.len() + buffer.len(), bytes.len(), "no byte is lost or made");
            }
            Ok(None) => prop_assert_eq!(&buffer[..], bytes.as_slice(), "what is waited for stays"),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn a_frame_that_comes_in_pieces_is_the_frame_that_was_sent(header in header(), cut in any::<proptest::sample::Index>()) {
        let whole = frame::encode(Kind::Header, &header).unwrap();
        let cut = cut.index(whole.len());
        let mut buffer = BytesMut::from(&whole[..cut]);
        prop_assert_eq!(frame::take(&mut buffer), Ok(None));
        buffer.extend_from_slice(&whole[cut..]);
        let taken = frame::take(&mut buffer).unwrap().unwrap();
        prop_assert_eq!(frame::decode::<Header>(Kind::Header, taken), Ok(header));
    }

    #[test]
    fn a_changed_header_is_another_header_or_an_error_that_names_the_frame(header in header(), at in any::<proptest::sample::Index>(), byte: u8) {
        let mut bytes = header.encode_to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        match frame::decode::<Header>(Kind::Header, (Kind::Header, bytes.into())) {
            Ok(_) => {}
            Err(error @ FrameError::Malformed { .. }) => prop_assert!(error.to_string().contains("Header"), "{error}"),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn no_bytes_break_a_message_of_any_kind(bytes in noise(400)) {
        fn read<M: Message + Default>(bytes: &[u8]) {
            let _ = M::decode(bytes);
        }
        let all: [fn(&[u8]); 14] = [
            read::<Header>, read::<SignedHeader>, read::<Answer>, read::<Notice>, read::<TunnelMessage>, read::<Metadata>,
            read::<SessionFrame>, read::<JoinRequest>, read::<WatchEvent>, read::<FeedRequest>, read::<FeedResponse>,
            read::<IssueRequest>, read::<PassTicket>, read::<MemberRecord>,
        ];
        for read in all {
            read(&bytes);
        }
    }

    #[test]
    fn no_bytes_pass_for_a_signature_or_a_key(bytes in noise(120), key in noise(120), signature in noise(80)) {
        let said = SignedStatement { content: bytes.clone(), signature: signature.clone(), ..SignedStatement::default() };
        prop_assert!(signing::verify_statement(&said, &key).is_err());
        let request = JoinRequest { federation_key: key, proof: signature, secret: bytes, ..JoinRequest::default() };
        prop_assert!(signing::verify_join(&request).is_err());
    }
}
