//! Whether the sink has been looked at: a program starts while its database is away, takes writes, and looks at it later.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::CacheError;
use crate::error::sink::SinkError;

/// What is known of an entity's sink. Once ready it stays so: what comes later is for the circuits.
#[derive(Debug)]
pub(crate) struct Readiness {
    /// The quick answer, on the way of every write.
    ready: AtomicBool,
    state: Mutex<State>,
    begun: Instant,
}

#[derive(Debug)]
struct State {
    standing: Standing,
    /// Whether it writes a batch whole or not at all, where that is known.
    whole: Option<bool>,
}

#[derive(Clone, Debug)]
enum Standing {
    Ready,
    /// It has not answered since the start.
    Away(Arc<SinkError>),
    /// It has answered, and cannot hold the entity like this.
    Unfit(String),
}

impl Readiness {
    /// Of a sink that was looked at, or was `away`.
    pub(crate) fn new(away: Option<Arc<SinkError>>, whole: Option<bool>) -> Self {
        let ready = AtomicBool::new(away.is_none());
        let standing = away.map_or(Standing::Ready, Standing::Away);
        Self { ready, state: Mutex::new(State { standing, whole }), begun: Instant::now() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the sink may be used.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Why the sink may not be asked yet, if so.
    ///
    /// # Errors
    /// [`CacheError::SinkAway`], [`CacheError::SinkUnfit`].
    pub(crate) fn usable(&self) -> Result<(), CacheError> {
        if self.is_ready() { Ok(()) } else { self.why(&self.state()) }
    }

    /// Why no writes are taken, if so: what is known to be wrong must not pile up. What is away may come.
    ///
    /// # Errors
    /// [`CacheError::SinkUnfit`].
    pub(crate) fn takes_writes(&self) -> Result<(), CacheError> {
        match self.usable() {
            Err(error @ CacheError::SinkUnfit { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the sink writes a batch whole or not at all.
    ///
    /// # Errors
    /// As for [`usable`](Self::usable) while nobody knows.
    pub(crate) fn whole(&self) -> Result<bool, CacheError> {
        let state = self.state();
        match state.whole {
            Some(whole) => Ok(whole),
            None => self.why(&state).map(|()| false),
        }
    }

    fn why(&self, state: &State) -> Result<(), CacheError> {
        match &state.standing {
            Standing::Ready => Ok(()),
            Standing::Away(cause) => Err(CacheError::sink_away(self.begun.elapsed(), cause.clone())),
            Standing::Unfit(reason) => Err(CacheError::SinkUnfit { reason: reason.clone() }),
        }
    }

    /// It has not answered again. What was seen to be wrong stays wrong until it is seen to be right.
    pub(crate) fn away(&self, cause: Arc<SinkError>) {
        let mut state = self.state();
        if let Standing::Away(_) = state.standing {
            state.standing = Standing::Away(cause);
        }
    }

    /// It cannot be used like this; whether that is news.
    pub(crate) fn unfit(&self, reason: &str) -> bool {
        let mut state = self.state();
        let known = matches!(&state.standing, Standing::Unfit(known) if known == reason);
        state.standing = Standing::Unfit(reason.to_owned());
        !known
    }

    /// It can be used from now on. Returns how long it could not.
    pub(crate) fn ready(&self, whole: bool) -> Duration {
        {
            let mut state = self.state();
            (state.standing, state.whole) = (Standing::Ready, Some(whole));
        }
        self.ready.store(true, Ordering::Release);
        self.begun.elapsed()
    }
}
