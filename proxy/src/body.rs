//! One body type for everything that passes: a peer's stream, or a few bytes of our own.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderValue;
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
    /// A request of a length that nobody said: counts what passes.
    Counted(Incoming, Rc<Cell<u64>>),
}

/// What passed of a body.
pub(crate) struct Passed {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Whether it ended well.
    pub(crate) whole: bool,
    /// `grpc-status` of its trailers.
    pub(crate) grpc_status: Option<HeaderValue>,
}

/// A body whose end somebody waits for.
pub(crate) struct Watched {
    pub(crate) body: Incoming,
    bytes: u64,
    grpc_status: Option<HeaderValue>,
    /// Called once.
    end: Option<Box<dyn FnOnce(Passed)>>,
}

impl Watched {
    pub(crate) fn new(body: Incoming, end: impl FnOnce(Passed) + 'static) -> Box<Self> {
        Box::new(Self { body, bytes: 0, grpc_status: None, end: Some(Box::new(end)) })
    }

    fn finish(&mut self, whole: bool) {
        if let Some(end) = self.end.take() {
            end(Passed { bytes: self.bytes, whole, grpc_status: self.grpc_status.take() });
        }
    }

    fn passes(&mut self, frame: &Frame<Bytes>) {
        self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if let Some(trailers) = frame.trailers_ref() {
            self.grpc_status = trailers.get("grpc-status").cloned();
        }
        if self.body.is_end_stream() {
            self.finish(true);
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
    /// A request's body, and what counts its bytes where its length is not said.
    pub(crate) fn of_request(body: Incoming) -> (Self, Option<Rc<Cell<u64>>>) {
        if body.is_end_stream() || body.size_hint().exact().is_some() {
            return (Self::Incoming(body), None);
        }
        let bytes = Rc::<Cell<u64>>::default();
        (Self::Counted(body, Rc::clone(&bytes)), Some(bytes))
    }

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
                    Poll::Ready(Some(Ok(frame))) => watched.passes(frame),
                    Poll::Ready(Some(Err(_))) => watched.finish(false),
                    Poll::Ready(None) => watched.finish(true),
                    Poll::Pending => {}
                }
                polled
            }
            Self::Counted(body, bytes) => {
                let polled = Pin::new(body).poll_frame(cx);
                if let Poll::Ready(Some(Ok(frame))) = &polled {
                    bytes.set(bytes.get() + frame.data_ref().map_or(0, |data| data.len() as u64));
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
            Self::Counted(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(body) => body.size_hint(),
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Watched(watched) => watched.body.size_hint(),
            Self::Counted(body, _) => body.size_hint(),
        }
    }
}
