//! A sink in memory that fails on command.

mod apply;
mod faults;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::entity::key::Id;
use crate::error::finding::Finding;
use crate::error::sink::{ErrorKind, Unstorable};
use crate::sink::SameInserted;
use crate::sink::batch::Fence;

/// A sink in memory with a log of what it was given and a script of what goes wrong. Clones share everything.
///
/// It keeps the [`Sink`](crate::Sink) contract, fencing included: a batch is applied whole, at one instant, or not at all.
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
    altered: bool,
    refreshes: u64,
    insert_only: Option<InsertOnly<E>>,
    loads: u64,
    held_loads: Option<Hits>,
    findings: Vec<Finding>,
    closed: bool,
}

/// Fields that are set in a new row only: whether two rows have the same in them, and a state with those of the row that it replaces.
struct InsertOnly<E> {
    same: SameInserted<E>,
    keep: fn(&E, E) -> E,
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
    /// It may be the configuration's fault.
    ambiguous: bool,
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
            altered: false,
            refreshes: 0,
            insert_only: None,
            loads: 0,
            held_loads: None,
            findings: Vec::new(),
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

    /// From now on this sink has fields that are set in a new row only: whether two rows have the `same` in them, and a state of which
    /// those are `keep`t that the row has which it replaces.
    pub fn set_once(&self, same: SameInserted<E>, keep: fn(&E, E) -> E) {
        self.state().insert_only = Some(InsertOnly { same, keep });
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
}
