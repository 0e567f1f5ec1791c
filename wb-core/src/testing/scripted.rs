//! A sink in memory that fails on command.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Notify, watch};

use crate::entity::Entity;
use crate::key::Id;
use crate::sink::{Batch, ErrorKind, Fence, Report, Scope, Sink, SinkError, Unstorable};

/// A sink in memory with a log of what it was given and a script of what goes wrong. Clones share everything.
///
/// It keeps the [`Sink`] contract, fencing included: a batch is applied whole, at one instant, or not at all.
///
/// ```
/// # use wb_core::{CodecError, Entity, Format, codec};
/// # #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// # struct Player { id: u64 }
/// # impl Entity for Player {
/// #     type Key = u64;
/// #     const NAME: &'static str = "player";
/// #     const FORMAT: Format = Format::Json;
/// #     fn key(&self) -> u64 { self.id }
/// #     fn encode(&self) -> Result<Vec<u8>, CodecError> { codec::encode(Self::FORMAT, self) }
/// #     fn decode(payload: &[u8]) -> Result<Self, CodecError> { codec::decode(Self::FORMAT, payload) }
/// # }
/// use wb_core::ErrorKind;
/// use wb_core::testing::ScriptedSink;
///
/// let sink = ScriptedSink::<Player>::new();
/// sink.fail_next(ErrorKind::Unavailable);         // the next write fails, nothing is applied
/// sink.refuse(|id| id.as_bytes() == b"13");       // this record is named in every report
/// let gate = sink.clone();
/// gate.hold();                                    // writes wait, before they do anything ...
/// gate.release();                                 // ... until here
/// ```
pub struct ScriptedSink<E> {
    shared: Arc<Shared<E>>,
}

struct Shared<E> {
    state: Mutex<State<E>>,
    held: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
    loads_released: Notify,
}

struct State<E> {
    rows: BTreeMap<Id, E>,
    log: Vec<Entry<E>>,
    fences: Option<BTreeMap<u16, u64>>,
    next: VecDeque<Failure>,
    outage: Option<ErrorKind>,
    refusals: Vec<Refusal>,
    unstorable: Vec<Unheld<E>>,
    loads: u64,
    held_loads: Option<Hits>,
    closed: bool,
}

/// Says what is wrong with a row, if anything.
type Unheld<E> = Box<dyn Fn(&E) -> Option<Unstorable> + Send>;

/// Picks records.
type Hits = Box<dyn Fn(&Id) -> bool + Send>;

struct Failure {
    kind: ErrorKind,
    /// The batch is applied all the same: what a lost reply looks like.
    applied: bool,
}

struct Refusal {
    kind: ErrorKind,
    named: bool,
    hits: Hits,
}

/// A write that the sink was given.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry<E> {
    /// The fences of the batch.
    pub fences: Vec<Fence>,
    /// The states to set, and `None` where the row is deleted, by id.
    pub records: BTreeMap<Id, Option<E>>,
    /// Ids of the rows to write, in the order in which they were given.
    pub order: Vec<Id>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Applied, but for these records.
    Written {
        /// The refused records.
        refused: Vec<Id>,
        /// Records that were left out, because the sink had newer versions.
        stale: Vec<Id>,
    },
    /// Applied, and the reply was lost with an error of this kind.
    ReplyLost(ErrorKind),
    /// Not applied; failed with an error of this kind.
    Failed(ErrorKind),
}

impl<E> Clone for ScriptedSink<E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<E> std::fmt::Debug for ScriptedSink<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("ScriptedSink")
            .field("rows", &state.rows.len())
            .field("writes", &state.log.len())
            .finish_non_exhaustive()
    }
}

impl<E> Default for ScriptedSink<E> {
    fn default() -> Self {
        Self::with_fences(Some(BTreeMap::new()))
    }
}

impl<E> ScriptedSink<E> {
    /// An empty sink that fences and never fails.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same sink without fences, as a database without transactions has it.
    #[must_use]
    pub fn without_fencing() -> Self {
        Self::with_fences(None)
    }

