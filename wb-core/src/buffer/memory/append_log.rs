//! The logs of append-only entities, in memory.

use tokio::time::Instant;

use crate::buffer::memory::partition::Partition;
use crate::buffer::record::Record;
use crate::buffer::{LogPage, Moved, Settled, Step};
use crate::entity::key::Id;

impl Partition {
    pub(crate) fn append(&mut self, record: Record) {
        self.log.push_back(record);
    }

    pub(crate) fn read_log(&self, skip: u64, limit: usize) -> LogPage {
        let first = usize::try_from(skip).unwrap_or(usize::MAX);
        LogPage {
            number: self.trimmed.saturating_add(skip),
            entries: self.closed_log.iter().skip(first).take(limit.max(1)).cloned().collect(),
            left: self.closed_log.len() as u64,
        }
    }

    pub(crate) fn trim(&mut self, step: &Step<'_>, number: u64, settled: &[Settled], now: Instant) -> Moved {
        let refused = Moved::NOT_OWNER;
        if !self.holds(step, now) {
            return refused;
        }
        let mut moved = 0;
        if self.trimmed == number || self.checks_nothing() {
            for entry in settled {
                let Some(record) = self.closed_log.pop_front() else { break };
                moved += 1;
                // Of two entries with one key that are to be tried again the first counts, as in the sink.
                match entry {
                    Settled::Written(id) => {
                        self.settle_refusals(id);
                        if self.has_refusals() {
                            // Of an equal entry that was no row.
                            self.settle_refusals(&Id::unreadable(record.as_bytes()));
                        }
                    }
                    Settled::Again(id, attempts) => self.open_if_absent(id, record, *attempts),
                    Settled::Dead(id, letter) => self.keep_letter(id, letter),
                }
            }
            self.trimmed += moved;
        } else if self.trimmed < number.saturating_add(settled.len() as u64) {
            // Neither what the caller has read nor what it has trimmed: the log is another one.
            return refused;
        }
        self.done(step, settled.len(), moved)
    }
}
