//! Entries of append-only entities on their way into the sink: decoded, flushed in their order, trimmed off their logs.

pub(crate) mod read;

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::join_all;

use crate::buffer::record::Record;
use crate::buffer::{Attempts, Done, Settled, Step};
use crate::entity::Entity;
use crate::entity::codec::any_field;
use crate::entity::decode::decode_payload;
use crate::entity::key::Id;
use crate::entity::partition::partition_of;
use crate::error::buffer::BufferError;
use crate::error::chain;
use crate::error::sink::SinkError;
use crate::fault::failpoint;
use crate::fault::mechanism::Mechanism;
use crate::flush::Flusher;
use crate::flush::append_log::read::{Logs, Run};
use crate::flush::claim::Claimed;
use crate::flush::cycle::{Ended, Interrupted};
use crate::flush::decode::{MISPLACED, UNDECODABLE, Unreadable};
use crate::flush::parts::Parts;
use crate::flush::rotate::Epoch;
use crate::flush::settle::{Tally, now_ms};
use crate::flush::units::Ties;
use crate::flush::write_batch::{Aside, Flushed, GivenUp, Why};
use crate::options::retry_policy;
use crate::ownership;
use crate::sink::batch::{Batch, Upsert};
use crate::sink::hook::HOOK;
use crate::sink_gate::Lot;
use crate::telemetry::log;
use crate::telemetry::scope::Scope;

