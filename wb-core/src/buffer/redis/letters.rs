//! Dead letters in Redis: read, replayed, discarded.

use super::scripts::MAX_RECORDS;
use super::space::{RedisSpace, corrupt};
use super::weighed::{CALL_BYTES, within};
use crate::buffer::{BufferError, BufferErrorKind, DeadLetter, Letters, Replay, STALE_MARKS};
use crate::key::Id;

/// Reads a letter again at most so often while workers replace it.
const LOOKS: usize = 5;

pub(super) async fn letter(space: &RedisSpace, partition: u16, id: &Id) -> Result<Option<DeadLetter>, BufferError> {
    let keys = space.shelf.keys(partition)?;
    let mut found = space.values("cannot read a dead letter", &keys.dead, std::slice::from_ref(id)).await?;
    found.pop().flatten().map(|text| parse(&text)).transpose()
}

fn parse(text: &[u8]) -> Result<DeadLetter, BufferError> {
    serde_json::from_slice(text).map_err(|source| corrupt("a dead letter").with_source(source))
}

pub(super) async fn page(
    space: &RedisSpace,
    partition: u16,
    cursor: u64,
    limit: usize,
) -> Result<Letters, BufferError> {
    let keys = space.shelf.keys(partition)?;
    let (cursor, fields) = space.light_page("cannot list dead letters", &keys.dead, cursor, limit).await?;
    let letters = fields.into_iter().map(|(id, text)| {
        // One that another program left there must not hide the others.
        let letter = parse(&text).unwrap_or_else(|error| DeadLetter::corrupt(&text, crate::error::chain(&error)));
        (Id::found(id), letter)
    });
    Ok(Letters { cursor, letters: letters.collect() })
}

pub(super) async fn replay(space: &RedisSpace, partition: u16, ids: &[Id]) -> Result<Vec<Replay>, BufferError> {
    let mut replays = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MAX_RECORDS) {
        let some = replay_some(space, partition, ids).await;
        space.tell(ids).await;
        replays.extend(some?);
    }
    Ok(replays)
}

async fn replay_some(space: &RedisSpace, partition: u16, ids: &[Id]) -> Result<Vec<Replay>, BufferError> {
    let keys = space.shelf.keys(partition)?;
    let mut replays = vec![Replay::Absent; ids.len()];
    let mut left: Vec<usize> = (0..ids.len()).collect();
    for _ in 0..LOOKS {
        let asked: Vec<Id> = left.iter().filter_map(|&index| ids.get(index).cloned()).collect();
        let texts = space.large_values("cannot read dead letters", &keys.dead, &asked).await?;
        let mut found = Vec::with_capacity(texts.len());
        for ((index, id), text) in left.into_iter().zip(asked).zip(texts) {
            if let Some(text) = text {
                let payload = parse(&text)?.payload;
                found.push((index, id, text, payload));
            }
        }
        let mut changed = Vec::new();
        let mut rest = found.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(
                within(CALL_BYTES, rest.iter().map(|(.., text, payload)| text.len() + payload.len())).min(rest.len()),
            );
            rest = later;
            let mut call = space.scripts.replay.prepare_invoke();
            call.key(&keys.dead).key(&keys.attempts).key(&keys.open).key(&keys.flushing);
            for (_, id, text, payload) in now {
                call.arg(id.as_bytes()).arg(text.as_ref()).arg(payload.as_slice());
            }
            let replies: Vec<i64> = space.run("cannot replay dead letters", &call).await?;
            space.shelf.pressure.add(replies.iter().filter(|reply| **reply == 1).count() as u64);
            for (&(index, ..), reply) in now.iter().zip(replies) {
                let replay = match reply {
                    1 => Replay::Again,
                    0 => Replay::Superseded,
                    -1 => Replay::Absent,
                    _ => {
                        changed.push(index);
                        continue;
                    }
                };
                if let Some(place) = replays.get_mut(index) {
                    *place = replay;
                }
            }
        }
        if changed.is_empty() {
            return Ok(replays);
        }
        left = changed;
    }
    Err(BufferError::new(BufferErrorKind::Unavailable, "dead letters change faster than they can be replayed"))
}

pub(super) async fn discard(space: &RedisSpace, partition: u16, ids: &[Id]) -> Result<u64, BufferError> {
    let keys = space.shelf.keys(partition)?;
    let mut discarded = 0;
    for ids in ids.chunks(MAX_RECORDS) {
        let mut call = space.scripts.discard.prepare_invoke();
        call.key(&keys.dead).key(&keys.attempts).key(&keys.open).key(&keys.flushing);
        call.key(&keys.stale).key(&keys.meta).arg(STALE_MARKS);
        for id in ids {
            call.key(keys.copy(id)).arg(id.as_bytes());
        }
        let some = space.run::<u64>("cannot discard dead letters", &call).await;
        space.tell(ids).await;
        discarded += some?;
    }
    Ok(discarded)
}
