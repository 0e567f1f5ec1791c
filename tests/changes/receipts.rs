//! Receipts, put_through and write-through between processes.

use std::time::{Duration, Instant};

use write_behind::{BufferErrorKind, CacheError, Mode, Role};
use write_behind_tests::{OwnRedis, refused};

use crate::counted::{Counted, Place, options};

/// The one who waits is not the one who flushes.
#[tokio::test]
async fn a_receipt_is_true_in_another_process_than_the_flusher() {
    let Some(place) = Place::open().await else { return };
    let writer = place.engine(Role::Writer, options()).await;
    let counted = writer.cache::<Counted>().unwrap();
    let early = counted.put(&Counted::new(1, 1)).await.unwrap();
    let limit = Duration::from_millis(200);
    let told = refused(early.persisted_within(limit).await);
    assert!(matches!(told, CacheError::NotPersisted { waited, .. } if waited == limit), "{told:?}");
    let worker = place.engine(Role::Worker, options()).await;
    early.persisted().await.unwrap();
    assert_eq!(place.row(1).await, Some((0, 1)));
    for id in 2..50 {
        let receipt = counted.put(&Counted::new(id, id)).await.unwrap();
        receipt.persisted_within(Duration::from_secs(20)).await.unwrap();
        assert_eq!(place.row(id).await, Some((0, id)), "a receipt says what the database has");
    }
    worker.shutdown(Duration::from_secs(10)).await.unwrap();
    place.close().await;
}

/// A flush interval of an hour: only the write's own wish makes the other process flush.
#[tokio::test]
async fn put_through_makes_another_process_flush() {
    let Some(place) = Place::open().await else { return };
    let slow = options().flush_every(Duration::from_secs(3_600)).persist_within(Duration::from_secs(20));
    let writer = place.engine(Role::Writer, slow.clone()).await;
    let worker = place.engine(Role::Worker, slow.clone()).await;
    let counted = writer.cache::<Counted>().unwrap();
    let begun = Instant::now();
    for id in 1..=5 {
        counted.put_through(&Counted::new(id, 1)).await.unwrap();
        assert_eq!(place.row(id).await, Some((0, 1)));
    }
    println!("five puts through another process took {:.1?}", begun.elapsed());
    let through = place.engine(Role::Writer, slow.mode(Mode::WriteThrough)).await;
    let counted = through.cache::<Counted>().unwrap();
    counted.increment(&1, Counted::SUM, 7).await.unwrap();
    assert_eq!(place.row(1).await, Some((7, 2)));
    counted.delete(&1).await.unwrap();
    assert_eq!(place.row(1).await, None);
    worker.shutdown(Duration::from_secs(10)).await.unwrap();
    place.close().await;
}

/// A Redis that lost the write looks as if it were flushed; a receipt does not say so.
#[tokio::test]
async fn a_lost_write_is_never_said_to_be_persisted() {
    let (Some(place), Some(redis)) = (Place::open().await, OwnRedis::start(&[]).await) else { return };
    let place = Place { redis: redis.url(), ..place };
    let writer = place.engine(Role::Writer, options()).await;
    let counted = writer.cache::<Counted>().unwrap();
    for round in 0..5 {
        let before = counted.put(&Counted::new(round, 1)).await.unwrap();
        redis.run(&["FLUSHALL"]).await;
        let told = refused(before.persisted_within(Duration::from_secs(20)).await);
        let lost = matches!(&told, CacheError::Buffer(error) if error.kind() == BufferErrorKind::Lost);
        assert!(lost, "round {round}: {told:?}");
        assert_eq!(place.row(round).await, None);
    }
    place.close().await;
}
