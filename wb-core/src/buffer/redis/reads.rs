//! What readers do: look a record up, leave a mark, fill a copy in, take it away.

use std::time::Duration;

use bytes::Bytes;
use redis::Pipeline;

use super::classify::classify;
use super::scripts::MAX_RECORDS;
use super::space::{RedisSpace, millis};
use crate::buffer::record::Record;
use crate::buffer::{Look, Lookup, Origin, Sight, Stored, Token};
use crate::entity::key::Id;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::fault::mechanism::Mechanism;

pub(super) async fn get(space: &RedisSpace, partition: u16, ids: &[Id]) -> Result<Vec<Lookup>, BufferError> {
    let keys = space.shelf.keys(partition)?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    if space.sabotage.lacks(Mechanism::ReadOrder) {
        return space.get_sabotaged(keys, ids).await;
    }
    let mut pipeline = Pipeline::with_capacity(3);
    // In the order in which records move, so that none is missed on its way.
    for hash in [&keys.open, &keys.flushing] {
        pipeline.cmd("HMGET").arg(hash);
        for id in ids {
            pipeline.arg(id.as_bytes());
        }
    }
    pipeline.cmd("MGET");
    for id in ids {
        pipeline.arg(keys.copy(id));
    }
    type Values = Vec<Option<Bytes>>;
    let found = pipeline.query_async(&mut space.reader().await?).await;
    let found: Result<(Values, Values, Values), _> = found.map_err(|error| classify("cannot get records", error));
    if found.as_ref().is_err_and(|error| error.kind() == BufferErrorKind::Misconfigured) {
        // Perhaps the layout is being left, and its `open` is closed: then there is nothing in it. The script knows.
        let found = space.get_places(&[(partition, ids.to_vec())]).await?;
        return Ok(found.into_iter().flatten().collect());
    }
    let (open, flushing, copies) = found?;
    let found = open.into_iter().zip(flushing).zip(copies).map(|((open, flushing), copy)| {
        open.or(flushing)
            .map(|bytes| Lookup::Dirty(Record::from_bytes(bytes)))
            .or_else(|| copy.map(Lookup::of_copy))
            .unwrap_or(Lookup::Absent)
    });
    Ok(found.collect())
}

pub(super) async fn copies(space: &RedisSpace, partition: u16, ids: &[Id]) -> Result<Vec<Option<Stored>>, BufferError> {
    let keys = space.shelf.keys(partition)?;
    let mut copies = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MAX_RECORDS) {
        let mut call = space.scripts.copies.prepare_invoke();
        for id in ids {
            call.key(keys.copy(id));
        }
        let doing = "cannot read clean copies";
        let found: Vec<Option<Bytes>> =
            space.judged(doing, call.invoke_async(&mut space.bulk(doing).await?).await).await?;
        copies.extend(found.into_iter().map(|copy| match Lookup::of_copy(copy?) {
            Lookup::Clean(stored) => Some(stored),
            _ => None,
        }));
    }
    Ok(copies)
}

pub(super) async fn token(
    space: &RedisSpace,
    partition: u16,
    id: &Id,
    token: &Token,
    over: Option<&Stored>,
    ttl: Duration,
) -> Result<bool, BufferError> {
    let keys = space.shelf.keys(partition)?;
    let over = over.filter(|over| over.origin != Origin::Written).map(Stored::bytes).unwrap_or_default();
    let mut call = space.scripts.token.prepare_invoke();
    call.key(keys.copy(id)).key(&keys.open).arg(token.as_bytes()).arg(millis(ttl)).arg(&over[..]);
    let left = call.invoke_async(&mut space.reader().await?).await;
    space.judged("cannot leave a load token", left).await
}

pub(super) async fn fill(
    space: &RedisSpace,
    partition: u16,
    id: &Id,
    token: &Token,
    loaded: &Stored,
    ttl: Duration,
) -> Result<bool, BufferError> {
    let keys = space.shelf.keys(partition)?;
    let mut call = space.scripts.fill.prepare_invoke();
    call.key(keys.copy(id)).key(&keys.open).arg(token.as_bytes()).arg(&loaded.bytes()[..]).arg(millis(ttl));
    // A token of an earlier life of the data must not let an old row in.
    let filled = call.invoke_async(&mut space.reader().await?).await;
    space.judged("cannot fill in a loaded record", filled).await
}

pub(super) async fn look(space: &RedisSpace, partition: u16, ids: &[Id]) -> Result<Vec<Look>, BufferError> {
    let keys = space.shelf.keys(partition)?;
    let mut looks = Vec::with_capacity(ids.len().div_ceil(MAX_RECORDS).max(1));
    // Once without any id too: the epochs are asked for.
    for ids in ids.chunks(MAX_RECORDS).chain(ids.is_empty().then_some(ids)) {
        let mut call = space.scripts.look.prepare_invoke();
        call.key(&keys.open).key(&keys.flushing).key(&keys.attempts).key(&keys.dead).key(&keys.stale).key(&keys.meta);
        if space.shelf.append {
            call.key(&keys.log).key(&keys.closed_log);
        }
        for id in ids {
            call.arg(id.as_bytes());
        }
        let found: Vec<u64> = space.run("cannot look where records stand", &call).await?;
        let mut found = found.into_iter();
        let mut next = || found.next().unwrap_or(0);
        let (open_epoch, flushed_epoch, vanished_epoch) = (next(), next(), next());
        let (entries, closed_entries, unmarked_epoch) = (next(), next(), next());
        let sights = found.map(Sight::from_bits).collect();
        let epochs = Look { open_epoch, flushed_epoch, vanished_epoch, unmarked_epoch, ..Look::default() };
        looks.push(Look { entries, closed_entries, sights, ..epochs });
    }
    Ok(looks)
}

pub(super) async fn invalidate(space: &RedisSpace, partition: u16, ids: &[Id]) -> Result<u64, BufferError> {
    let keys = space.shelf.keys(partition)?;
    let mut dropped = 0;
    for ids in ids.chunks(MAX_RECORDS) {
        // The same script that drops copies after a loss: none without a TTL.
        let mut call = space.scripts.forget.prepare_invoke();
        for id in ids {
            call.key(keys.copy(id));
        }
        let some = space.run::<u64>("cannot drop clean copies", &call).await;
        space.tell(ids).await;
        dropped += some?;
    }
    Ok(dropped)
}
