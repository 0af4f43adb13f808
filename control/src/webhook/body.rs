//! A request's body, whole, in bounded memory: each has a most, and all together have one beyond which only small ones
//! are read. So whoever sends large bodies slowly takes memory from others who do, and from nobody else.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::body::Body;
use http_body_util::BodyExt;

/// Longest review, bytes: two objects as large as etcd keeps (1.5 MiB), and what is around them.
pub(crate) const MAX_BODY: usize = 4 * 1024 * 1024;
/// Bytes after which nobody is heard out.
const MAX_HEARD: usize = 4 * MAX_BODY;
/// A body up to here is small, bytes: most pods have some ten kilobytes.
pub(crate) const SMALL: usize = 256 * 1024;
/// Bytes of all bodies under way, beyond which only small ones are read.
const MAX_TOGETHER: usize = 64 * 1024 * 1024;

/// Why a body is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is longer than any review.
    TooLong,
    /// There are too many large ones.
    Crowded,
    /// It ended before its end.
    Cut,
}

/// The memory of all bodies under way. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    held: Arc<AtomicUsize>,
    most: usize,
}

/// A body that was read; its memory is given back with it.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) bytes: Vec<u8>,
    room: Room,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self { held: Arc::default(), most: MAX_TOGETHER }
    }

    /// Reads a body to its end. One that is not kept is heard out for a while, since few clients read an answer before
    /// they have said all.
    pub(crate) async fn read(&self, mut body: Body) -> Result<Whole, Unread> {
        let mut whole = Ok(Whole { bytes: Vec::new(), room: self.clone() });
        let mut heard = 0usize;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Unread::Cut)?.into_data() else { continue };
            heard = heard.saturating_add(data.len());
            if heard > MAX_HEARD {
                return Err(Unread::TooLong);
            }
            whole = whole.and_then(|whole| whole.grown(&data));
        }
        whole
    }
}

impl Whole {
    fn grown(mut self, data: &[u8]) -> Result<Self, Unread> {
        let length = self.bytes.len().saturating_add(data.len());
        if length > MAX_BODY {
            return Err(Unread::TooLong);
        }
        let held = self.room.held.load(Ordering::Relaxed).saturating_add(data.len());
        if length > SMALL && held > self.room.most {
            return Err(Unread::Crowded);
        }
        self.bytes.extend_from_slice(data);
        self.room.held.fetch_add(data.len(), Ordering::Relaxed);
        Ok(self)
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.room.held.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(room: &Room, length: usize) -> Result<Whole, Unread> {
        room.read(Body::from(vec![b' '; length])).await
    }

    #[tokio::test]
    async fn large_bodies_share_what_there_is_and_small_ones_are_always_read() {
        let room = Room { most: 3 * SMALL, ..Room::new() };
        for length in [MAX_BODY + 1, MAX_HEARD + 1] {
            assert_eq!(read(&room, length).await.err(), Some(Unread::TooLong));
        }
        let large = read(&room, 2 * SMALL).await.unwrap();
        assert_eq!(read(&room, 2 * SMALL).await.err(), Some(Unread::Crowded));
        let small = [read(&room, SMALL).await.unwrap(), read(&room, SMALL).await.unwrap()];
        assert_eq!(room.held.load(Ordering::Relaxed), 4 * SMALL, "what was refused is given back");
        drop((large, small));
        assert!(read(&room, 2 * SMALL).await.is_ok());
        assert_eq!(room.held.load(Ordering::Relaxed), 0);
    }
}
