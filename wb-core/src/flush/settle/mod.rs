//! settle: what is in the sink is acknowledged, what was refused goes back to `open` or becomes a dead letter.

pub(crate) mod copies;
pub(crate) mod unit;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::{join_all, try_join_all};

use crate::buffer::{Attempts, Clean, DeadLetter, Done, Moved, Step};
use crate::entity::Entity;
use crate::entity::decode::decode_payload;
use crate::entity::key::Id;
use crate::error::buffer::BufferError;
use crate::error::sink::{ErrorKind, SinkError};
use crate::fault::failpoint;
use crate::flush::Flusher;
use crate::flush::claim::Claimed;
use crate::flush::cycle::{Ended, Interrupted};
use crate::flush::decode::Unreadable;
use crate::flush::rotate::Epoch;
use crate::flush::settle::copies::Written;
use crate::flush::settle::unit::take_units;
use crate::flush::write_batch::Flushed;
use crate::options::retry_policy::{Counts, Fate, counts, judge};
use crate::telemetry::log;

/// What is to be done with the records of one epoch.
#[derive(Default)]
struct Share<'a> {
    written: Vec<&'a Claimed>,
    /// Of which the sink has newer versions, each with its own.
    stale: Vec<(Id, i64)>,
    refused: Vec<(&'a Claimed, SinkError)>,
    /// Whose time for another try has not come.
    early: Vec<(Id, Attempts)>,
    unreadable: Vec<Unreadable>,
}

fn share<'s, 'a>(shares: &'s mut BTreeMap<u16, (Epoch, Share<'a>)>, epoch: Epoch) -> &'s mut Share<'a> {
    &mut shares.entry(epoch.partition).or_insert_with(|| (epoch, Share::default())).1
}

impl<E: Entity> Flusher<E> {
    /// Returns which epochs have come to their end.
    pub(crate) async fn settle(
        &self,
        claimed: &[Claimed],
        mut flushed: Flushed,
        mut unreadable: Vec<Unreadable>,
        mut early: Vec<(Claimed, Attempts)>,
    ) -> Result<Ended, Interrupted> {
        let units = take_units(claimed, &mut flushed, &mut unreadable, &mut early);
        let mut shares = BTreeMap::new();
        // What cannot be read is told apart first: it may stand under an id that another record has in its own partition.
        let strange: HashSet<_> = unreadable.iter().map(|unreadable| unreadable.claimed.place()).collect();
        let rows = claimed.iter().filter(|claimed| strange.is_empty() || !strange.contains(&claimed.place()));
        let records: HashMap<&Id, &Claimed> = rows.map(|claimed| (&claimed.id, claimed)).collect();
        if self.relations.has_children() {
            self.deferred_deletes.forget(flushed.written.iter());
        }
        for id in flushed.written {
            if let Some(claimed) = records.get(&id) {
                share(&mut shares, claimed.epoch).written.push(claimed);
            }
        }
        for id in flushed.stale {
            if let Some(claimed) = records.get(&id) {
                let version = decode_payload::<E>(claimed.record.as_bytes()).ok().and_then(|row| row.version());
                // A sink that names a record without one is told of all the same.
                share(&mut shares, claimed.epoch).stale.push((id, version.unwrap_or_default()));
            }
        }
        for (id, error) in flushed.refused {
            if let Some(claimed) = records.get(&id) {
                share(&mut shares, claimed.epoch).refused.push((claimed, error));
            }
        }
        for unreadable in unreadable {
            share(&mut shares, unreadable.claimed.epoch).unreadable.push(unreadable);
        }
        for (claimed, attempts) in early {
            share(&mut shares, claimed.epoch).early.push((claimed.id, attempts));
        }
        let settled = shares.into_values().map(|(epoch, share)| async move { self.settle_epoch(epoch, share).await });
        // Acknowledgements last, as within an epoch.
        let units = self.settle_units(units).await?;
        self.tell_missing(units.into_iter().map(Ok).chain(join_all(settled).await))
    }