/// Why an entry is no row: kind and error.
type Reason = (&'static str, String);

/// An entry under its id, and why it is no row, if so.
struct Entry {
    claimed: Claimed,
    reason: Option<Reason>,
    /// It has fields that only a newer program knows, and is left to one: by way of `open`, like a record.
    held: bool,
}

/// The entries of a run.
struct Part {
    epoch: Epoch,
    number: u64,
    entries: Vec<Entry>,
}

impl<E: Entity> Flusher<E> {
    /// Flushes the logs of these epochs, several partitions beside each other, the entries of each in their order.
    pub(crate) async fn flush_logs(&self, epochs: &[Epoch]) -> Result<Ended, Interrupted> {
        let logs =
            Logs::open(self.ctx.space.clone(), epochs, self.max_rows(), self.ctx.options.max_batch_bytes).await?;
        let failed = &AtomicBool::new(false);
        // A failure ends the reading, never a batch that is on its way.
        let parts = logs.split(self.ctx.options.flush_concurrency).into_iter().map(|logs| async move {
            let flushed = AssertUnwindSafe(self.flush_some_logs(logs, failed)).catch_unwind().await;
            let flushed = flushed.unwrap_or(Err(Interrupted::Panicked));
            failed.fetch_or(flushed.is_err(), Ordering::Relaxed);
            flushed
        });
        let mut ended = Ended::default();
        let mut outcome = Ok(());
        for part in join_all(parts).await {
            match part {
                Ok(part) => ended.add(part),
                Err(interrupted) => outcome = outcome.and(Err(interrupted)),
            }
        }
        outcome.map(|()| ended)
    }

    async fn flush_some_logs(&self, mut logs: Logs, failed: &AtomicBool) -> Result<Ended, Interrupted> {
        let mut ended = Ended::default();
        while !ended.is_given_up() && !failed.load(Ordering::Relaxed) && !self.sink_gate.is_over() {
            let runs = logs.next().await?;
            if runs.is_empty() {
                break;
            }
            ended.add(self.flush_runs(runs).await?);
        }
        Ok(ended)
    }

    async fn flush_runs(&self, runs: Vec<Run>) -> Result<Ended, Interrupted> {
        let mut epochs: Vec<Epoch> = runs.iter().map(|run| run.epoch).collect();
        epochs.sort_unstable_by_key(|epoch| epoch.partition);
        let (mut parts, mut upserts) = read::<E>(&self.ctx.scope, runs);
        self.hold_newer_entries(&mut parts, &mut upserts);
        self.transform_entries(&mut parts, &mut upserts);
        let reasons = parts.iter().flat_map(|part| &part.entries).filter_map(|entry| entry.reason.as_ref());
        if reasons.into_iter().any(|(kind, _)| *kind == MISPLACED) {
            // Perhaps it is this program that is out of place: see `flush_batch`.
            ownership::confirm(&self.ctx, &self.leases).await?;
        }
        let fenced = !self.ctx.options.sabotage.lacks(Mechanism::Fence);
        let fences = epochs.iter().filter_map(|epoch| epoch.right.fence.filter(|_| fenced)).collect();
        let batch = Batch::in_order(self.ctx.scope.clone(), fences, upserts);
        let (ties, mut flushed) = (Ties::default(), Flushed::default());
        let mut batch = Parts::new(batch, &ties, Lot::Ordinary, self.sink_gate.batch_limit(Lot::Ordinary));
        let entries = parts.iter().flat_map(|part| &part.entries).map(|entry| &entry.claimed);
        let left_behind =
            |claimed: &&Claimed| retry_policy::is_left_behind(self.retry_schedule.asides(&claimed.id, &claimed.record));
        batch.obstacles = entries.filter(left_behind).map(|claimed| claimed.id.clone()).collect();
        let all_entries = || parts.iter().flat_map(|part| &part.entries).map(|entry| &entry.claimed);
        batch.doubted = self.known_doubts(all_entries());
        loop {
            match self.flush(&mut batch, &epochs).await {
                Ok(Some(more)) => flushed.add(more),
                Ok(None) => break,
                Err(GivenUp) => return Ok(Ended::given_up()),
            }
        }
        self.remember_doubts(all_entries(), std::mem::take(&mut flushed.doubted));
        let mut ended = Ended::default();
        let doubted = flushed.aside.iter().any(|aside| aside.why == Why::Doubted);
        let aside = flushed.aside.into_iter().map(|Aside { id, why }| {
            let why = match why {
                // Its order is kept until it has been in the way for long.
                Why::Doubted if batch.obstacles.contains(&id) => Why::Alone,
                Why::Doubted => Why::Unsure,
                why => why,
            };
            (id, why)
        });
        let mut aside: HashMap<Id, Why> = aside.collect();
        if aside.values().any(|why| *why != Why::Alone) {
            self.stay(&mut parts, &aside);
            ended.add(Ended::given_up());
            // Of a doubt it is the circuit that waits.
            if !batch.any && !doubted {
                self.sink_gate.pause(retry_policy::untried(&self.ctx.options.retry, rand::random())).await;
            }
        }
        aside.retain(|_, why| *why == Why::Alone);
        let mut refused: HashMap<Id, SinkError> = flushed.refused.into_iter().collect();
        let all: HashSet<Id> = refused.keys().chain(aside.keys()).cloned().collect();
        let settled = parts.into_iter().map(|part| {
            // The first entry of an id is the one that the sink was given.
            let mut mine = HashMap::new();
            for entry in part.entries.iter().filter(|entry| entry.reason.is_none()) {
                if let Some((id, error)) = refused.remove_entry(&entry.claimed.id) {
                    mine.insert(id, error);
                }
            }
            self.settle_part(part, mine, &aside, &all)
        });
        // Collected first: each takes what is its own before the first one runs.
        let settled: Vec<_> = settled.collect();
        ended.add(self.tell_missing(join_all(settled).await.into_iter().map(|settled| settled.map(Tally::result)))?);
        Ok(ended)
    }

    /// Leaves what was not written for a reason that may pass, and all that was added after it, in the log.
    fn stay(&self, parts: &mut Vec<Part>, aside: &HashMap<Id, Why>) {
        for Claimed { id, record, .. } in parts.iter().flat_map(|part| &part.entries).map(|entry| &entry.claimed) {
            if aside.get(id) == Some(&Why::Unsure) {
                self.postpone(id, record, Attempts { digest: record.digest(), ..Attempts::default() }, Why::Alone);
            }
        }
        parts.iter_mut().for_each(|part| part.end_before(|id| aside.get(id).is_some_and(|why| *why != Why::Alone)));
        parts.retain(|part| !part.entries.is_empty());
    }

    /// Trims a run off its log. `refused`: those of its entries that the sink was given and refused; `aside`: those of the
    /// batch that it was given and that are left for later; `all`: both of the whole batch.
    async fn settle_part(
        &self,
        part: Part,
        mut refused: HashMap<Id, SinkError>,
        aside: &HashMap<Id, Why>,
        all: &HashSet<Id>,
    ) -> Result<Tally, BufferError> {
        let Part { epoch, number, entries } = part;
        let (mut given, mut unreadable) = (Vec::new(), Vec::new());
        for Entry { claimed, reason, .. } in &entries {
            match reason {
                Some((kind, error)) => {
                    unreadable.push(Unreadable { claimed: claimed.clone(), kind, error: error.clone() });
                }
                None => given.extend(refused.remove(&claimed.id).map(|error| (claimed, error))),
            }
        }
        let (again, dead) = self.judge(epoch, given, unreadable).await?;
        let mut again: HashMap<Id, Attempts> = again.into_iter().collect();
        let mut dead: HashMap<Id, _> = dead.into_iter().collect();
        let mut written = 0;
        let settled: Vec<Settled> = entries
            .iter()
            .map(|Entry { claimed: Claimed { id, record, .. }, reason, held }| {
                if *held {
                    return Settled::Again(id.clone(), Attempts { digest: record.digest(), ..Attempts::default() });
                }
                // Of a key that is no row each entry is dead: one that counted as written would settle the other's letter.
                let letter = if reason.is_some() { dead.get(id).cloned() } else { dead.remove(id) };
                if let Some(letter) = letter {
                    Settled::Dead(id.clone(), letter)
                } else if let Some(attempts) = again.remove(id) {
                    Settled::Again(id.clone(), attempts)
                } else if reason.is_none() && aside.contains_key(id) {
                    let attempts = Attempts { digest: record.digest(), first_ms: now_ms(), ..Attempts::default() };
                    self.postpone(id, record, attempts, Why::Alone);
                    Settled::Again(id.clone(), attempts)
                } else if reason.is_none() && all.contains(id) {
                    // The sink has refused another entry of this id, and was not given this one.
                    Settled::Again(id.clone(), Attempts { digest: record.digest(), ..Attempts::default() })
                } else {
                    written += 1;
                    Settled::Written(id.clone())
                }
            })
            .collect();
        let step =
            Step { partition: epoch.partition, owner: self.leases.owner(), epoch: epoch.number, stamp: epoch.stamp };
        let moved = self.ctx.space.trim(&step, number, &settled).await?;
        failpoint::pass("after_ack");
        let mut tally = Tally::new(epoch);
        self.check(&mut tally, moved, "trim");
        if moved != Done::NotOwner {
            for entry in &settled {
                if let Settled::Dead(id, letter) = entry {
                    log::dead_lettered(&self.ctx.scope, id, &letter.kind, &letter.error);
                    self.ctx.counters.dead_letters.add(1);
                }
            }
            self.ctx.counters.acked.add(moved.records.min(written));
        }
        Ok(tally)
    }
}

impl Part {
    /// Leaves an entry that this hits, and all after it, where they are.
    fn end_before(&mut self, hits: impl Fn(&Id) -> bool) {
        let end = self.entries.iter().position(|entry| entry.reason.is_none() && hits(&entry.claimed.id));
        self.entries.truncate(end.unwrap_or(usize::MAX));
    }
}

impl<E: Entity> Flusher<E> {
    /// Leaves entries with fields that only newer programs know to those.
    fn hold_newer_entries(&self, parts: &mut [Part], upserts: &mut Vec<Upsert<E>>) {
        let foreign = self.ctx.shapes.foreign().filter(|_| !self.ctx.options.accept_unknown_fields);
        let Some(foreign) = foreign else { return };
        let mut ids = HashSet::new();
        for entry in parts.iter_mut().flat_map(|part| &mut part.entries).filter(|entry| entry.reason.is_none()) {
            entry.held = any_field(E::FORMAT, entry.claimed.record.as_bytes(), |name| foreign.has(name));
            if entry.held {
                ids.insert(entry.claimed.id.clone());
            }
        }
        if ids.is_empty() {
            return;
        }
        // Another entry of such an id would be taken for written, and the sink is not given it.
        for entry in parts.iter_mut().flat_map(|part| &mut part.entries).filter(|entry| entry.reason.is_none()) {
            entry.held |= ids.contains(&entry.claimed.id);
        }
        self.ctx.counters.held.add(ids.len() as u64);
        if self.ctx.shapes.hold() {
            log::held(&self.ctx.scope, ids.len());
        }
        upserts.retain(|upsert| !ids.contains(&upsert.id));
    }

    /// Rewrites the rows as the entity's hook says. One that is skipped counts as written.
    fn transform_entries(&self, parts: &mut [Part], upserts: &mut Vec<Upsert<E>>) {
        let Some(hook) = &self.ctx.hook else { return };
        let (mut skipped, mut broken) = (0, HashMap::new());
        for mut upsert in std::mem::take(upserts) {
            match hook.run(&upsert.id, upsert.value) {
                Ok(Some(value)) => {
                    upsert.value = value;
                    upserts.push(upsert);
                }
                Ok(None) => skipped += 1,
                Err(error) => drop(broken.insert(upsert.id, error)),
            }
        }
        self.ctx.counters.skipped.add(skipped);
        for entry in parts.iter_mut().flat_map(|part| &mut part.entries).filter(|entry| entry.reason.is_none()) {
            // Of an id the hook has seen the first entry; another one would be taken for written, and settle its letter.
            entry.reason = broken.get(&entry.claimed.id).map(|&error| (HOOK, error.to_owned()));
        }
    }
}

/// Decodes entries. The rows are in order, of each id only the first.
fn read<E: Entity>(scope: &Scope, runs: Vec<Run>) -> (Vec<Part>, Vec<Upsert<E>>) {
    let (mut parts, mut upserts, mut seen) = (Vec::with_capacity(runs.len()), Vec::new(), HashSet::new());
    for Run { epoch, number, entries } in runs {
        let mut part = Part { epoch, number, entries: Vec::with_capacity(entries.len()) };
        for record in entries {
            let (id, reason) = match row::<E>(scope, epoch.partition, &record) {
                Row::Value(id, value) => {
                    if seen.insert(id.clone()) {
                        upserts.push(Upsert::new(id.clone(), value));
                    }
                    (id, None)
                }
                // Its own id, if it has one, may be another entry's too; as a letter it must be kept beside that.
                Row::None(reason) => (Id::unreadable(record.as_bytes()), Some(reason)),
            };
            let claimed = Claimed { epoch, id, record, unit: None };
            part.entries.push(Entry { claimed, reason, held: false });
        }
        parts.push(part);
    }
    (parts, upserts)
}

/// What an entry is.
enum Row<E> {
    Value(Id, E),
    None(Reason),
}

/// Runs the struct's own code: what panics there is told apart like what does not decode.
fn row<E: Entity>(scope: &Scope, partition: u16, record: &Record) -> Row<E> {
    let row = || {
        let value = match decode_payload::<E>(record.as_bytes()) {
            Ok(value) => value,
            Err(error) => return Row::None((UNDECODABLE, chain(&error))),
        };
        let id = match Id::of(&value.key()) {
            Ok(id) => id,
            Err(error) => return Row::None((MISPLACED, chain(&error))),
        };
        match value.place().map(|place| partition_of(&place, scope.partitions)) {
            Ok(home) if home != partition => {
                Row::None((MISPLACED, format!("entry `{id}` belongs to partition {home}, not to {partition}")))
            }
            Ok(_) => Row::Value(id, value),
            Err(error) => Row::None((MISPLACED, chain(&error))),
        }
    };
    std::panic::catch_unwind(AssertUnwindSafe(row))
        .unwrap_or_else(|_| Row::None((UNDECODABLE, "the entry makes the struct's own code panic".to_owned())))
}
