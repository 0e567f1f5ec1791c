//! Epochs are numbered from anew in a Redis that lost its data; their stamps tell them apart.

use std::sync::Arc;
use std::time::Duration;

use write_behind::buffer::{Clean, Done, Registration, Rotation, Stamp, Step};
use write_behind::{Buffer, Format, Record, RedisBuffer, Scope, Space, Write};

use write_behind_tests::OwnRedis;

use crate::player::id;

const LONG: Duration = Duration::from_secs(60);

async fn put(space: &Arc<dyn Space>, text: &str) {
    let write = Write { partition: 0, id: id(1), record: Record::from_bytes(text.as_bytes().to_vec()) };
    space.put(vec![write]).await.unwrap();
}

async fn take(space: &Arc<dyn Space>, owner: &str) {
    assert_eq!(space.take(&[0], owner, LONG).await.unwrap(), [true], "{owner} takes the lease");
}

#[tokio::test]
async fn p1_a_late_ack_of_a_lost_epoch_takes_no_newer_record() {
    let Some(server) = OwnRedis::start(&["--save", "", "--appendonly", "no"]).await else { return };
    let buffer = RedisBuffer::connect(&server.url()).await.unwrap();
    let scope = Arc::new(Scope::new("wb", "player", 1));
    let space = buffer.space(Registration::new(scope, Format::Json)).await.unwrap();
    let clean = Clean { ttl: LONG, negative_ttl: LONG };
    put(&space, "1").await;
    take(&space, "a").await;
    let first = Stamp::fresh();
    assert_eq!(space.rotate(0, "a", first).await.unwrap(), Rotation::Epoch(1));
    // While the first worker writes to the sink, Redis loses everything, and another worker has the partition.
    redis::cmd("FLUSHALL").exec_async(&mut server.plain().await).await.unwrap();
    put(&space, "2").await;
    take(&space, "b").await;
    let second = Stamp::fresh();
    assert_eq!(space.rotate(0, "b", second).await.unwrap(), Rotation::Epoch(1), "numbers start anew");
    space.release(&[0], "b").await.unwrap();
    take(&space, "a").await;
    let late = Step { partition: 0, owner: "a", epoch: 1, stamp: first };
    assert_eq!(space.ack(&late, &[id(1)], clean).await.unwrap().done, Done::NotOwner);
    assert_eq!(space.status(0).await.unwrap().flushing, 1, "what was written after the loss is still dirty");
    // Whoever has the lease now flushes it, under a stamp of its own.
    let third = Stamp::fresh();
    assert_eq!(space.rotate(0, "a", third).await.unwrap(), Rotation::Epoch(1));
    let step = Step { stamp: third, ..late };
    assert_eq!(space.ack(&step, &[id(1)], clean).await.unwrap().done, Done::Epoch);
    buffer.close().await;
}
