//! Records that wait without having been refused, found among the attempts.

use bytes::Bytes;
use futures::future::try_join_all;

use super::space::RedisSpace;
use crate::buffer::{Attempts, Held};
use crate::entity::key::Id;
use crate::error::buffer::BufferError;

/// Attempts that one call reads, some 0.1 ms of the server's time.
const PAGE: usize = 500;

pub(super) async fn held(space: &RedisSpace, partitions: &[u16]) -> Result<Vec<Held>, BufferError> {
    let mut any = redis::cmd("EXISTS");
    for &partition in partitions {
        any.arg(&space.shelf.keys(partition)?.attempts);
    }
    // The common case, in one command: nothing was refused, nothing is held.
    if partitions.is_empty() || run::<u64>(space, &any).await? == 0 {
        return Ok(Vec::new());
    }
    let pages = try_join_all(partitions.iter().map(|&partition| in_partition(space, partition)));
    Ok(pages.await?.into_iter().flatten().collect())
}

async fn in_partition(space: &RedisSpace, partition: u16) -> Result<Vec<Held>, BufferError> {
    let keys = space.shelf.keys(partition)?;
    let (mut held, mut cursor) = (Vec::new(), 0_u64);
    loop {
        let mut page = redis::cmd("HSCAN");
        page.arg(&keys.attempts).arg(cursor).arg("COUNT").arg(PAGE);
        let (next, fields): (u64, Vec<(Bytes, Bytes)>) = run(space, &page).await?;
        held.extend(fields.into_iter().filter_map(|(id, text)| {
            let attempts = std::str::from_utf8(&text).ok().and_then(Attempts::parse)?;
            attempts.is_held().then(|| Held { partition, id: Id::found(id), attempts })
        }));
        if next == 0 {
            return Ok(held);
        }
        cursor = next;
    }
}

async fn run<T: redis::FromRedisValue>(space: &RedisSpace, command: &redis::Cmd) -> Result<T, BufferError> {
    let answer = command.query_async(&mut space.connection.clone()).await;
    space.judged("cannot look for what is held", answer).await
}