    fn with_fences(fences: Option<BTreeMap<u16, u64>>) -> Self {
        let state = State {
            rows: BTreeMap::new(),
            log: Vec::new(),
            fences,
            next: VecDeque::new(),
            outage: None,
            refusals: Vec::new(),
            unstorable: Vec::new(),
            loads: 0,
            held_loads: None,
            closed: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            held: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
            loads_released: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    fn state(&self) -> MutexGuard<'_, State<E>> {
        // A poisoned lock means that another test thread failed already.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next write that has no failure yet fails with this kind, and nothing of it is applied. Calls queue up.
    pub fn fail_next(&self, kind: ErrorKind) {
        self.state().next.push_back(Failure { kind, applied: false });
    }

    /// The next write that has no failure yet is applied, but fails with this kind all the same.
    pub fn lose_next_reply(&self, kind: ErrorKind) {
        self.state().next.push_back(Failure { kind, applied: true });
    }

    /// From now on every call (`open`, `fence`, `write`, `load`) fails with this kind, until
    /// [`recover`](Self::recover).
    pub fn fail_always(&self, kind: ErrorKind) {
        self.state().outage = Some(kind);
    }

    /// Ends what [`fail_always`](Self::fail_always) and [`fail_next`](Self::fail_next) began.
    pub fn recover(&self) {
        let mut state = self.state();
        state.outage = None;
        state.next.clear();
    }

    /// Records whose id is hit are refused as [`ErrorKind::Rejected`]: named in the report, the others are applied.
    pub fn refuse(&self, hits: impl Fn(&Id) -> bool + Send + 'static) {
        self.refuse_as(ErrorKind::Rejected, hits);
    }

    /// The same with another kind, for example [`ErrorKind::Deferred`].
    pub fn refuse_as(&self, kind: ErrorKind, hits: impl Fn(&Id) -> bool + Send + 'static) {
        self.state().refusals.push(Refusal { kind, named: true, hits: Box::new(hits) });
    }

    /// A batch with a record that is hit fails whole with this kind and applies nothing, as a database does that
    /// cannot name the record.
    pub fn refuse_whole(&self, kind: ErrorKind, hits: impl Fn(&Id) -> bool + Send + 'static) {
        self.state().refusals.push(Refusal { kind, named: false, hits: Box::new(hits) });
    }

    /// Rows of which `check` says what is wrong cannot be held at all: [`check`](Sink::check) refuses them.
    pub fn cannot_hold(&self, check: impl Fn(&E) -> Option<Unstorable> + Send + 'static) {
        self.state().unstorable.push(Box::new(check));
    }

    /// Ends all refusals.
    pub fn accept(&self) {
        let mut state = self.state();
        state.refusals.clear();
        state.unstorable.clear();
    }

    /// From now on writes wait before they do anything: a database that hangs, a worker that is paused.
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Lets the waiting writes go on, and all later ones pass.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// From now on loads of records whose id is hit wait before they look.
    pub fn hold_loads(&self, hits: impl Fn(&Id) -> bool + Send + 'static) {
        self.state().held_loads = Some(Box::new(hits));
    }

    /// Lets the waiting loads go on, and all later ones pass.
    pub fn release_loads(&self) {
        self.state().held_loads = None;
        self.shared.loads_released.notify_waiters();
    }

    /// Returns once this many writes wait.
    pub async fn waiting(&self, writes: usize) {
        // The sender lives as long as `self`.
        let _ = self.shared.waiting.subscribe().wait_for(|waiting| *waiting >= writes).await;
    }

    /// What every write was and became, in order.
    #[must_use]
    pub fn log(&self) -> Vec<Entry<E>>
    where
        E: Clone,
    {
        self.state().log.clone()
    }

    /// Number of writes, failed ones included.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.state().log.len()
    }

    /// Number of loads, failed ones included.
    #[must_use]
    pub fn loads(&self) -> u64 {
        self.state().loads
    }

    /// Whether the sink was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// All rows by id.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<Id, E>
    where
        E: Clone,
    {
        self.state().rows.clone()
    }

    /// The row of an id.
    #[must_use]
    pub fn row(&self, id: &Id) -> Option<E>
    where
        E: Clone,
    {
        self.state().rows.get(id).cloned()
    }

    /// Sets a row past the log, as another program would.
    pub fn set_row(&self, id: Id, row: E) {
        self.state().rows.insert(id, row);
    }

    /// The states that this id went through, in order of application; `None` where the row was deleted.
    #[must_use]
    pub fn history(&self, id: &Id) -> Vec<Option<E>>
    where
        E: Clone,
    {
        let state = self.state();
        let applied = state.log.iter().filter(|entry| match &entry.outcome {
            Outcome::Written { refused, stale } => !refused.contains(id) && !stale.contains(id),
            Outcome::ReplyLost(_) => true,
            Outcome::Failed(_) => false,
        });
        applied.filter_map(|entry| entry.records.get(id).cloned()).collect()
    }

    /// Waits while the sink is held. A caller that gives up meanwhile is no longer counted.
    async fn pass_gate(&self) {
        struct Waiting<'a>(&'a watch::Sender<usize>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|waiting| *waiting -= 1);
            }
        }
        let mut held = self.shared.held.subscribe();
        if *held.borrow_and_update() {
            self.shared.waiting.send_modify(|waiting| *waiting += 1);
            let _waiting = Waiting(&self.shared.waiting);
            let _ = held.wait_for(|held| !held).await;
        }
    }
}

impl<E> State<E> {
    fn check_outage(&self) -> Result<(), SinkError> {
        self.outage.map_or(Ok(()), |kind| Err(scripted(kind)))
    }

