//! order: a child is written after its parents, and a parent is deleted after its children.
//!
//! A cycle of a child waits for its parents; a cycle of a parent never waits for its children, so nobody waits in a
//! circle. A delete that has to wait goes back to `open` instead, and its epoch ends.

use std::time::Duration;

use futures::future::try_join_all;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::buffer::Attempts;
use crate::buffer::record::Record;
use crate::entity::Entity;
use crate::error::buffer::BufferError;
use crate::fault::mechanism::Mechanism;
use crate::flush::Flusher;
use crate::flush::claim::Claimed;
use crate::flush::deferred_deletes::{Known, Wait};
use crate::flush::rotate::Epoch;
use crate::flush::settle::now_ms;
use crate::runtime::backoff::LOOK_AGAIN;
use crate::runtime::context::Dirty;
use crate::telemetry::log;

/// Waiting for parents for longer than this is reported, again and again.
const SLOW: Duration = Duration::from_secs(30);

/// What the children had dirty when a cycle first asked: the number of the wait, or none when there was nothing.
#[derive(Default)]
pub(crate) struct Children(OnceCell<Option<u64>>);

impl<E: Entity> Flusher<E> {
    fn keeps_order(&self) -> bool {
        !self.ctx.options.sabotage.lacks(Mechanism::Order)
    }

    /// Waits until everything that the parents have dirty now is in the sink, whoever flushes it. These epochs are closed
    /// already: a parent that was put before a child in them is dirty now, or flushed. `false` when the epochs are to be
    /// left alone: they are not this worker's to flush any more, or the engine is over.
    pub(crate) async fn after_parents(&self, epochs: &[Epoch]) -> Result<bool, BufferError> {
        if !self.relations.has_parents() || !self.keeps_order() {
            return Ok(true);
        }
        let begun = Instant::now();
        let mut reports = 1;
        let parents: Vec<_> = self.relations.parents().collect();
        let dirty = try_join_all(parents.iter().map(|parent| parent.dirty_now())).await?;
        // A partition of a parent that cannot be used is not waited for: it is that one's, and told by it.
        for (parent, Dirty { epochs: mut waiting, .. }) in parents.into_iter().zip(dirty) {
            let mut cycles = parent.cycles();
            let mut pause = LOOK_AGAIN.0;
            while !waiting.is_empty() {
                parent.nudge();
                // This process's cycles end at once when the partitions are another one's.
                if tokio::time::timeout(LOOK_AGAIN.1, cycles.changed()).await.is_ok() {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LOOK_AGAIN.1);
                }
                waiting = parent.unflushed(waiting).await?;
                let rights = self.leases.rights();
                if self.sink_gate.is_over() || epochs.iter().any(|e| rights.get(&e.partition) != Some(&e.right)) {
                    return Ok(false);
                }
                if !waiting.is_empty() && begun.elapsed() >= SLOW * reports {
                    reports += 1;
                    log::waits_for_parents(&self.ctx.scope, waiting.len(), begun.elapsed());
                }
            }
        }
        Ok(true)
    }

    /// Takes out what must wait for the children: each delete, until everything is in the sink that they had dirty when it
    /// was first seen.
    pub(crate) async fn after_children(
        &self,
        due: Vec<Claimed>,
        children: &Children,
    ) -> Result<(Vec<Claimed>, Vec<(Claimed, Attempts)>), BufferError> {
        if !self.relations.has_children() || !self.keeps_order() {
            return Ok((due, Vec::new()));
        }
        self.deferred_deletes
            .forget(due.iter().filter(|claimed| !claimed.record.is_tombstone()).map(|claimed| &claimed.id));
        let (mut free, mut held, mut new) = (Vec::with_capacity(due.len()), Vec::new(), Vec::new());
        for claimed in due {
            if !claimed.record.is_tombstone() {
                free.push(claimed);
                continue;
            }
            match self.deferred_deletes.ask(&claimed.id) {
                Known::Free => free.push(claimed),
                Known::Waits { first_ms } => held.push((claimed, Attempts::held(first_ms))),
                Known::Nothing => new.push(claimed),
            }
        }
        if new.is_empty() {
            return Ok((free, held));
        }
        let Some(wait) = *children.0.get_or_try_init(|| self.look_at_children()).await? else {
            free.extend(new);
            return Ok((free, held));
        };
        let now = now_ms();
        let before = self.attempts_of(&new).await?;
        for (claimed, before) in new.into_iter().zip(before) {
            match before {
                // The sink has refused it: it has waited already.
                Some(before) if !before.is_held() && before.digest == Record::TOMBSTONE_DIGEST => free.push(claimed),
                before => {
                    let first_ms = Attempts::carried(before, Record::TOMBSTONE_DIGEST, now).first_ms;
                    self.deferred_deletes.add(&claimed.id, wait, first_ms);
                    held.push((claimed, Attempts::held(first_ms)));
                }
            }
        }
        log::deletes_held(&self.ctx.scope, held.len());
        Ok((free, held))
    }

    /// What the children have dirty now, under a number; none when that is nothing.
    async fn look_at_children(&self) -> Result<Option<u64>, BufferError> {
        let waits = try_join_all(self.relations.children().map(Wait::on)).await?;
        let waits: Vec<Wait> = waits.into_iter().flatten().collect();
        if waits.is_empty() {
            return Ok(None);
        }
        let number = self.deferred_deletes.wait_for(waits);
        self.relations.children().for_each(|child| child.nudge());
        Ok(Some(number))
    }

    /// What was counted for these deletes, in their order.
    async fn attempts_of(&self, claimed: &[Claimed]) -> Result<Vec<Option<Attempts>>, BufferError> {
        let mut partitions = std::collections::BTreeMap::<u16, (Vec<usize>, Vec<_>)>::new();
        for (index, claimed) in claimed.iter().enumerate() {
            let (places, ids) = partitions.entry(claimed.epoch.partition).or_default();
            places.push(index);
            ids.push(claimed.id.clone());
        }
        let asked = partitions.into_iter().map(|(partition, (places, ids))| async move {
            let found = self.ctx.space.attempts(partition, &ids).await?;
            Ok::<_, BufferError>(places.into_iter().zip(found).collect::<Vec<_>>())
        });
        let mut attempts = vec![None; claimed.len()];
        for (place, found) in try_join_all(asked).await?.into_iter().flatten() {
            if let Some(slot) = attempts.get_mut(place) {
                *slot = found;
            }
        }
        Ok(attempts)
    }
}
