//! settle: what is in the sink is acknowledged, what was refused goes back to `open` or becomes a dead letter.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::try_join_all;

use super::claim::Claimed;
use super::decode::Unreadable;
use super::flush::Flushed;
use super::rotate::Epoch;
use crate::buffer::{Attempts, BufferError, Clean, DeadLetter, Done, Step};
use crate::entity::Entity;
use crate::events;
use crate::failpoint;
use crate::key::Id;
use crate::lane::Lane;
use crate::sink::SinkError;

/// What is to be done with the records of one epoch.
#[derive(Default)]
struct Share {
    written: Vec<Id>,
    refused: Vec<(Id, SinkError)>,
    unreadable: Vec<Unreadable>,
}

fn share(shares: &mut BTreeMap<u16, (Epoch, Share)>, epoch: Epoch) -> &mut Share {
    &mut shares.entry(epoch.partition).or_insert_with(|| (epoch, Share::default())).1
}

impl<E: Entity> Lane<E> {
    pub(super) async fn settle(
        &self,
        claimed: &[Claimed],
        flushed: Flushed,
        unreadable: Vec<Unreadable>,
    ) -> Result<(), BufferError> {
        let records: HashMap<&Id, &Claimed> = claimed.iter().map(|claimed| (&claimed.id, claimed)).collect();
        let epoch = |id: &Id| records.get(id).map(|claimed| claimed.epoch);
        let mut shares: BTreeMap<u16, (Epoch, Share)> = BTreeMap::new();
        for id in flushed.written {
            if let Some(epoch) = epoch(&id) {
                share(&mut shares, epoch).written.push(id);
            }
        }
        for (id, error) in flushed.refused {
            if let Some(epoch) = epoch(&id) {
                share(&mut shares, epoch).refused.push((id, error));
            }
        }
        for unreadable in unreadable {
            if let Some(epoch) = epoch(&unreadable.id) {
                share(&mut shares, epoch).unreadable.push(unreadable);
            }
        }
        let records = &records;
        try_join_all(
            shares.into_values().map(|(epoch, share)| async move { self.settle_epoch(epoch, share, records).await }),
        )
        .await?;
        Ok(())
    }

    async fn settle_epoch(
        &self,
        epoch: Epoch,
        share: Share,
        records: &HashMap<&Id, &Claimed>,
    ) -> Result<(), BufferError> {
        let step = Step { partition: epoch.partition, owner: self.leases.owner(), epoch: epoch.number };
        let (again, dead) = self.judge(epoch, share.refused, share.unreadable, records).await?;
        // Dead letters first and acknowledgements last: whatever ends the epoch comes after what must be in it.
        if !dead.is_empty() {
            let done = self.space.bury(&step, &dead).await?;
            self.check(epoch, done, "bury");
            if done != Done::NotOwner {
                for (id, letter) in &dead {
                    events::dead_lettered(&self.scope, id, &letter.kind, &letter.error);
                }
                self.counters.dead_letters.add(dead.len() as u64);
            }
        }
        if !again.is_empty() {
            let done = self.space.back(&step, &again).await?;
            self.check(epoch, done, "back");
        }
        if !share.written.is_empty() {
            let clean = Clean { ttl: self.options.cache_ttl, negative_ttl: self.options.negative_ttl };
            let done = self.space.ack(&step, &share.written, clean).await?;
            failpoint::pass("after_ack");
            self.check(epoch, done, "ack");
        }
        Ok(())
    }

    fn check(&self, epoch: Epoch, done: Done, step: &'static str) {
        if done == Done::NotOwner {
            events::step_refused(&self.scope, epoch.partition, epoch.number, step);
            self.leases.forget(std::iter::once((epoch.partition, epoch.right)));
        }
    }

    /// Which refused records are tried again, and which are dead.
    async fn judge(
        &self,
        epoch: Epoch,
        refused: Vec<(Id, SinkError)>,
        unreadable: Vec<Unreadable>,
        records: &HashMap<&Id, &Claimed>,
    ) -> Result<(Vec<(Id, Attempts)>, Vec<(Id, DeadLetter)>), BufferError> {
        let now = now_ms();
        let (mut again, mut dead) = (Vec::new(), Vec::new());
        let ids: Vec<Id> = refused.iter().map(|(id, _)| id.clone()).collect();
        let before = if ids.is_empty() { Vec::new() } else { self.space.attempts(epoch.partition, &ids).await? };
        for (index, (id, error)) in refused.into_iter().enumerate() {
            let before = before.get(index).copied().flatten();
            let attempts = Attempts {
                count: before.map_or(1, |before| before.count.saturating_add(1)),
                first_ms: before.map_or(now, |before| before.first_ms),
            };
            if attempts.count < self.options.retry.attempts {
                events::refused(&self.scope, &id, attempts.count, &error);
                again.push((id, attempts));
            } else if let Some(claimed) = records.get(&id) {
                let (kind, said) = (error.kind().name(), error.chain());
                let letter = DeadLetter::new(&claimed.record, kind, said, attempts.count, attempts.first_ms, now);
                dead.push((id, letter));
            }
        }
        for Unreadable { id, kind, error } in unreadable {
            if let Some(claimed) = records.get(&id) {
                let letter = DeadLetter::new(&claimed.record, kind, error, 1, now, now);
                dead.push((id, letter));
            }
        }
        Ok((again, dead))
    }
}

/// Wall-clock time for people, in milliseconds since the Unix epoch; nothing is decided by it.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
