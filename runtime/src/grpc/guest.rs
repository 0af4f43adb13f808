//! A caller without an identity: it enrols or joins, which is one short call. Whoever stays longer, or says more, is
//! neither, and its connection ends.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, ReadBuf};

use crate::places::Place;

/// The longest a guest stays: a join takes a write of Raft, and is tried again on a new connection.
const LONGEST_STAY: Duration = Duration::from_secs(30);
/// The most a guest says, bytes: a request has some kilobytes, its roots and addresses included.
const MOST_SAID: usize = 256 * 1024;

/// The bounds of one guest's connection.
pub(super) struct Guest {
    over: Pin<Box<dyn Future<Output = &'static str> + Send>>,
    said: usize,
}

impl Guest {
    pub(super) fn new(place: Place) -> Self {
        Self::staying(place, LONGEST_STAY)
    }

    fn staying(place: Place, at_most: Duration) -> Self {
        let over = async move {
            match tokio::time::timeout(at_most, place.needed()).await {
                Ok(()) => "its place is needed by somebody else",
                Err(_) => "it stayed too long",
            }
        };
        Self { over: Box::pin(over), said: 0 }
    }

    /// Reads from the guest's stream until one of its bounds is reached.
    pub(super) fn poll_read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let ended = |why| {
            tracing::debug!(why, "a caller without an identity has to leave");
            io::Error::new(io::ErrorKind::ConnectionAborted, why)
        };
        if let Poll::Ready(why) = self.over.as_mut().poll(cx) {
            // Not polled again: a future that ended stays ended.
            self.over = Box::pin(std::future::ready(why));
            return Poll::Ready(Err(ended(why)));
        }
        if self.said > MOST_SAID {
            return Poll::Ready(Err(ended("it says more than any request has")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(stream).poll_read(cx, buf))?;
        self.said = self.said.saturating_add(buf.filled().len().saturating_sub(before));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::places::Places;

    struct Guarded<S>(S, Guest);

    impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let Self(stream, guest) = &mut *self;
            guest.poll_read(stream, cx, buf)
        }
    }

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn a_guest_that_says_nothing_leaves_in_the_end_and_at_once_when_its_place_is_needed() {
        let places = Places::new(1);
        let (_near, far) = tokio::io::duplex(64);
        let guest = Guest::staying(places.take(SOURCE), Duration::from_millis(20));
        let error = Guarded(far, guest).read_u8().await.unwrap_err();
        assert_eq!(error.to_string(), "it stayed too long");
        let (_near, far) = tokio::io::duplex(64);
        let mut guest = Guarded(far, Guest::new(places.take(SOURCE)));
        let waiting = tokio::spawn(async move { guest.read_u8().await });
        tokio::task::yield_now().await;
        let _newcomer = places.take(SOURCE);
        let error = waiting.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("needed"), "{error}");
    }

    #[tokio::test]
    async fn a_guest_that_says_more_than_any_request_has_is_cut() {
        let (mut near, far) = tokio::io::duplex(4096);
        let mut guest = Guarded(far, Guest::new(Places::new(1).take(SOURCE)));
        tokio::spawn(async move { while near.write_all(&[7; 4096]).await.is_ok() {} });
        let error = guest.read_to_end(&mut vec![]).await.unwrap_err();
        assert!(error.to_string().contains("says more"), "{error}");
    }
}
