//! Reads closed logs head first: runs of entries, gathered over partitions into batches.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::try_join_all;

use crate::buffer::Space;
use crate::buffer::record::Record;
use crate::error::buffer::BufferError;
use crate::fault::failpoint;
use crate::flush::claim::Average;
use crate::flush::rotate::Epoch;

/// Entries that follow each other in the log of a partition.
pub(crate) struct Run {
    pub(crate) epoch: Epoch,
    /// Number of the first of them.
    pub(crate) number: u64,
    pub(crate) entries: Vec<Record>,
}

/// What is left of a closed log.
struct Tail {
    epoch: Epoch,
    /// Number of its first entry.
    number: u64,
    /// Entries that were read and are in no batch yet.
    ready: VecDeque<Record>,
    /// Entries that are in no batch yet, those that were read included.
    left: u64,
}

/// The closed logs of some partitions. A batch must be settled before the next one is asked for, so that the entries of a
/// partition are never in two batches at the same time: they would lose their order.
pub(crate) struct Logs {
    space: Arc<dyn Space>,
    tails: Vec<Tail>,
    max_rows: usize,
    max_bytes: usize,
    seen: Average,
}

impl Logs {
    /// Those of these epochs that have any entries.
    pub(crate) async fn open(
        space: Arc<dyn Space>,
        epochs: &[Epoch],
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Self, BufferError> {
        let tails = epochs.iter().map(|&epoch| Tail { epoch, number: 0, ready: VecDeque::new(), left: 1 }).collect();
        let mut logs = Self { space, tails, max_rows, max_bytes, seen: Average::default() };
        let rows = (max_bytes / logs.seen.get()).clamp(1, max_rows);
        logs.read(rows.div_ceil(epochs.len().max(1))).await?;
        logs.tails.retain(|tail| tail.left > 0);
        Ok(logs)
    }

    /// The same logs in at most `parts` parts of about the same size, to be flushed beside each other. What fits into one
    /// batch stays together.
    pub(crate) fn split(mut self, parts: usize) -> Vec<Self> {
        let left: u64 = self.tails.iter().map(|tail| tail.left).sum();
        let fits = usize::try_from(left).is_ok_and(|left| left <= self.max_rows);
        let parts = if fits { 1 } else { parts.clamp(1, self.tails.len().max(1)) };
        self.tails.sort_by_key(|tail| Reverse(tail.left));
        let mut split: Vec<Self> = (0..parts)
            .map(|_| Self {
                space: self.space.clone(),
                tails: Vec::new(),
                max_rows: self.max_rows,
                max_bytes: self.max_bytes,
                seen: self.seen,
            })
            .collect();
        for tail in self.tails {
            let smallest = split.iter_mut().min_by_key(|part| part.tails.iter().map(|tail| tail.left).sum::<u64>());
            if let Some(part) = smallest {
                part.tails.push(tail);
            }
        }
        split
    }

    /// The next batch: at most `max_rows` entries and `max_bytes` bytes, but one entry at least; none at the end. Those of
    /// the batch before are off their logs by now.
    pub(crate) async fn next(&mut self) -> Result<Vec<Run>, BufferError> {
        loop {
            let rows: usize = self.tails.iter().map(|tail| tail.ready.len()).sum();
            let bytes: usize = self.tails.iter().flat_map(|tail| &tail.ready).map(Record::len).sum();
            let unread = self.tails.iter().filter(|tail| tail.is_unread()).count();
            if unread == 0 || rows >= self.max_rows || bytes >= self.max_bytes {
                return Ok(self.gather());
            }
            // By bytes too: a batch of large records must not read thousands of them ahead.
            let rows = ((self.max_bytes - bytes) / self.seen.get()).clamp(1, self.max_rows - rows);
            self.read(rows.div_ceil(unread)).await?;
        }
    }

    /// A batch of what was read.
    fn gather(&mut self) -> Vec<Run> {
        let (mut runs, mut rows, mut bytes) = (Vec::new(), 0, 0);
        for tail in &mut self.tails {
            let mut run = Run { epoch: tail.epoch, number: tail.number, entries: Vec::new() };
            while let Some(next) = tail.ready.front() {
                if rows >= self.max_rows || (bytes + next.len() > self.max_bytes && rows > 0) {
                    break;
                }
                let Some(next) = tail.ready.pop_front() else { break };
                rows += 1;
                bytes += next.len();
                run.entries.push(next);
            }
            let taken = run.entries.len() as u64;
            tail.number += taken;
            tail.left -= taken;
            if taken > 0 {
                runs.push(run);
            }
        }
        self.tails.retain(|tail| tail.left > 0);
        runs
    }

    /// So many more entries of every log that is not read to its end.
    async fn read(&mut self, limit: usize) -> Result<(), BufferError> {
        let space = &self.space;
        let pages = try_join_all(self.tails.iter_mut().filter(|tail| tail.is_unread()).map(|tail| async move {
            let page = space.read_log(tail.epoch.partition, tail.ready.len() as u64, limit).await?;
            failpoint::pass("after_claim");
            Ok::<_, BufferError>((tail, page))
        }))
        .await?;
        for (tail, page) in pages {
            for entry in &page.entries {
                self.seen.add(entry.len());
            }
            tail.number = page.number - tail.ready.len() as u64;
            // A log that has lost entries ends where it ends: the trim says so.
            tail.left = if page.entries.is_empty() { tail.ready.len() as u64 } else { page.left };
            tail.ready.extend(page.entries);
        }
        Ok(())
    }
}

impl Tail {
    fn is_unread(&self) -> bool {
        (self.ready.len() as u64) < self.left
    }
}
