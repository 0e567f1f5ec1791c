//! P1: no acknowledged write is lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use write_behind::{BufferErrorKind, CacheError, ErrorKind};

use crate::gate::{Fault, Gate, Place};
use crate::house::{House, PARTITIONS};
use crate::violation::{Kept, Sort, Violation, ensure, until};

/// Where a worker dies.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// Before it has done anything.
    Idle,
    /// It has rotated and claimed.
    BeforeWrite,
    /// The sink has the batch; nothing is acknowledged.
    AfterWrite,
    /// It waits for the sink to come back.
    InAnOutage,
    /// The sink has refused a record, which is back in `open`.
    AfterRefusal,
    /// An acknowledged write came after its rotation.
    WithTwoEpochs,
}

/// A worker dies at each step of the flow; the next one brings the acknowledged states to the sink.
pub(crate) async fn p1_no_acknowledged_write_is_lost(house: &House) -> Kept {
    use Death::{AfterRefusal, AfterWrite, BeforeWrite, Idle, InAnOutage, WithTwoEpochs};
    for (n, death) in (0..).zip([Idle, BeforeWrite, AfterWrite, InAnOutage, AfterRefusal, WithTwoEpochs]) {
        let [new, old, gone] = [10 * n + 1, 10 * n + 2, 10 * n + 3];
        house.store.set(old, 1).await?;
        house.store.set(gone, 1).await?;
        // The writer dies as well: what it was told is all that is left of it.
        let writer = house.writer().start().await?;
        writer.put(new, 2).await?;
        writer.put(old, 2).await?;
        writer.delete(gone).await?;
        let mut last = 2;
        match death {
            Idle => {}
            BeforeWrite | AfterWrite | WithTwoEpochs => {
                let place = if matches!(death, AfterWrite) { Place::AfterWrite } else { Place::BeforeWrite };
                let gate = Gate::holding(place);
                let worker = house.worker().gate(&gate).start().await?;
                gate.reached(place).await?;
                if matches!(death, WithTwoEpochs) {
                    last = 3;
                    writer.put(new, last).await?;
                }
                drop(worker);
            }
            InAnOutage => {
                let gate = Gate::open();
                gate.outage(Some(ErrorKind::Unavailable));
                let worker = house.worker().gate(&gate).start().await?;
                until("the outage is met", async || Ok(gate.failures(ErrorKind::Unavailable) > 1)).await?;
                drop(worker);
            }
            AfterRefusal => {
                let gate = Gate::open();
                gate.outage(Some(ErrorKind::Rejected));
                let worker = house.worker().gate(&gate).options(|o| o.retry(patient())).start().await?;
                until("a refusal is counted", async || Ok(house.count(&["attempts"]).await? > 0)).await?;
                drop(worker);
            }
        }
        drop(writer);
        let heir = house.worker().start().await?;
        house.drained().await?;
        drop(heir);
        let expected = [(new, Some(last)), (old, Some(2)), (gone, None)];
        house.holds(Sort::Lost, &expected).await.map_err(|mut violation| {
            violation.text = format!("{death:?}: {}", violation.text);
            violation
        })?;
    }
    Ok(())
}

fn patient() -> write_behind::RetryPolicy {
    write_behind::RetryPolicy::new().initial(Duration::from_millis(5)).attempts(1_000)
}

/// A worker that was stopped after its commit, overtaken, and goes on: its late acknowledgement finishes an epoch that is
/// not its own any more, and must not take a later one's records with it.
pub(crate) async fn p1_a_late_ack_removes_nothing(house: &House) -> Kept {
    let writer = house.writer().start().await?;
    let paused = Gate::freezing(Place::AfterWrite);
    writer.put(1, 1).await?;
    let first = house.worker().gate(&paused).start_apart().await?;
    paused.reached(Place::AfterWrite).await?;
    let gate = Gate::open();
    let second = house.worker().gate(&gate).start().await?;
    house.drained().await?;
    gate.hold(Place::BeforeWrite);
    writer.put(1, 2).await?;
    gate.reached(Place::BeforeWrite).await?;
    first.wake_and_finish().await?;
    drop(second);
    let _third = house.worker().start().await?;
    house.drained().await?;
    house.holds(Sort::Lost, &[(1, Some(2))]).await
}

/// A sink that panics is a failed write, nothing else.
pub(crate) async fn p1_a_panic_in_the_sink_is_contained(house: &House) -> Kept {
    let gate = Gate::open();
    gate.next(Fault::Panic);
    let worker = house.worker().gate(&gate).start().await?;
    worker.put(1, 1).await?;
    house.row_becomes(1, Some(1)).await?;
    worker.put(1, 2).await?;
    house.row_becomes(1, Some(2)).await?;
    house.drained().await
}

/// Programs of another topology start while a writer of the old one goes on, whose worker has died. What the writer was told is there.
pub(crate) async fn p1_a_change_of_topology_under_load_loses_nothing(house: &House) -> Kept {
    let writer = house.writer().start().await?;
    let worker = house.worker().start().await?;
    let over = AtomicBool::new(false);
    let writing = async {
        let (mut acknowledged, mut refused) = (BTreeMap::new(), 0);
        // Some are begun after the change: whatever is taken then is lost, where the old layout is not closed.
        let (mut round, mut after) = (0, 0);
        while after < 20 {
            (round, after) = (round + 1, after + i32::from(over.load(Ordering::Acquire)));
            match writer.put(round % 10, round).await {
                Ok(()) => _ = acknowledged.insert(round % 10, Some(round)),
                Err(CacheError::Buffer(error)) if error.kind() == BufferErrorKind::Topology => refused += 1,
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Ok::<_, Violation>((acknowledged, refused))
    };
    let changing = async {
        house.row_becomes(1, Some(1)).await?;
        drop(worker);
        let next = house.worker().options(|o| o.partitions(2 * PARTITIONS)).start().await?;
        over.store(true, Ordering::Release);
        Ok::<_, Violation>(next)
    };
    let (written, next) = tokio::join!(writing, changing);
    let ((acknowledged, refused), next) = (written?, next?);
    next.accounts.flush().await?;
    house.holds(Sort::Lost, &acknowledged.into_iter().collect::<Vec<_>>()).await?;
    ensure(refused > 0, Sort::Passed, || "no write of the old topology was refused".to_owned())
}
