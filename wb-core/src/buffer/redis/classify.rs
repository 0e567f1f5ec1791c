//! What kind of failure a Redis error is; by kind and code, never by message.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::connection::{Why, why_unsent};
use crate::buffer::{BufferError, BufferErrorKind};

/// The buffer's error for a failed request.
pub(super) fn classify(doing: &str, error: RedisError) -> BufferError {
    BufferError::new(kind(&error), doing).with_source(error)
}

/// The buffer's error for a request that a script was refused, by the code it was refused with.
pub(super) fn refused(doing: &str, code: &str) -> BufferError {
    BufferError::new(code_kind(Some(code)), format!("{doing}: Redis says {code}"))
}

/// The buffer's error for a key of a partition that cannot be used, by the code that Redis refuses it with, and the type of its
/// value (`none` when that is not known).
pub(super) fn broken_key(partition: u16, key: &str, code: &str, holds: &str) -> BufferError {
    let what = if holds == "none" { String::new() } else { format!(", which holds a {holds},") };
    BufferError::new(
        code_kind(Some(code)),
        format!("partition {partition} cannot be used: for `{key}`{what} Redis says {code}"),
    )
}

/// Whether a key holds a value that is not of the framework's type.
pub(super) fn is_wrong_type(error: &BufferError) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<RedisError>());
    source.and_then(RedisError::code) == Some("WRONGTYPE")
}

fn kind(error: &RedisError) -> BufferErrorKind {
    match why_unsent(error) {
        Some(Why::NoConnection) => return BufferErrorKind::Unavailable,
        Some(Why::Closed) => return BufferErrorKind::Closed,
        None => {}
    }
    match error.kind() {
        // Refused at connect: the request never left.
        _ if error.is_connection_refusal() => BufferErrorKind::Unavailable,
        ErrorKind::Io => BufferErrorKind::Unknown,
        ErrorKind::Server(server) => match server {
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly => BufferErrorKind::Unavailable,
            _ => code_kind(error.code()),
        },
        // Wrong for now: passwords change, and the connection is made anew until it is let in. Nothing was done.
        ErrorKind::ClusterConnectionNotFound | ErrorKind::AuthenticationFailed => BufferErrorKind::Unavailable,
        ErrorKind::Extension => code_kind(error.code()),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => BufferErrorKind::Unknown,
        _ => BufferErrorKind::Misconfigured,
    }
}

fn code_kind(code: Option<&str>) -> BufferErrorKind {
    match code {
        Some("OOM") => BufferErrorKind::Full,
        // MISCONF: the server refuses writes while it cannot save; NOREPLICAS: while it has too few replicas.
        // NOAUTH and WRONGPASS: a new connection is made, and made again until the server lets it in.
        Some(
            "MISCONF" | "NOREPLICAS" | "READONLY" | "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN"
            | "NOAUTH" | "WRONGPASS",
        ) => BufferErrorKind::Unavailable,
        _ => BufferErrorKind::Misconfigured,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide() {
        for (code, expected) in [
            ("OOM", BufferErrorKind::Full),
            ("MISCONF", BufferErrorKind::Unavailable),
            ("NOREPLICAS", BufferErrorKind::Unavailable),
            ("READONLY", BufferErrorKind::Unavailable),
            ("LOADING", BufferErrorKind::Unavailable),
            ("MASTERDOWN", BufferErrorKind::Unavailable),
            ("NOAUTH", BufferErrorKind::Unavailable),
            ("WRONGPASS", BufferErrorKind::Unavailable),
            ("WRONGTYPE", BufferErrorKind::Misconfigured),
            ("NOPERM", BufferErrorKind::Misconfigured),
        ] {
            assert_eq!(code_kind(Some(code)), expected, "{code}");
        }
        let cut = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(kind(&cut), BufferErrorKind::Unknown);
    }
}
