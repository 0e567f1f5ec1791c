//! P4: a finished flush never clears a newer write.

use crate::gate::{Gate, Place};
use crate::house::House;
use crate::violation::{Kept, Sort, ensure};

/// Writes land while their keys are being flushed, before and after the sink's commit.
pub(crate) async fn p4_a_write_during_a_flush_stays_dirty(house: &House) -> Kept {
    let writer = house.writer().start().await?;
    let gate = Gate::open();
    let _worker = house.worker().gate(&gate).start().await?;
    for (n, place) in (0..).zip([Place::BeforeWrite, Place::AfterWrite]) {
        let [updated, deleted, revived] = [10 * n + 1, 10 * n + 2, 10 * n + 3];
        house.store.set(revived, 1).await?;
        gate.hold(place);
        writer.put(updated, 1).await?;
        gate.reached(place).await?;
        writer.put(updated, 2).await?;
        let open = house.field(updated, "open").await?;
        ensure(open.is_some(), Sort::Lost, || format!("{place:?}: the newer write waits in no open epoch"))?;
        writer.put(deleted, 1).await?;
        writer.delete(revived).await?;
        gate.release();
        gate.hold(place);
        gate.reached(place).await?;
        writer.delete(deleted).await?;
        writer.put(revived, 2).await?;
        gate.release();
        house.drained().await?;
        house.holds(Sort::Lost, &[(updated, Some(2)), (deleted, None), (revived, Some(2))]).await?;
    }
    Ok(())
}
