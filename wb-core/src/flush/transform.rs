//! transform: the entity's hook sees each row before it goes into a batch.

use std::collections::HashSet;

use crate::entity::Entity;
use crate::entity::key::Id;
use crate::flush::Flusher;
use crate::flush::claim::Claimed;
use crate::flush::decode::{Decoded, Unreadable};
use crate::sink::hook::HOOK;

impl<E: Entity> Flusher<E> {
    /// Rewrites the rows as the hook says. Returns the ids of those that are to be skipped; what the hook cannot take becomes
    /// unreadable.
    pub(crate) fn transform(&self, decoded: &mut Decoded<E>, due: &[Claimed]) -> Vec<Id> {
        let Some(hook) = &self.ctx.hook else { return Vec::new() };
        let (mut skipped, mut broken) = (Vec::new(), Vec::new());
        let rows = std::mem::take(&mut decoded.upserts);
        decoded.upserts.reserve(rows.len());
        for mut upsert in rows {
            match hook.run(&upsert.id, upsert.value) {
                Ok(Some(value)) => {
                    upsert.value = value;
                    decoded.upserts.push(upsert);
                }
                Ok(None) => skipped.push(upsert.id),
                Err(error) => broken.push((upsert.id, error)),
            }
        }
        if !broken.is_empty() {
            // An id stands in two partitions when a foreign program has misplaced one; that one is told apart already.
            let strange: HashSet<_> = decoded.unreadable.iter().map(|unreadable| unreadable.claimed.place()).collect();
            let rows: Vec<&Claimed> = due.iter().filter(|claimed| !strange.contains(&claimed.place())).collect();
            for (id, error) in broken {
                let claimed = rows.iter().find(|claimed| claimed.id == id).copied().cloned();
                let unreadable = claimed.map(|claimed| Unreadable { claimed, kind: HOOK, error: error.to_owned() });
                decoded.unreadable.extend(unreadable);
            }
        }
        skipped
    }
}
