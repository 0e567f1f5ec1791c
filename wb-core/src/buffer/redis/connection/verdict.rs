//! When a connection is given up, and how long the next attempt waits: pure decisions.

use std::time::Duration;

use redis::{RedisError, Value};

use crate::buffer::redis::code;

/// Time-outs in a row after which a connection is given up although others of its requests were answered meanwhile.
const TIMEOUTS: u32 = 3;

/// Shortest and longest wait between two attempts to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A connection that lived so long was a good one: the next attempt to connect does not wait.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// What a request has shown about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symptom {
    /// It was answered, with whatever.
    Answered,
    /// The connection broke.
    Broken,
    /// No answer in time.
    TimedOut {
        /// Nothing else was answered either since the request was sent.
        silent: bool,
    },
    /// The server behind the connection is a replica: it takes no writes, now or ever.
    ReadOnly,
    /// The server serves nothing on this connection: it loads its data, has lost its primary, or does not know who asks.
    Unserved,
}

/// What is done about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Replace,
}

/// Whether a connection is given up. `timeouts` counts those in a row, this one included.
pub(super) const fn judge(symptom: Symptom, timeouts: u32) -> Verdict {
    match symptom {
        Symptom::Answered => Verdict::Keep,
        // An answer to another request proves that the socket lives: then the server is slow, and a few are waited for.
        Symptom::TimedOut { silent: false } if timeouts < TIMEOUTS => Verdict::Keep,
        Symptom::TimedOut { .. } | Symptom::Broken | Symptom::ReadOnly | Symptom::Unserved => Verdict::Replace,
    }
}

/// What the code of a server's error says about the connection.
pub(super) fn code_symptom(code: &str) -> Symptom {
    match code {
        "READONLY" => Symptom::ReadOnly,
        "LOADING" | "MASTERDOWN" | "NOAUTH" | "WRONGPASS" => Symptom::Unserved,
        _ => Symptom::Answered,
    }
}

/// What a failed request says about the connection.
pub(super) fn error_symptom(error: &RedisError, silent: bool) -> Symptom {
    if error.is_timeout() {
        return Symptom::TimedOut { silent };
    }
    if error.is_io_error() || error.is_unrecoverable_error() {
        return Symptom::Broken;
    }
    code::of(error).map_or(Symptom::Answered, code_symptom)
}

/// What a reply says about the connection, and the error in it that says so.
pub(super) fn value_symptom(value: &Value) -> Option<(Symptom, RedisError)> {
    let Value::ServerError(error) = value else { return None };
    match code_symptom(code::of_reply(error)) {
        Symptom::Answered => None,
        symptom => Some((symptom, RedisError::from(error.clone()))),
    }
}

/// The wait before the next attempt: none after a connection that lived long, else twice the last one, up to a second.
pub(super) fn pause_after_life(last: Duration, lived: Duration) -> Duration {
    if lived >= GOOD_LIFE { Duration::ZERO } else { longer(last) }
}

/// The wait after an attempt that failed.
pub(super) fn longer(last: Duration) -> Duration {
    (last * 2).clamp(PAUSE.0, PAUSE.1)
}

/// The same wait out of step with other processes that lost the same server; `random` is in 0..1.
pub(super) fn jittered(pause: Duration, random: f64) -> Duration {
    pause.mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::ErrorKind;

    use super::*;

    #[test]
    fn errors_decide_whether_a_connection_is_given_up() {
        let io = |kind: io::ErrorKind| RedisError::from(io::Error::from(kind));
        for (error, silent, timeouts, expected) in [
            (io(io::ErrorKind::BrokenPipe), false, 0, Verdict::Replace),
            (io(io::ErrorKind::ConnectionReset), false, 0, Verdict::Replace),
            (io(io::ErrorKind::ConnectionRefused), false, 0, Verdict::Replace),
            // A socket that says nothing at all for a whole response timeout is dead.
            (io(io::ErrorKind::TimedOut), true, 1, Verdict::Replace),
            (io(io::ErrorKind::TimedOut), false, 1, Verdict::Keep),
            (io(io::ErrorKind::TimedOut), false, TIMEOUTS - 1, Verdict::Keep),
            (io(io::ErrorKind::TimedOut), false, TIMEOUTS, Verdict::Replace),
            (RedisError::from((ErrorKind::UnexpectedReturnType, "no number")), true, 0, Verdict::Keep),
            (RedisError::from((ErrorKind::Parse, "not RESP")), true, 0, Verdict::Replace),
        ] {
            assert_eq!(judge(error_symptom(&error, silent), timeouts), expected, "{error} {silent} {timeouts}");
        }
    }

    #[test]
    fn codes_decide_whether_a_connection_is_given_up() {
        for (code, expected) in [
            ("READONLY", Verdict::Replace),
            ("LOADING", Verdict::Replace),
            ("MASTERDOWN", Verdict::Replace),
            ("NOAUTH", Verdict::Replace),
            ("WRONGPASS", Verdict::Replace),
            // Of the request, not of the connection.
            ("NOPERM", Verdict::Keep),
            ("WRONGTYPE", Verdict::Keep),
            ("OOM", Verdict::Keep),
            ("NOSCRIPT", Verdict::Keep),
            ("BUSY", Verdict::Keep),
            ("MISCONF", Verdict::Keep),
        ] {
            assert_eq!(judge(code_symptom(code), 0), expected, "{code}");
        }
    }

    /// A replica that a script of an older server has met is one all the same.
    #[test]
    fn a_code_inside_a_script_decides_too() {
        let text = "-ERR Error running script (call to f_0a1b): @user_script:1: @user_script: 1: -READONLY You can't write\r\n";
        let value = redis::Parser::new().parse_value(text.as_bytes()).expect("a reply");
        let (symptom, error) = value_symptom(&value).expect("says something about the connection");
        assert_eq!(symptom, Symptom::ReadOnly);
        assert_eq!(error_symptom(&error, false), Symptom::ReadOnly);
    }

    #[test]
    fn attempts_wait_longer_up_to_a_second() {
        let mut pause = pause_after_life(Duration::ZERO, GOOD_LIFE);
        assert_eq!(pause, Duration::ZERO, "the first one at once");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pause = longer(pause);
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
        // A server that accepts and then refuses each request is not asked in a tight loop.
        assert_eq!(pause_after_life(pause, Duration::ZERO), Duration::from_secs(1));
        assert_eq!(jittered(pause, 0.0), pause / 2);
        assert!(jittered(pause, 0.999) < pause);
    }
}