    /// Applies a batch; the error says what goes wrong, the refused records are left out.
    fn apply(
        &mut self,
        fences: &[Fence],
        records: &BTreeMap<Id, Option<E>>,
        whole: bool,
    ) -> (Outcome, Vec<(Id, SinkError)>)
    where
        E: Entity + Clone,
    {
        let current = self.fences.as_ref();
        if fences.iter().any(|f| current.and_then(|c| c.get(&f.partition)).is_some_and(|now| *now > f.generation)) {
            return (Outcome::Failed(ErrorKind::Fenced), Vec::new());
        }
        let failure = self.next.pop_front().or(self.outage.map(|kind| Failure { kind, applied: false }));
        if let Some(Failure { kind, applied: false }) = failure {
            return (Outcome::Failed(kind), Vec::new());
        }
        let mut refused = Vec::new();
        for id in records.keys() {
            match self.refusals.iter().find(|refusal| (refusal.hits)(id)) {
                Some(Refusal { kind, named: false, .. }) => return (Outcome::Failed(*kind), Vec::new()),
                Some(Refusal { kind, .. }) => {
                    let error = SinkError::new(*kind, format!("scripted refusal of record `{id}`"));
                    refused.push((id.clone(), error));
                }
                None => {}
            }
        }
        if let (true, Some((_, error))) = (whole, refused.first()) {
            return (Outcome::Failed(error.kind()), refused);
        }
        let newer = |rows: &BTreeMap<Id, E>, id: &Id, row: &E| rows.get(id).and_then(E::version) > row.version();
        let is_newer = |(id, row): &(&Id, &Option<E>)| row.as_ref().is_some_and(|row| newer(&self.rows, id, row));
        if let Some((id, _)) = records.iter().find(is_newer).filter(|_| whole) {
            let error = SinkError::new(ErrorKind::Rejected, format!("record `{id}` has a newer version"));
            return (Outcome::Failed(error.kind()), vec![(id.clone(), error)]);
        }
        let mut stale = Vec::new();
        for (id, state) in records.iter().filter(|(id, _)| !refused.iter().any(|(r, _)| r == *id)) {
            match state {
                Some(row) if newer(&self.rows, id, row) => stale.push(id.clone()),
                Some(row) => drop(self.rows.insert(id.clone(), row.clone())),
                None => drop(self.rows.remove(id)),
            }
        }
        match failure {
            Some(Failure { kind, .. }) => (Outcome::ReplyLost(kind), Vec::new()),
            None => {
                let names = refused.iter().map(|(id, _)| id.clone()).collect();
                (Outcome::Written { refused: names, stale }, refused)
            }
        }
    }
}

fn scripted(kind: ErrorKind) -> SinkError {
    SinkError::new(kind, "scripted failure")
}

#[async_trait]
impl<E: Entity + Clone> Sink<E> for ScriptedSink<E> {
    async fn open(&self, _scope: &Scope) -> Result<(), SinkError> {
        self.state().check_outage()
    }

    fn check(&self, row: &E) -> Result<(), Unstorable> {
        self.state().unstorable.iter().find_map(|check| check(row)).map_or(Ok(()), Err)
    }

    async fn fence(&self, _scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        let mut state = self.state();
        state.check_outage()?;
        Ok(state.fences.as_mut().map(|fences| {
            let generation = fences.entry(partition).or_default();
            *generation += 1;
            Fence::new(partition, *generation)
        }))
    }

    async fn write(&self, batch: &Batch<E>) -> Result<Report, SinkError> {
        self.pass_gate().await;
        let upserts = batch.upserts.iter().map(|upsert| (upsert.id.clone(), Some(upsert.value.clone())));
        let records = upserts.chain(batch.deletes.iter().map(|delete| (delete.id.clone(), None))).collect();
        let mut state = self.state();
        let (outcome, mut refused) = state.apply(&batch.fences, &records, batch.whole);
        let result = match &outcome {
            // Of a batch that is all or nothing, what was refused first.
            Outcome::Failed(_) if !refused.is_empty() => Err(refused.swap_remove(0).1),
            Outcome::Failed(kind) | Outcome::ReplyLost(kind) => Err(scripted(*kind)),
            Outcome::Written { stale, .. } => Ok(Report::written(1).with_rejected(refused).with_stale(stale.clone())),
        };
        let order = batch.upserts.iter().map(|upsert| upsert.id.clone()).collect();
        state.log.push(Entry { fences: batch.fences.clone(), records, order, outcome });
        result
    }

    async fn load(&self, keys: &[E::Key]) -> Result<Vec<E>, SinkError> {
        self.state().loads += 1;
        loop {
            let released = self.shared.loads_released.notified();
            let mut ids = keys.iter().filter_map(|key| Id::of(key).ok());
            if !self.state().held_loads.as_ref().is_some_and(|hits| ids.any(|id| hits(&id))) {
                break;
            }
            released.await;
        }
        let state = self.state();
        state.check_outage()?;
        let ids = keys.iter().filter_map(|key| Id::of(key).ok());
        Ok(ids.filter_map(|id| state.rows.get(&id).cloned()).collect())
    }

    async fn writes_whole(&self) -> Result<bool, SinkError> {
        let state = self.state();
        state.check_outage()?;
        Ok(state.fences.is_some())
    }

    /// Keys whose id is a number count.
    async fn highest_key(&self) -> Result<Option<i64>, SinkError> {
        let state = self.state();
        state.check_outage()?;
        let numbers = state.rows.keys().filter_map(|id| std::str::from_utf8(id.as_bytes()).ok()?.parse().ok());
        Ok(numbers.max())
    }

    async fn close(&self) {
        self.state().closed = true;
    }
}
