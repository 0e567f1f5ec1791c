//! The verbs of transactions in memory: several partitions at one instant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use tokio::time::Instant;

use super::partition::{Partition, lock};
use super::space::MemorySpace;
use crate::buffer::{
    Attempts, DeadLetter, Guarded, Lookup, Mark, Moved, Replay, Replayed, Rotation, Stamp, Step, Transacted,
};
use crate::entity::key::Id;
use crate::error::buffer::{BufferError, BufferErrorKind};

/// What a step that may not be done says.
const REFUSED: Moved = Moved::NOT_OWNER;

/// Locked partitions by number.
struct Locked<'a>(BTreeMap<u16, MutexGuard<'a, Partition>>);

impl Locked<'_> {
    fn of(&mut self, partition: u16) -> Result<&mut Partition, BufferError> {
        self.0.get_mut(&partition).map(|guard| &mut **guard).ok_or_else(|| super::no_such_partition(partition))
    }
}

impl MemorySpace {
    /// Locks these partitions, in ascending order: nobody else holds more than one, or takes them in another order.
    fn lock(&self, partitions: impl Iterator<Item = u16>) -> Result<Locked<'_>, BufferError> {
        let mut partitions: Vec<u16> = partitions.collect();
        partitions.sort_unstable();
        partitions.dedup();
        let cell = |&partition: &u16| {
            let cell = self.partitions.get(usize::from(partition));
            cell.map(|cell| (partition, lock(cell))).ok_or_else(|| super::no_such_partition(partition))
        };
        let locked: BTreeMap<_, _> = partitions.iter().map(cell).collect::<Result<_, _>>()?;
        if locked.values().any(|partition| partition.is_sealed()) {
            drop(locked);
            return Err(self.sealed());
        }
        Ok(Locked(locked))
    }

    pub(super) fn transact_now(&self, mark: Mark, writes: &[Guarded]) -> Result<Transacted, BufferError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(BufferError::new(BufferErrorKind::Closed, "the buffer was closed"));
        }
        let _door = match self.limit {
            Some(limit) => {
                let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
                // What is not to be stored needs no room.
                if let (_, Some(place)) = self.meet(writes)? {
                    return Ok(Transacted::Changed(place));
                }
                self.check(limit, writes.iter().map(|guarded| &guarded.write))?;
                Some(door)
            }
            None => None,
        };
        let (mut locked, changed) = self.meet(writes)?;
        if let Some(place) = changed {
            return Ok(Transacted::Changed(place));
        }
        let mut fresh = 0;
        for Guarded { write, .. } in writes {
            fresh += u64::from(locked.of(write.partition)?.put(write.id.clone(), write.record.clone()));
        }
        let places: Vec<(u16, &Id)> =
            writes.iter().map(|guarded| (guarded.write.partition, &guarded.write.id)).collect();
        tie(&mut locked, mark, &places)?;
        drop(locked);
        let ids: Vec<Id> = writes.iter().map(|guarded| guarded.write.id.clone()).collect();
        self.ears.written(&ids);
        self.pressure.add(fresh);
        Ok(Transacted::Stored)
    }

    /// Locks what these are to be written to; the place of one that meets another state than it expects.
    fn meet(&self, writes: &[Guarded]) -> Result<(Locked<'_>, Option<usize>), BufferError> {
        let mut locked = self.lock(writes.iter().map(|guarded| guarded.write.partition))?;
        if locked.0.values().any(|partition| partition.is_shut()) {
            drop(locked);
            return Err(self.sealed());
        }
        let now = Instant::now();
        for (place, Guarded { write, expected }) in writes.iter().enumerate() {
            let partition = locked.of(write.partition)?;
            if expected.as_ref().is_some_and(|expected| !partition.stands(&write.id, expected, now)) {
                return Ok((locked, Some(place)));
            }
        }
        Ok((locked, None))
    }

    pub(super) fn get_together_now(&self, places: &[(u16, Vec<Id>)]) -> Result<Vec<Vec<Lookup>>, BufferError> {
        let mut locked = self.lock(places.iter().map(|(partition, _)| *partition))?;
        let now = Instant::now();
        let mut found = Vec::with_capacity(places.len());
        for (partition, ids) in places {
            let partition = locked.of(*partition)?;
            found.push(ids.iter().map(|id| partition.get(id, now)).collect());
        }
        Ok(found)
    }

    pub(super) fn rotate_all_now(&self, owner: &str, stamp: Stamp) -> Result<Vec<Rotation>, BufferError> {
        let mut locked: Vec<_> = self.partitions.iter().map(lock).collect();
        if locked.iter().any(|partition| partition.is_sealed()) {
            drop(locked);
            return Err(self.sealed());
        }
        let now = Instant::now();
        if locked.iter().any(|partition| !partition.owned_by(owner, now)) {
            let answer = |partition: &MutexGuard<'_, Partition>| match partition.owned_by(owner, now) {
                true => Rotation::Empty,
                false => Rotation::NotOwner,
            };
            return Ok(locked.iter().map(answer).collect());
        }
        let left = locked.iter().any(|partition| partition.is_flushing());
        let rotate = |partition: &mut MutexGuard<'_, Partition>| match !left || partition.is_flushing() {
            true => partition.rotate(owner, stamp, now),
            false => Rotation::Empty,
        };
        Ok(locked.iter_mut().map(rotate).collect())
    }

    pub(super) fn back_unit_now(
        &self,
        mark: Mark,
        parts: &[(Step<'_>, Vec<(Id, Attempts)>)],
    ) -> Result<Vec<Moved>, BufferError> {
        let mut locked = self.lock(parts.iter().map(|(step, _)| step.partition))?;
        let now = Instant::now();
        if !holds_all(&mut locked, parts.iter().map(|(step, _)| step), now)? {
            return Ok(vec![REFUSED; parts.len()]);
        }
        let ids = |(step, records): &'_ (Step<'_>, Vec<(Id, Attempts)>)| {
            let partition = step.partition;
            records.iter().map(move |(id, _)| (partition, id.clone())).collect::<Vec<_>>()
        };
        let places: Vec<(u16, Id)> = parts.iter().flat_map(ids).collect();
        let places: Vec<(u16, &Id)> = places.iter().map(|(partition, id)| (*partition, id)).collect();
        tie(&mut locked, mark, &places)?;
        let mut moved = Vec::with_capacity(parts.len());
        for (step, records) in parts {
            moved.push(locked.of(step.partition)?.back(step, records, now));
        }
        Ok(moved)
    }

    /// Each unit at one instant, as everything: all partitions are locked, because a letter may name any of them.
    pub(super) fn replay_now(&self, partition: u16, ids: &[Id]) -> Result<Replayed, BufferError> {
        let all = u16::try_from(self.partitions.len()).unwrap_or(u16::MAX);
        let mut locked = self.lock(0..all)?;
        let mut involved = vec![partition];
        for id in ids {
            involved.extend(locked.of(partition)?.together(id).map(|together| together.partitions).unwrap_or_default());
        }
        for partition in involved {
            if locked.of(partition)?.is_shut() {
                drop(locked);
                return Err(self.sealed());
            }
        }
        let mut outcomes = Vec::with_capacity(ids.len());
        // Came back with another letter, and were not asked for yet.
        let mut others: BTreeSet<(u16, Id)> = BTreeSet::new();
        let mut written = ids.to_vec();
        let mut fresh = 0;
        for id in ids {
            let here = locked.of(partition)?;
            let Some(together) = here.together(id) else {
                let outcome = if others.remove(&(partition, id.clone())) { Replay::Again } else { here.replay(id) };
                fresh += u64::from(outcome == Replay::Again);
                outcomes.push(outcome);
                continue;
            };
            let mut back = Vec::new();
            for partition in together.partitions {
                let there = locked.of(partition)?;
                for id in there.letters_of(together.mark) {
                    if there.replay(&id) == Replay::Again {
                        back.push((partition, id));
                    }
                }
            }
            let places: Vec<(u16, &Id)> = back.iter().map(|(partition, id)| (*partition, id)).collect();
            tie(&mut locked, together.mark, &places)?;
            written.extend(back.iter().map(|(_, id)| id.clone()));
            others.extend(back);
            let again = others.remove(&(partition, id.clone()));
            fresh += u64::from(again);
            outcomes.push(if again { Replay::Again } else { Replay::Superseded });
        }
        drop(locked);
        let others = others.len() as u64;
        self.ears.written(&written);
        self.pressure.add(fresh + others);
        Ok(Replayed { outcomes, others })
    }

    pub(super) fn bury_unit_now(&self, parts: &[(Step<'_>, Vec<(Id, DeadLetter)>)]) -> Result<Vec<Moved>, BufferError> {
        let mut locked = self.lock(parts.iter().map(|(step, _)| step.partition))?;
        let now = Instant::now();
        if !holds_all(&mut locked, parts.iter().map(|(step, _)| step), now)? {
            return Ok(vec![REFUSED; parts.len()]);
        }
        let mut moved = Vec::with_capacity(parts.len());
        for (step, letters) in parts {
            moved.push(locked.of(step.partition)?.bury(step, letters, now));
        }
        Ok(moved)
    }
}

fn holds_all<'s, 'o: 's>(
    locked: &mut Locked<'_>,
    steps: impl Iterator<Item = &'s Step<'o>>,
    now: Instant,
) -> Result<bool, BufferError> {
    for step in steps {
        if !locked.of(step.partition)?.holds(step, now) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Gives all of these one mark in common, the least that any of them has: a record that many transactions write does not
/// gather as many marks. A record alone needs none, unless it has one.
fn tie(locked: &mut Locked<'_>, mark: Mark, places: &[(u16, &Id)]) -> Result<(), BufferError> {
    if places.len() < 2 {
        return Ok(());
    }
    let mut least: Option<Mark> = None;
    for (partition, id) in places {
        least = locked.of(*partition)?.marks_of(id).chain(least).min();
    }
    for (partition, id) in places {
        locked.of(*partition)?.mark(id, least.unwrap_or(mark));
    }
    Ok(())
}
