//! What a Redis server says about itself.

use std::collections::HashMap;
use std::fmt;

use redis::aio::ConnectionLike;

use crate::buffer::redis::classify::classify;
use crate::buffer::redis::connection::Connection;
use crate::error::buffer::BufferError;

/// Major and minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The lines of `INFO`: managed servers forbid `CONFIG`, hardly ever this.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    lines: HashMap<String, String>,
}

impl Facts {
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Self { lines: lines.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect() }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.lines.get(name).map(String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    pub(super) fn version(&self) -> Option<Version> {
        let mut parts = self.get("redis_version")?.split('.');
        Some(Version(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

/// Asks for everything that `INFO` says by default.
pub(super) async fn ask(connection: &Connection) -> Result<Facts, BufferError> {
    let text: String = redis::cmd("INFO")
        .query_async(&mut connection.clone())
        .await
        .map_err(|error| classify("cannot ask Redis about itself", error))?;
    Ok(Facts::parse(&text))
}

/// A setting; `None` where `CONFIG` is forbidden or renamed.
pub(super) async fn setting(connection: &(impl ConnectionLike + Clone + Send + Sync), name: &str) -> Option<String> {
    let found: Vec<String> =
        redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection.clone()).await.ok()?;
    found.into_iter().nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let facts = Facts::parse("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n\r\nmaxmemory:12\r\n");
        assert_eq!(facts.version(), Some(Version(7, 0)));
        assert_eq!(facts.get("redis_mode"), Some("standalone"));
        assert_eq!(facts.number("maxmemory"), Some(12));
        assert!(Version(7, 2) > Version(7, 0) && Version(10, 0) > Version(7, 2));
        assert_eq!(Facts::parse("redis_version:x").version(), None);
    }
}
