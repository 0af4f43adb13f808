//! What a client speaks, by its first bytes: HTTP/1.1, HTTP/2, or something that is not ours to understand.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

const METHODS: [&[u8]; 9] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"CONNECT ", b"OPTIONS ", b"TRACE ", b"PATCH "];
/// The HTTP/2 connection preface (RFC 9113, 3.4), as far as it tells.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/1.1 or HTTP/2; the server tells them apart by itself.
    Http,
    /// Opaque bytes.
    Opaque,
}

/// `None`: more bytes are needed.
fn spoken(bytes: &[u8]) -> Option<Spoken> {
    let mut words = METHODS.iter().copied().chain([PREFACE]);
    if words.clone().any(|word| bytes.starts_with(word)) {
        return Some(Spoken::Http);
    }
    let may_become = words.any(|word| word.starts_with(bytes));
    (!may_become).then_some(Spoken::Opaque)
}

/// Reads as much as is needed to tell; gives back a stream that begins with what was read.
pub(crate) async fn detect<S: AsyncRead + Unpin>(stream: S) -> io::Result<(Spoken, Rewound<S>)> {
    detect_until(stream, std::future::pending()).await
}

/// As [`detect`]; who says nothing by which it can be told for so long waits for the server to speak, which is opaque.
pub(crate) async fn detect_within<S>(stream: S, silence: Duration) -> io::Result<(Spoken, Rewound<S>)>
where
    S: AsyncRead + Unpin,
{
    detect_until(stream, tokio::time::sleep(silence)).await
}

async fn detect_until<S>(mut stream: S, silence: impl Future<Output = ()>) -> io::Result<(Spoken, Rewound<S>)>
where
    S: AsyncRead + Unpin,
{
    tokio::pin!(silence);
    let mut buffer = BytesMut::with_capacity(1024);
    loop {
        let read = tokio::select! {
            read = stream.read_buf(&mut buffer) => read?,
            () = &mut silence => return Ok((Spoken::Opaque, Rewound { buffer, stream })),
        };
        match spoken(&buffer) {
            Some(spoken) => return Ok((spoken, Rewound { buffer, stream })),
            None if read == 0 => return Ok((Spoken::Opaque, Rewound { buffer, stream })),
            None => {}
        }
    }
}

/// A stream that begins with bytes already read.
pub(crate) struct Rewound<S> {
    buffer: BytesMut,
    stream: S,
}

impl<S> Rewound<S> {
    pub(crate) fn fresh(stream: S) -> Self {
        Self { buffer: BytesMut::new(), stream }
    }

    /// What it was made of.
    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let fits = self.buffer.len().min(buf.remaining());
        buf.put_slice(self.buffer.get(..fits).unwrap_or_default());
        self.buffer.advance(fits);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_told_from_the_rest_as_early_as_can_be() {
        assert_eq!(spoken(b"GET / HTTP/1.1"), Some(Spoken::Http));
        assert_eq!(spoken(b"PRI * HTTP/2.0\r\n\r\nSM"), Some(Spoken::Http));
        assert_eq!(spoken(b"P"), None);
        assert_eq!(spoken(b""), None);
        assert_eq!(spoken(b"\x16\x03\x01"), Some(Spoken::Opaque));
        assert_eq!(spoken(b"GETTING"), Some(Spoken::Opaque));
    }

    proptest::proptest! {
        /// Whatever a client says, in whatever pieces, all of it goes on, and no more is waited for than a method has.
        #[test]
        fn no_bytes_break_it_and_none_is_lost(said in proptest::collection::vec(0u8.., 0..64), real in 0usize..10) {
            let words: Vec<&[u8]> = METHODS.iter().copied().chain([PREFACE]).collect();
            for said in [said.clone(), [words[real], said.as_slice()].concat()] {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let (spoken, rest) = runtime.block_on(async {
                    let (spoken, mut rewound) = detect(said.as_slice()).await.unwrap();
                    let mut rest = vec![];
                    rewound.read_to_end(&mut rest).await.unwrap();
                    (spoken, rest)
                });
                let is_http = words.iter().any(|word| said.starts_with(word));
                proptest::prop_assert_eq!(spoken == Spoken::Http, is_http);
                proptest::prop_assert_eq!(rest, said);
            }
        }
    }

    #[tokio::test]
    async fn who_waits_for_the_server_to_speak_is_opaque_and_what_it_did_say_is_kept() {
        let (mut client, server) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut client, b"P").await.unwrap();
        let (spoken, mut rewound) = detect_within(server, Duration::from_millis(5)).await.unwrap();
        drop(client);
        let mut all = vec![];
        rewound.read_to_end(&mut all).await.unwrap();
        assert_eq!((spoken, all.as_slice()), (Spoken::Opaque, b"P".as_slice()));
    }

    #[tokio::test]
    async fn nothing_that_was_read_is_lost() {
        let (_, mut rewound) = detect(&b"SSH-2.0-client\r\n"[..]).await.unwrap();
        let mut all = vec![];
        rewound.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"SSH-2.0-client\r\n");
    }
}
