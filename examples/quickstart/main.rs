//! The main job, with nothing installed: tens of thousands of updates over a few hundred keys are written, coalesced
//! and flushed; then the table is compared with what was written last.
//!
//! ```text
//! cargo run --example quickstart
//! cargo run --example quickstart --features postgres -- --redis redis://127.0.0.1/ --database postgres://user@127.0.0.1/db
//! ```
#![expect(clippy::print_stdout, reason = "a program for the terminal")]

mod game;
mod proof;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use write_behind::sql::{create_table, drop_table};
use write_behind::{Engine, EngineBuilder, EntityOptions, MemoryBuffer, RedisBuffer, SqlSink};

use crate::game::Player;

/// Writes a game's score board behind, and proves what arrived.
#[derive(Parser)]
struct Args {
    /// Redis to buffer in; without it, records wait in this process.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Database to flush to. PostgreSQL and MySQL want `--features postgres` or `mysql`.
    #[arg(long, value_name = "URL", default_value = "sqlite://quickstart.db?mode=rwc")]
    database: String,
    /// Updates to write.
    #[arg(long, default_value_t = 80_000)]
    updates: u64,
    /// Keys to spread them over.
    #[arg(long, default_value_t = 300)]
    players: u64,
    /// Milliseconds between two flushes.
    #[arg(long, default_value_t = 100)]
    flush_every: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let sink = SqlSink::connect(&args.database).await.context("cannot open the database")?;
    drop_table::<Player>(sink.connection()).await?;
    create_table::<Player>(sink.connection()).await?;

    let options = EntityOptions::new().flush_every(Duration::from_millis(args.flush_every));
    let engine = builder(args.redis.as_deref()).await?.entity::<Player>(sink.clone(), options).start().await?;
    let players = engine.cache::<Player>()?;

    println!("writing {} updates over {} players, 8 at a time", args.updates, args.players);
    let bar = ProgressBar::new(args.updates).with_style(ProgressStyle::with_template(
        "{wide_bar} {human_pos}/{human_len} updates, {per_sec}",
    )?);
    let begun = Instant::now();
    let last = game::play(&players, args.updates, args.players, &bar).await?;
    let writing = begun.elapsed();
    bar.finish();

    let begun = Instant::now();
    players.flush().await?;
    let lag = begun.elapsed();
    let stats = engine.stats().remove("player").unwrap_or_default();
    let drained = engine.shutdown(Duration::from_secs(30)).await?;

    println!();
    println!("writes acknowledged    {:>10}", stats.puts);
    println!("writes per second      {:>10.0}", stats.puts as f64 / writing.as_secs_f64());
    println!("rows written           {:>10}   {} upserted, {} deleted", stats.rows(), stats.rows_upserted, stats.rows_deleted);
    println!("statements             {:>10}   in {} transactions", stats.statements, stats.batches);
    println!("coalescing             {:>10.1}   writes per row that reached the database", stats.coalescing());
    println!("slowest flush          {:>10.1?}", stats.slowest_cycle);
    println!("lag after last write   {lag:>10.1?}");
    println!("left unflushed         {:>10}", drained.remaining);
    println!();
    let rows = proof::table_equals(sink.connection(), &last).await?;
    println!("proof: the table holds {rows} rows, and every one is what was written last; deleted players are gone");
    if args.database.starts_with("sqlite") {
        println!("look:  sqlite3 quickstart.db 'SELECT * FROM quickstart_players ORDER BY score DESC LIMIT 5'");
    }
    Ok(())
}

async fn builder(redis: Option<&str>) -> anyhow::Result<EngineBuilder> {
    let builder = match redis {
        Some(url) => Engine::builder(RedisBuffer::connect(url).await?),
        None => Engine::builder(MemoryBuffer::new()),
    };
    Ok(builder.namespace("quickstart"))
}
