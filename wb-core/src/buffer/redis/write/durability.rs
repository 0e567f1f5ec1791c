//! How durable a write is when it is acknowledged: one `WAIT` or `WAITAOF` after each group, not one a write.

use std::time::Duration;

use redis::{Pipeline, RedisResult, Value};

use crate::buffer::redis::classify::classify;
use crate::buffer::redis::connection::Connection;
use crate::buffer::redis::server_info;
use crate::buffer::redis::server_info::{Facts, Version};
use crate::buffer::redis::space::millis;
use crate::error::buffer::{BufferError, BufferErrorKind};

/// What an acknowledged write has survived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// It is in the memory of Redis. Whether it survives Redis is what its persistence is set to.
    #[default]
    Memory,
    /// So many replicas have it in their memory too.
    Replicas(u32),
    /// It is on the disk of Redis: its append-only file is synced. Needs Redis 7.2 or newer with `appendonly yes`.
    Fsync,
}

/// What is waited for after a group of writes.
#[derive(Clone, Copy, Debug)]
pub(in crate::buffer::redis) struct Wait {
    durability: Durability,
    timeout: Duration,
}

/// The first version with `WAITAOF`.
const WAITAOF: Version = Version(7, 2);

impl Wait {
    /// `None` when there is nothing to wait for.
    pub(in crate::buffer::redis) fn new(
        durability: Durability,
        timeout: Duration,
    ) -> Result<Option<Self>, BufferError> {
        match durability {
            Durability::Memory => Ok(None),
            Durability::Replicas(0) => Err(BufferError::new(
                BufferErrorKind::Misconfigured,
                "`Durability::Replicas` needs one replica at least",
            )),
            Durability::Replicas(_) | Durability::Fsync => Ok(Some(Self { durability, timeout })),
        }
    }

    /// Whether this server can do it; the error names what it lacks.
    pub(in crate::buffer::redis) async fn check(&self, connection: &Connection) -> Result<(), BufferError> {
        match self.durability {
            Durability::Fsync => fsync_needs(&server_info::ask(connection).await?),
            // How many replicas there are changes, and each write says.
            Durability::Memory | Durability::Replicas(_) => Ok(()),
        }
    }

    /// Adds the one command that waits for what stands before it.
    pub(in crate::buffer::redis) fn add_to(&self, pipeline: &mut Pipeline) {
        // Zero would wait for ever.
        let millis = millis(self.timeout).max(1);
        match self.durability {
            Durability::Replicas(replicas) => pipeline.cmd("WAIT").arg(replicas).arg(millis),
            Durability::Memory | Durability::Fsync => pipeline.cmd("WAITAOF").arg(1).arg(0).arg(millis),
        };
    }

    /// What the wait says about the writes before it.
    pub(in crate::buffer::redis) fn result(&self, reply: RedisResult<Value>) -> Result<(), BufferError> {
        let weak = |context: String| BufferError::new(BufferErrorKind::NotDurable, context);
        let reply = reply.map_err(|error| {
            weak("stored, but Redis does not say how durably".to_owned())
                .with_source(classify("cannot wait for durability", error))
        })?;
        // WAIT: the number of replicas. WAITAOF: the number of local files (0 or 1), then that of replicas.
        let reached = match &reply {
            Value::Int(reached) => *reached,
            Value::Array(both) => match both.first() {
                Some(Value::Int(local)) => *local,
                _ => 0,
            },
            _ => 0,
        };
        let timeout = self.timeout;
        match self.durability {
            Durability::Replicas(asked) if reached < i64::from(asked) => Err(weak(format!(
                "stored, but {reached} replicas have it after {timeout:?}, where {asked} were asked for"
            ))),
            Durability::Fsync if reached < 1 => Err(weak(format!("stored, but not synced to disk after {timeout:?}"))),
            _ => Ok(()),
        }
    }
}

fn fsync_needs(facts: &Facts) -> Result<(), BufferError> {
    let lacks = |what: String| {
        let text = format!("`Durability::Fsync` needs Redis {WAITAOF} or newer with `appendonly yes`, {what}");
        Err(BufferError::new(BufferErrorKind::Misconfigured, text))
    };
    match facts.version() {
        None => lacks("and this server does not say its version".to_owned()),
        Some(version) if version < WAITAOF => lacks(format!("and this is Redis {version}")),
        Some(_) if facts.get("aof_enabled") != Some("1") => lacks("and `appendonly` is off".to_owned()),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fsync_lacks_is_named() {
        for (facts, named) in [
            ("redis_version:7.0.15\naof_enabled:1", Some("this is Redis 7.0")),
            ("redis_version:7.2.0\naof_enabled:0", Some("`appendonly` is off")),
            ("aof_enabled:1", Some("does not say")),
            ("redis_version:7.2.0\naof_enabled:1", None),
            ("redis_version:8.0.3\naof_enabled:1", None),
        ] {
            let error = fsync_needs(&Facts::parse(facts)).err();
            assert_eq!(error.as_ref().map(BufferError::kind), named.map(|_| BufferErrorKind::Misconfigured), "{facts}");
            let text = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(text.contains(named.unwrap_or_default()), "{text}");
        }
    }

    #[test]
    fn fewer_acknowledgements_than_asked_are_never_ok() {
        let wait = |durability| Wait { durability, timeout: Duration::from_secs(1) };
        let (replicas, fsync) = (wait(Durability::Replicas(2)), wait(Durability::Fsync));
        let waitaof = |local| Value::Array(vec![Value::Int(local), Value::Int(0)]);
        for (wait, reply, durable) in [
            (replicas, Value::Int(0), false),
            (replicas, Value::Int(1), false),
            (replicas, Value::Int(2), true),
            (replicas, Value::Int(3), true),
            (replicas, Value::Nil, false),
            (fsync, waitaof(0), false),
            (fsync, waitaof(1), true),
            (fsync, Value::Array(Vec::new()), false),
        ] {
            let result = wait.result(Ok(reply.clone()));
            assert_eq!(result.is_ok(), durable, "{wait:?}: {reply:?}");
        }
        let failed = fsync.result(Err(redis::RedisError::from((redis::ErrorKind::Client, "no"))));
        assert_eq!(failed.map_err(|error| error.kind()), Err(BufferErrorKind::NotDurable));
    }
}
