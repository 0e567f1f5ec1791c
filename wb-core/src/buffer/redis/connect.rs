//! Connecting, and what can be set about it.

use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo};
use url::Url;

use super::connection::Connection;
use super::durability::Durability;
use crate::buffer::{BufferError, BufferErrorKind};

/// An idle connection is probed by TCP after so long, and then so often: what stands between (a NAT, a firewall) must not
/// forget it, and a peer that went away without a word is noticed.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));

/// Times the response timeout that an answer in bulk may take. What it brings is bounded by bytes, so not much more is needed, and
/// this is also how long a silent socket goes unnoticed.
const BULK_PATIENCE: u32 = 3;

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

    /// How long connecting may take, at start and after a cut; and how long a request waits for a connection while there
    /// is none before it fails as [`BufferErrorKind::Unavailable`]. Default: 5 s.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long an answer may take. A request that times out may still be carried out. A connection on which nothing at all
    /// was answered for so long is replaced. Default: 5 s.
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

/// A connection for what is read in bulk: closed epochs and logs, dead letters. What they bring takes long over a slow link, and
/// writes and readers must not wait behind it.
pub(super) async fn connect_for_bulk(url: &str, options: &RedisOptions) -> Result<Connection, BufferError> {
    let options = options.clone().response_timeout(options.response_timeout.saturating_mul(BULK_PATIENCE));
    connect(url, &options).await
}

/// Who connects to this URL.
pub(super) fn client(url: &str, options: &RedisOptions) -> Result<Client, BufferError> {
    let shown = redacted(url);
    let misconfigured = |source| {
        BufferError::new(BufferErrorKind::Misconfigured, format!("`{shown}` is not a Redis URL")).with_source(source)
    };
    let info = url.into_connection_info().map_err(misconfigured)?;
    Client::open(info.set_tcp_settings(tcp_settings(options))).map_err(misconfigured)
}

fn tcp_settings(options: &RedisOptions) -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1);
    let settings = TcpSettings::default().set_nodelay(options.nodelay).set_keepalive(keepalive);
    // What is sent and never acknowledged by the peer's kernel ends the connection after so long, not after a quarter of an
    // hour of retransmissions.
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let settings = settings.set_user_timeout(options.connect_timeout.max(options.response_timeout));
    settings
}

/// Connects within the connect timeout. From then on the connection is replaced by itself when it is bad.
pub(super) async fn connect(url: &str, options: &RedisOptions) -> Result<Connection, BufferError> {
    let shown = redacted(url);
    let client = client(url, options)?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.connect_timeout))
        .set_response_timeout(Some(options.response_timeout));
    Connection::open(client, config, options.connect_timeout).await.map_err(|source| {
        let within = if source.is_timeout() { format!(" within {:?}", options.connect_timeout) } else { String::new() };
        let context = format!("cannot connect to Redis at {shown}{within}");
        BufferError::new(BufferErrorKind::Unavailable, context).with_source(source)
    })
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
