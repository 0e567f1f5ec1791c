//! Connecting, and what can be set about it.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult, Value};

use super::classify::is_login;
use super::connection::{Connection, Server};
use crate::buffer::redis::write::durability::Durability;
use crate::error::address::Address;
use crate::error::buffer::{BufferError, BufferErrorKind};

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

/// The server at this URL.
pub(super) fn server(url: &str, options: &RedisOptions) -> Result<Server, BufferError> {
    let address = Address::new(url);
    let misconfigured = |why: &str| {
        BufferError::new(BufferErrorKind::Misconfigured, format!("cannot use the Redis URL {address}: {why}"))
    };
    if let Some(why) = address.ambiguity() {
        return Err(misconfigured(why));
    }
    let Some("redis" | "rediss" | "valkey" | "valkeys" | "unix" | "redis+unix" | "valkey+unix") = address.scheme()
    else {
        return Err(misconfigured("it has to begin with redis://, rediss://, valkey://, valkeys:// or redis+unix://"));
    };
    let refused = |error: RedisError| match address.unless_quoted(&error) {
        Some(_) => misconfigured("the client refuses it").with_source(error),
        None => misconfigured("the client refuses it, and says why with parts of it that are not shown"),
    };
    let info = url.into_connection_info().map_err(refused)?;
    let client = Client::open(info.set_tcp_settings(tcp_settings(options))).map_err(refused)?;
    Ok(Server { client, address })
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
    let server = server(url, options)?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.connect_timeout))
        .set_response_timeout(Some(options.response_timeout));
    let source = match Connection::open(server.clone(), config.clone(), options.connect_timeout).await {
        Ok(connection) => return Ok(connection),
        Err(source) => source,
    };
    let Server { client, address } = server;
    let (kind, context) = if is_login(&source) && wants_login(&client, &config, options.connect_timeout).await {
        // Waiting mends no password.
        (BufferErrorKind::Misconfigured, format!("Redis at {address} refuses the login"))
    } else {
        let within = if source.is_timeout() { format!(" within {:?}", options.connect_timeout) } else { String::new() };
        (BufferErrorKind::Unavailable, format!("cannot connect to Redis at {address}{within}"))
    };
    Err(BufferError::new(kind, context).with_source(source))
}

/// Whether the server answers who does not log in, or asks him to. One that has too many clients refuses whatever comes first, and
/// the client takes that for a login that is refused.
async fn wants_login(client: &Client, config: &AsyncConnectionConfig, within: Duration) -> bool {
    let anonymous = client.get_connection_info().clone().set_redis_settings(RedisConnectionInfo::default());
    let ask = async {
        let mut connection: MultiplexedConnection =
            Client::open(anonymous)?.get_multiplexed_async_connection_with_config(config).await?;
        redis::cmd("PING").query_async::<Value>(&mut connection).await
    };
    match tokio::time::timeout(within, ask).await {
        Ok(RedisResult::Ok(_)) => true,
        Ok(Err(error)) => is_login(&error),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unreachable_server_is_named_without_its_password() {
        // Port 1 on loopback: nothing listens there.
        let error = match connect("redis://:secret@127.0.0.1:1/", &RedisOptions::default()).await {
            Ok(_) => panic!("connected to nothing"),
            Err(error) => error,
        };
        assert_eq!(error.kind(), BufferErrorKind::Unavailable);
        let text = crate::error::chain(&error);
        assert!(text.contains("redis://127.0.0.1:1/"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}
