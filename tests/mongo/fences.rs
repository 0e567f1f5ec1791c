//! P3 on a replica set: after a partition was fenced, nothing of an earlier owner lands.

use std::time::Duration;

use futures::future::join_all;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::error::Error;
use mongodb::{ClientSession, Database};
use write_behind::mongo::{MongoSink, to_raw};
use write_behind::{Engine, EntityOptions, ErrorKind, Fence, MemoryBuffer, Scope, Sink, SinkError};

use crate::entities::{Membership, Player};
use crate::server::{fenced, on_replica_set, opened, within};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Slots of a partition.
const SLOTS: i32 = 8;

fn scope() -> Scope {
    Scope::new("test", "players", 16)
}

pub(crate) async fn try_fence(sink: &MongoSink, partition: u16) -> Result<Fence, SinkError> {
    Sink::<Player>::fence(sink, &scope(), partition).await.map(Option::unwrap)
}

pub(crate) async fn fence(sink: &MongoSink, partition: u16) -> Fence {
    try_fence(sink, partition).await.unwrap()
}

/// A player with a score of its own.
pub(crate) fn player(id: i64, score: i64) -> Player {
    Player { score, ..Player::new(id) }
}

pub(crate) async fn write(sink: &MongoSink, fences: &[Fence], rows: &[Player]) -> Result<(), SinkError> {
    let report = sink.write(&fenced(fences, rows, &[])).await?;
    assert!(report.rejected.is_empty(), "{:?}", report.rejected);
    Ok(())
}

pub(crate) async fn score(sink: &MongoSink, id: i64) -> Option<i64> {
    Sink::<Player>::load(sink, &[id]).await.unwrap().pop().map(|player| player.score)
}

fn kind(outcome: Result<(), SinkError>) -> ErrorKind {
    outcome.unwrap_err().kind()
}

/// What a batch of an owner does first, in a transaction that stays open.
pub(crate) async fn check(
    database: &Database,
    session: &mut ClientSession,
    fence: Fence,
    slot: i32,
) -> Result<u64, Error> {
    let id = doc! { "namespace": "test", "entity": "players", "partition": i32::from(fence.partition), "slot": slot };
    let filter = doc! { "_id": id, "generation": i64::try_from(fence.generation).unwrap() };
    let fences = database.collection::<Document>("wb_fence");
    fences.update_one(filter, doc! { "$inc": { "seq": 1 } }).session(session).await.map(|done| done.matched_count)
}

async fn insert(database: &Database, session: &mut ClientSession, id: i64) -> Result<(), Error> {
    let players = database.collection::<RawDocumentBuf>("players");
    players.insert_one(to_raw(&Player::new(id)).unwrap()).session(session).await.map(|_| ())
}

/// The last generation of partition 0.
async fn generation(database: &Database) -> i64 {
    let filter = doc! { "_id.partition": 0, "_id.slot": { "$exists": false } };
    let issued = database.collection::<Document>("wb_fence").find_one(filter).await.unwrap().unwrap();
    issued.get_i64("generation").unwrap()
}

