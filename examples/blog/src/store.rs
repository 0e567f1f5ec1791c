//! The engine, and what the API asks of it.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use write_behind::{
    Appender, Cache, Drained, Engine, EntityOptions, EntityStats, Events, MemoryBuffer, RedisBuffer, SqlSink,
};

use crate::database::Database;
use crate::entities::{Author, Comment, Post};
use crate::fresh::Fresh;
use crate::schema;

/// The first database that is compiled in.
pub(crate) const DEFAULT_URL: &str =
    if cfg!(feature = "sqlite") { "sqlite://blog.db?mode=rwc" } else { "postgres://postgres@127.0.0.1/postgres" };

/// What the handlers share.
pub(crate) struct Store {
    pub(crate) authors: Cache<Author>,
    pub(crate) posts: Cache<Post>,
    pub(crate) comments: Appender<Comment>,
    pub(crate) fresh: Fresh,
    database: Database,
    buffer: &'static str,
    /// Gone once the program shuts down.
    engine: RwLock<Option<Engine>>,
    leaving: watch::Sender<bool>,
}

impl Store {
    /// Creates the tables that are missing, and starts to flush; also while the database is away.
    pub(crate) async fn open(redis: Option<&str>, database: &str, flush_every: Duration) -> anyhow::Result<Self> {
        let sink = SqlSink::connect(database).await.context("cannot open the database")?;
        // A database that is away has them from an earlier run; else the engine says that they are missing when it is back.
        if let Err(error) = schema::create(sink.db()).await {
            tracing::warn!(%error, "tables not created");
        }
        let (builder, buffer) = match redis {
            Some(url) => (Engine::builder(RedisBuffer::connect(url).await.context("cannot open Redis")?), "Redis"),
            None => (Engine::builder(MemoryBuffer::new()), "memory"),
        };
        let options = EntityOptions::new().flush_every(flush_every);
        let engine = builder
            .namespace("blog")
            .entity::<Author>(sink.clone(), options.clone())
            .entity::<Post>(sink.clone(), options.clone())
            .entity::<Comment>(sink.clone(), options)
            .start()
            .await?;
        Ok(Self {
            authors: engine.cache()?,
            posts: engine.cache()?,
            comments: engine.appender()?,
            fresh: Fresh::default(),
            database: Database::new(sink.db().clone()),
            buffer,
            engine: RwLock::new(Some(engine)),
            leaving: watch::channel(false).0,
        })
    }

    /// Where records wait, for people.
    pub(crate) const fn buffer(&self) -> &'static str {
        self.buffer
    }

    pub(crate) const fn database(&self) -> &Database {
        &self.database
    }

    /// Figures by entity; empty once the engine is over.
    pub(crate) fn stats(&self) -> BTreeMap<&'static str, EntityStats> {
        self.engine().as_ref().map(Engine::stats).unwrap_or_default()
    }

    /// What the engine tells from now on; nothing once it is over.
    pub(crate) fn events(&self) -> Option<Events> {
        self.engine().as_ref().map(Engine::events)
    }

    /// Ends what would not end by itself.
    pub(crate) fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Waits for [`leave`](Self::leave).
    pub(crate) fn left(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut leaving = self.leaving.subscribe();
        async move {
            // Without a sender nobody is there to serve either.
            let _ = leaving.wait_for(|leaving| *leaving).await.is_ok();
        }
    }

    /// Flushes what is dirty and ends the engine.
    pub(crate) async fn close(&self, deadline: Duration) -> anyhow::Result<Drained> {
        let engine = self.engine.write().unwrap_or_else(PoisonError::into_inner).take();
        let engine = engine.context("the engine is over already")?;
        Ok(engine.shutdown(deadline).await?)
    }

    fn engine(&self) -> RwLockReadGuard<'_, Option<Engine>> {
        self.engine.read().unwrap_or_else(PoisonError::into_inner)
    }
}
