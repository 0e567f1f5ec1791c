//! What the developer reads: results on stdout, progress on stderr.
//!
//! Not `println!`: that panics when nobody reads any more (`| head`, a closed terminal), and a panic while the servers
//! are being stopped would leave them behind.

use std::fmt::Display;
use std::io::{Write, stderr, stdout};

/// A line of progress, or a complaint.
pub(crate) fn progress(text: impl Display) {
    let _ = writeln!(stderr(), "xtask: {text}");
}

/// The result of the command.
pub(crate) fn result(text: impl Display) {
    let mut stdout = stdout();
    let _ = write!(stdout, "{text}").and_then(|()| stdout.flush());
}
