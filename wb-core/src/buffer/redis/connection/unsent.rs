//! The error of a request that was never sent.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use redis::RedisError;

/// Why a request has not left this process; the outcome is known: nothing was done.
#[derive(Clone, Debug)]
pub(in crate::buffer::redis) struct Unsent {
    pub(super) why: Why,
    /// The last failure to connect, or what the last connection was given up for.
    pub(super) source: Option<RedisError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::buffer::redis) enum Why {
    /// There is no connection, and none came within the connect timeout.
    NoConnection,
    /// The buffer was closed.
    Closed,
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.why {
            Why::NoConnection => "not sent: there is no connection to Redis",
            Why::Closed => "not sent: the connection to Redis was closed",
        })
    }
}

impl Error for Unsent {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|error| error as &(dyn Error + 'static))
    }
}

impl From<Unsent> for RedisError {
    fn from(unsent: Unsent) -> Self {
        Self::from(io::Error::new(io::ErrorKind::NotConnected, unsent))
    }
}

/// Why the request of this error was never sent; `None`: it may have been.
pub(in crate::buffer::redis) fn why_unsent(error: &RedisError) -> Option<Why> {
    unsent(error).map(|unsent| unsent.why)
}

/// The last failure to connect, where that is why the request of this error was never sent.
pub(in crate::buffer::redis) fn last_failure(error: &RedisError) -> Option<&RedisError> {
    unsent(error)?.source.as_ref()
}

fn unsent(error: &RedisError) -> Option<&Unsent> {
    let source = error.source()?;
    // The client keeps the error of the IO behind an `Arc`.
    let io = match source.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        Some(shared) => shared.downcast_ref::<io::Error>(),
        None => source.downcast_ref::<io::Error>(),
    };
    io?.get_ref()?.downcast_ref::<Unsent>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_never_sent_is_told_from_one_that_may_have_been() {
        let refused = || RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        for why in [Why::NoConnection, Why::Closed] {
            let error = RedisError::from(Unsent { why, source: Some(refused()) });
            assert_eq!(why_unsent(&error), Some(why));
            assert_eq!(why_unsent(&error.clone()), Some(why));
            assert!(last_failure(&error).is_some_and(RedisError::is_io_error));
            let text = crate::error::chain(&error);
            assert!(text.contains("not sent") && text.contains("refused"), "the cause is kept: {text}");
        }
        for other in [io::ErrorKind::BrokenPipe, io::ErrorKind::NotConnected, io::ErrorKind::TimedOut] {
            assert_eq!(why_unsent(&RedisError::from(io::Error::from(other))), None, "{other}");
        }
    }
}
