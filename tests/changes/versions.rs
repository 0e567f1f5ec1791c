//! Optimistic locking between processes.

use std::time::Duration;

use futures::future::join_all;
use sea_orm::ConnectionTrait;
use write_behind::{CacheError, Role, State};

use crate::counted::{Counted, Place, options};

/// Of many that read the same state and put their own, one gets in at a time; the others are told, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_put_is_a_conflict_between_processes() {
    let Some(place) = Place::open().await else { return };
    let engines = [place.engine(Role::Both, options()).await, place.engine(Role::Both, options()).await];
    let first = engines[0].cache::<Counted>().unwrap();
    first.put(&Counted::new(1, 1)).await.unwrap();
    let tasks = (0..8_usize).map(|task| {
        let counted = engines[task % 2].cache::<Counted>().unwrap();
        tokio::spawn(async move {
            let (mut stored, mut conflicts) = (0_i64, 0_u32);
            while stored < 25 {
                let mut found = counted.get(&1).await.unwrap().unwrap();
                found.total += 1;
                found.version += 1;
                match counted.put(&found).await {
                    Ok(_) => stored += 1,
                    Err(CacheError::Conflict { stored, offered, .. }) => {
                        assert!(offered <= stored);
                        conflicts += 1;
                    }
                    Err(other) => panic!("{}", write_behind_tests::chain(&other)),
                }
            }
            conflicts
        })
    });
    let conflicts: u32 = join_all(tasks).await.into_iter().map(Result::unwrap).sum();
    println!("200 puts got in, {conflicts} were conflicts");
    assert!(conflicts > 0, "nobody was in anybody's way: the test says nothing");
    first.flush().await.unwrap();
    assert_eq!(place.row(1).await, Some((200, 201)));
    for engine in engines {
        engine.shutdown(Duration::from_secs(10)).await.unwrap();
    }
    place.close().await;
}

/// What no buffer holds is compared with the sink's row.
#[tokio::test]
async fn a_version_that_only_the_sink_knows_counts() {
    let Some(place) = Place::open().await else { return };
    let engine = place.engine(Role::Both, options().cache_ttl(Duration::ZERO)).await;
    let counted = engine.cache::<Counted>().unwrap();
    counted.put(&Counted::new(1, 7)).await.unwrap().persisted().await.unwrap();
    let told = counted.put(&Counted { note: "stale".to_owned(), ..Counted::new(1, 7) }).await;
    assert!(matches!(told, Err(CacheError::Conflict { stored: 7, offered: 7, .. })), "{told:?}");
    assert_eq!(counted.update(&1, |counted| counted.total = 5).await.unwrap().version, 8);
    counted.flush().await.unwrap();
    assert_eq!(place.row(1).await, Some((5, 8)));
    // Deleted past the framework while a clean anchor is still there, a change sees what it was compared with.
    counted.delete(&1).await.unwrap().persisted().await.unwrap();
    assert!(matches!(counted.update(&1, |_| {}).await, Err(CacheError::Absent { .. })));
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
    place.close().await;
}

/// Another program's row has a version far above ours: no receipt says that our write is there, in whatever process it is
/// asked, and when.
#[tokio::test]
async fn a_write_that_the_sink_leaves_out_is_told_between_processes() {
    let Some(place) = Place::open().await else { return };
    let options = || options().cache_ttl(Duration::from_secs(600));
    let writer = place.engine(Role::Writer, options()).await;
    let worker = place.engine(Role::Worker, options()).await;
    let counted = writer.cache::<Counted>().unwrap();
    counted.put(&Counted::new(1, 1)).await.unwrap().persisted().await.unwrap();
    counted.put(&Counted::new(2, 1)).await.unwrap().persisted().await.unwrap();
    place.connect().await.execute_unprepared("UPDATE counted_things SET version = 100 WHERE id = 1").await.unwrap();
    let receipt = counted.put(&Counted::new(1, 2)).await.unwrap();
    let told = receipt.persisted().await;
    assert!(matches!(&told, Err(CacheError::Stale { id, version: 2 }) if id == "1"), "{told:?}");
    counted.put(&Counted::new(2, 2)).await.unwrap().persisted().await.unwrap();
    let later = place.engine(Role::Writer, options()).await;
    let elsewhere = later.cache::<Counted>().unwrap();
    let told = elsewhere.receipt(&1).unwrap().persisted().await;
    assert!(matches!(&told, Err(CacheError::Stale { version: 2, .. })), "{told:?}");
    assert_eq!(elsewhere.state(&1).await.unwrap(), State::Stale);
    assert_eq!(elsewhere.state(&2).await.unwrap(), State::Clean);
    assert_eq!(elsewhere.increment(&1, Counted::SUM, 7).await.unwrap(), 7);
    elsewhere.receipt(&1).unwrap().persisted().await.unwrap();
    receipt.persisted().await.unwrap();
    assert_eq!(place.row(1).await, Some((7, 101)));
    for engine in [writer, worker, later] {
        engine.shutdown(Duration::from_secs(10)).await.unwrap();
    }
    place.close().await;
}
