//! P10: dirty is never evicted.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use write_behind::testing::ScriptedSink;
use write_behind::{Engine, EntityOptions, RedisBuffer, StartError};

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
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--maxmemory", "100mb", "--maxmemory-policy", policy]);
        let _server =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
        let url = format!("redis://127.0.0.1:{port}/");
        until("the server answers", async || Ok(RedisBuffer::connect(&url).await.is_ok())).await?;
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
