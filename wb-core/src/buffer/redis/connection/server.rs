//! The server that is connected to, and what its errors may say.

use redis::{Client, ErrorKind, Parser, RedisError};

use crate::error::address::Address;

const NOT_SHOWN: &str = "the message quotes the address, and is not shown";

/// A server by its address.
#[derive(Clone)]
pub(in crate::buffer::redis) struct Server {
    pub(in crate::buffer::redis) client: Client,
    pub(in crate::buffer::redis) address: Address,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client shows a user, who is the password where the colon before it was forgotten.
        f.debug_tuple("Server").field(&self.address).finish()
    }
}

impl Server {
    /// What is told of a failure to connect. A server that does not know a command of the login quotes its arguments:
    /// `unknown command 'AUTH', with args beginning with: …`. Then its code is told, and nothing else.
    pub(in crate::buffer::redis) fn told(&self, error: RedisError) -> RedisError {
        // What the system says of a socket quotes nothing.
        let of_socket = error.is_timeout() || error.is_connection_refusal() || error.is_connection_dropped();
        if of_socket || self.address.unless_quoted(&error).is_some() {
            return error;
        }
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => {
                let code = error.code().filter(|code| is_code(code) && !self.address.is_quoted_in(code));
                code.and_then(server_error).unwrap_or_else(|| (ErrorKind::Io, NOT_SHOWN).into())
            }
            kind => (kind, NOT_SHOWN).into(),
        }
    }
}

/// What a server's error begins with, unless it is something else.
fn is_code(text: &str) -> bool {
    text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn server_error(code: &str) -> Option<RedisError> {
    let text = format!("-{code} {NOT_SHOWN}\r\n");
    match Parser::new().parse_value(text.as_bytes()) {
        Ok(value) => value.extract_error().err(),
        Err(error) => Some(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        Server { client: Client::open(url).expect("a URL"), address: Address::new(url) }
    }

    fn said(text: &str) -> RedisError {
        match Parser::new().parse_value(format!("-{text}\r\n").as_bytes()) {
            Ok(value) => value.extract_error().expect_err("an error"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_message_that_quotes_the_login_is_left_out_and_its_code_is_kept() {
        let server = server("redis://app:hunter2@127.0.0.1/");
        for (text, code) in [
            ("ERR unknown command 'AUTH', with args beginning with: 'app' 'hunter2'", "ERR"),
            ("NOAUTH hunter2", "NOAUTH"),
            ("hunter2 is no password", ""),
        ] {
            let told = server.told(said(text));
            let shown = format!("{} {told:?}", crate::error::chain(&told));
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(code.is_empty() || told.code() == Some(code), "{shown}");
        }
        let short = self::server("redis://:a@127.0.0.1/");
        let refused = short.told((ErrorKind::AuthenticationFailed, "Password authentication failed").into());
        assert_eq!(refused.kind(), ErrorKind::AuthenticationFailed, "the text is one of ours then");
        let kept = server.told(said("LOADING the data"));
        assert_eq!((kept.code(), kept.detail()), (Some("LOADING"), Some("the data")));
        assert!(!format!("{server:?}").contains("app"));
    }
}
