//! agree: which rows are what was written, where the sink leaves fields of a row that is there alone (`insert_only`).
//!
//! A clean copy that has an end agrees with the row in these fields: a flush left it where this was known, a load read it, or it says
//! that there was no row. While its record is in the epoch nobody else writes the row. So a written state with the same values in
//! them is the row, and may be left for readers; of any other nobody knows what the row has, and the next read loads it.

use std::panic::AssertUnwindSafe;

use crate::buffer::Stored;
use crate::buffer::record::Record;
use crate::entity::Entity;
use crate::entity::decode::decode_payload;
use crate::entity::key::Id;
use crate::flush::Flusher;
use crate::flush::claim::Claimed;
use crate::sink::SameInserted;

/// Bytes of written records whose copies are asked for at once. The copies are about as large.
const LOOK_BYTES: usize = 1 << 20;

/// Ids of written records.
#[derive(Default)]
pub(crate) struct Written {
    /// The row is what was written.
    pub(crate) agree: Vec<Id>,
    /// The row may have other values in some fields.
    pub(crate) differ: Vec<Id>,
}

impl<E: Entity> Flusher<E> {
    /// Tells written records of a partition apart.
    pub(crate) async fn agreeing(&self, partition: u16, written: Vec<&Claimed>) -> Written {
        let ids = |records: &[&Claimed]| records.iter().map(|claimed| claimed.id.clone()).collect::<Vec<_>>();
        // Nobody reads what is only ever added.
        let Some(same) = self.ctx.sink.insert_only().filter(|_| !E::APPEND) else {
            return Written { agree: ids(&written), ..Written::default() };
        };
        let (deletes, mut upserts): (Vec<_>, Vec<_>) =
            written.into_iter().partition(|claimed| claimed.record.is_tombstone());
        let mut found = Written { agree: ids(&deletes), ..Written::default() };
        while !upserts.is_empty() {
            let mut bytes = 0;
            let fitting = upserts.iter().take_while(|claimed| {
                bytes += claimed.record.len();
                bytes <= LOOK_BYTES
            });
            let now: Vec<&Claimed> = upserts.drain(..fitting.count().max(1)).collect();
            let ids = ids(&now);
            // Who cannot say knows no copy: then there is none afterwards either.
            let copies = self.ctx.space.copies(partition, &ids).await.unwrap_or_default();
            let copies = copies.into_iter().chain(std::iter::repeat(None));
            for ((claimed, id), copy) in now.iter().zip(ids).zip(copies) {
                let agrees = copy.is_some_and(|copy| self.agrees(same, &copy, &claimed.record));
                if agrees { found.agree.push(id) } else { found.differ.push(id) }
            }
        }
        found
    }

    /// Whether a row that a copy is of has the values of a state that was written over it.
    fn agrees(&self, same: SameInserted<E>, copy: &Stored, written: &Record) -> bool {
        if copy.record.is_tombstone() {
            return true;
        }
        // What its loader does not know of is not what the row has.
        if !self.ctx.shapes.can_read(copy.origin) {
            return false;
        }
        let row = |record: &Record| decode_payload::<E>(record.as_bytes()).ok();
        match (row(&copy.record), row(written)) {
            // The struct's own code.
            (Some(row), Some(written)) => {
                std::panic::catch_unwind(AssertUnwindSafe(|| same(&row, &written))).unwrap_or(false)
            }
            _ => false,
        }
    }
}
