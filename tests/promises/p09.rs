//! P9: read your writes.

use std::time::Duration;

use write_behind::{ErrorKind, RetryPolicy};

use crate::gate::{Fault, Gate, Place};
use crate::house::{House, Resident};
use crate::violation::{Kept, Sort, Violation, ensure, until};
use crate::wire::{About, Wire};

/// A reader in another process looks in every phase of a put and of a delete, with and without clean copies.
pub(crate) async fn p9_a_write_is_read_in_every_phase(house: &House) -> Kept {
    for (n, ttl) in (0..).zip([Duration::from_secs(60), Duration::from_millis(30), Duration::ZERO]) {
        let (written, deleted) = (10 * n + 1, 10 * n + 2);
        house.store.set(written, 1).await?;
        house.store.set(deleted, 1).await?;
        let copies = move |options: write_behind::EntityOptions| options.cache_ttl(ttl).negative_ttl(ttl);
        let writer = house.writer().options(copies).start().await?;
        let reader = house.writer().options(copies).start().await?;
        let gate = Gate::holding(Place::BeforeWrite);
        let look = async |phase: &str| {
            reader.sees(written, Some(2), phase).await?;
            reader.sees(deleted, None, phase).await?;
            let both = reader.accounts.get_many(&[deleted, written]).await?;
            let both: Vec<_> = both.into_iter().map(|account| account.map(|account| account.state)).collect();
            ensure(both == [None, Some(2)], Sort::Unread, || format!("{phase}: get_many reads {both:?}"))
        };
        // What the reader has of the old rows must not be in its way.
        reader.sees(written, Some(1), "before").await?;
        reader.sees(deleted, Some(1), "before").await?;
        writer.put(written, 2).await?;
        writer.delete(deleted).await?;
        look("open").await?;
        let worker = house.worker().gate(&gate).options(copies).start().await?;
        gate.reached(Place::BeforeWrite).await?;
        look("being flushed").await?;
        gate.hold(Place::AfterWrite);
        gate.release_before();
        gate.reached(Place::AfterWrite).await?;
        look("committed").await?;
        gate.release();
        house.drained().await?;
        look("flushed").await?;
        for id in [written, deleted] {
            let copy = house.key_of(id, &format!("r:{id}"))?;
            if ttl < Duration::from_secs(1) {
                until("the copy expires", async || Ok(house.ask::<u64>("EXISTS", &[&copy]).await? == 0)).await?;
            }
        }
        look("without a copy").await?;
        drop(worker);
    }
    Ok(())
}

/// What happens to a record between two looks of one reader.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// open → flushing.
    Rotation,
    /// flushing → clean copy and sink.
    Ack,
    /// flushing → open.
    Back,
}

/// A reader looks at three places in one round trip, and between any two of its looks the record moves.
pub(crate) async fn p9_a_record_that_moves_is_read(house: &House) -> Kept {
    let wire = Wire::to(&house.redis).await?;
    let writer = house.writer().start().await?;
    let mut id = 0;
    for ttl in [Duration::from_secs(60), Duration::ZERO] {
        let copies = move |options: write_behind::EntityOptions| options.cache_ttl(ttl).retry(eager());
        let reader = house.writer().redis(&wire.url).options(copies).start().await?;
        for way in [Move::Rotation, Move::Ack, Move::Back] {
            for looks in 0..3 {
                id += 1;
                house.store.set(id, 1).await?;
                let gate = Gate::holding(Place::BeforeWrite);
                writer.put(id, 2).await?;
                let worker = house.worker().gate(&gate).options(copies);
                let race = Race { house, wire: &wire, gate: &gate, looks, id };
                let found = race.run(&reader, way, worker).await?;
                ensure(found == Some(2), Sort::Unread, || {
                    format!("{way:?} after {looks} looks, copies live {ttl:?}: reads {found:?} instead of state 2")
                })?;
                house.drained().await?;
            }
        }
    }
    Ok(())
}

fn eager() -> RetryPolicy {
    RetryPolicy::new().initial(Duration::from_millis(5)).attempts(1_000)
}

struct Race<'a> {
    house: &'a House,
    wire: &'a Wire,
    gate: &'a Gate,
    looks: usize,
    id: i64,
}

impl Race<'_> {
    /// Reads, moves the record after so many looks, and returns what was read.
    async fn run(&self, reader: &Resident, way: Move, worker: crate::house::Plan) -> Result<Option<i64>, Violation> {
        // Before a rotation there is no worker; every other move begins with a record in `flushing`.
        let mut worker = Some(worker);
        let mut running = None;
        if !matches!(way, Move::Rotation) {
            running = start(&mut worker).await?;
            self.gate.reached(Place::BeforeWrite).await?;
        }
        self.wire.watch(&["HMGET", "MGET"], About::Record(self.id));
        let read = async { Ok::<_, Violation>(reader.get(self.id).await?) };
        let act = async {
            for look in 0..3 {
                self.wire.next().await?;
                if look == 2 {
                    self.wire.unwatch();
                }
                if look == self.looks {
                    match way {
                        Move::Rotation => {
                            running = start(&mut worker).await?;
                            self.gate.reached(Place::BeforeWrite).await?;
                        }
                        Move::Ack => {
                            self.gate.release();
                            self.house.drained().await?;
                        }
                        Move::Back => {
                            self.gate.outage(Some(ErrorKind::Rejected));
                            self.gate.next(Fault::Fail(ErrorKind::Rejected));
                            self.gate.release_before();
                            until("it is back", async || Ok(self.house.field(self.id, "attempts").await?.is_some()))
                                .await?;
                        }
                    }
                }
                self.wire.step();
            }
            Ok::<_, Violation>(())
        };
        let (found, acted) = tokio::join!(read, act);
        acted?;
        self.gate.outage(None);
        self.gate.release();
        self.house.drained().await?;
        drop(running);
        found
    }
}

async fn start(worker: &mut Option<crate::house::Plan>) -> Result<Option<Resident>, Violation> {
    match worker.take() {
        Some(plan) => plan.start().await.map(Some),
        None => Ok(None),
    }
}
