//! The scripted sink keeps the contract of sinks, and does what its script says.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod note;
mod player;

use std::sync::Arc;

use note::Note;
use player::Player;
use wb_core::testing::{Outcome, ScriptedSink, Specimen, sink as suite};
use wb_core::{Batch, Delete, Entity, ErrorKind, Fence, Id, Scope, Sink, Upsert};

fn scope() -> Arc<Scope> {
    Arc::new(Scope::new("test", Player::NAME, 16))
}

fn id(n: u64) -> Id {
    Id::of(&n).unwrap()
}

fn upserts(fences: Vec<Fence>, ids: impl IntoIterator<Item = u64>) -> Batch<Player> {
    let upserts = ids.into_iter().map(|n| Upsert::new(id(n), Player::specimen(n))).collect();
    Batch::new(scope(), fences, upserts, Vec::new())
}

#[tokio::test]
async fn passes_the_suite() {
    suite::all(&ScriptedSink::<Player>::new()).await;
    suite::all(&ScriptedSink::<Player>::without_fencing()).await;
}

#[tokio::test]
async fn passes_the_suite_behind_a_trait_object() {
    let sink: Arc<dyn Sink<Player>> = Arc::new(ScriptedSink::new());
    suite::all(&*sink).await;
}

#[tokio::test]
async fn passes_the_suite_with_a_version() {
    suite::all(&ScriptedSink::<Note>::new()).await;
}

#[tokio::test]
async fn refused_records_are_named_and_the_others_land() {
    let sink = ScriptedSink::<Player>::new();
    let bad = Player::specimen(999_999);
    let refused = id(bad.id);
    sink.refuse(move |id| *id == refused);
    suite::refuses(&sink, bad.clone()).await;

    sink.accept();
    let refused = id(bad.id);
    sink.refuse_whole(ErrorKind::Rejected, move |id| *id == refused);
    suite::refuses(&sink, bad).await;
}

#[tokio::test]
async fn fails_as_scripted() {
    let sink = ScriptedSink::<Player>::new();
    sink.fail_next(ErrorKind::Transient);
    sink.lose_next_reply(ErrorKind::Unavailable);
    let batch = upserts(Vec::new(), 0..3);

    assert_eq!(sink.write(&batch).await.unwrap_err().kind(), ErrorKind::Transient);
    assert!(sink.rows().is_empty());
    assert_eq!(sink.write(&batch).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(sink.rows().len(), 3);
    assert!(sink.write(&batch).await.is_ok());
    let outcomes: Vec<Outcome> = sink.log().into_iter().map(|entry| entry.outcome).collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Failed(ErrorKind::Transient),
            Outcome::ReplyLost(ErrorKind::Unavailable),
            Outcome::Written { refused: Vec::new(), stale: Vec::new() }
        ]
    );

    sink.fail_always(ErrorKind::Misconfigured);
    assert_eq!(sink.open(&scope()).await.unwrap_err().kind(), ErrorKind::Misconfigured);
    assert_eq!(sink.load(&[1]).await.unwrap_err().kind(), ErrorKind::Misconfigured);
    assert_eq!(sink.write(&batch).await.unwrap_err().kind(), ErrorKind::Misconfigured);
    sink.recover();
    assert_eq!(sink.load(&[1, 7]).await.unwrap(), [Player::specimen(1)]);
}

#[tokio::test]
async fn a_held_write_waits_and_is_fenced_when_the_partition_moved_on() {
    let sink = ScriptedSink::<Player>::new();
    let old = sink.fence(&scope(), 3).await.unwrap().unwrap();
    sink.hold();
    let late = tokio::spawn({
        let sink = sink.clone();
        async move { sink.write(&upserts(vec![old], 0..3)).await }
    });
    sink.waiting(1).await;
    assert!(sink.rows().is_empty());

    let new = sink.fence(&scope(), 3).await.unwrap().unwrap();
    assert!(new.generation > old.generation);
    sink.release();
    assert_eq!(late.await.unwrap().unwrap_err().kind(), ErrorKind::Fenced);
    assert!(sink.rows().is_empty());
    assert!(sink.write(&upserts(vec![new], 0..3)).await.is_ok());
}

#[tokio::test]
async fn history_tells_the_states_of_one_record() {
    let sink = ScriptedSink::<Player>::new();
    assert!(sink.write(&upserts(Vec::new(), [7])).await.is_ok());
    sink.fail_next(ErrorKind::Transient);
    let delete = Batch::new(scope(), Vec::new(), Vec::new(), vec![Delete::new(id(7), 7)]);
    assert!(sink.write(&delete).await.is_err());
    assert!(sink.write(&delete).await.is_ok());
    assert_eq!(sink.history(&id(7)), [Some(Player::specimen(7)), None]);
    assert_eq!(sink.row(&id(7)), None);
}
