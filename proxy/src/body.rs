//! One body type for everything that passes: a peer's stream, or a few bytes of our own.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

/// A body that passes through, or one we made.
pub(crate) enum Body {
    /// From a peer.
    Incoming(Incoming),
    /// Ours.
    Own(Option<Bytes>),
    /// Counts what passes and tells at its end.
    Watched(Box<Watched>),
}

/// A body whose end somebody waits for.
pub(crate) struct Watched {
    pub(crate) body: Incoming,
    pub(crate) bytes: u64,
    /// Called once: with the bytes that passed, and whether the body ended well.
    pub(crate) end: Option<Box<dyn FnOnce(u64, bool)>>,
}

impl Watched {
    fn finish(&mut self, whole: bool) {
        if let Some(end) = self.end.take() {
            end(self.bytes, whole);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let whole = self.body.is_end_stream();
        self.finish(whole);
    }
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::Own(None)
    }

    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Own(Some(text.into()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Incoming(body) => Pin::new(body).poll_frame(cx),
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Watched(watched) => {
                let polled = Pin::new(&mut watched.body).poll_frame(cx);
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => {
                        watched.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                        if watched.body.is_end_stream() {
                            watched.finish(true);
                        }
                    }
                    Poll::Ready(Some(Err(_))) => watched.finish(false),
                    Poll::Ready(None) => watched.finish(true),
                    Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(body) => body.is_end_stream(),
            Self::Own(bytes) => bytes.is_none(),
            Self::Watched(watched) => watched.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(body) => body.size_hint(),
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Watched(watched) => watched.body.size_hint(),
        }
    }
}
