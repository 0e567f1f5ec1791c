//! The way to the sink for loads: each has a time limit, and while the sink does not answer they fail at once. One at a time
//! tries whether it answers again.
//!
//! The circuit is a second one beside that of the writes ([`passage`](crate::sink_gate)): loads may fail alone (a locked table),
//! and so may writes (a server that only reads). Writes that fail make loads suspicious, and one that lands clears them; loads
//! never stop writes.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, timeout};

use crate::error::CacheError;
use crate::error::sink::{ErrorKind, SinkError};
use crate::options::retry_policy::{RetryPolicy, load_probe, stops_loads};
use crate::runtime::readiness::Readiness;
use crate::sink_gate::circuit_breaker::{CircuitBreaker, Outage, Pass};
use crate::telemetry::log;
use crate::telemetry::scope::Scope;
use crate::telemetry::stats::Counter;

/// Shared by all loads of an entity.
#[derive(Debug)]
pub(crate) struct LoadGate {
    scope: Arc<Scope>,
    readiness: Arc<Readiness>,
    limit: Duration,
    policy: RetryPolicy,
    state: Mutex<State>,
    /// Loads that failed because the sink did not answer.
    pub(crate) failed: Counter,
    /// Loads that were not sent, because it did not answer others.
    pub(crate) refused: Counter,
}

#[derive(Debug, Default)]
struct State {
    circuit: CircuitBreaker,
    /// What opened the circuit, or what the last probe met.
    cause: Option<Arc<SinkError>>,
    /// When the sink last answered, a load or a write.
    answered: Option<Instant>,
    writes: Writes,
}

/// What writes say about loads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writes {
    /// Nothing is wrong.
    #[default]
    Land,
    /// The sink does not answer them.
    Fail,
    /// It does not, but it has answered a load since: they say nothing about loads until one of them lands.
    FailAlone,
}

/// The right to one load. Without an answer or a failure, another one may probe.
#[derive(Debug)]
#[must_use]
struct Admission<'a> {
    passage: &'a LoadGate,
    probe: bool,
    begun: Instant,
    /// It is known what came of it.
    over: bool,
}

impl LoadGate {
    /// No load takes longer than `limit`; probes wait as `policy` says.
    pub(crate) fn new(scope: Arc<Scope>, readiness: Arc<Readiness>, limit: Duration, policy: RetryPolicy) -> Self {
        let (failed, refused) = Default::default();
        Self { scope, readiness, limit, policy, state: Mutex::default(), failed, refused }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a load would be sent now, for who would have to prepare one.
    ///
    /// # Errors
    /// [`CacheError::SinkAway`], [`CacheError::SinkUnfit`].
    pub(crate) fn open(&self) -> Result<(), CacheError> {
        self.ready()?;
        let state = self.state();
        if state.circuit.waits(Instant::now()) { Err(self.refuse(&state)) } else { Ok(()) }
    }

    /// Asks the sink something that reads.
    ///
    /// # Errors
    /// [`CacheError::SinkAway`] at once while it does not answer, [`CacheError::SinkUnfit`] while it is wrong; [`CacheError::Sink`] with what it says, or when it says nothing
    /// within the limit.
    pub(crate) async fn ask<T>(&self, work: impl Future<Output = Result<T, SinkError>>) -> Result<T, CacheError> {
        let admission = self.admit()?;
        // One that panics must not take its readers with it: several may share one load.
        let error = match timeout(self.limit, AssertUnwindSafe(work).catch_unwind()).await {
            Ok(Ok(Ok(found))) => {
                admission.answered();
                return Ok(found);
            }
            Ok(Ok(Err(error))) => error,
            Ok(Err(_)) => {
                // It may be the row's fault: it says nothing about other loads.
                log::load_panicked(&self.scope);
                admission.says_nothing();
                let error = SinkError::new(ErrorKind::Unavailable, "the sink panicked while loading");
                return Err(CacheError::Sink { source: Arc::new(error) });
            }
            Err(_) => {
                let text = format!("no answer to a load of entity `{}` within {:?}", self.scope.entity, self.limit);
                SinkError::new(ErrorKind::Unavailable, text)
            }
        };
        let error = Arc::new(error);
        if stops_loads(error.kind(), admission.begun.elapsed()) {
            admission.failed(&error);
        } else {
            // It answered, whatever it said.
            admission.answered();
        }
        Err(CacheError::Sink { source: error })
    }

    /// Nothing is asked of a sink that was never looked at: who looks at it is the probe.
    fn ready(&self) -> Result<(), CacheError> {
        self.readiness.usable().inspect_err(|_| self.refused.add(1))
    }

    fn admit(&self) -> Result<Admission<'_>, CacheError> {
        self.ready()?;
        let (mut state, begun) = (self.state(), Instant::now());
        match state.circuit.ask(begun, None) {
            Pass::Wait(_) => Err(self.refuse(&state)),
            pass @ (Pass::Go | Pass::Probe) => {
                Ok(Admission { passage: self, probe: pass == Pass::Probe, begun, over: false })
            }
        }
    }

