//! One frame off the front of a byte stream; what follows it stays in the buffer. Cancelling a read loses nothing.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use isthmus_wire::frame::{self, FrameError, Kind};
use tokio::io::{AsyncRead, AsyncReadExt};

/// A peer that connected sends its first frame within so long.
pub const FIRST_FRAME: Duration = Duration::from_secs(5);

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream ended or broke.
    #[error("the stream broke: {0}")]
    Broken(#[from] io::Error),
    /// Nothing within [`FIRST_FRAME`].
    #[error("no frame came in time")]
    Late,
}

/// The next frame.
///
/// # Errors
/// [`ReadError::Frame`], [`ReadError::Broken`].
pub async fn next(from: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> Result<(Kind, Bytes), ReadError> {
    loop {
        if let Some(frame) = frame::take(buffer)? {
            return Ok(frame);
        }
        buffer.reserve(4096);
        if from.read_buf(buffer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// As [`next`], within [`FIRST_FRAME`].
///
/// # Errors
/// [`ReadError`].
pub async fn first(from: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> Result<(Kind, Bytes), ReadError> {
    tokio::time::timeout(FIRST_FRAME, next(from, buffer)).await.map_err(|_| ReadError::Late)?
}
