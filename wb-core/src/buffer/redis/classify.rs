//! What kind of failure a Redis error is; by kind and code, never by message.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::code;
use super::connection::{Why, last_failure, why_unsent};
use crate::error::buffer::{BufferError, BufferErrorKind};

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
    source.and_then(code::of) == Some("WRONGTYPE")
}

/// Whether the server does not know who asks: a wrong password or user, or none.
pub(super) fn is_login(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(code::of(error), Some("NOAUTH" | "WRONGPASS"))
        || last_failure(error).is_some_and(is_login)
}

/// What an error is at a start. A login that is refused is no outage there: nobody would mend it by waiting. In an engine that runs it
/// is one, because passwords change, and the connection is made anew until it is let in.
pub(super) fn at_start(error: BufferError) -> BufferError {
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<RedisError>());
    if source.is_some_and(is_login) { error.of_kind(BufferErrorKind::Misconfigured) } else { error }
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
            _ => code_kind(code::of(error)),
        },
        // Wrong for now: passwords change, and the connection is made anew until it is let in. Nothing was done.
        ErrorKind::ClusterConnectionNotFound | ErrorKind::AuthenticationFailed => BufferErrorKind::Unavailable,
        ErrorKind::Extension => code_kind(code::of(error)),
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
    use redis::Parser;

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
        let refused = |text: &str| match Parser::new().parse_value(format!("-{text}\r\n").as_bytes()) {
            Ok(value) => value.extract_error().expect_err("an error"),
            Err(error) => error,
        };
        // As Redis 6.2 says it of a script.
        let script = "ERR Error running script (call to f_0a1b): @user_script:1:";
        for (text, expected) in [
            ("-READONLY You can't write against a read only replica.", BufferErrorKind::Unavailable),
            ("-OOM command not allowed when used memory > 'maxmemory'.", BufferErrorKind::Full),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", BufferErrorKind::Misconfigured),
        ] {
            let error = refused(&format!("{script} {text}"));
            assert_eq!(kind(&error), expected, "{error}");
            let told = classify("x", error);
            assert_eq!(is_wrong_type(&told), text.starts_with("WRONGTYPE"), "{told}");
        }
        let refused_login = refused("WRONGPASS invalid username-password pair or user is disabled.");
        assert_eq!(kind(&refused_login), BufferErrorKind::Unavailable, "while an engine runs");
        assert_eq!(at_start(classify("x", refused_login)).kind(), BufferErrorKind::Misconfigured);
        assert_eq!(at_start(classify("x", refused("LOADING x"))).kind(), BufferErrorKind::Unavailable);
        let cut = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(kind(&cut), BufferErrorKind::Unknown);
    }
}
