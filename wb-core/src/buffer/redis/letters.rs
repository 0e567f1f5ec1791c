//! Dead letters in Redis: read and discarded.

use super::scripts::MAX_RECORDS;
use super::space::{RedisSpace, corrupt};
use crate::buffer::{DeadLetter, Letters, STALE_MARKS};
use crate::entity::key::Id;
use crate::error::buffer::BufferError;

pub(super) async fn letter(space: &RedisSpace, partition: u16, id: &Id) -> Result<Option<DeadLetter>, BufferError> {
    let keys = space.shelf.keys(partition)?;
    let mut found = space.values("cannot read a dead letter", &keys.dead, std::slice::from_ref(id)).await?;
    found.pop().flatten().map(|text| parse(&text)).transpose()
}

pub(super) fn parse(text: &[u8]) -> Result<DeadLetter, BufferError> {
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
