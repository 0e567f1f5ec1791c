//! Rechecks: a row that the sink cannot hold is checked once more after the sink has looked at its schema again, because the
//! schema may have been altered since the sink looked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::buffer::record::Write;
use crate::entity::Entity;
use crate::error::CacheError;
use crate::write::Writer;

/// Least time between two looks: a caller that offers nothing but such rows costs the database no more.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a write waits for a look; then the refusal stands.
const LIMIT: Duration = Duration::from_secs(1);

/// Who has the sink look at its schema, and what came of the last look.
#[derive(Debug)]
pub(crate) struct Recheck {
    /// Single flight: one looks, the others wait for what it finds.
    turn: Semaphore,
    /// Looks that have ended.
    ended: AtomicU64,
    last: Mutex<Look>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Look {
    begun: Option<Instant>,
    /// It found what may be another schema.
    renewed: bool,
}

impl Default for Recheck {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), ended: AtomicU64::new(0), last: Mutex::default() }
    }
}

impl Recheck {
    /// Which look the checks go by from now on, at least: asked before a row is checked.
    pub(crate) fn look(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    fn last(&self) -> Look {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, look: Look) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = look;
        self.ended.fetch_add(1, Ordering::Release);
    }
}

impl<E: Entity> Writer<E> {
    /// [`upsert`](Self::upsert), which refuses no row by a schema that is out of date.
    pub(crate) async fn rechecked(&self, value: &E) -> Result<Write, CacheError> {
        let look = self.recheck.look();
        match self.upsert(value) {
            Err(CacheError::Unstorable { .. }) if self.recheck(look).await => self.upsert(value),
            made => made,
        }
    }

    /// Has the sink look at its schema again; whether a row that was refused after `look` is worth another check.
    pub(crate) async fn recheck(&self, look: u64) -> bool {
        // It is never closed.
        let Ok(_turn) = self.recheck.turn.acquire().await else { return false };
        let last = self.recheck.last();
        if self.recheck.look() > look {
            // Somebody has looked since.
            return last.renewed;
        }
        if last.begun.is_some_and(|begun| begun.elapsed() < INTERVAL) {
            return false;
        }
        let begun = Some(Instant::now());
        let renewed = match timeout(LIMIT, self.ctx.sink.refresh()).await {
            Ok(Ok(renewed)) => renewed,
            // The sink is away: what it knew is all that is known.
            Ok(Err(_)) | Err(_) => false,
        };
        self.recheck.ended(Look { begun, renewed });
        renewed
    }
}
