//! P10: dirty is never evicted.

use std::time::Duration;

use write_behind::testing::ScriptedSink;
use write_behind::{BufferErrorKind, CacheError, Engine, EntityOptions, RedisBuffer, StartError};
use write_behind_tests::OwnRedis;

use crate::account::{Account, BAD};
use crate::gate::{Gate, Place};
use crate::house::{HASHES, House, PARTITIONS};
use crate::store::Kind;
use crate::violation::{Kept, Sort, Violation, ensure, until};

/// The answers of `PTTL`.
const ABSENT: i64 = -2;
const FOR_EVER: i64 = -1;

async fn nothing_expires(house: &House, step: &str) -> Kept {
    for partition in 0..PARTITIONS {
        for what in HASHES {
            let ttl: i64 = house.ask("PTTL", &[house.key(partition, what)]).await?;
            ensure(ttl == ABSENT || ttl == FOR_EVER, Sort::Expires, || {
                format!("{step}: `{what}` expires in {ttl} ms")
            })?;
        }
    }
    Ok(())
}

async fn copy_ttl(house: &House, id: i64) -> Result<i64, Violation> {
    house.ask("PTTL", &[house.key_of(id, &format!("r:{id}"))?]).await
}

/// At every step of a record's way, what is dirty or refused has no TTL, and what is in the sink has one.
pub(crate) async fn p10_dirty_never_expires(house: &House) -> Kept {
    let writer = house.writer().start().await?;
    let (good, bad) = (1, 2);
    writer.put(good, 1).await?;
    nothing_expires(house, "written").await?;
    let gate = Gate::holding(Place::BeforeWrite);
    let _worker = house.worker().gate(&gate).start().await?;
    gate.reached(Place::BeforeWrite).await?;
    nothing_expires(house, "being flushed").await?;
    writer.put(good, 2).await?;
    nothing_expires(house, "written while being flushed").await?;
    gate.hold(Place::AfterWrite);
    gate.release_before();
    gate.reached(Place::AfterWrite).await?;
    nothing_expires(house, "committed").await?;
    gate.release();
    house.drained().await?;
    let ttl = copy_ttl(house, good).await?;
    ensure(ttl > 0, Sort::Expires, || format!("the clean copy's PTTL is {ttl}"))?;
    if house.store.kind == Kind::Scripted {
        return Ok(());
    }
    // A record that the database refuses: back in `open`, then dead. Its copy is all that readers have.
    writer.put(bad, 1).await?;
    house.drained().await?;
    gate.hold(Place::BeforeWrite);
    writer.put(bad, BAD).await?;
    gate.reached(Place::BeforeWrite).await?;
    gate.release();
    gate.hold(Place::AfterWrite);
    gate.reached(Place::AfterWrite).await?;
    gate.release();
    until("it is dead", async || {
        nothing_expires(house, "refused").await?;
        let settled = house.letter(bad).await?.is_some() || house.field(bad, "attempts").await?.is_some();
        let ttl = copy_ttl(house, bad).await?;
        ensure(!settled || ttl == FOR_EVER, Sort::Expires, || format!("the refused copy expires in {ttl} ms"))?;
        Ok(house.letter(bad).await?.is_some())
    })
    .await?;
    nothing_expires(house, "dead").await
}

/// A Redis that may throw dirty data away is refused, with an explanation.
pub(crate) async fn p10_an_evicting_redis_is_refused(_: &House) -> Kept {
    for (policy, allowed) in
        [("noeviction", true), ("volatile-lru", true), ("allkeys-lru", false), ("allkeys-random", false)]
    {
        let settings = ["--save", "", "--appendonly", "no", "--maxmemory", "100mb", "--maxmemory-policy", policy];
        let Some(server) = OwnRedis::start(&settings).await else { return Ok(()) };
        let url = server.url();
        let engine = Engine::builder(RedisBuffer::connect(&url).await?)
            .entity::<Account>(ScriptedSink::new(), EntityOptions::new());
        match engine.start().await {
            Ok(engine) => {
                ensure(allowed, Sort::Passed, || format!("an engine started on a Redis with `{policy}`"))?;
                engine.shutdown(Duration::from_secs(10)).await?;
            }
            Err(error) => {
                let unfit = matches!(error, StartError::Unfit { .. });
                let text = write_behind_tests::chain(&error);
                ensure(!allowed && unfit, Sort::Blocked, || format!("`{policy}`: {text}"))?;
                let explains = text.contains("maxmemory-policy") && text.contains(policy);
                ensure(explains, Sort::Untrue, || format!("does not name the policy: {text}"))?;
            }
        }
    }
    Ok(())
}

/// Acknowledged before the server was full.
const ACCOUNTS: i64 = 2_000;

/// A Redis at its limit keeps what workers need, whatever it may evict: one that comes new drains it.
pub(crate) async fn p10_a_full_redis_is_drained_whatever_it_evicts(house: &House) -> Kept {
    for policy in ["noeviction", "volatile-lru", "volatile-lfu", "volatile-ttl", "volatile-random"] {
        let settings = ["--save", "", "--appendonly", "no", "--maxmemory-policy", policy];
        let Some(server) = OwnRedis::start(&settings).await else { return Ok(()) };
        let state = i64::from(server.port);
        let writer = house.writer().redis(&server.url()).start().await?;
        let accounts: Vec<Account> = (0..ACCOUNTS).map(|id| Account::new(id, state)).collect();
        writer.accounts.put_many(&accounts).await?;
        // Less than the server needs for itself: from now on each command evicts all that it may.
        server.run(&["CONFIG", "SET", "maxmemory", "500kb"]).await;
        let full =
            |error: &CacheError| matches!(error, CacheError::Buffer(error) if error.kind() == BufferErrorKind::Full);
        let refused = writer.put(ACCOUNTS, state).await;
        ensure(refused.as_ref().is_err_and(full), Sort::Trouble, || format!("{policy}: not full: {refused:?}"))?;
        let worker = house.worker().redis(&server.url()).start().await?;
        let mut redis = server.plain().await;
        until("a full Redis is drained", async || {
            let mut dirty = 0;
            for partition in 0..PARTITIONS {
                for what in ["open", "flushing"] {
                    let mut count = redis::cmd("HLEN");
                    dirty += count.arg(house.key(partition, what)).query_async::<u64>(&mut redis).await?;
                }
            }
            Ok(dirty == 0)
        })
        .await
        .map_err(|violation| Violation::new(violation.sort, format!("{policy}: {}", violation.text)))?;
        let expected: Vec<_> = (0..ACCOUNTS).map(|id| (id, Some(state))).collect();
        house.holds(Sort::Lost, &expected).await?;
        worker.engine.shutdown(Duration::from_secs(10)).await?;
        writer.engine.shutdown(Duration::from_secs(10)).await?;
    }
    Ok(())
}
