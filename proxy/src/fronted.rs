//! A stream with one frame of our own in front of each direction.
//!
//! Used twice: to the local gateway (signed header out, answer in) and inside the inner connection (metadata out,
//! metadata in). The outgoing frame leaves in one write with the first bytes behind it; the incoming one is taken off
//! when the first bytes are read. Neither costs a round trip.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use isthmus_wire::frame::{self, Kind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The frame that came in, once it has.
pub(crate) type Arrived = Arc<OnceLock<Bytes>>;

/// Says what a frame of the expected kind means: whether to go on.
type Judge = fn(&Bytes) -> io::Result<()>;

pub(crate) struct Fronted<S> {
    stream: S,
    /// Bytes to leave before any other: the frame, and what came with it.
    out: BytesMut,
    /// Of `out`, how many of the caller's bytes are in it already.
    promised: usize,
    expected: Kind,
    judge: Judge,
    arrived: Arrived,
    buffer: BytesMut,
}

impl<S> Fronted<S> {
    pub(crate) fn new(stream: S, out: Bytes, expected: Kind, judge: Judge) -> (Self, Arrived) {
        let arrived = Arrived::default();
        let fronted = Self {
            stream,
            out: out.into(),
            promised: 0,
            expected,
            judge,
            arrived: Arc::clone(&arrived),
            buffer: BytesMut::new(),
        };
        (fronted, arrived)
    }

    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncWrite + Unpin> Fronted<S> {
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Fronted<S> {
    /// Reads until the whole frame is there.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let taken =
                frame::take(&mut self.buffer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if let Some((kind, bytes)) = taken {
                if kind != self.expected {
                    let error = frame::FrameError::UnexpectedKind { expected: self.expected, got: kind };
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                let judged = (self.judge)(&bytes);
                let _ = self.arrived.set(bytes);
                return Poll::Ready(judged);
            }
            let mut chunk = [0u8; 4096];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.buffer.extend_from_slice(read.filled());
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Fronted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.out.is_empty() && this.promised == 0 && this.expected == Kind::Metadata {
            // Whoever only listens still says who it is.
            let _ = this.poll_out(cx)?;
        }
        if this.arrived.get().is_none() {
            ready!(this.poll_frame(cx))?;
        }
        if !this.buffer.is_empty() {
            let fits = this.buffer.len().min(buf.remaining());
            buf.put_slice(&this.buffer.split_to(fits));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Fronted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.out.is_empty() {
            return Pin::new(&mut this.stream).poll_write(cx, buf);
        }
        if this.promised == 0 {
            this.out.extend_from_slice(buf);
            this.promised = buf.len();
        }
        ready!(this.poll_out(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut this.promised)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.promised > 0 || self.expected == Kind::Metadata {
            ready!(self.poll_out(cx))?;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use isthmus_wire::tunnel::Probe;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn frames_go_in_front_and_never_reach_whoever_reads() {
        let (near, far) = tokio::io::duplex(64);
        let frame = |n| frame::encode(Kind::Metadata, &Probe { sequence: n }).unwrap();
        let (mut near, _) = Fronted::new(near, frame(1), Kind::Metadata, |_| Ok(()));
        let (mut far, arrived) = Fronted::new(far, frame(2), Kind::Metadata, |_| Ok(()));
        near.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
        assert!(arrived.get().is_some());
        far.write_all(b"there").await.unwrap();
        near.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"there");
    }

    #[tokio::test]
    async fn a_stranger_is_told_apart_at_its_first_byte() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut near, _) = Fronted::new(near, Bytes::new(), Kind::Answer, |_| Ok(()));
        far.write_all(b"HTTP/1.1 200 OK").await.unwrap();
        let error = near.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
