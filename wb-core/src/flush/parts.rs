//! The parts of a batch that is not written as a whole: which one is next, and what of it is tried again.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::time::Instant;

use crate::entity::Entity;
use crate::entity::key::Id;
use crate::flush::blame::Open;
use crate::flush::search::Search;
use crate::flush::units::Ties;
use crate::flush::write_batch::{Aside, Why};
use crate::sink::batch::Batch;
use crate::sink_gate::Lot;
use crate::sink_gate::batch_limit::BatchLimit;

/// A batch, or a part of one.
pub(crate) struct Part<E: Entity> {
    pub(crate) batch: Batch<E>,
    /// What it is a part of failed as often as it may.
    pub(crate) again: bool,
}

/// What is left of a batch.
pub(crate) struct Parts<'a, E: Entity> {
    queue: VecDeque<Part<E>>,
    pub(crate) ties: &'a Ties,
    pub(crate) lot: Lot,
    /// Rows that the sink takes at once: as was known before, and as this search has found.
    pub(crate) before: BatchLimit,
    pub(crate) limit: BatchLimit,
    pub(crate) search: Search,
    /// Rows of the whole batch.
    pub(crate) rows: usize,
    /// Records that panicked alone.
    pub(crate) panicked: Vec<Id>,
    /// Records that failed alone since something landed.
    alone: Vec<Id>,
    /// What must not be overtaken by what comes after it, but for these, which have been in the way for long.
    pub(crate) obstacles: HashSet<Id>,
    /// These are parts of one that makes the sink panic.
    pub(crate) splitting: bool,
    /// A try failed, and may still be under way in the sink.
    pub(crate) doubtful: bool,
    /// Records and units that were refused by themselves, for what may be their own fault or the configuration's.
    pub(crate) open: Vec<Open>,
    /// When the first write of these was begun that the sink refused.
    pub(crate) refused: Option<Instant>,
    /// Since when records are refused for what may be their own fault or the configuration's.
    pub(crate) doubted: HashMap<Id, Instant>,
    /// Some of it landed.
    pub(crate) any: bool,
    /// It was not tried as a whole alone.
    pub(crate) divided: bool,
}

impl<'a, E: Entity> Parts<'a, E> {
    pub(crate) fn new(batch: Batch<E>, ties: &'a Ties, lot: Lot, limit: BatchLimit) -> Self {
        Self {
            rows: batch.len(),
            // What failed by itself before is not tried twice in a row.
            queue: VecDeque::from([Part { batch, again: lot == Lot::Suspects }]),
            ties,
            lot,
            before: limit,
            limit,
            search: Search::default(),
            panicked: Vec::new(),
            alone: Vec::new(),
            obstacles: HashSet::new(),
            splitting: false,
            doubtful: false,
            open: Vec::new(),
            refused: None,
            doubted: HashMap::new(),
            any: false,
            divided: false,
        }
    }

    /// A record failed alone. Whether others may be tried before it is written.
    pub(crate) fn failed_alone(&mut self, id: &Id) -> bool {
        self.alone.push(id.clone());
        !E::APPEND || self.any || self.obstacles.contains(id)
    }

    /// Those that failed alone since this was asked last.
    pub(crate) fn blamed(&mut self, why: Why) -> impl Iterator<Item = Aside> {
        std::mem::take(&mut self.alone).into_iter().map(move |id| Aside { id, why })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.iter().all(|part| part.batch.is_empty())
    }

    /// The next part, of as many records as the sink takes, where it can be divided. With a limit that the sink has shown,
    /// what is too large is not tried twice.
    pub(crate) fn next(&mut self) -> Option<Part<E>> {
        let rows = self.limit.rows();
        let Part { mut batch, again } = self.queue.pop_front()?;
        while batch.len() > rows {
            match cut(batch, rows, self.ties) {
                Ok([first, rest]) => {
                    self.divided = true;
                    self.queue.push_front(Part { batch: rest, again });
                    batch = first;
                }
                Err(whole) => {
                    batch = whole;
                    break;
                }
            }
        }
        Some(Part { batch, again: again || rows != usize::MAX })
    }

    /// Queues two parts of a batch, to be tried one by one; returns how many records. The batch itself when it is a single
    /// record or unit.
    ///
    /// Of records first in, first out: between two parts that fail others land, and show that the sink is well. What is
    /// added in an order is tried in it.
    pub(crate) fn split(&mut self, batch: Batch<E>, again: bool) -> Result<usize, Batch<E>> {
        let parts = halves(batch, self.ties)?;
        self.divided = true;
        let records = parts.iter().map(Batch::len).sum();
        let parts = parts.map(|batch| Part { batch, again });
        if E::APPEND {
            parts.into_iter().rev().for_each(|part| self.queue.push_front(part));
        } else {
            self.queue.extend(parts);
        }
        Ok(records)
    }

    /// Everything that is not tried any more.
    pub(crate) fn rest(&mut self) -> impl Iterator<Item = Batch<E>> {
        self.queue.drain(..).map(|part| part.batch)
    }
}

/// Whether a batch has more than one record or unit.
pub(crate) fn divides<E: Entity>(batch: &Batch<E>, ties: &Ties) -> bool {
    if ties.tie(batch) { ties.divides(batch) } else { batch.len() > 1 }
}

/// Two batches of about half the records each, in their order; a refused record is found in about log2(n) writes.
fn halves<E: Entity>(batch: Batch<E>, ties: &Ties) -> Result<[Batch<E>; 2], Batch<E>> {
    if ties.tie(&batch) {
        return ties.split(batch);
    }
    if batch.len() < 2 {
        return Err(batch);
    }
    // Upserts and deletes apart first: the kinds rarely fail for the same reason. Deletes may make room for upserts.
    let (upserts, deletes) = match (batch.upserts.len(), batch.deletes.len()) {
        (upserts, 0) => (upserts / 2, 0),
        (0, deletes) => (0, deletes / 2),
        (_, deletes) => (0, deletes),
    };
    Ok(divide(batch, upserts, deletes))
}

/// The first `rows` records, and the others; of units about half.
fn cut<E: Entity>(batch: Batch<E>, rows: usize, ties: &Ties) -> Result<[Batch<E>; 2], Batch<E>> {
    if ties.tie(&batch) {
        return ties.split(batch);
    }
    let deletes = rows.min(batch.deletes.len());
    let upserts = (rows - deletes).min(batch.upserts.len());
    if upserts + deletes == 0 { Err(batch) } else { Ok(divide(batch, upserts, deletes)) }
}

fn divide<E: Entity>(batch: Batch<E>, upserts: usize, deletes: usize) -> [Batch<E>; 2] {
    let Batch { scope, fences, upserts: mut first, deletes: mut first_deletes, whole } = batch;
    let (rest, rest_deletes) = (first.split_off(upserts), first_deletes.split_off(deletes));
    [
        Batch { scope: scope.clone(), fences: fences.clone(), upserts: first, deletes: first_deletes, whole },
        Batch { scope, fences, upserts: rest, deletes: rest_deletes, whole },
    ]
}
