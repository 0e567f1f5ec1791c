//! Redis in front, and the database that is compiled in behind.

use std::time::Duration;

use write_behind::{Engine, EntityOptions, RedisBuffer};

use crate::todo::Todo;

/// Where the first database that is compiled in listens by default.
pub(crate) const DEFAULT_URL: &str = if cfg!(feature = "mongo") {
    "mongodb://127.0.0.1/"
} else if cfg!(feature = "postgres") {
    "postgres://postgres@127.0.0.1/postgres"
} else {
    "sqlite://todo.db?mode=rwc"
};

/// Starts to flush; also while the database is away.
pub(crate) async fn start(redis: &str, database: &str) -> anyhow::Result<Engine> {
    let options = EntityOptions::new().flush_every(Duration::from_secs(1));
    let builder = Engine::builder(RedisBuffer::connect(redis).await?).namespace("todo");
    #[cfg(feature = "mongo")]
    if database.starts_with("mongodb") {
        let sink = write_behind::MongoSink::connect(database, "todo").await?;
        return Ok(builder.entity::<Todo>(sink, options).start().await?);
    }
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    {
        let sink = write_behind::SqlSink::connect(database).await?;
        // A database that is away has it from an earlier run; else the engine says that it is missing when it is back.
        if let Err(error) = write_behind::create_table::<Todo>(sink.db()).await {
            tracing::warn!(%error, "table not created");
        }
        Ok(builder.entity::<Todo>(sink, options).start().await?)
    }
    #[cfg(not(any(feature = "postgres", feature = "sqlite")))]
    {
        drop((builder, options));
        anyhow::bail!("this build knows only mongodb:// URLs; build with --features postgres or sqlite")
    }
}