#[tokio::test]
async fn p3_a_stale_owner_writes_nothing() {
    on_replica_set(|database| async move {
        let (old, new) = (opened::<Player>(&database).await, opened::<Player>(&database).await);
        let (mine, other) = (fence(&old, 3).await, fence(&old, 4).await);
        write(&old, &[mine, other], &[player(1, 1), player(2, 1)]).await.unwrap();
        let newer = fence(&new, 3).await;
        assert!(newer.generation > mine.generation);

        assert_eq!(kind(write(&old, &[mine], &[player(1, 2)]).await), ErrorKind::Fenced);
        // One lost partition stops the whole batch, deletes included.
        assert_eq!(kind(write(&old, &[mine, other], &[player(1, 2), player(2, 2)]).await), ErrorKind::Fenced);
        let deletes = old.write(&fenced(&[other, mine], &[], &[player(1, 1), player(2, 1)])).await;
        assert_eq!(deletes.unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!((score(&new, 1).await, score(&new, 2).await), (Some(1), Some(1)));

        // What it still has, it still writes; and so does the new owner.
        write(&old, &[other], &[player(2, 3)]).await.unwrap();
        write(&new, &[newer], &[player(1, 3)]).await.unwrap();
        assert_eq!((score(&new, 1).await, score(&new, 2).await), (Some(3), Some(3)));
    })
    .await;
}

#[tokio::test]
async fn p3_a_generation_that_was_never_issued_writes_nothing() {
    on_replica_set(|database| async move {
        let sink = opened::<Player>(&database).await;
        assert_eq!(kind(write(&sink, &[Fence::new(0, 1)], &[player(1, 1)]).await), ErrorKind::Fenced);
        let mine = fence(&sink, 0).await;
        for generation in [0, mine.generation - 1, mine.generation + 1, u64::MAX] {
            let foreign = Fence::new(0, generation);
            assert_eq!(kind(write(&sink, &[foreign], &[player(1, 1)]).await), ErrorKind::Fenced);
            assert_eq!(kind(write(&sink, &[mine, foreign], &[player(1, 1)]).await), ErrorKind::Fenced);
        }
        // The same one twice is one.
        write(&sink, &[mine, mine], &[player(1, 1)]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn p3_a_partition_is_fenced_in_one_namespace_and_entity_only() {
    on_replica_set(|database| async move {
        let sink = opened::<Player>(&database).await;
        let mine = fence(&sink, 0).await;
        Sink::<Player>::fence(&sink, &Scope::new("other", "players", 16), 0).await.unwrap().unwrap();
        Sink::<Membership>::fence(&sink, &Scope::new("test", "memberships", 16), 0).await.unwrap().unwrap();
        fence(&sink, 1).await;
        write(&sink, &[mine], &[player(1, 1)]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn p3_a_new_owner_waits_for_the_old_owners_open_transaction() {
    on_replica_set(|database| async move {
        let (old, new) = (opened::<Player>(&database).await, opened::<Player>(&database).await);
        for slot in 0..SLOTS {
            let mine = fence(&old, 3).await;
            let mut session = database.client().start_session().await.unwrap();
            session.start_transaction().await.unwrap();
            assert_eq!(check(&database, &mut session, mine, slot).await.unwrap(), 1);
            insert(&database, &mut session, i64::from(slot)).await.unwrap();
            let mut fencing = Box::pin(fence(&new, 3));
            let early = tokio::time::timeout(Duration::from_millis(100), &mut fencing).await;
            assert!(early.is_err(), "slot {slot}: fenced while a transaction of the old owner was open");
            session.commit_transaction().await.unwrap();
            within(LIMIT, fencing).await;
            assert_eq!(score(&new, i64::from(slot)).await, Some(0));
            assert_eq!(kind(write(&old, &[mine], &[player(100, 1)]).await), ErrorKind::Fenced);
        }
    })
    .await;
}

#[tokio::test]
async fn p3_an_old_transaction_that_is_overtaken_before_its_check_ends() {
    on_replica_set(|database| async move {
        let (old, new) = (opened::<Player>(&database).await, opened::<Player>(&database).await);
        for slot in 0..SLOTS {
            let mine = fence(&old, 3).await;
            let mut session = database.client().start_session().await.unwrap();
            session.start_transaction().await.unwrap();
            // From here on, the transaction sees the generation that is its own.
            insert(&database, &mut session, i64::from(slot)).await.unwrap();
            fence(&new, 3).await;
            let error = check(&database, &mut session, mine, slot).await.unwrap_err();
            assert!(error.contains_label("TransientTransactionError"), "{error}");
            assert!(session.commit_transaction().await.is_err());
            assert_eq!(score(&new, i64::from(slot)).await, None);
        }
    })
    .await;
}

#[tokio::test]
async fn p3_of_owners_that_fence_at_the_same_time_the_last_one_writes() {
    on_replica_set(|database| async move {
        let mut sinks = Vec::new();
        for _ in 0..8 {
            sinks.push(opened::<Player>(&database).await);
        }
        for round in 0..5 {
            let mut fences: Vec<(Fence, &MongoSink)> =
                join_all(sinks.iter().map(|sink| fence(sink, round))).await.into_iter().zip(&sinks).collect();
            fences.sort_by_key(|(fence, _)| fence.generation);
            fences.dedup_by_key(|(fence, _)| fence.generation);
            assert_eq!(fences.len(), sinks.len(), "a generation was issued twice");
            let (last, sink) = fences.pop().unwrap();
            for (fence, sink) in fences {
                assert_eq!(kind(write(sink, &[fence], &[player(1, 1)]).await), ErrorKind::Fenced);
            }
            write(sink, &[last], &[player(1, 2)]).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn p3_generations_outlive_the_buffer_and_even_the_collection() {
    on_replica_set(|database| async move {
        let mut last = 0;
        for round in 0..3 {
            // A buffer that knows nothing of the one before.
            let engine = Engine::builder(MemoryBuffer::new())
                .namespace("test")
                .entity::<Player>(MongoSink::new(database.clone()), EntityOptions::new())
                .start()
                .await
                .unwrap();
            let next = generation(&database).await;
            assert!(next > last, "round {round}: generation {next} after {last}");
            last = next;
            engine.shutdown(LIMIT).await.unwrap();
        }
        let sink = opened::<Player>(&database).await;
        let stale = fence(&sink, 0).await;
        database.collection::<Document>("wb_fence").drop().await.unwrap();
        assert_eq!(kind(write(&sink, &[stale], &[player(1, 1)]).await), ErrorKind::Fenced);
        assert!(fence(&sink, 0).await.generation > stale.generation);
        assert_eq!(kind(write(&sink, &[stale], &[player(1, 1)]).await), ErrorKind::Fenced);
    })
    .await;
}

#[tokio::test]
async fn batches_of_one_worker_that_share_their_partitions_run_side_by_side() {
    on_replica_set(|database| async move {
        let sink = opened::<Player>(&database).await;
        let fences = join_all((0..16).map(|partition| fence(&sink, partition))).await;
        // More than there are slots: some wait, none fails.
        let rows = |n: i64| Player::range(n * 200..(n + 1) * 200);
        for outcome in join_all((0..20).map(|n| write_all(&sink, &fences, rows(n)))).await {
            outcome.unwrap();
        }
        let count = database.collection::<Document>("players").count_documents(doc! {}).await.unwrap();
        assert_eq!(count, 4_000);
    })
    .await;
}

async fn write_all(sink: &MongoSink, fences: &[Fence], rows: Vec<Player>) -> Result<(), SinkError> {
    write(sink, fences, &rows).await
}

#[tokio::test]
async fn p8_refused_records_are_named_behind_fences() {
    on_replica_set(|database| async move {
        database.create_collection("players").validator(doc! { "score": { "$lt": 10 } }).await.unwrap();
        let sink = opened::<Player>(&database).await;
        let mine = [fence(&sink, 0).await, fence(&sink, 1).await];
        let rows: Vec<Player> = (0..60).map(|id| player(id, if id % 10 == 3 { 11 } else { 1 })).collect();
        let report = sink.write(&fenced(&mine, &rows, &[])).await.unwrap();
        assert_eq!(report.rejected.len(), 6);
        let count = database.collection::<Document>("players").count_documents(doc! {}).await.unwrap();
        assert_eq!(count, 54);
    })
    .await;
}

#[tokio::test]
async fn p3_a_batch_that_is_given_up_does_not_hold_its_fence() {
    on_replica_set(|database| async move {
        let sink = opened::<Player>(&database).await;
        let rows = Player::range(0..2_000);
        for millis in [1, 5, 10, 20, 40] {
            let mine = fence(&sink, 0).await;
            // Dropped in the middle.
            let _ = tokio::time::timeout(Duration::from_millis(millis), write(&sink, &[mine], &rows)).await;
            // The server would take a minute.
            within(Duration::from_secs(20), fence(&sink, 0)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn p3_a_fence_that_is_held_is_transient_until_it_is_free() {
    on_replica_set(|database| async move {
        let sink = opened::<Player>(&database).await;
        let mine = fence(&sink, 3).await;
        let mut session = database.client().start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        check(&database, &mut session, mine, 5).await.unwrap();
        let hasty = sink.clone().command_timeout(Duration::from_millis(400));
        for _ in 0..3 {
            let error = within(LIMIT, try_fence(&hasty, 3)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Transient, "{}", error.chain());
            assert!(error.to_string().contains("transactionLifetimeLimitSeconds"), "{error}");
        }
        // Its neighbours are free.
        within(LIMIT, fence(&hasty, 4)).await;
        session.abort_transaction().await.unwrap();
        within(LIMIT, fence(&sink, 3)).await;
    })
    .await;
}
