//! replay in Redis: dead letters become dirty again, those of a unit all at one instant.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use futures::future::try_join_all;

use super::letters::parse;
use super::scripts::MAX_RECORDS;
use super::space::{RedisSpace, fitting};
use super::weighed::{CALL_BYTES, within};
use crate::buffer::{DeadLetter, Mark, Replay, Replayed};
use crate::entity::key::Id;
use crate::error::buffer::{BufferError, BufferErrorKind};

/// Reads a letter again at most so often while workers replace it.
const LOOKS: usize = 5;

/// A letter as it was read.
struct Found {
    partition: u16,
    id: Id,
    text: Bytes,
    payload: Vec<u8>,
}

impl Found {
    fn bytes(&self) -> usize {
        self.text.len() + self.payload.len()
    }
}

/// What a script says of a letter; `None`: it is another letter now.
const fn outcome(reply: i64) -> Option<Replay> {
    match reply {
        1 => Some(Replay::Again),
        0 => Some(Replay::Superseded),
        -1 => Some(Replay::Absent),
        _ => None,
    }
}

pub(super) async fn replay(space: &RedisSpace, partition: u16, ids: &[Id]) -> Result<Replayed, BufferError> {
    let mut replayed = Replayed::default();
    for ids in ids.chunks(MAX_RECORDS) {
        let mut others = Vec::new();
        let some = replay_some(space, partition, ids, &mut others).await;
        space.tell(ids.iter().chain(&others)).await;
        replayed.outcomes.extend(some?);
        replayed.others += others.len() as u64;
    }
    Ok(replayed)
}

/// `others`: ids of letters that came back with these.
async fn replay_some(
    space: &RedisSpace,
    partition: u16,
    ids: &[Id],
    others: &mut Vec<Id>,
) -> Result<Vec<Replay>, BufferError> {
    let dead = &space.shelf.keys(partition)?.dead;
    let mut outcomes = vec![Replay::Absent; ids.len()];
    let mut left: Vec<usize> = (0..ids.len()).collect();
    for _ in 0..LOOKS {
        let asked: Vec<Id> = left.iter().filter_map(|&index| ids.get(index).cloned()).collect();
        let texts = space.large_values("cannot read dead letters", dead, &asked).await?;
        let (mut alone, mut tied, mut units) = (Vec::new(), Vec::new(), BTreeMap::new());
        for ((index, id), text) in left.into_iter().zip(asked).zip(texts) {
            let Some(text) = text else { continue };
            let DeadLetter { payload, together, .. } = parse(&text)?;
            match together {
                None => alone.push((index, Found { partition, id, text, payload })),
                Some(mut together) => {
                    together.partitions.push(partition);
                    units.insert(together.mark, together.partitions);
                    tied.push((index, id));
                }
            }
        }
        let (indices, alone): (Vec<usize>, Vec<Found>) = alone.into_iter().unzip();
        let mut judged: Vec<(usize, Option<Replay>)> =
            indices.into_iter().zip(replay_alone(space, partition, &alone).await?).collect();
        let mut back = replay_units(space, &units, others).await?;
        // One that is named twice came back once, and is looked for again.
        judged.extend(tied.into_iter().map(|(index, id)| (index, back.remove(&(partition, id)))));
        others.extend(back.into_iter().filter(|(_, replay)| *replay == Replay::Again).map(|((_, id), _)| id));
        left = Vec::new();
        for (index, replay) in judged {
            match (replay, outcomes.get_mut(index)) {
                (Some(replay), Some(place)) => *place = replay,
                _ => left.push(index),
            }
        }
        if left.is_empty() {
            return Ok(outcomes);
        }
    }
    Err(BufferError::new(BufferErrorKind::Unavailable, "dead letters change faster than they can be replayed"))
}

/// Letters of one partition that belong to no others.
async fn replay_alone(
    space: &RedisSpace,
    partition: u16,
    mut letters: &[Found],
) -> Result<Vec<Option<Replay>>, BufferError> {
    let keys = space.shelf.keys(partition)?;
    let mut outcomes = Vec::with_capacity(letters.len());
    while !letters.is_empty() {
        let (now, later) = letters.split_at(within(CALL_BYTES, letters.iter().map(Found::bytes)).min(letters.len()));
        letters = later;
        let mut call = space.scripts.replay.prepare_invoke();
        call.key(&keys.dead).key(&keys.attempts).key(&keys.open).key(&keys.flushing);
        for Found { id, text, payload, .. } in now {
            call.arg(id.as_bytes()).arg(text.as_ref()).arg(payload.as_slice());
        }
        let replies: Vec<i64> = space.run("cannot replay dead letters", &call).await?;
        space.shelf.pressure.add(replies.iter().filter(|reply| **reply == 1).count() as u64);
        outcomes.extend(replies.into_iter().map(outcome));
    }
    Ok(outcomes)
}

