//! Connecting, and what can be set about it.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo};
use url::Url;

use super::durability::Durability;
use crate::buffer::{BufferError, BufferErrorKind};

/// A connection to Redis that requests of many tasks share.
pub(super) type Connection = ConnectionManager;

/// What can be set about the connection to Redis.
#[derive(Clone, Debug)]
#[must_use]
pub struct RedisOptions {
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) nodelay: bool,
    pub(super) durability: Durability,
    pub(super) durability_timeout: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(5),
            nodelay: false,
            durability: Durability::Memory,
            durability_timeout: Duration::from_secs(1),
        }
    }
}

impl RedisOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long connecting may take, at start and after a cut. Default: 5 s.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long an answer may take. A request that times out may still be carried out. Default: 5 s.
    pub const fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// Sets `TCP_NODELAY`: lower latency over a network, lower throughput over loopback. Default: off.
    pub const fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// What a write has survived when it is acknowledged. Anything but [`Durability::Memory`] costs a wait for each
    /// group of writes, and a connection of its own for them. Default: [`Durability::Memory`].
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long a write waits to become as durable as asked; after that it fails as
    /// [`BufferErrorKind::NotDurable`], although it is stored. Default: 1 s.
    pub const fn durability_timeout(mut self, timeout: Duration) -> Self {
        self.durability_timeout = timeout;
        self
    }
}

/// A connection for the writes of a buffer that waits: the server answers nothing else on it meanwhile.
pub(super) async fn connect_for_waits(url: &str, options: &RedisOptions) -> Result<Connection, BufferError> {
    // Two groups are under way at most, and the second waits for the first.
    let waits = options.durability_timeout.saturating_mul(2);
    let options = options.clone().response_timeout(options.response_timeout.saturating_add(waits));
    connect(url, &options).await
}

/// Who connects to this URL.
pub(super) fn client(url: &str, options: &RedisOptions) -> Result<Client, BufferError> {
    let shown = redacted(url);
    let misconfigured = |source| {
        BufferError::new(BufferErrorKind::Misconfigured, format!("`{shown}` is not a Redis URL")).with_source(source)
    };
    let info = url.into_connection_info().map_err(misconfigured)?;
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(options.nodelay));
    Client::open(info).map_err(misconfigured)
}

/// Connects within the connect timeout. The manager reconnects by itself after a cut.
pub(super) async fn connect(url: &str, options: &RedisOptions) -> Result<Connection, BufferError> {
    let shown = redacted(url);
    let client = client(url, options)?;
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(options.connect_timeout))
        .set_response_timeout(Some(options.response_timeout))
        // A request that meets a cut connection fails soon instead of hanging through many attempts to reconnect;
        // the next request tries again.
        .set_number_of_retries(2)
        .set_min_delay(Duration::from_millis(50));
    let unreachable = |context: String| BufferError::new(BufferErrorKind::Unavailable, context);
    match tokio::time::timeout(options.connect_timeout, ConnectionManager::new_with_config(client, config)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(source)) => Err(unreachable(format!("cannot connect to Redis at {shown}")).with_source(source)),
        Err(_) => Err(unreachable(format!("cannot connect to Redis at {shown} within {:?}", options.connect_timeout))),
    }
}

/// The URL without its password.
fn redacted(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut url) => {
            if url.password().is_some() && url.set_password(Some("***")).is_err() {
                return "(URL)".to_owned();
            }
            url.to_string()
        }
        // What cannot be parsed cannot be shown either: the password may be anywhere in it.
        Err(_) => "(unreadable URL)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(redacted("redis://user:secret@host:6379/1"), "redis://user:***@host:6379/1");
        assert_eq!(redacted("redis://:secret@host/"), "redis://:***@host/");
        assert_eq!(redacted("redis://host/"), "redis://host/");
        assert!(!redacted("redis//:secret@host").contains("secret"));
    }

    #[tokio::test]
    async fn an_unreachable_server_is_named_without_its_password() {
        // Port 1 on loopback: nothing listens there.
        let error = match connect("redis://:secret@127.0.0.1:1/", &RedisOptions::default()).await {
            Ok(_) => panic!("connected to nothing"),
            Err(error) => error,
        };
        assert_eq!(error.kind(), BufferErrorKind::Unavailable);
        let text = crate::error::chain(&error);
        assert!(text.contains("redis://:***@127.0.0.1:1/"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}
