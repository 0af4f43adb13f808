//! Lines for people and programs. Whoever read them may be gone (`| head`): that is no error, and nobody to tell.

use std::{fmt::Display, io::Write};

/// Writes a line to standard output.
pub fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Writes text as it is to standard output, at once.
pub fn raw(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
