//! Changes that depend on the state they meet: of one key they are applied together, in the order in which they came, and
//! stored in one compare-and-set; between processes the later one sees the earlier one's state and is applied anew.
//!
//! ```text
//! update, increment, put_if_absent, … ──▶ queue of the key ──▶ task: one round a key at a time ──▶ each caller's result
//! ```
//!
//! A round is not its callers' own, so that one who goes away takes nothing with him.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{Notify, oneshot, watch};

use crate::buffer::record::Record;
use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::CacheError;
use crate::runtime::lifecycle::{Phase, stopped};
use crate::write::Writer;

/// Where a record is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target<K> {
    pub(crate) partition: u16,
    pub(crate) id: Id,
    pub(crate) key: K,
}

/// One caller's change.
pub(crate) trait Change<E: Entity>: Send {
    /// The state that this change makes of the one that it meets (the tombstone: there is no record); `None` when it leaves
    /// it as it is. Called again when another process was faster.
    fn apply(
        &mut self,
        writer: &Writer<E>,
        target: &Target<E::Key>,
        state: &State<'_>,
    ) -> Result<Option<Record>, CacheError>;

    /// What became of it: the caller is told.
    fn settle(self: Box<Self>, outcome: Result<(), CacheError>);

    /// Whether the caller is still there.
    fn is_wanted(&self) -> bool;
}

/// What a change meets.
pub(crate) struct State<'a> {
    pub(crate) record: &'a Record,
    /// Version of the row that a delete is about to take away, where versions count.
    pub(crate) floor: Option<i64>,
    /// It was loaded by a program that does not know fields which newer ones know: it lacks them.
    pub(crate) outdated: bool,
}

/// A change by a function that returns the new state and what the caller gets.
struct By<F, R> {
    function: F,
    result: Option<R>,
    /// What the function panicked with.
    panic: Option<Box<dyn Any + Send>>,
    done: oneshot::Sender<Outcome<R>>,
}

/// What a caller gets; a panic of its own function is its own.
type Outcome<R> = Result<Result<R, CacheError>, Box<dyn Any + Send>>;

impl<E, F, R> Change<E> for By<F, R>
where
    E: Entity,
    F: FnMut(&Writer<E>, &Target<E::Key>, &State<'_>) -> Result<(Option<Record>, R), CacheError> + Send,
    R: Send,
{
    fn apply(
        &mut self,
        writer: &Writer<E>,
        target: &Target<E::Key>,
        state: &State<'_>,
    ) -> Result<Option<Record>, CacheError> {
        if self.panic.is_some() {
            return Ok(None);
        }
        let function = &mut self.function;
        self.result = None;
        let applied = std::panic::catch_unwind(AssertUnwindSafe(|| function(writer, target, state)));
        match applied {
            Ok(applied) => {
                let (record, value) = applied?;
                self.result = Some(value);
                Ok(record)
            }
            Err(panic) => {
                self.panic = Some(panic);
                Ok(None)
            }
        }
    }

    fn settle(self: Box<Self>, outcome: Result<(), CacheError>) {
        let Self { result, panic, done, .. } = *self;
        let answer = match (panic, outcome, result) {
            (Some(panic), ..) => Err(panic),
            (None, Err(error), _) => Ok(Err(error)),
            (None, Ok(()), Some(result)) => Ok(Ok(result)),
            // Settled without being applied: the engine ends.
            (None, Ok(()), None) => Ok(Err(CacheError::Closed)),
        };
        // A caller that has gone away does not want its answer.
        let _ = done.send(answer);
    }

    fn is_wanted(&self) -> bool {
        !self.done.is_closed()
    }
}

type Queue<E> = Vec<Box<dyn Change<E>>>;

/// The changes of a writer that wait.
pub(crate) struct ChangeQueue<E: Entity> {
    queues: Mutex<Queues<E>>,
    wake: Notify,
}

struct Queues<E: Entity> {
    /// By id; an empty queue belongs to a key whose round is under way.
    by_id: HashMap<Id, (Target<E::Key>, Queue<E>)>,
    /// Keys that wait for a round.
    ready: Vec<Id>,
}

impl<E: Entity> Default for ChangeQueue<E> {
    fn default() -> Self {
        Self { queues: Mutex::new(Queues { by_id: HashMap::new(), ready: Vec::new() }), wake: Notify::new() }
    }
}

impl<E: Entity> ChangeQueue<E> {
    /// No code of the user runs under the lock, so a poisoned list is whole.
    fn queues(&self) -> MutexGuard<'_, Queues<E>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, target: Target<E::Key>, change: Box<dyn Change<E>>) {
        let mut queues = self.queues();
        let Queues { by_id, ready } = &mut *queues;
        let (_, queue) = by_id.entry(target.id.clone()).or_insert_with(|| {
            ready.push(target.id.clone());
            (target, Vec::new())
        });
        queue.push(change);
        drop(queues);
        self.wake.notify_one();
    }

    /// Keys whose rounds can begin, each with what waits for it.
    fn begin(&self) -> Vec<(Target<E::Key>, Queue<E>)> {
        let mut queues = self.queues();
        let Queues { by_id, ready } = &mut *queues;
        ready
            .drain(..)
            .filter_map(|id| by_id.get_mut(&id).map(|(target, queue)| (target.clone(), std::mem::take(queue))))
            .collect()
    }

    /// A round is over; what came meanwhile waits for the next one.
    fn end(&self, id: &Id) {
        let mut queues = self.queues();
        let Queues { by_id, ready } = &mut *queues;
        match by_id.get(id) {
            Some((_, queue)) if !queue.is_empty() => ready.push(id.clone()),
            _ => drop(by_id.remove(id)),
        }
    }
}

/// Runs rounds until the phase ends; those under way are seen through.
pub(crate) async fn run<E: Entity>(writer: &Writer<E>, mut phase: watch::Receiver<Phase>) {
    let mut rounds = FuturesUnordered::new();
    let mut over = false;
    loop {
        for (target, queue) in writer.change_queue.begin() {
            rounds.push(async move {
                writer.change_all(&target, queue).await;
                writer.change_queue.end(&target.id);
            });
        }
        if over && rounds.is_empty() {
            return;
        }
        tokio::select! {
            Some(()) = rounds.next(), if !rounds.is_empty() => {}
            () = writer.change_queue.wake.notified() => {}
            () = stopped(&mut phase), if !over => over = true,
        }
    }
}

impl<E: Entity> Writer<E> {
    /// Changes a record by `function`, together with whoever else changes it now.
    pub(crate) async fn change<R, F>(&self, target: Target<E::Key>, function: F) -> Result<R, CacheError>
    where
        R: Send + 'static,
        F: FnMut(&Self, &Target<E::Key>, &State<'_>) -> Result<(Option<Record>, R), CacheError> + Send + 'static,
    {
        let _place = self.ctx.intake.enter()?;
        self.ctx.readiness.takes_writes()?;
        let (done, answer) = oneshot::channel();
        let change = By { function, result: None, panic: None, done };
        self.change_queue.add(target, Box::new(change));
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            reason = self.ctx.intake.over() => return Err(reason),
        };
        match answer {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => Err(CacheError::Closed),
        }
    }

    /// One round, whatever panics in it.
    async fn change_all(&self, target: &Target<E::Key>, queue: Queue<E>) {
        let round = AssertUnwindSafe(self.round(target, queue)).catch_unwind().await;
        // The struct's own code is called under guards of its own; who waits is told by the dropped channel.
        drop(round);
    }
}
