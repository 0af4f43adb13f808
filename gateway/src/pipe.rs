//! Bytes both ways between a TCP connection and a stream of a tunnel, unread.
//!
//! The end of one way is passed on as the end of that way only; a break of any kind becomes a reset on both sides, so
//! that neither takes a cut stream for a whole one.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream, VarInt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

/// The other side of the stream broke.
pub const BROKEN: VarInt = VarInt::from_u32(1);
/// Bytes that are read at once: few from a stream that says little, for there may be thousands of those.
const READ: std::ops::RangeInclusive<usize> = 4 * 1024..=64 * 1024;
/// Chunks that are taken off a stream at once: a packet each.
const CHUNKS: usize = 32;

/// Bytes carried over the tunnel.
#[derive(Debug, Default)]
pub struct Carried {
    /// From TCP into the tunnel.
    pub sent: AtomicU64,
    /// From the tunnel to TCP.
    pub received: AtomicU64,
}

/// Carries until both ways ended; the error that broke it, if one did.
///
/// # Errors
/// When either side broke; both have been reset then.
pub async fn run(
    mut tcp: TcpStream,
    mut send: SendStream,
    mut receive: RecvStream,
    carried: &Carried,
) -> io::Result<()> {
    let (mut from, mut to) = tcp.split();
    let outcome = tokio::try_join!(outward(&mut from, &mut send, carried), inward(&mut receive, &mut to, carried));
    if let Err(error) = outcome {
        abort(tcp, send, receive);
        return Err(error);
    }
    Ok(())
}

/// Resets both sides.
pub fn abort(tcp: TcpStream, mut send: SendStream, mut receive: RecvStream) {
    // Either may be closed already: then there is nothing to reset.
    let _ = send.reset(BROKEN);
    let _ = receive.stop(BROKEN);
    let _ = socket2::SockRef::from(&tcp).set_linger(Some(std::time::Duration::ZERO));
}

async fn outward(from: &mut ReadHalf<'_>, send: &mut SendStream, carried: &Carried) -> io::Result<()> {
    let (mut buffer, mut room) = (BytesMut::new(), *READ.start());
    let stopped = send.stopped();
    tokio::pin!(stopped);
    loop {
        buffer.reserve(room);
        let read = tokio::select! {
            biased;
            read = from.read_buf(&mut buffer) => read?,
            stopped = &mut stopped => {
                let reason = format!("the tunnel takes no more: {stopped:?}");
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, reason));
            }
        };
        if read == 0 {
            send.finish().map_err(io::Error::other)?;
            // Not over before the peer has it all: a gateway that drains closes its tunnels when no stream is left.
            return stopped.await.map(drop).map_err(io::Error::other);
        }
        carried.sent.fetch_add(read as u64, Ordering::Relaxed);
        room = if read >= room { room * 2 } else { room.min(read * 2) }.clamp(*READ.start(), *READ.end());
        send.write_chunk(buffer.split().freeze()).await?;
    }
}

async fn inward(receive: &mut RecvStream, to: &mut WriteHalf<'_>, carried: &Carried) -> io::Result<()> {
    let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
    while let Some(count) = receive.read_chunks(&mut chunks).await? {
        let mut slices: Vec<_> = chunks.iter().take(count).map(|chunk| io::IoSlice::new(chunk)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let written = to.write_vectored(rest).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            carried.received.fetch_add(written as u64, Ordering::Relaxed);
            io::IoSlice::advance_slices(&mut rest, written);
        }
        chunks.iter_mut().take(count).for_each(|chunk| *chunk = Bytes::new());
    }
    to.shutdown().await
}
