//! P2: cached means dirty.

use crate::house::House;
use crate::violation::{Kept, Sort, Violation, ensure};
use crate::wire::{About, Cut, Wire, ensure_cut};

/// The connection is cut before and after the command of a write: either nobody reads the new value, or it is flushed.
pub(crate) async fn p2_what_is_read_is_flushed(house: &House) -> Kept {
    let reader = house.writer().start().await?;
    let wire = Wire::to(&house.redis).await?;
    let writer = house.writer().redis(&wire.url).start().await?;
    let ids: Vec<i64> = (1..=8).collect();
    let mut state = 0;
    for many in [false, true] {
        for cut in [Cut::Before, Cut::After] {
            state += 1;
            wire.cut_at("HSET", cut);
            let accounts: Vec<_> = ids.iter().map(|&id| crate::account::Account::new(id, state)).collect();
            let put = writer.accounts.put_many(if many { &accounts[..] } else { &accounts[..1] }).await;
            ensure_cut(&wire)?;
            ensure(put.is_err(), Sort::Untrue, || format!("a write was acknowledged over a wire cut {cut:?} it"))?;
            let mut read = Vec::new();
            for &id in &ids {
                read.push((id, reader.get(id).await?));
            }
            ensure(many || read[0].1.is_some_and(|seen| seen == state) == (cut == Cut::After), Sort::Unread, || {
                format!("cut {cut:?} its command, the write reads {:?}", read[0].1)
            })?;
            let worker = house.worker().start().await?;
            house.drained().await?;
            house.holds(Sort::Lost, &read).await?;
            drop(worker);
            // Repeating is safe, and over a healed wire it is acknowledged.
            let mut again = writer.accounts.put_many(&accounts).await;
            if again.is_err() {
                // The first call after a cut may still meet the old connection.
                again = writer.accounts.put_many(&accounts).await;
            }
            again?;
        }
    }
    let _worker = house.worker().start().await?;
    house.drained().await?;
    house.holds(Sort::Lost, &ids.iter().map(|&id| (id, Some(state))).collect::<Vec<_>>()).await
}

/// At no moment of its way into the sink is a value readable and in no hash that a worker flushes: of all commands that
/// name the record one is let through, whichever comes first, and then the write is acknowledged and dirty.
pub(crate) async fn p2_a_write_is_one_command(house: &House) -> Kept {
    let wire = Wire::to(&house.redis).await?;
    let writer = house.writer().redis(&wire.url).start().await?;
    // No other argument on the wire looks like this one.
    let id = 7_040_100_000_001;
    wire.watch(&[], About::Record(id));
    let commands = async {
        let first = wire.next().await?;
        ensure(house.dirty().await? == 0, Sort::Trouble, || "it is there before it was sent".to_owned())?;
        wire.step();
        let second = wire.next().await?;
        Err::<(), _>(Violation::new(Sort::Untrue, format!("a write took {first}, and then {second}")))
    };
    tokio::select! {
        put = writer.put(id, 1) => put?,
        told = commands => told?,
    }
    wire.unwatch();
    let dirty = house.field(id, "open").await?;
    ensure(dirty.is_some(), Sort::Lost, || "the write is acknowledged, and not dirty".to_owned())
}
