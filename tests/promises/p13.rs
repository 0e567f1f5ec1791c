//! P13: a flush is a consistent cut. What is promised: everything of a partition that is dirty at the rotation reaches
//! the sink in that state; in one transaction if it fits into `max_batch`.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::account::Account;
use crate::gate::{Gate, Place};
use crate::house::House;
use crate::store::Rows;
use crate::violation::{Kept, Sort, Violation, ensure};
use crate::wire::{About, Wire};

fn accounts(ids: &[i64], state: i64) -> Vec<Account> {
    ids.iter().map(|&id| Account::new(id, state)).collect()
}

fn same_state(rows: &Rows, ids: &[i64]) -> Kept {
    let mut states: Vec<_> = ids.iter().map(|id| rows.get(id)).collect();
    states.dedup();
    ensure(states.len() <= 1, Sort::Torn, || format!("written together, and the sink has {states:?}"))
}

/// Two accounts that are always written together; a reader of the database never sees one without the other, also when
/// workers die on the way.
pub(crate) async fn p13_what_is_written_together_is_flushed_together(house: &House) -> Kept {
    let ids = house.of_partition(1, 2)?;
    let writer = house.writer().start().await?;
    let over = AtomicBool::new(false);
    let look = async {
        let mut looks = 0;
        while !over.load(Ordering::Relaxed) {
            same_state(&house.store.rows().await?, &ids)?;
            looks += 1;
            // A sink in memory never waits.
            tokio::task::yield_now().await;
        }
        ensure(looks > 10, Sort::Trouble, || format!("only {looks} looks"))
    };
    let work = async {
        let mut state = 0;
        for place in [Place::BeforeWrite, Place::AfterWrite] {
            let gate = Gate::open();
            let worker = house.worker().gate(&gate).start().await?;
            for _ in 0..40 {
                state += 1;
                writer.accounts.put_many(&accounts(&ids, state)).await?;
                if state % 8 == 0 {
                    house.drained().await?;
                }
            }
            gate.hold(place);
            writer.accounts.put_many(&accounts(&ids, state)).await?;
            gate.reached(place).await?;
            drop(worker);
        }
        let _worker = house.worker().start().await?;
        house.drained().await?;
        house.holds(Sort::Lost, &ids.iter().map(|&id| (id, Some(state))).collect::<Vec<_>>()).await
    };
    let worked = async {
        let worked: Kept = work.await;
        over.store(true, Ordering::Relaxed);
        worked
    };
    let (looked, worked) = tokio::join!(look, worked);
    worked.and(looked)
}

/// Records that take several pages to claim, written again as a whole between two pages: what is flushed is what was
/// there at the rotation.
pub(crate) async fn p13_the_pages_of_a_flush_are_of_one_instant(house: &House) -> Kept {
    let ids = house.of_partition(0, 64)?;
    let wire = Wire::to(&house.redis).await?;
    let writer = house.writer().start().await?;
    writer.accounts.put_many(&accounts(&ids, 1)).await?;
    let gate = Gate::open();
    wire.watch(&["HSCAN"], About::Key("flushing"));
    // Bytes for all of them, of which a page is guessed to hold few.
    let worker = house.worker().redis(&wire.url).gate(&gate).options(|o| o.max_batch_bytes(64 << 10));
    let claim = async {
        wire.next().await?;
        wire.step();
        wire.next().await?;
        // One page is read.
        writer.accounts.put_many(&accounts(&ids, 2)).await?;
        wire.unwatch();
        wire.step();
        Ok::<_, Violation>(())
    };
    let (worker, claimed) = tokio::join!(worker.start(), claim);
    let _worker = worker?;
    claimed?;
    house.drained().await?;
    for entry in gate.log() {
        let mut states: Vec<_> = entry.records.values().collect();
        states.dedup();
        ensure(states.len() == 1, Sort::Torn, || format!("one batch has the states {states:?}"))?;
        ensure(entry.records.len() == ids.len(), Sort::Torn, || {
            format!("{} of {} records in a batch", entry.records.len(), ids.len())
        })?;
    }
    house.holds(Sort::Lost, &ids.iter().map(|&id| (id, Some(2))).collect::<Vec<_>>()).await
}
