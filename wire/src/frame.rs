//! The frame on byte streams: magic, kind, length, protobuf message.
//!
//! ```text
//! 0      1      2      3      4           4+n
//! | 0xA9 | kind | length, u16 | message ... |
//! ```
//! 0xA9 is no first byte of TLS (0x16), HTTP or HTTP/2, so a stranger on the port is told apart by its first byte.
//! A message is at most [`MAX_MESSAGE`] bytes; longer ones are refused before anything is allocated for them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// First byte of each frame.
pub const MAGIC: u8 = 0xA9;
/// Bytes in front of the message.
pub const HEADER: usize = 4;
/// Longest message, bytes.
pub const MAX_MESSAGE: usize = 16 * 1024;

/// What a frame carries; the second byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// `tunnel.Header`, between gateways.
    Header = 1,
    /// `tunnel.SignedHeader`, to the local gateway.
    SignedHeader = 2,
    /// `tunnel.Answer`.
    Answer = 3,
    /// `tunnel.SignedHeader` that asks for notices.
    Subscribe = 4,
    /// `tunnel.Notice`.
    Notice = 5,
    /// `tunnel.TunnelMessage`, on a tunnel's control stream.
    Control = 6,
    /// `tunnel.Metadata`, after the inner handshake.
    Metadata = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Header, Self::SignedHeader, Self::Answer, Self::Subscribe, Self::Notice, Self::Control, Self::Metadata]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// The first byte is another protocol's.
    #[error("not an isthmus frame: it begins with {0:#04x}, not {MAGIC:#04x}; another protocol speaks on this port")]
    Magic(u8),
    /// A kind this build does not know.
    #[error("unknown frame kind {0}; the peer may be newer than this build")]
    UnknownKind(u8),
    /// A known kind at the wrong place.
    #[error("frame of kind {got:?} where {expected:?} was due")]
    UnexpectedKind {
        /// What was due.
        expected: Kind,
        /// What came.
        got: Kind,
    },
    /// Longer than [`MAX_MESSAGE`].
    #[error("frame of {0} bytes; at most {MAX_MESSAGE} are taken")]
    TooLong(usize),
    /// The message inside is malformed.
    #[error("malformed message in a {kind:?} frame: {reason}")]
    Malformed {
        /// The frame's kind.
        kind: Kind,
        /// What the decoder said.
        reason: String,
    },
}

/// Appends a frame to `out`.
///
/// # Errors
/// [`FrameError::TooLong`] when the message does not fit a frame; `out` is unchanged then.
pub fn put(kind: Kind, message: &impl Message, out: &mut BytesMut) -> Result<(), FrameError> {
    let length = message.encoded_len();
    let short = u16::try_from(length).ok().filter(|_| length <= MAX_MESSAGE).ok_or(FrameError::TooLong(length))?;
    out.reserve(HEADER + length);
    out.put_u8(MAGIC);
    out.put_u8(kind as u8);
    out.put_u16(short);
    message.encode_raw(out);
    Ok(())
}

/// A frame as its own bytes.
///
/// # Errors
/// As [`put`].
pub fn encode(kind: Kind, message: &impl Message) -> Result<Bytes, FrameError> {
    let mut out = BytesMut::new();
    put(kind, message, &mut out)?;
    Ok(out.freeze())
}

/// Takes one whole frame off the front of `buffer`; `None` while it is not all there yet.
///
/// # Errors
/// When the bytes are no frame: the connection is not worth keeping.
pub fn take(buffer: &mut BytesMut) -> Result<Option<(Kind, Bytes)>, FrameError> {
    let Some(&first) = buffer.first() else { return Ok(None) };
    if first != MAGIC {
        return Err(FrameError::Magic(first));
    }
    let Some(&[_, kind, high, low]) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
    let kind = Kind::from_byte(kind).ok_or(FrameError::UnknownKind(kind))?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_MESSAGE {
        return Err(FrameError::TooLong(length));
    }
    if buffer.len() < HEADER + length {
        return Ok(None);
    }
    buffer.advance(HEADER);
    Ok(Some((kind, buffer.split_to(length).freeze())))
}

/// Decodes the message of a frame that must be of `kind`.
///
/// # Errors
/// [`FrameError::UnexpectedKind`], [`FrameError::Malformed`].
pub fn decode<M: Message + Default>(expected: Kind, (kind, bytes): (Kind, Bytes)) -> Result<M, FrameError> {
    if kind != expected {
        return Err(FrameError::UnexpectedKind { expected, got: kind });
    }
    M::decode(bytes).map_err(|error| FrameError::Malformed { kind, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::Probe;

    #[test]
    fn a_frame_comes_back_as_it_was_put_and_leaves_the_bytes_behind_it() {
        let mut buffer = BytesMut::new();
        put(Kind::Control, &Probe { sequence: 7 }, &mut buffer).unwrap();
        buffer.put_slice(b"rest");
        let frame = take(&mut buffer).unwrap().unwrap();
        assert_eq!(decode::<Probe>(Kind::Control, frame).unwrap().sequence, 7);
        assert_eq!(&buffer[..], b"rest");
    }

    #[test]
    fn a_cut_frame_is_waited_for_and_a_stranger_is_refused_at_its_first_byte() {
        let whole = encode(Kind::Control, &Probe { sequence: 7 }).unwrap();
        for cut in 0..whole.len() {
            assert_eq!(take(&mut BytesMut::from(&whole[..cut])).unwrap(), None);
        }
        assert_eq!(take(&mut BytesMut::from(&b"G"[..])), Err(FrameError::Magic(b'G')));
        assert_eq!(take(&mut BytesMut::from(&[MAGIC, 99, 0, 0][..])), Err(FrameError::UnknownKind(99)));
        assert_eq!(take(&mut BytesMut::from(&[MAGIC, 1, 0xff, 0xff][..])), Err(FrameError::TooLong(0xffff)));
    }
}
