//! The way to the sink: which batch may be written now. The circuit and the pace decide; here callers wait for them.

pub(crate) mod batch_limit;
pub(crate) mod circuit_breaker;
pub(crate) mod load_gate;
pub(crate) mod rate_limiter;

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::sink::ErrorKind;
use crate::options::retry_policy::{RetryPolicy, Tries, doubt, verdict};
use crate::sink_gate::batch_limit::BatchLimit;
use crate::sink_gate::circuit_breaker::{CircuitBreaker, Outage, Pass};
use crate::sink_gate::rate_limiter::RateLimiter;

/// Longest wait for a sink that is away once the engine shuts down: its deadline is near, and the sink may be back.
const HURRY: Duration = Duration::from_secs(1);

/// Who waits looks this often whether its partitions are still its own.
const LOOK: Duration = Duration::from_secs(1);

/// Shared by the concurrent batches of an entity.
#[derive(Debug)]
pub(crate) struct SinkGate {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    circuit: CircuitBreaker,
    pace: RateLimiter,
    haste: Haste,
    /// Of batches of records that nothing is known of, and of those that failed by themselves before.
    limits: [BatchLimit; 2],
}

/// Which records a batch is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lot {
    /// Nothing is known of them.
    Ordinary,
    /// Each failed by itself the last time, for a reason that may pass: a lock.
    Suspects,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Haste {
    /// Waits last as long as the policy says.
    None,
    /// The engine shuts down: waits are short.
    Hurry,
    /// The engine is over: nobody waits.
    Over,
}

/// Why a batch is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The engine is over.
    Over,
    /// The caller's partitions are not its own any more.
    NotOwner,
}

/// The right to one write. Without an answer or a failure, somebody else may probe.
#[derive(Debug)]
#[must_use]
pub(crate) struct Admission<'a> {
    passage: &'a SinkGate,
    probe: bool,
}

/// What a failure meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Failures of the sink in a row.
    pub(crate) failures: u32,
    /// Until the next probe.
    pub(crate) wait: Duration,
    /// The entity is paused from now on.
    pub(crate) paused: bool,
}

