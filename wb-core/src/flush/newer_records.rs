//! hold: records of a newer program are left to a newer worker. They go back to `open`, uncounted.

use std::collections::BTreeMap;

use futures::future::try_join_all;

use crate::buffer::Attempts;
use crate::entity::Entity;
use crate::entity::codec::any_field;
use crate::entity::key::Id;
use crate::error::buffer::BufferError;
use crate::flush::Flusher;
use crate::flush::claim::Claimed;
use crate::flush::decode::{UNDECODABLE, Unreadable};
use crate::telemetry::log;

impl<E: Entity> Flusher<E> {
    /// Looks at what newer programs know, after a rotation: whoever wrote into what is closed now had made its shape known.
    pub(crate) async fn look_at_shapes(&self) -> Result<(), BufferError> {
        self.ctx.shapes.look(&*self.ctx.space).await
    }

    /// Takes the records out of `due` that hold fields which only newer programs know, or nobody while that may be unknown yet.
    pub(crate) fn hold_newer(&self, due: &mut Vec<Claimed>) -> Vec<Claimed> {
        let foreign = self.ctx.shapes.foreign().filter(|_| !self.ctx.options.accept_unknown_fields);
        // Nobody is newer: nothing is looked at.
        let Some(foreign) = foreign else { return Vec::new() };
        let is_newer = |claimed: &mut Claimed| {
            claimed.record.payload().is_some_and(|payload| any_field(E::FORMAT, payload, |name| foreign.has(name)))
        };
        due.extract_if(.., is_newer).collect()
    }

    /// Takes the records out of `unreadable` that a newer program may be able to read.
    pub(crate) fn hold_undecodable(&self, unreadable: &mut Vec<Unreadable>) -> Vec<Claimed> {
        let nobody = self.ctx.shapes.newer().is_none() && !self.ctx.shapes.is_young();
        if nobody || self.ctx.options.accept_unknown_fields {
            return Vec::new();
        }
        let held = unreadable.extract_if(.., |unreadable| unreadable.kind == UNDECODABLE);
        held.map(|unreadable| unreadable.claimed).collect()
    }

    /// A cycle has come to its end.
    pub(crate) fn held_no_more(&self) {
        if self.ctx.shapes.cycle_over() {
            log::held_no_more(&self.ctx.scope);
        }
    }

    /// What was counted of these records stays as it is.
    pub(crate) async fn counted_as_held(&self, held: Vec<Claimed>) -> Result<Vec<(Claimed, Attempts)>, BufferError> {
        if held.is_empty() {
            return Ok(Vec::new());
        }
        self.ctx.counters.held.add(held.len() as u64);
        if self.ctx.shapes.hold() {
            log::held(&self.ctx.scope, held.len());
        }
        // No time: what waits for a newer program is told from what waits for the sink.
        self.counted(held, 0).await
    }

    /// Records with what is counted for them; where that is nothing, they are held since `first_ms`.
    pub(crate) async fn counted(
        &self,
        claimed: Vec<Claimed>,
        first_ms: u64,
    ) -> Result<Vec<(Claimed, Attempts)>, BufferError> {
        let mut by_partition: BTreeMap<u16, Vec<Claimed>> = BTreeMap::new();
        for claimed in claimed {
            by_partition.entry(claimed.epoch.partition).or_default().push(claimed);
        }
        let counted = by_partition.into_iter().map(|(partition, claimed)| async move {
            let ids: Vec<Id> = claimed.iter().map(|claimed| claimed.id.clone()).collect();
            let before = self.ctx.space.attempts(partition, &ids).await?.into_iter().chain(std::iter::repeat(None));
            let with = claimed.into_iter().zip(before).map(|(claimed, before)| {
                let attempts = Attempts::carried(before, claimed.record.digest(), first_ms);
                (claimed, attempts)
            });
            Ok::<_, BufferError>(with.collect::<Vec<_>>())
        });
        Ok(try_join_all(counted).await?.into_iter().flatten().collect())
    }
}