type Outcomes = HashMap<(u16, Id), Replay>;

/// All letters of these units, each unit in one call. What is not among the outcomes is to be looked at again.
async fn replay_units(
    space: &RedisSpace,
    units: &BTreeMap<Mark, Vec<u16>>,
    others: &mut Vec<Id>,
) -> Result<Outcomes, BufferError> {
    let mut outcomes = Outcomes::new();
    if units.is_empty() {
        return Ok(outcomes);
    }
    for (mark, letters) in find(space, units).await? {
        match replay_unit(space, mark, &letters).await {
            Ok(replies) => {
                let places = letters.into_iter().map(|letter| (letter.partition, letter.id));
                outcomes.extend(places.zip(replies).filter_map(|(place, reply)| Some((place, outcome(reply)?))));
            }
            Err(error) => {
                // Whoever keeps values of what came back before is told all the same.
                others.extend(outcomes.into_keys().map(|(_, id)| id));
                return Err(error);
            }
        }
    }
    Ok(outcomes)
}

async fn replay_unit(space: &RedisSpace, mark: Mark, letters: &[Found]) -> Result<Vec<i64>, BufferError> {
    let mut call = space.scripts.replay_unit.prepare_invoke();
    call.arg(mark.to_string());
    let mut positions = HashMap::new();
    for Found { partition, id, text, payload } in letters {
        let keys = space.shelf.keys(*partition)?;
        let next = positions.len() + 1;
        let position = *positions.entry(*partition).or_insert_with(|| {
            call.key(&keys.dead).key(&keys.attempts).key(&keys.open).key(&keys.flushing).key(&keys.groups);
            next
        });
        call.arg(position).arg(id.as_bytes()).arg(text.as_ref()).arg(payload.as_slice());
    }
    let replies: Vec<i64> = space.run("cannot replay dead letters together", &call).await?;
    space.shelf.pressure.add(replies.iter().filter(|reply| **reply == 1).count() as u64);
    Ok(replies)
}

/// The letters of these units. Redis looks through those of the partitions that they name: only a person asks for it, and an
/// index would have to be kept by every step.
async fn find(space: &RedisSpace, units: &BTreeMap<Mark, Vec<u16>>) -> Result<BTreeMap<Mark, Vec<Found>>, BufferError> {
    let mut marks: BTreeMap<u16, BTreeSet<Mark>> = BTreeMap::new();
    for (mark, partitions) in units {
        for partition in partitions {
            marks.entry(*partition).or_default().insert(*mark);
        }
    }
    let found = try_join_all(marks.into_iter().map(|(partition, marks)| find_in(space, partition, marks)));
    let mut letters: BTreeMap<Mark, Vec<Found>> = BTreeMap::new();
    for (mark, found) in found.await?.into_iter().flatten() {
        letters.entry(mark).or_default().push(found);
    }
    Ok(letters)
}

async fn find_in(space: &RedisSpace, partition: u16, marks: BTreeSet<Mark>) -> Result<Vec<(Mark, Found)>, BufferError> {
    let doing = "cannot look for dead letters of a unit";
    let dead = &space.shelf.keys(partition)?.dead;
    let count = fitting(MAX_RECORDS, space.weigh(dead).await?);
    let (mut ids, mut cursor) = (BTreeMap::new(), 0_u64);
    loop {
        let mut call = space.scripts.unit_letters.prepare_invoke();
        call.key(dead).arg(cursor).arg(count);
        for mark in &marks {
            call.arg(mark.to_string());
        }
        let (next, found): (u64, Vec<(Bytes, String)>) = space.run(doing, &call).await?;
        // A scan may name a letter twice.
        ids.extend(found.into_iter().filter_map(|(id, mark)| Some((Id::found(id), Mark::parse(&mark)?))));
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    let (ids, marks): (Vec<Id>, Vec<Mark>) = ids.into_iter().unzip();
    let texts = space.large_values(doing, dead, &ids).await?;
    let mut letters = Vec::with_capacity(ids.len());
    for ((id, mark), text) in ids.into_iter().zip(marks).zip(texts) {
        // Gone or replaced meanwhile, or no letter at all: it is none of the unit's.
        let Some((text, letter)) = text.and_then(|text| parse(&text).ok().map(|letter| (text, letter))) else {
            continue;
        };
        if letter.together.is_some_and(|together| together.mark == mark) {
            letters.push((mark, Found { partition, id, text, payload: letter.payload }));
        }
    }
    Ok(letters)
}
