//! A todo application in the manner of the Redis and MongoDB tutorials: the API answers from Redis, and todos appear in
//! MongoDB's `todos` collection a moment later. The same [`Todo`](todo::Todo) runs on PostgreSQL or SQLite:
//!
//! ```text
//! cargo run -p todo                                            # Redis and MongoDB
//! cargo run -p todo --no-default-features --features postgres
//! cargo run -p todo --no-default-features --features sqlite
//! ```

mod api;
mod store;
mod todo;

use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

/// A todo API over Redis, written behind to a database.
#[derive(Parser)]
struct Args {
    /// Redis to buffer in.
    #[arg(long, env = "WB_REDIS_URL", hide_env_values = true, default_value = "redis://127.0.0.1/")]
    redis: String,
    /// Database to flush to: `mongodb://`, `postgres://` or `sqlite://`, as compiled in.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, default_value = store::DEFAULT_URL)]
    database: String,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .init();
    let args = Args::parse();
    let engine = store::start(&args.redis, &args.database).await?;
    let app = api::routes(engine.cache()?);
    let listener =
        TcpListener::bind(&args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    axum::serve(listener, app).with_graceful_shutdown(interrupted()).await?;
    let drained = engine.shutdown(Duration::from_secs(10)).await?;
    tracing::info!(remaining = drained.remaining, "shut down");
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
