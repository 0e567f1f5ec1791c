//! Dropping the clean copies of an entity, all partitions in one scan of the keyspace.

use redis::aio::ConnectionLike;
use redis::{RedisResult, Script};

use crate::buffer::redis::keys;
use crate::buffer::redis::scripts::MAX_RECORDS;
use crate::telemetry::scope::Scope;

/// Which copies go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Copies<'s> {
    /// All of this layout; nothing of it is dirty or dead.
    OfLayout(&'s str),
    /// Those with a TTL, of whatever layout; the others are the readable state of records that the sink has refused. Decided by this script,
    /// so that a copy cannot lose its TTL in between.
    WithTtl(&'s Script),
}

/// Keys that one `SCAN` looks at: some 200 µs.
const PAGE: usize = 1000;

/// Drops copies, page by page; returns how many.
pub(super) async fn forget(
    connection: &(impl ConnectionLike + Clone + Send + Sync),
    scope: &Scope,
    which: Copies<'_>,
) -> RedisResult<u64> {
    let (mut cursor, mut dropped) = (0_u64, 0);
    let layout = match which {
        Copies::OfLayout(layout) => Some(layout),
        Copies::WithTtl(_) => None,
    };
    loop {
        let (next, mut found): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(keys::copies_pattern(scope, layout))
            .arg("COUNT")
            .arg(PAGE)
            .query_async(&mut connection.clone())
            .await?;
        found.retain(|key| keys::is_copy(scope, layout, key));
        for page in found.chunks(MAX_RECORDS) {
            let count: u64 = match which {
                Copies::OfLayout(_) => redis::cmd("UNLINK").arg(page).query_async(&mut connection.clone()).await?,
                Copies::WithTtl(script) => script.key(page).invoke_async(&mut connection.clone()).await?,
            };
            dropped += count;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(dropped);
        }
    }
}
