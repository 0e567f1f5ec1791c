//! The steps that finish records of an epoch.

use super::scripts::MAX_RECORDS;
use super::space::{NOTHING, RedisSpace, corrupt, millis};
use super::weighed::{CALL_BYTES, within};
use crate::buffer::{Attempts, Clean, DeadLetter, Done, Moved, STALE_MARKS, Step};
use crate::entity::key::Id;
use crate::error::buffer::{BufferError, BufferErrorKind};

pub(super) async fn ack(space: &RedisSpace, step: &Step<'_>, ids: &[Id], clean: Clean) -> Result<Moved, BufferError> {
    let keys = space.shelf.keys(step.partition)?;
    let mut moved = NOTHING;
    for ids in ids.chunks(MAX_RECORDS) {
        let mut call = space.finish(&space.scripts.ack, step, |keys| &keys.dead)?;
        call.key(&keys.stale).arg(millis(clean.ttl)).arg(millis(clean.negative_ttl));
        for id in ids {
            call.key(keys.copy(id)).arg(id.as_bytes());
        }
        if space.step("cannot acknowledge records", &call, &mut moved).await? == Done::NotOwner {
            break;
        }
    }
    Ok(moved)
}

pub(super) async fn ack_stale(
    space: &RedisSpace,
    step: &Step<'_>,
    records: &[(Id, i64)],
) -> Result<Moved, BufferError> {
    let keys = space.shelf.keys(step.partition)?;
    let mut moved = NOTHING;
    for records in records.chunks(MAX_RECORDS) {
        let mut call = space.finish(&space.scripts.ack_stale, step, |keys| &keys.dead)?;
        call.key(&keys.stale).arg(STALE_MARKS);
        for (id, version) in records {
            call.key(keys.copy(id)).arg(id.as_bytes()).arg(*version);
        }
        let done = space.step("cannot acknowledge records that were left out", &call, &mut moved).await;
        // What stands for readers is another state from now on.
        space.tell(records.iter().map(|(id, _)| id)).await;
        if done? == Done::NotOwner {
            break;
        }
    }
    Ok(moved)
}

pub(super) async fn stale(space: &RedisSpace, partition: u16, id: &Id) -> Result<Option<i64>, BufferError> {
    let keys = space.shelf.keys(partition)?;
    let found = space.values("cannot read which version was left out", &keys.stale, std::slice::from_ref(id)).await?;
    let Some(text) = found.into_iter().next().flatten() else { return Ok(None) };
    // `version number`, or `discarded number`: see marks.lua.
    let what = std::str::from_utf8(&text).ok().and_then(|text| text.split(' ').next()).unwrap_or_default();
    if what == "discarded" {
        return Ok(None);
    }
    what.parse().map(Some).map_err(|_| corrupt("a version that was left out"))
}

pub(super) async fn back(
    space: &RedisSpace,
    step: &Step<'_>,
    records: &[(Id, Attempts)],
) -> Result<Moved, BufferError> {
    let keys = space.shelf.keys(step.partition)?;
    let mut moved = NOTHING;
    for records in records.chunks(MAX_RECORDS) {
        let mut call = space.finish(&space.scripts.back, step, |keys| &keys.open)?;
        for (id, attempts) in records {
            call.key(keys.copy(id)).arg(id.as_bytes()).arg(attempts.to_string());
        }
        if space.step("cannot put records back", &call, &mut moved).await? == Done::NotOwner {
            break;
        }
    }
    Ok(moved)
}

pub(super) async fn bury(
    space: &RedisSpace,
    step: &Step<'_>,
    letters: &[(Id, DeadLetter)],
) -> Result<Moved, BufferError> {
    let keys = space.shelf.keys(step.partition)?;
    let mut moved = NOTHING;
    let texts = letters.iter().map(|(id, letter)| Ok((id, serde_json::to_string(letter).map_err(unwritable)?)));
    let texts: Vec<(&Id, String)> = texts.collect::<Result<_, BufferError>>()?;
    let mut rest = texts.as_slice();
    while !rest.is_empty() {
        let fitting = within(CALL_BYTES, rest.iter().map(|(_, text)| text.len()));
        let (now, later) = rest.split_at(fitting.min(MAX_RECORDS).min(rest.len()));
        rest = later;
        let mut call = space.finish(&space.scripts.bury, step, |keys| &keys.dead)?;
        for (id, text) in now {
            call.key(keys.copy(id)).arg(id.as_bytes()).arg(text);
        }
        if space.step("cannot keep dead letters", &call, &mut moved).await? == Done::NotOwner {
            break;
        }
    }
    Ok(moved)
}

fn unwritable(source: serde_json::Error) -> BufferError {
    BufferError::new(BufferErrorKind::Misconfigured, "cannot write a dead letter").with_source(source)
}
