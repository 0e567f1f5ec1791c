//! What a sink is given, and what it answers.

use std::sync::Arc;

use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::sink::SinkError;
use crate::telemetry::scope::Scope;

/// The right to write a partition, issued by the sink; a higher generation invalidates all lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Fence {
    /// The partition.
    pub partition: u16,
    /// The generation that the sink issued.
    pub generation: u64,
}

impl Fence {
    /// A fence as a sink issues it.
    #[must_use]
    pub const fn new(partition: u16, generation: u64) -> Self {
        Self { partition, generation }
    }
}

/// One row to be written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Upsert<E> {
    /// Its id.
    pub id: Id,
    /// The state to set.
    pub value: E,
}

impl<E> Upsert<E> {
    /// An upsert of `value` under `id`.
    #[must_use]
    pub const fn new(id: Id, value: E) -> Self {
        Self { id, value }
    }
}

/// One row to be deleted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delete<K> {
    /// Its id.
    pub id: Id,
    /// Its key.
    pub key: K,
}

impl<K> Delete<K> {
    /// A delete of `key`, whose id is `id`.
    #[must_use]
    pub const fn new(id: Id, key: K) -> Self {
        Self { id, key }
    }
}

/// What one call of [`Sink::write`](crate::Sink::write) writes: states of distinct keys, gathered over partitions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Batch<E: Entity> {
    /// Whose records these are.
    pub scope: Arc<Scope>,
    /// The fences of all partitions in the batch, to be checked in the transaction that writes it. Empty where the
    /// sink issued none.
    pub fences: Vec<Fence>,
    /// Rows to write, sorted by id (an [`APPEND`](Entity::APPEND) entity's in the order in which they were added).
    pub upserts: Vec<Upsert<E>>,
    /// Rows to delete, sorted by id.
    pub deletes: Vec<Delete<E::Key>>,
    /// All or nothing: records in it belong together. When one of them is refused, the sink writes none and returns the
    /// refusal as an error ([`ErrorKind::Rejected`](crate::ErrorKind::Rejected) or [`ErrorKind::Deferred`](crate::ErrorKind::Deferred)) instead of a report. A record of which the sink
    /// has a newer version is refused here ([`ErrorKind::Rejected`](crate::ErrorKind::Rejected)), and not left out: that would tear what belongs together.
    pub whole: bool,
}

impl<E: Entity> Batch<E> {
    /// A batch; sorts both lists by id (one order for all batches, so that concurrent ones do not deadlock).
    #[must_use]
    pub fn new(
        scope: Arc<Scope>,
        fences: Vec<Fence>,
        mut upserts: Vec<Upsert<E>>,
        mut deletes: Vec<Delete<E::Key>>,
    ) -> Self {
        upserts.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        deletes.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Self { scope, fences, upserts, deletes, whole: false }
    }

    /// A batch of rows that are added in this order, as an [`APPEND`](Entity::APPEND) entity's are.
    #[must_use]
    pub const fn in_order(scope: Arc<Scope>, fences: Vec<Fence>, upserts: Vec<Upsert<E>>) -> Self {
        Self { scope, fences, upserts, deletes: Vec::new(), whole: false }
    }

    /// The same batch, all or nothing.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.upserts.len() + self.deletes.len()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.deletes.is_empty()
    }
}

/// What became of a batch.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Statements (or commands) that were sent, for the figures.
    pub statements: u64,
    /// Records that the sink refused while it wrote the others: the id and why.
    pub rejected: Vec<(Id, SinkError)>,
    /// Records that were left out because the sink has a newer [`version`](Entity::version) of them. They count as
    /// flushed, and no clean copy is left of them.
    pub stale: Vec<Id>,
    /// No upsert has changed anything in the sink (the rows were there as they are, or newer, or are only ever added), or it is not known
    /// that one has. So that they landed says nothing about what else was refused as [`ambiguous`](SinkError::ambiguous): the database
    /// may not have looked at them.
    pub idle: bool,
}

impl Report {
    /// Everything was written, with this many statements.
    #[must_use]
    pub const fn written(statements: u64) -> Self {
        Self { statements, rejected: Vec::new(), stale: Vec::new(), idle: false }
    }

    /// The same report, of a write whose upserts prove nothing by landing, or not.
    #[must_use]
    pub const fn with_idle(mut self, idle: bool) -> Self {
        self.idle = idle;
        self
    }

    /// The same report with refused records.
    #[must_use]
    pub fn with_rejected(mut self, rejected: Vec<(Id, SinkError)>) -> Self {
        self.rejected = rejected;
        self
    }

    /// The same report with stale records.
    #[must_use]
    pub fn with_stale(mut self, stale: Vec<Id>) -> Self {
        self.stale = stale;
        self
    }
}
