//! What a cycle does for records that belong together: it reads their marks, and keeps them in one batch.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::future::try_join_all;

use crate::buffer::Attempts;
use crate::buffer::record::Record;
use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::buffer::BufferError;
use crate::flush::Flusher;
use crate::flush::claim::{Claimed, Place};
use crate::flush::decode::Decoded;
use crate::flush::retry_schedule::Known;
use crate::flush::rotate::Epoch;
use crate::flush::settle::now_ms;
use crate::flush::units::{Number, Ties, units};
use crate::flush::write_batch::{Aside, Why};
use crate::options::retry_policy;

/// Marks that are asked for at a time.
const PAGE: usize = 1_000;

impl<E: Entity> Flusher<E> {
    /// The units of these epochs. Nothing is asked for epochs without marks.
    pub(crate) async fn marked_units(&self, epochs: &[Epoch]) -> Result<Vec<Vec<Place>>, BufferError> {
        let marked = epochs.iter().filter(|epoch| epoch.marked).map(|epoch| epoch.partition);
        let marked = try_join_all(marked.map(|partition| async move {
            let (mut places, mut cursor) = (Vec::new(), 0);
            loop {
                let page = self.ctx.space.marks(partition, cursor, PAGE).await?;
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

    /// Which records are tried now, which of those failed by themselves the last time, and which wait for their next try. A
    /// unit waits when one of its records does.
    pub(crate) async fn due(
        &self,
        claimed: Vec<Claimed>,
    ) -> Result<(Vec<Claimed>, Vec<Claimed>, Vec<(Claimed, Attempts)>), BufferError> {
        let longest = self.sink_gate.longest_wait();
        let known: Vec<Known> =
            claimed.iter().map(|claimed| self.retry_schedule.known(&claimed.id, &claimed.record, longest)).collect();
        let units = |which: fn(&Known) -> bool| -> HashSet<Number> {
            claimed.iter().zip(&known).filter(|(_, known)| which(known)).filter_map(|(one, _)| one.unit).collect()
        };
        let waiting = units(|known| matches!(known, Known::Waits(_)));
        let suspected = units(|known| *known == Known::Suspect);
        let (mut due, mut suspects, mut early) = (Vec::with_capacity(claimed.len()), Vec::new(), Vec::new());
        // Not refused: the buffer knows since when they are held.
        let mut held = Vec::new();
        for (claimed, known) in claimed.into_iter().zip(known) {
            let of = |units: &HashSet<Number>| claimed.unit.is_some_and(|number| units.contains(&number));
            match known {
                Known::Waits(attempts) if !attempts.is_held() => early.push((claimed, attempts)),
                Known::Waits(_) => held.push(claimed),
                // It is due itself, or has come to the others since.
                _ if of(&waiting) => held.push(claimed),
                Known::Suspect => suspects.push(claimed),
                Known::Nothing if of(&suspected) => suspects.push(claimed),
                Known::Nothing => due.push(claimed),
            }
        }
        if !held.is_empty() {
            early.extend(self.counted(held, now_ms()).await?);
        }
        Ok((due, suspects, early))
    }

    /// Records that could not be written for a reason that may pass: they go back to `open`, uncounted, with all that belong
    /// to them.
    pub(crate) async fn put_aside(
        &self,
        due: &[Claimed],
        aside: Vec<Aside>,
    ) -> Result<Vec<(Claimed, Attempts)>, BufferError> {
        if aside.is_empty() {
            return Ok(Vec::new());
        }
        let aside: HashMap<Id, Why> = aside.into_iter().map(|Aside { id, why }| (id, why)).collect();
        let mut units: HashMap<Number, Why> = HashMap::new();
        for claimed in due {
            if let (Some(unit), Some(&why)) = (claimed.unit, aside.get(&claimed.id)) {
                let whole = units.entry(unit).or_insert(why);
                if matches!(why, Why::Alone | Why::Doubted) {
                    *whole = why;
                }
            }
        }
        let of = |claimed: &Claimed| match claimed.unit {
            Some(unit) => units.get(&unit).copied(),
            None => aside.get(&claimed.id).copied(),
        };
        let (claimed, whys): (Vec<_>, Vec<_>) =
            due.iter().filter_map(|claimed| Some((claimed.clone(), of(claimed)?))).unzip();
        let whys: HashMap<Place, Why> = claimed.iter().map(Claimed::place).zip(whys).collect();
        let counted = self.counted(claimed, now_ms()).await?;
        for (claimed, attempts) in &counted {
            let why = whys.get(&claimed.place()).copied().unwrap_or(Why::Untried);
            self.postpone(&claimed.id, &claimed.record, *attempts, why);
        }
        Ok(counted)
    }

    /// This record was not written for a reason that may pass; it waits, and longer each time when it was tried alone.
    pub(crate) fn postpone(&self, id: &Id, record: &Record, attempts: Attempts, why: Why) {
        let (policy, chance) = (&self.ctx.options.retry, rand::random());
        match why {
            Why::Alone => {
                self.retry_schedule
                    .set_aside(id, record, attempts, |asides| retry_policy::aside(asides, policy, chance));
            }
            Why::Unsure | Why::Untried => {
                self.retry_schedule.wait(id, record, retry_policy::untried(policy, chance), attempts);
            }
            // It is the circuit that waits. Others go first.
            Why::Doubted => self.retry_schedule.set_aside(id, record, attempts, |_| Duration::ZERO),
        }
    }
}

/// Takes out of `due` what is held because a record of its unit is, and what is held itself; `None` when no unit is.
pub(crate) fn keep_together<'a>(
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
pub(crate) fn tie<E: Entity>(due: &[Claimed], decoded: &mut Decoded<E>) -> Ties {
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
