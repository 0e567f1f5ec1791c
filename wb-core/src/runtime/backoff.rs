//! Waits that several roles share.

use std::time::Duration;

/// Effectively no deadline: ten years.
pub(crate) const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// Shortest and longest wait between two looks at a flush: it may be another process that does it.
pub(crate) const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));
