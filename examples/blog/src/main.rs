//! A blog: views are counted in Redis and posts written there, and all of it arrives in the database a moment later.
//!
//! ```text
//! cargo run -p blog                                            # nothing installed: in this process, and SQLite
//! REDIS_URL=redis://… DATABASE_URL=postgres://… cargo run -p blog --features postgres
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `entities` | authors, posts and comments |
//! | `schema` | their tables |
//! | `store` | the engine, and what the API asks of it |
//! | `database` | lists, which only the database has |
//! | `fresh` | what these do not have yet |
//! | `api` | HTTP |
//! | `page.html` | what one looks at |

mod api;
mod database;
mod entities;
mod fresh;
mod schema;
mod store;
#[cfg(feature = "sqlite")]
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::store::Store;

/// A blog, written behind.
#[derive(Parser)]
struct Args {
    /// Redis to buffer in; without it, records wait in this process and are lost with it.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis: Option<String>,
    /// Database to flush to: `sqlite:` or `postgres://`, as compiled in.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, default_value = store::DEFAULT_URL)]
    database: String,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: String,
    /// Milliseconds between two flushes.
    #[arg(long, default_value_t = 1_000)]
    flush_every: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .init();
    let args = Args::parse();
    let flush_every = Duration::from_millis(args.flush_every);
    let store = Arc::new(Store::open(args.redis.as_deref(), &args.database, flush_every).await?);
    let listener =
        TcpListener::bind(&args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let page = format!("http://{}/", listener.local_addr()?);
    tracing::info!(page, buffer = store.buffer(), database = store.database().name(), "listening");
    let leaving = {
        let store = store.clone();
        async move {
            interrupted().await;
            // Streams of events would hold the server open for ever.
            store.leave();
        }
    };
    axum::serve(listener, api::routes(store.clone())).with_graceful_shutdown(leaving).await?;
    let drained = store.close(Duration::from_secs(10)).await?;
    for (entity, left) in &drained.by_entity {
        tracing::info!(entity, flushed = left.flushed, remaining = left.remaining, "drained");
    }
    tracing::info!(flushed = drained.flushed, remaining = drained.remaining, "shut down");
    Ok(())
}

async fn interrupted() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            // Without the handler only Ctrl-C ends the program properly.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}