    fn refuse(&self, state: &State) -> CacheError {
        self.refused.add(1);
        let lasted = state.circuit.lasted(Instant::now()).unwrap_or_default();
        let unknown = || Arc::new(SinkError::new(ErrorKind::Unavailable, "the sink does not answer"));
        CacheError::sink_away(lasted, state.cause.clone().unwrap_or_else(unknown))
    }

    /// A write that was begun then was not answered: the next load is a probe, unless the sink has answered one since.
    pub(crate) fn write_failed(&self, begun: Instant, error: &SinkError) {
        if error.kind() != ErrorKind::Unavailable {
            return;
        }
        let stopped = {
            let mut state = self.state();
            if state.writes == Writes::FailAlone || state.answered_since(begun) {
                return;
            }
            state.writes = Writes::Fail;
            state.stopped(false, Duration::ZERO, Arc::new(SinkError::new(error.kind(), error.chain())))
        };
        self.tell_stopped(stopped);
    }

    /// A write landed: the sink is there.
    pub(crate) fn write_landed(&self) {
        let ended = {
            let mut state = self.state();
            state.writes = Writes::Land;
            state.answered()
        };
        self.tell_resumed(ended);
    }

    fn tell_stopped(&self, cause: Option<Arc<SinkError>>) {
        if let Some(cause) = cause {
            log::loads_stopped(&self.scope, &cause);
        }
    }

    fn tell_resumed(&self, ended: Option<Outage>) {
        if let Some(outage) = ended {
            log::loads_resumed(&self.scope, outage.failures, outage.lasted(Instant::now()));
        }
    }
}

impl State {
    /// The sink did not answer; what is to be told of it: the cause, once.
    fn stopped(&mut self, probe: bool, wait: Duration, cause: Arc<SinkError>) -> Option<Arc<SinkError>> {
        let first = !self.circuit.is_open();
        self.circuit.failed(Instant::now(), probe, wait, false);
        if first || probe {
            self.cause = Some(cause.clone());
        }
        first.then_some(cause)
    }

    fn answered(&mut self) -> Option<Outage> {
        self.answered = Some(Instant::now());
        let ended = self.circuit.answered();
        if ended.is_some() {
            self.cause = None;
        }
        ended
    }

    fn answered_since(&self, begun: Instant) -> bool {
        self.answered.is_some_and(|answered| answered > begun)
    }
}

impl Admission<'_> {
    fn answered(mut self) {
        self.over = true;
        let ended = {
            let mut state = self.passage.state();
            if state.writes == Writes::Fail {
                state.writes = Writes::FailAlone;
            }
            state.answered()
        };
        self.passage.tell_resumed(ended);
    }

    fn failed(mut self, cause: &Arc<SinkError>) {
        self.stopped(cause.clone());
    }

    fn stopped(&mut self, cause: Arc<SinkError>) {
        self.over = true;
        self.passage.failed.add(1);
        let stopped = {
            let mut state = self.passage.state();
            // The sink answered another one meanwhile: it is this load that is slow.
            if state.answered_since(self.begun) {
                return;
            }
            let failures = state.circuit.counting(self.probe);
            let wait = load_probe(failures, &self.passage.policy, rand::random());
            state.stopped(self.probe, wait, cause)
        };
        self.passage.tell_stopped(stopped);
    }

    fn says_nothing(mut self) {
        self.over = true;
        self.abandoned();
    }

    fn abandoned(&self) {
        if self.probe {
            self.passage.state().circuit.abandoned(Instant::now());
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // Its readers went away. Those that waited long enough have seen what a limit would have shown.
        let waited = self.begun.elapsed();
        if stops_loads(ErrorKind::Transient, waited) {
            let text = format!("no answer to a load within {waited:?}, when its reader gave up");
            self.stopped(Arc::new(SinkError::new(ErrorKind::Unavailable, text)));
        } else {
            self.abandoned();
        }
    }
}
