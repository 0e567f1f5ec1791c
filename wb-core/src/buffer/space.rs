//! One entity's share of a buffer: the verbs of the flow.

use std::time::Duration;

use async_trait::async_trait;

use super::lookup::{IdFloor, Look, Lookup, Stored, Swap, Token};
use super::ownership::{Lineage, Roll};
use super::step::{Attempts, Clean, Held, Moved, Page, PendingReport, Rotation, Stamp, Status, Step};
use super::{DeadLetter, Guarded, Letters, Mark, Marks, Replayed, SeenShape, SeenShapes, Transacted};
use crate::buffer::append_log::{LogPage, Settled};
use crate::buffer::record::{Record, Write};
use crate::entity::key::Id;
use crate::error::buffer::BufferError;

/// One entity's share of a buffer: a method for each verb of the flow.
///
/// # Contract
/// - Every method is one atomic step per partition. A method may be repeated when its outcome is unknown.
/// - Worker verbs ([`rotate`](Space::rotate), [`ack`](Space::ack), [`back`](Space::back), [`bury`](Space::bury)) do
///   nothing for a worker that does not hold the partition's lease, and say so.
/// - What is dirty (in `open` or `flushing`) has no TTL and is never evicted.
#[async_trait]
pub trait Space: Send + Sync + 'static {
    /// Begins to watch over the data, and to listen, for an engine that runs; after [`agree`](super::Buffer::agree), once.
    async fn start(&self) -> Result<(), BufferError> {
        Ok(())
    }

    /// Makes these writes the latest state of their keys, in this order. All are acknowledged, or an error says that
    /// some may not be; repeating is safe.
    async fn put(&self, writes: Vec<Write>) -> Result<(), BufferError>;

    /// Adds these entries to the logs of their partitions, in this order; their ids are not stored. All are acknowledged, or
    /// an error says that some may not be; repeating adds those twice that were stored, which the sink ignores by key.
    ///
    /// # Errors
    /// [`BufferErrorKind::Misconfigured`](crate::error::buffer::BufferErrorKind::Misconfigured) when the space was not registered with
    /// [`append`](super::Registration::append).
    async fn append(&self, writes: Vec<Write>) -> Result<(), BufferError>;

    /// Entries of the log that is being flushed, from the `skip`th on, `limit` at most. Only a rotation puts entries there.
    async fn read_log(&self, partition: u16, skip: u64, limit: usize) -> Result<LogPage, BufferError>;

    /// These entries, the first ones of the log that is being flushed, are settled: off the log. What the sink has not goes
    /// into `open`, where of two with one id the first stays, or becomes a dead letter. Does nothing when the first entry of the
    /// log has another `number`. Ends the epoch when nothing of it is left.
    async fn trim(&self, step: &Step<'_>, number: u64, settled: &[Settled]) -> Result<Moved, BufferError>;

    /// Looks ids of one partition up, in the order `open`, `flushing`, clean copy. One answer per id.
    async fn get(&self, partition: u16, ids: &[Id]) -> Result<Vec<Lookup>, BufferError>;

    /// Leaves a load token where the clean copy would be, for `ttl`: where nothing is there, or this very copy, which
    /// somebody has loaded and is not good enough for the caller. `false` when something else is.
    async fn token(
        &self,
        partition: u16,
        id: &Id,
        token: &Token,
        over: Option<&Stored>,
        ttl: Duration,
    ) -> Result<bool, BufferError>;

    /// Puts a loaded state (a tombstone: "no such row"), and who loaded it, as the clean copy if `token` still stands there; otherwise, an
    /// ack came in between and the state may be old. With a zero `ttl` the token is only removed. Returns whether it stood there.
    async fn fill(
        &self,
        partition: u16,
        id: &Id,
        token: &Token,
        loaded: &Stored,
        ttl: Duration,
    ) -> Result<bool, BufferError>;

    /// Takes or renews the leases of these partitions; says for each whether `owner` holds it now.
    async fn take(&self, partitions: &[u16], owner: &str, ttl: Duration) -> Result<Vec<bool>, BufferError>;

    /// Says that a worker is alive, until `ttl` from now, and renews the leases that it holds; takes none. Tells who else
    /// works on this entity, and which leases are free. Only the buffer's clock counts.
    async fn heartbeat(&self, worker: &str, ttl: Duration) -> Result<Roll, BufferError>;

    /// Says that a worker works on this entity no more. Its leases stay as they are.
    async fn retire(&self, worker: &str) -> Result<(), BufferError>;

    /// Whether the topology is still the one that this space was opened with. Records of another one are looked for
    /// elsewhere: what is written under the old one is not flushed any more. A buffer that has lost it with its data takes
    /// this one again. What was closed by a program that [wanted](super::Buffer::announce) another one, and is gone, is opened again.
    ///
    /// # Errors
    /// [`BufferErrorKind::Topology`](crate::error::buffer::BufferErrorKind::Topology) when it is not.
    async fn confirm(&self) -> Result<(), BufferError>;

    /// Gives leases up.
    async fn release(&self, partitions: &[u16], owner: &str) -> Result<(), BufferError>;

    /// Which of these partitions have anything to flush, how much, and since when; and which of them cannot be used.
    ///
    /// # Errors
    /// When none can be looked at.
    async fn pending(&self, partitions: &[u16]) -> Result<PendingReport, BufferError>;

    /// Partitions that cannot be used, and why; for who looks before anything runs. Changes nothing.
    ///
    /// # Errors
    /// When none can be looked at.
    async fn broken(&self) -> Result<Vec<(u16, BufferError)>, BufferError> {
        Ok(Vec::new())
    }

    /// Closes the open epoch: `open` becomes `flushing`, and the log of an append-only entity the one that is being flushed,
    /// in one step, whatever their size. Marks it, or the one that was
    /// left behind, with `stamp`: steps that carry another one do nothing from now on.
    async fn rotate(&self, partition: u16, owner: &str, stamp: Stamp) -> Result<Rotation, BufferError>;

    /// A page of the epoch that is being flushed; about `limit` records, some perhaps twice. Cursor 0 starts and ends.
    async fn claim(&self, partition: u16, cursor: u64, limit: usize) -> Result<Page, BufferError>;

    /// These records are in the sink: removes them from the epoch and leaves clean copies. Clears their attempts and
    /// dead letters, and the marks of [`ack_stale`](Self::ack_stale). Ends the epoch when it was the last one.
    async fn ack(&self, step: &Step<'_>, ids: &[Id], clean: Clean) -> Result<Moved, BufferError>;

    /// The clean copies of these ids that have an end, as they stand, whatever is dirty. What has none is the state of a refused record, and
    /// says nothing of the sink's row; a load token is no copy. One answer per id.
    async fn copies(&self, partition: u16, ids: &[Id]) -> Result<Vec<Option<Stored>>, BufferError>;

    /// These records, each with its [version](crate::Entity::version), were left out because the sink has newer versions of
    /// them: removes them from the epoch and leaves no copies. Clears their attempts and dead letters. The version stays as a
    /// mark until a later state of the key is acknowledged, so that whoever asks later, in whatever process, does not take the
    /// record for written. Bounded: of a partition at least the [`STALE_MARKS`](super::STALE_MARKS) / 2 newest marks stay, and all
    /// of the epoch that was closed last. [`Look::unmarked_epoch`] says up to which epoch some are gone.
    async fn ack_stale(&self, step: &Step<'_>, records: &[(Id, i64)]) -> Result<Moved, BufferError>;

    /// The version of the record of this id that was left out last; `None` when none was, or a later state of its key was
    /// acknowledged since.
    async fn stale(&self, partition: u16, id: &Id) -> Result<Option<i64>, BufferError>;

    /// These records must be tried again: back to `open` where no newer state is, else dropped (superseded). The
    /// value stays readable as the clean copy, without TTL. The attempts are kept in both cases: that an id has any says
    /// that it was refused when it was settled last.
    async fn back(&self, step: &Step<'_>, records: &[(Id, Attempts)]) -> Result<Moved, BufferError>;

    /// These records are dead letters: out of the epoch, kept with payload and reason, readable as the clean copy
    /// without TTL.
    async fn bury(&self, step: &Step<'_>, letters: &[(Id, DeadLetter)]) -> Result<Moved, BufferError>;

    /// Attempts that were counted for these ids.
    async fn attempts(&self, partition: u16, ids: &[Id]) -> Result<Vec<Option<Attempts>>, BufferError>;

    /// The records of these partitions that are [held](Attempts::is_held): they went [`back`](Self::back) without having
    /// been refused, and neither they nor newer states of their keys are in the sink. Each that is held during the whole
    /// call is there.
    async fn held(&self, partitions: &[u16]) -> Result<Vec<Held>, BufferError>;

    /// The dead letter of an id.
    async fn letter(&self, partition: u16, id: &Id) -> Result<Option<DeadLetter>, BufferError>;

    /// A page of the dead letters of a partition; about `limit`, some perhaps twice. Cursor 0 starts and ends.
    async fn letters(&self, partition: u16, cursor: u64, limit: usize) -> Result<Letters, BufferError>;

    /// Makes the payloads of these dead letters dirty again, with no attempts counted; the letters go. Where a newer state
    /// is in `open` or `flushing` nothing is done: it decides. A letter proves that nothing newer was flushed since,
    /// because every ack removes it. Letters that belong [together](DeadLetter::together) all come back with one of them, in
    /// one step over their partitions, and marked, so that they reach the sink together; those of which a newer state is dirty
    /// are left out, and that state is not tied to the others.
    async fn replay(&self, partition: u16, ids: &[Id]) -> Result<Replayed, BufferError>;

    /// Removes these dead letters for good; where no newer state is dirty, their attempts and clean copies too, so that
    /// readers see the sink's row again. Returns how many there were.
    async fn discard(&self, partition: u16, ids: &[Id]) -> Result<u64, BufferError>;

    /// Makes these writes the latest states of their keys, all at one instant and only if each meets the state that it
    /// expects; no id occurs twice. Marks them with `mark`, or with one that ties them to the transactions that have
    /// written any of them in this epoch. Repeating is safe.
    ///
    /// # Errors
    /// [`BufferErrorKind::Full`](crate::error::buffer::BufferErrorKind::Full) when they would pass the limit: nothing is stored.
    async fn transact(&self, mark: Mark, writes: &[Guarded]) -> Result<Transacted, BufferError>;

    /// [`get`](Space::get) over partitions, at one instant: what one transaction wrote is seen whole or not at all.
    async fn get_together(&self, places: &[(u16, Vec<Id>)]) -> Result<Vec<Vec<Lookup>>, BufferError>;

    /// [`rotate`](Space::rotate) of all partitions in one step, marked with one stamp. Nothing is done unless `owner` holds
    /// the leases of all of them. When an epoch of any of them was left behind, only those that were are marked, and nothing
    /// is closed: the next cut is one of all partitions again. One answer per partition.
    async fn rotate_all(&self, owner: &str, stamp: Stamp) -> Result<Vec<Rotation>, BufferError>;

    /// A page of the marks of the epoch that is being flushed; about `limit`. Cursor 0 starts and ends.
    async fn marks(&self, partition: u16, cursor: u64, limit: usize) -> Result<Marks, BufferError>;

    /// These records of the epoch that is being flushed, as [`claim`](Space::claim) names them. One answer per id.
    async fn pick(&self, partition: u16, ids: &[Id]) -> Result<Vec<Option<Record>>, BufferError>;

    /// [`back`](Space::back) of records that belong together, over partitions, in one step: of none unless all the leases
    /// and epochs are the caller's. They are marked again, with `mark` or one that ties them to what transactions have
    /// written since. One answer per part.
    async fn back_unit(&self, mark: Mark, parts: &[(Step<'_>, Vec<(Id, Attempts)>)])
    -> Result<Vec<Moved>, BufferError>;

    /// [`bury`](Space::bury) of records that belong together, over partitions, in one step: of none unless all the leases
    /// and epochs are the caller's. One answer per part.
    async fn bury_unit(&self, parts: &[(Step<'_>, Vec<(Id, DeadLetter)>)]) -> Result<Vec<Moved>, BufferError>;

    /// Counts the entity's ids up by `count`, which is above zero, and returns the last of them: they are the caller's, and
    /// nobody else's. From a `floor` on at least: the counter is there afterwards, and above it. Without one `None`, and
    /// nothing done, when there is no counter, or when it may have lost what was reserved last. Then a floor leaves out
    /// [`IdFloor::LEAP`] of the largest blocks that were ever asked for, whether it says so or not. Repeated, it reserves others.
    ///
    /// # Errors
    /// [`BufferErrorKind::Misconfigured`](crate::error::buffer::BufferErrorKind::Misconfigured) when the counter would pass [`i64::MAX`].
    async fn reserve_ids(&self, count: i64, floor: Option<IdFloor>) -> Result<Option<i64>, BufferError>;

    /// Where a partition stands.
    ///
    /// # Errors
    /// Also when [`pending`](Space::pending) says that the partition cannot be used: who waits for it must not wait for ever.
    async fn status(&self, partition: u16) -> Result<Status, BufferError>;

    /// Where ids of a partition stand, and its epochs: a [`Look`] is of one instant. Many ids are looked at in several steps,
    /// 200 at a time; each step has epochs of its own, and only by these its ids can be judged. At least one, also for no ids.
    async fn look(&self, partition: u16, ids: &[Id]) -> Result<Vec<Look>, BufferError>;

    /// Makes a write the latest state of its key if `expected` is what stands: in `open`, else in `flushing`, else as the
    /// clean copy, and that to the byte: who loaded it counts. What it becomes was written. A tombstone stands for "no such row"
    /// only where it was found or left, not where nothing is known. Keeps to the limit of dirty keys like [`put`](Space::put). Not to be repeated blindly when its outcome is unknown.
    async fn swap(&self, expected: &Stored, write: &Write) -> Result<Swap, BufferError>;

    /// Drops the clean copies of these ids, "no such row" included, and the marks of loads under way; returns how many. A copy
    /// without TTL stays: it is the readable state of a record that the sink has refused. What is dirty stays.
    async fn invalidate(&self, partition: u16, ids: &[Id]) -> Result<u64, BufferError>;

    /// A page of what is open, or of what is `flushing`; about `limit` records, some perhaps twice. Cursor 0 starts and ends.
    /// What is there from the start to the end of the scan is in one of the pages.
    async fn scan(&self, partition: u16, flushing: bool, cursor: u64, limit: usize) -> Result<Page, BufferError>;

    /// Asks whoever works on this entity, in whatever process, to flush now. A wish: nothing is lost when nobody hears it.
    async fn nudge(&self) -> Result<(), BufferError> {
        Ok(())
    }

    /// Makes the shape of an entity's struct known, unless it is, and tells all that are known. `seen` is what earlier calls
    /// told, for a buffer that has lost some of it; an empty shape is not made known. Of two times of a shape the earlier one counts. A buffer that keeps no list
    /// says nothing; workers then flush what newer programs wrote.
    async fn shapes(&self, shape: &str, seen: &[SeenShape]) -> Result<SeenShapes, BufferError> {
        let _ = (shape, seen);
        Ok(SeenShapes::new(Vec::new(), Duration::MAX))
    }

    /// What became of the data since the last call; called about once a second in each process. A buffer that finds its
    /// data gone back drops the clean copies that may be older than the sink before it answers.
    async fn lineage(&self) -> Result<Lineage, BufferError> {
        Ok(Lineage::Unwatched)
    }
}
