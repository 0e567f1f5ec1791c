//! Session storage: plain key → value. The record waits in Redis until it is in the database and is removed from Redis
//! then (`cache_ttl` zero); with `--keep` a clean copy stays readable for ten minutes.
//!
//! ```text
//! cargo xtask up --only redis                                   # prints WB_REDIS_URL
//! WB_REDIS_URL=redis://127.0.0.1:… cargo run --example kv_session
//! WB_REDIS_URL=redis://127.0.0.1:… cargo run --example kv_session -- --keep
//! ```
#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};
use write_behind::create_table;
use write_behind::{Engine, EntityOptions, Id, RedisBuffer, SqlSink, WriteBehind, partition_of};

/// A session: an opaque value under a random key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "session", table = "sessions")]
struct Session {
    #[wb(key)]
    token: String,
    value: String,
}

/// Stores sessions in Redis first and in SQLite soon after.
#[derive(Parser)]
struct Args {
    /// Redis to buffer in.
    #[arg(long, env = "WB_REDIS_URL", hide_env_values = true, default_value = "redis://127.0.0.1/")]
    redis: String,
    /// Keep a clean copy in Redis after the flush.
    #[arg(long)]
    keep: bool,
}

const PARTITIONS: u16 = 4;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let sink = SqlSink::connect("sqlite://kv_session.db?mode=rwc").await?;
    create_table::<Session>(sink.db()).await?;

    let cache_ttl = if args.keep { Duration::from_secs(600) } else { Duration::ZERO };
    let options = EntityOptions::new().partitions(PARTITIONS).flush_every(Duration::from_secs(1)).cache_ttl(cache_ttl);
    let namespace = if args.keep { "kv_keep" } else { "kv" };
    let engine = Engine::builder(RedisBuffer::connect(&args.redis).await?)
        .namespace(namespace)
        .entity::<Session>(sink, options)
        .start()
        .await?;
    let sessions = engine.cache::<Session>()?;
    let mut look = Look::connect(&args.redis, namespace).await?;

    let session = Session { token: "s-4711".into(), value: r#"{"user":7,"cart":["book","pen"]}"#.into() };
    sessions.put(&session).await?;
    println!("put            {}", look.at(&session.token).await?);

    sessions.flush().await?;
    println!("flushed        {}", look.at(&session.token).await?);

    let found = sessions.get(&session.token).await?;
    println!(
        "read           {}   from {}",
        found == Some(session.clone()),
        if args.keep { "Redis" } else { "the database" }
    );

    sessions.delete(&session.token).await?;
    println!("logged out     {}", look.at(&session.token).await?);
    println!("read           {:?}   the row is still there, and not served", sessions.get(&session.token).await?);

    let drained = engine.shutdown(Duration::from_secs(10)).await?;
    println!("shut down      {} left unflushed", drained.remaining);
    Ok(())
}

/// Looks into Redis the way `redis-cli` would.
struct Look {
    connection: MultiplexedConnection,
    namespace: &'static str,
}

impl Look {
    async fn connect(url: &str, namespace: &'static str) -> anyhow::Result<Self> {
        let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        Ok(Self { connection, namespace })
    }

    /// Where the record of a token stands in Redis.
    async fn at(&mut self, token: &str) -> anyhow::Result<String> {
        let id = Id::of(&token.to_owned()).context("a session needs a token")?;
        let prefix = format!("{}:{{session:{:02}/{PARTITIONS}}}", self.namespace, partition_of(&id, PARTITIONS));
        let (open, copy): (Option<String>, Option<String>) = redis::pipe()
            .cmd("HGET")
            .arg(format!("{prefix}:open"))
            .arg(token)
            .cmd("GET")
            .arg(format!("{prefix}:r:{token}"))
            .query_async(&mut self.connection)
            .await?;
        Ok(match (open, copy) {
            (Some(record), _) if record.is_empty() => format!("HGET {prefix}:open {token} → tombstone"),
            (Some(record), _) => format!("HGET {prefix}:open {token} → {record}"),
            (None, Some(copy)) => format!("GET {prefix}:r:{token} → {copy}"),
            (None, None) => "nothing in Redis".to_owned(),
        })
    }
}
