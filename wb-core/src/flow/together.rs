//! What a cycle does for records that belong together: it reads their marks, and keeps them in one batch.

use std::collections::{HashMap, HashSet};

use futures::future::try_join_all;

use super::claim::{Claimed, Place};
use super::decode::Decoded;
use super::rotate::Epoch;
use super::settle::now_ms;
use super::units::{Number, Ties, units};
use crate::buffer::{Attempts, BufferError};
use crate::entity::Entity;
use crate::key::Id;
use crate::lane::Lane;

/// Marks that are asked for at a time.
const PAGE: usize = 1_000;

impl<E: Entity> Lane<E> {
    /// The units of these epochs. Nothing is asked for epochs without marks.
    pub(super) async fn marked_units(&self, epochs: &[Epoch]) -> Result<Vec<Vec<Place>>, BufferError> {
        let marked = epochs.iter().filter(|epoch| epoch.marked).map(|epoch| epoch.partition);
        let marked = try_join_all(marked.map(|partition| async move {
            let (mut places, mut cursor) = (Vec::new(), 0);
            loop {
                let page = self.space.marks(partition, cursor, PAGE).await?;
                places.extend(page.marks.into_iter().map(|(id, marks)| ((partition, id), marks)));
                cursor = page.cursor;
                if cursor == 0 {
                    return Ok::<_, BufferError>(places);
                }
            }
        }))
        .await?;
        Ok(units(marked.into_iter().flatten()))
    }

    /// Which records are tried now, and which wait for their next try. A unit waits when one of its records does.
    pub(super) fn due(&self, claimed: Vec<Claimed>) -> (Vec<Claimed>, Vec<(Claimed, Attempts)>) {
        let waits: Vec<Option<Attempts>> =
            claimed.iter().map(|claimed| self.postponed.waits_with(&claimed.id, &claimed.record)).collect();
        let waiting: HashSet<Number> =
            claimed.iter().zip(&waits).filter(|(_, waits)| waits.is_some()).filter_map(|(one, _)| one.unit).collect();
        let (mut due, mut early) = (Vec::with_capacity(claimed.len()), Vec::new());
        for (claimed, waits) in claimed.into_iter().zip(waits) {
            let tied = claimed.unit.is_some_and(|number| waiting.contains(&number));
            // Nothing is counted yet of a state that has come to the others since.
            let none = || Attempts { first_ms: now_ms(), digest: claimed.record.digest(), ..Attempts::default() };
            match waits.or_else(|| tied.then(none)) {
                None => due.push(claimed),
                Some(attempts) => early.push((claimed, attempts)),
            }
        }
        (due, early)
    }
}

/// Takes out of `due` what is held because a record of its unit is, and what is held itself; `None` when no unit is.
pub(super) fn keep_together<'a>(
    due: &mut Vec<Claimed>,
    held: impl Iterator<Item = &'a Claimed>,
) -> Option<Vec<Claimed>> {
    let (mut numbers, mut places) = (HashSet::new(), HashSet::new());
    for held in held {
        numbers.extend(held.unit);
        places.insert(held.place());
    }
    if numbers.is_empty() {
        return None;
    }
    due.retain(|claimed| !places.contains(&claimed.place()));
    Some(due.extract_if(.., |claimed| claimed.unit.is_some_and(|number| numbers.contains(&number))).collect())
}

/// Which rows belong together. Takes those out that are not to be written, because another record of their unit is no row.
pub(super) fn tie<E: Entity>(due: &[Claimed], decoded: &mut Decoded<E>) -> Ties {
    let tied = due.iter().filter(|claimed| claimed.unit.is_some());
    let strange: HashSet<Place> = decoded.unreadable.iter().map(|unreadable| unreadable.claimed.place()).collect();
    let tied = tied.filter(|claimed| strange.is_empty() || !strange.contains(&claimed.place()));
    let mut ties: HashMap<Id, Number> = tied.filter_map(|claimed| Some((claimed.id.clone(), claimed.unit?))).collect();
    let torn: HashSet<Number> = decoded.unreadable.iter().filter_map(|unreadable| unreadable.claimed.unit).collect();
    if !torn.is_empty() {
        let stays = |id: &Id| ties.get(id).is_none_or(|number| !torn.contains(number));
        decoded.upserts.retain(|upsert| stays(&upsert.id));
        decoded.deletes.retain(|delete| stays(&delete.id));
        ties.retain(|_, number| !torn.contains(number));
    }
    Ties(ties)
}
