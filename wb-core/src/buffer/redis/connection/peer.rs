//! A connection as the server knows it, so that the server can end it.

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};

/// How the server names a connection. Its number alone could be another client's on another server; with the address it
/// came from it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    id: String,
    addr: String,
}

impl Peer {
    /// Asks the server; `None` where the command is not allowed or not known.
    pub(super) async fn ask(connection: &mut MultiplexedConnection) -> RedisResult<Option<Self>> {
        let reply: RedisResult<String> = redis::cmd("CLIENT").arg("INFO").query_async(connection).await;
        match reply {
            Ok(info) => Ok(Self::parse(&info)),
            Err(error) if error.is_io_error() => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn parse(info: &str) -> Option<Self> {
        let field = |name: &str| {
            let value = info.split_ascii_whitespace().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
            Some(value.to_owned())
        };
        Some(Self { id: field("id")?, addr: field("addr")? })
    }

    /// Has the server end it. What was sent on it and waits somewhere between, in a proxy or an outage, arrives nowhere then:
    /// it would land on top of what is written by the next connection.
    pub(super) async fn end(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut command = redis::cmd("CLIENT");
        command.arg("KILL").arg("ID").arg(&self.id).arg("ADDR").arg(&self.addr);
        match command.query_async::<Value>(connection).await {
            Err(error) if error.is_io_error() => Err(error),
            // It is gone already, it was on another server, or this user may not.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_named_by_number_and_address() {
        let info = "id=1123 addr=10.0.0.7:51234 laddr=10.0.0.2:6379 fd=8 name= age=0 tot-mem=22298 user=default\n";
        let peer = Peer { id: "1123".to_owned(), addr: "10.0.0.7:51234".to_owned() };
        assert_eq!(Peer::parse(info), Some(peer));
        assert_eq!(Peer::parse("id=1"), None);
    }
}