    /// Which of these epochs are over. What is missing of any of them is told and counted, although another one has failed.
    pub(crate) fn tell_missing(
        &self,
        settled: impl IntoIterator<Item = Result<(Epoch, bool, u64), BufferError>>,
    ) -> Result<Ended, Interrupted> {
        let (mut ended, mut outcome) = (Ended::default(), Ok(()));
        for settled in settled {
            match settled {
                Ok((epoch, over, missing)) => {
                    if missing > 0 {
                        self.ctx.counters.vanished.add(missing);
                        log::vanished(&self.ctx.scope, epoch.partition, epoch.number, missing);
                        outcome = outcome.and(Err(Interrupted::Vanished));
                    }
                    if over {
                        ended.insert(epoch.partition);
                    }
                }
                Err(error) => outcome = outcome.and(Err(error.into())),
            }
        }
        outcome.map(|()| ended)
    }

    /// Returns the epoch, whether it is over for this worker, and how many of its records were not there.
    async fn settle_epoch(&self, epoch: Epoch, share: Share<'_>) -> Result<(Epoch, bool, u64), BufferError> {
        let Epoch { partition, number, stamp, .. } = epoch;
        let step = Step { partition, owner: self.leases.owner(), epoch: number, stamp };
        let Share { written, stale, refused, early, unreadable } = share;
        let (mut again, dead) = self.judge(epoch, refused, unreadable).await?;
        again.extend(early);
        let mut tally = Tally::new(epoch);
        // Dead letters first and acknowledgements last: whatever ends the epoch comes after what must be in it.
        if !dead.is_empty() {
            let moved = self.ctx.space.bury(&step, &dead).await?;
            self.check(&mut tally, moved, "bury");
            if moved != Done::NotOwner {
                for (id, letter) in &dead {
                    log::dead_lettered(&self.ctx.scope, id, &letter.kind, &letter.error);
                }
                self.ctx.counters.dead_letters.add(moved.records);
            }
        }
        if !again.is_empty() {
            let moved = self.ctx.space.back(&step, &again).await?;
            self.check(&mut tally, moved, "back");
        }
        if !stale.is_empty() {
            // What is newer in the sink is what readers shall load, so no copy of an older state is left; nor a value in the
            // process.
            let _near = self.ctx.near.writing(stale.iter().map(|(id, _)| id));
            let moved = self.ctx.space.ack_stale(&step, &stale).await?;
            failpoint::pass("after_ack");
            self.check(&mut tally, moved, "ack_stale");
            if moved != Done::NotOwner {
                log::stale(&self.ctx.scope, &stale);
            }
            self.ctx.counters.stale.add(moved.records);
            self.ctx.counters.acked.add(moved.records);
        }
        let Written { agree, differ } = self.agreeing(partition, written).await;
        if !differ.is_empty() {
            // As above: the row is what readers shall load.
            let _near = self.ctx.near.writing(&differ);
            let moved = self.ctx.space.ack(&step, &differ, Clean::NONE).await?;
            failpoint::pass("after_ack");
            self.check(&mut tally, moved, "ack");
            // Values are kept in every process, or in none.
            if moved != Done::NotOwner && self.ctx.near.listener().is_some() {
                // Tells other processes. What they keep grows old soon where they do not hear of it.
                let _ = self.ctx.space.invalidate(partition, &differ).await;
            }
            self.ctx.counters.acked.add(moved.records);
        }
        if !agree.is_empty() {
            let clean = Clean { ttl: self.ctx.options.cache_ttl, negative_ttl: self.ctx.options.negative_ttl };
            let moved = self.ctx.space.ack(&step, &agree, clean).await?;
            failpoint::pass("after_ack");
            self.check(&mut tally, moved, "ack");
            // Only what was there counts as flushed.
            self.ctx.counters.acked.add(moved.records);
        }
        Ok(tally.result())
    }

    pub(crate) fn check(&self, tally: &mut Tally, moved: Moved, step: &'static str) {
        let epoch = tally.epoch;
        match moved.done {
            Done::NotOwner => {
                log::step_refused(&self.ctx.scope, epoch.partition, epoch.number, step);
                self.leases.forget(std::iter::once((epoch.partition, epoch.right)));
                tally.over = true;
            }
            Done::More | Done::Epoch | Done::Gone => {
                tally.missing += moved.missing;
                tally.over |= moved.done != Done::More;
            }
        }
    }

