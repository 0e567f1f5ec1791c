//! Loads and the flusher share a pool: loads get a part of its connections, and a time limit of their own.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use sea_orm::{DbBackend, QueryResult};
use tokio::sync::Semaphore;
use wb_core::{ErrorKind, SinkError};

use crate::connection::error;
use crate::connection::tx::Pool;
use crate::statement::bind::Statement;

/// For how long after a load that was given up loads run in transactions, whose time the server itself limits.
const CAREFUL: Duration = Duration::from_secs(60);

/// The loads on one pool, whichever sinks they are of.
#[derive(Debug)]
pub(crate) struct Loads {
    permits: Semaphore,
    most: usize,
    /// Until when the server is to end loads by itself.
    careful: Mutex<Option<Instant>>,
}

/// By pool. An entry is alive while a sink is, which keeps the pool alive: so no other pool can have its place.
static ALL: LazyLock<Mutex<HashMap<usize, Weak<Loads>>>> = LazyLock::new(Mutex::default);

impl Loads {
    /// Half of the pool's connections at most are for loads, one at least.
    fn new(connections: u32) -> Self {
        let most = usize::try_from(connections / 2).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        Self { permits: Semaphore::new(most), most, careful: Mutex::default() }
    }

    /// Those of this pool: of all sinks that use it, also of sinks that know nothing of each other.
    pub(crate) fn of(pool: &Pool) -> Arc<Self> {
        // No code that can panic runs under the lock.
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loads) = all.get(&pool.place()).and_then(Weak::upgrade) {
            return loads;
        }
        all.retain(|_, loads| loads.strong_count() > 0);
        let loads = Arc::new(Self::new(pool.connections()));
        all.insert(pool.place(), Arc::downgrade(&loads));
        loads
    }

    /// The rows of a query, within `limit`, waiting for a connection included.
    ///
    /// # Errors
    /// [`ErrorKind::Transient`] when other loads took all the time; those of the query.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "mysql", feature = "sqlite")),
        allow(unused_variables, reason = "without a driver there is no pool")
    )]
    pub(crate) async fn fetch(
        &self,
        pool: &Pool,
        limit: Duration,
        what: &str,
        statement: Statement,
    ) -> Result<Vec<QueryResult>, SinkError> {
        let begun = Instant::now();
        let Ok(Ok(_permit)) = tokio::time::timeout(limit, self.permits.acquire()).await else {
            let text = format!(
                "{what}: {} loads at a time, half of the pool's connections, did not end within {limit:?}",
                self.most
            );
            return Err(SinkError::new(ErrorKind::Transient, text));
        };
        let pool = pool.clone().within(limit.saturating_sub(begun.elapsed()).max(Duration::from_millis(1)));
        let mut watch = GivenUp { loads: self, begun: Instant::now(), ended: false };
        let rows = if pool.backend() == DbBackend::Postgres && self.is_careful() {
            query_in_transaction(&pool, what, statement).await
        } else {
            pool.fetch(what, statement).await
        };
        // What a server ends by itself leaves nothing behind there.
        watch.ended = !matches!(&rows, Err(error) if error.kind() == ErrorKind::Unavailable);
        rows.map_err(error::of_load)
    }

    fn is_careful(&self) -> bool {
        let careful = self.careful.lock().unwrap_or_else(PoisonError::into_inner);
        careful.is_some_and(|until| Instant::now() < until)
    }
}

/// In a transaction, because there the server has a limit of its own: a query that is given up by closing its connection goes on
/// waiting for a lock, and keeps a process of the server for as long.
async fn query_in_transaction(pool: &Pool, what: &str, statement: Statement) -> Result<Vec<QueryResult>, SinkError> {
    let (mut tx, _) = pool.begin(what, "").await?;
    match tx.fetch(what, statement).await {
        Ok(rows) => {
            tx.commit().await?;
            Ok(rows)
        }
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}

/// Notices a load that was given up in the middle, by its own limit or because its caller went away.
struct GivenUp<'a> {
    loads: &'a Loads,
    begun: Instant,
    ended: bool,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        // A caller that goes away at once says nothing about the database.
        if !self.ended && self.begun.elapsed() >= Duration::from_millis(500) {
            let until = Instant::now().checked_add(CAREFUL);
            *self.loads.careful.lock().unwrap_or_else(PoisonError::into_inner) = until;
        }
    }
}