impl SinkGate {
    /// At most `rows_per_second`, in batches of at most `max_rows`.
    pub(crate) fn new(rows_per_second: Option<u32>, max_rows: usize) -> Self {
        let (circuit, pace) = (CircuitBreaker::default(), RateLimiter::new(rows_per_second));
        let state = State { circuit, pace, haste: Haste::None, limits: [BatchLimit::new(max_rows); 2] };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this many rows may go to the sink; `holds` says whether they are still the caller's to write.
    pub(crate) async fn admit(&self, rows: usize, holds: impl Fn() -> bool) -> Result<Admission<'_>, Refused> {
        loop {
            // Before the look: what changes after it wakes.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let until = {
                let mut state = self.state();
                let now = Instant::now();
                if state.haste == Haste::Over {
                    return Err(Refused::Over);
                }
                // An outage may have cost the lease meanwhile. A sink that fences would refuse; others have only this.
                if !holds() {
                    return Err(Refused::NotOwner);
                }
                let longest = (state.haste == Haste::Hurry).then_some(HURRY);
                match state.circuit.ask(now, longest) {
                    Pass::Wait(until) => until,
                    pass @ (Pass::Go | Pass::Probe) => match state.pace.take(now, rows) {
                        Ok(()) => return Ok(Admission { passage: self, probe: pass == Pass::Probe }),
                        Err(free) => {
                            // Nothing is held over a wait: whoever asks first when the time has come goes.
                            if pass == Pass::Probe {
                                state.circuit.abandoned(now);
                            }
                            Some(free)
                        }
                    },
                }
            };
            let look = Instant::now() + LOOK;
            let until = until.map_or(look, |until| until.min(look));
            tokio::select! {
                () = changed => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Waits before the same batch is tried again; less when the engine shuts down.
    pub(crate) async fn pause(&self, wait: Duration) {
        let until = Instant::now().checked_add(wait);
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = Instant::now();
            let left = until.map_or(LOOK, |until| until.saturating_duration_since(now));
            let left = match self.state().haste {
                Haste::None => left,
                Haste::Hurry => left.min(HURRY),
                Haste::Over => return,
            };
            // Woken for another reason, it waits on; in a hurry, once and not again.
            if timeout(left, changed).await.is_err() {
                return;
            }
        }
    }

    /// The sink refused all that it was given one by one, for what may be the configuration's fault.
    pub(crate) fn doubted(&self, policy: &RetryPolicy, chance: f64) -> Failed {
        self.fail(true, |failures| doubt(failures, policy, chance))
    }

    /// A failure of the sink, seen by who was the probe or not. `next` says of the failures in a row how long to wait, and whether
    /// the entity is paused.
    fn fail(&self, probe: bool, next: impl Fn(u32) -> (Duration, bool)) -> Failed {
        let mut state = self.state();
        let failures = state.circuit.counting(probe);
        let (wait, pause) = next(failures);
        let paused = state.circuit.failed(Instant::now(), probe, wait, pause);
        drop(state);
        self.changed.notify_waiters();
        Failed { failures, wait, paused }
    }

    /// Rows that the sink takes at once, as far as it has shown.
    pub(crate) fn batch_limit(&self, lot: Lot) -> BatchLimit {
        *self.state().limit(lot)
    }

    /// What failed was not too large.
    pub(crate) fn restore(&self, lot: Lot, before: BatchLimit) {
        self.state().limit(lot).restore(before);
    }

    /// So many rows took longer than the sink lets them.
    pub(crate) fn too_large(&self, lot: Lot, rows: usize) {
        self.state().limit(lot).too_large(rows);
    }

    /// So many rows landed.
    pub(crate) fn landed(&self, lot: Lot, rows: usize) {
        self.state().limit(lot).landed(rows);
    }

    /// Longest wait of anything before its next try, where there is one.
    pub(crate) fn longest_wait(&self) -> Option<Duration> {
        (self.state().haste == Haste::Hurry).then_some(HURRY)
    }

    /// The engine shuts down: whoever waits for the sink asks it soon.
    pub(crate) fn hurry(&self) {
        self.hasten(Haste::Hurry);
    }

    /// The engine is over: whoever waits gives up.
    pub(crate) fn end(&self) {
        self.hasten(Haste::Over);
    }

    /// Whether nobody may write any more.
    pub(crate) fn is_over(&self) -> bool {
        self.state().haste == Haste::Over
    }

    fn hasten(&self, haste: Haste) {
        let mut state = self.state();
        state.haste = state.haste.max(haste);
        drop(state);
        self.changed.notify_waiters();
    }
}

impl State {
    const fn limit(&mut self, lot: Lot) -> &mut BatchLimit {
        let [ordinary, suspects] = &mut self.limits;
        match lot {
            Lot::Ordinary => ordinary,
            Lot::Suspects => suspects,
        }
    }
}

impl Admission<'_> {
    /// The sink has answered, whether it took the batch or refused it. Returns the outage that is over.
    pub(crate) fn answered(mut self) -> Option<Outage> {
        self.probe = false;
        let ended = self.passage.state().circuit.answered();
        if ended.is_some() {
            self.passage.changed.notify_waiters();
        }
        ended
    }

    /// The sink is away, or cannot work as it is.
    pub(crate) fn failed(mut self, kind: ErrorKind, policy: &RetryPolicy, chance: f64) -> Failed {
        self.passage.fail(std::mem::take(&mut self.probe), |failures| {
            let tries = Tries { failures, took: Duration::ZERO, part: false };
            (verdict(kind, tries, policy, chance).1, kind == ErrorKind::Misconfigured)
        })
    }

    /// The sink refused all that it was given, for what may be the configuration's fault.
    pub(crate) fn doubted(mut self, policy: &RetryPolicy, chance: f64) -> Failed {
        self.passage.fail(std::mem::take(&mut self.probe), |failures| doubt(failures, policy, chance))
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.passage.state().circuit.abandoned(Instant::now());
            self.passage.changed.notify_waiters();
        }
    }
}