    /// Which refused records are tried again, and which are dead.
    pub(crate) async fn judge(
        &self,
        epoch: Epoch,
        refused: Vec<(&Claimed, SinkError)>,
        unreadable: Vec<Unreadable>,
    ) -> Result<(Vec<(Id, Attempts)>, Vec<(Id, DeadLetter)>), BufferError> {
        let now = now_ms();
        let (mut again, mut dead) = (Vec::new(), Vec::new());
        let ids: Vec<Id> = refused.iter().map(|(claimed, _)| claimed.id.clone()).collect();
        let before = if ids.is_empty() { Vec::new() } else { self.ctx.space.attempts(epoch.partition, &ids).await? };
        let before = before.into_iter().chain(std::iter::repeat(None));
        let held = self.has_held_parents(refused.iter().map(|(_, error)| error)).await?;
        for ((Claimed { id, record, .. }, error), before) in refused.into_iter().zip(before) {
            let digest = record.digest();
            // What an older payload was refused for is not counted against this one.
            let before = Attempts::carried(before, digest, now);
            let counted = Counts { attempts: before.count, deferrals: before.deferrals };
            let room = self.retry_schedule.has_room();
            let judged = judge(error.kind(), counted, &self.ctx.options.retry, chance(&error));
            let (Counts { attempts, deferrals }, fate) = match judged {
                judged if counts(error.kind(), counted, room, held) => judged,
                (_, Fate::Again(wait)) if room => (counted, Fate::Again(wait)),
                _ => (counted, Fate::Again(Duration::ZERO)),
            };
            let attempts = Attempts { count: attempts, deferrals, ..before };
            match fate {
                Fate::Again(wait) => {
                    log::refused(&self.ctx.scope, id, (attempts.count, attempts.deferrals), wait, &error);
                    self.ctx.counters.refused.add(1);
                    self.retry_schedule.add(id, record, wait, attempts);
                    again.push((id.clone(), attempts));
                }
                Fate::Dead => {
                    let (kind, said) = (error.kind().name(), error.chain());
                    let tries = attempts.count.saturating_add(attempts.deferrals);
                    dead.push((id.clone(), DeadLetter::new(record, kind, said, tries, attempts.first_ms, now)));
                }
            }
        }
        for Unreadable { claimed: Claimed { id, record, .. }, kind, error } in unreadable {
            let letter = DeadLetter::new(&record, kind, error, 1, now, now);
            dead.push((id, letter));
        }
        Ok((again, dead))
    }
}

impl<E: Entity> Flusher<E> {
    /// Whether a parent holds rows back that records may wait for which are deferred.
    pub(crate) async fn has_held_parents<'a>(
        &self,
        mut errors: impl Iterator<Item = &'a SinkError>,
    ) -> Result<bool, BufferError> {
        if !self.relations.has_parents() || !errors.any(|error| error.kind() == ErrorKind::Deferred) {
            return Ok(false);
        }
        let held = try_join_all(self.relations.parents().map(|parent| async move { parent.holds_rows().await }));
        Ok(held.await?.into_iter().any(|held| held))
    }
}

/// What the steps on one epoch came to.
pub(crate) struct Tally {
    pub(crate) epoch: Epoch,
    pub(crate) over: bool,
    pub(crate) missing: u64,
}

impl Tally {
    pub(crate) const fn new(epoch: Epoch) -> Self {
        Self { epoch, over: false, missing: 0 }
    }

    pub(crate) const fn result(self) -> (Epoch, bool, u64) {
        (self.epoch, self.over, self.missing)
    }
}

/// What decides a wait's jitter. Records that stand in each other's way come back together: only of those can the sink say that they
/// exchange unique values.
pub(crate) fn chance(error: &SinkError) -> f64 {
    if error.is_taken() { 0.5 } else { rand::random() }
}

/// Wall-clock time for people, in milliseconds since the Unix epoch; nothing is decided by it.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
