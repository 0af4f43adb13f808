//! The server side of RFC 6455, as much as an echo needs: the first message says what was received, then every message
//! comes back. No extensions; a message is at most [`LONGEST`] bytes.

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Received;
use crate::{
    config::Itself,
    reply::{self, Reply},
};

/// Longest payload of a frame, bytes.
pub const LONGEST: u64 = 1 << 20;
/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

pub(crate) fn answer(itself: &Itself, mut request: Request<Incoming>) -> Reply {
    let Some(accept) = request.headers().get(header::SEC_WEBSOCKET_KEY).map(|key| accept(key.as_bytes())) else {
        return reply::text(StatusCode::BAD_REQUEST, "an upgrade to websocket without Sec-WebSocket-Key");
    };
    let mut received = Received::of(itself, &request);
    received.protocol = "websocket".into();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let outcome = match upgrade.await {
            Ok(upgraded) => converse(TokioIo::new(upgraded), &received).await,
            Err(reason) => Err(std::io::Error::other(reason)),
        };
        if let Err(reason) = outcome {
            tracing::debug!(%reason, "websocket ended");
        }
    });
    let mut reply = Response::new(reply::full(""));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    reply
}

/// RFC 6455 section 4.2.2: SHA-1 here proves that the server speaks the protocol, nothing else.
fn accept(key: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    STANDARD.encode(hash.finish())
}

async fn converse(mut io: TokioIo<Upgraded>, received: &Received) -> std::io::Result<()> {
    let first = serde_json::to_vec(received)?;
    write(&mut io, 0x80 | TEXT, &first).await?;
    loop {
        let (head, payload) = read(&mut io).await?;
        match head & 0x0f {
            CLOSE => return write(&mut io, 0x80 | CLOSE, payload.get(..2).unwrap_or_default()).await,
            PING => write(&mut io, 0x80 | PONG, &payload).await?,
            PONG => {}
            _ => write(&mut io, head, &payload).await?,
        }
    }
}

/// One frame: its first byte (FIN and opcode) and its payload, unmasked (section 5.2).
async fn read(io: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let head = io.read_u8().await?;
    let second = io.read_u8().await?;
    let length = match second & 0x7f {
        126 => u64::from(io.read_u16().await?),
        127 => io.read_u64().await?,
        short => u64::from(short),
    };
    if second & 0x80 == 0 || head & 0x70 != 0 || length > LONGEST {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "an unmasked, extended or too long frame"));
    }
    let mut mask = [0; 4];
    io.read_exact(&mut mask).await?;
    let mut payload = vec![0; usize::try_from(length).unwrap_or(0)];
    io.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((head, payload))
}

async fn write(io: &mut (impl AsyncWriteExt + Unpin), head: u8, payload: &[u8]) -> std::io::Result<()> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(head);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(short),
        (_, Ok(medium)) => {
            frame.push(126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    io.write_all(&frame).await?;
    io.flush().await
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_key_of_the_rfc_gives_the_answer_of_the_rfc() {
        assert_eq!(super::accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
