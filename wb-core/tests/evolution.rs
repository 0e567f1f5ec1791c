//! Old and new programs over one buffer. The clock is paused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use wb_core::testing::ScriptedSink;
use wb_core::{
    CacheError, CodecError, Engine, Entity, EntityOptions, Event, Format, Id, Mechanism, MemoryBuffer, Role, State,
    codec,
};

/// A struct of the entity `player`.
macro_rules! player {
    ($(#[$attr:meta])* $name:ident { $($(#[$field_attr:meta])* $field:ident: $ty:ty),* } $(omits $omits:expr)?) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        $(#[$attr])*
        struct $name { id: u64, $($(#[$field_attr])* $field: $ty),* }

        impl Entity for $name {
            type Key = u64;
            const NAME: &'static str = "player";
            const FORMAT: Format = Format::Json;
            $(const OMITS: &'static [&'static str] = $omits;)?

            fn key(&self) -> u64 {
                self.id
            }

            fn fields() -> Option<&'static [&'static str]> {
                codec::fields::<Self>()
            }

            fn encode(&self) -> Result<Vec<u8>, CodecError> {
                codec::encode(Self::FORMAT, self)
            }

            fn decode(payload: &[u8]) -> Result<Self, CodecError> {
                codec::decode(Self::FORMAT, payload)
            }
        }
    };
}

player!(Old { score: u64 });
player!(New { score: u64, #[serde(default)] rank: Option<u32> });
player!(
    #[serde(deny_unknown_fields)]
    Strict { score: u64 }
);
player!(Renamed {
    #[serde(alias = "score")]
    points: u64
});
player!(Without { #[serde(default)] rank: Option<u32> });

const EVERY: Duration = Duration::from_secs(1);
const FOREVER: Duration = Duration::from_secs(3_600);

fn options() -> EntityOptions {
    EntityOptions::new().flush_every(EVERY).cache_ttl(Duration::from_secs(60))
}

async fn start<T: Entity + Clone>(
    buffer: &MemoryBuffer,
    role: Role,
    options: EntityOptions,
) -> (Engine, ScriptedSink<T>) {
    let sink = ScriptedSink::new();
    let engine = Engine::builder(buffer.clone()).role(role).entity::<T>(sink.clone(), options).start().await.unwrap();
    (engine, sink)
}

fn owns(engine: &Engine) -> usize {
    engine.owned().get("player").unwrap().len()
}

fn new(id: u64) -> New {
    New { id, score: id, rank: Some(7) }
}

fn ids(ids: impl IntoIterator<Item = u64>) -> BTreeSet<Id> {
    ids.into_iter().map(|id| Id::of(&id).unwrap()).collect()
}

fn rows<T: Clone>(sink: &ScriptedSink<T>) -> BTreeSet<Id> {
    sink.rows().into_keys().collect()
}

/// Old engines flush their own records and hold the new ones; a new worker takes everything over.
async fn hold<T: Entity + Clone>(own: impl Fn(u64) -> T) {
    let buffer = MemoryBuffer::new();
    let (old, old_sink) = start::<T>(&buffer, Role::Both, options()).await;
    let mut events = old.events();
    let (writer, _) = start::<New>(&buffer, Role::Writer, options()).await;
    let (olds, news) = (old.cache::<T>().unwrap(), writer.cache::<New>().unwrap());
    for id in 0..50 {
        olds.put(&own(id)).await.unwrap();
        news.put(&new(100 + id)).await.unwrap();
    }
    sleep(5 * EVERY).await;
    assert_eq!(rows(&old_sink), ids(0..50), "nothing of the others is written, and nothing of its own waits");
    assert_eq!(news.get(&100).await.unwrap(), Some(new(100)), "what waits is readable");
    let stats = *old.stats().get("player").unwrap();
    assert!(stats.held >= 4 * 50 && stats.dead_letters == 0 && stats.dirty_keys == 50, "{stats:?}");
    let mut pauses = 0;
    while let Ok(Some(event)) = tokio::time::timeout(EVERY / 2, events.next()).await {
        pauses += usize::from(matches!(event, Event::Held { .. }));
    }
    assert_eq!(pauses, 1, "told once");

    let (worker, new_sink) = start::<New>(&buffer, Role::Worker, options()).await;
    olds.put(&own(50)).await.unwrap();
    sleep(Duration::from_secs(15)).await;
    assert_eq!((owns(&old), owns(&worker)), (0, 16), "the newer worker has all");
    let all = |old: &ScriptedSink<T>| rows(old).union(&rows(&new_sink)).cloned().collect::<BTreeSet<_>>();
    assert_eq!(all(&old_sink), ids((0..=50).chain(100..150)), "either has written what the old one put");
    assert!((100..150).all(|id| new_sink.row(&Id::of(&id).unwrap()) == Some(new(id))), "with their new fields");
    // Without it the old one works again, so that a canary can be taken back.
    assert_eq!(worker.shutdown(FOREVER).await.unwrap().remaining, 0);
    olds.put(&own(51)).await.unwrap();
    sleep(Duration::from_secs(15)).await;
    assert_eq!(owns(&old), 16);
    assert_eq!(all(&old_sink), ids((0..=51).chain(100..150)));
    assert_eq!(old.shutdown(FOREVER).await.unwrap().remaining, 0);
}

#[tokio::test(start_paused = true)]
async fn p1_an_old_worker_leaves_new_fields_to_a_newer_one() {
    hold(|id| Old { id, score: id }).await;
}

#[tokio::test(start_paused = true)]
async fn p1_a_strict_struct_leaves_what_it_cannot_read_to_a_newer_worker() {
    hold(|id| Strict { id, score: id }).await;
}

#[tokio::test(start_paused = true)]
async fn p1_a_record_without_a_field_that_was_removed_waits_for_a_newer_worker() {
    let buffer = MemoryBuffer::new();
    let (old, old_sink) = start::<Old>(&buffer, Role::Both, options()).await;
    let (writer, _) = start::<Without>(&buffer, Role::Writer, options()).await;
    let record = Without { id: 1, rank: None };
    writer.cache().unwrap().put(&record).await.unwrap();
    sleep(5 * EVERY).await;
    assert_eq!((old_sink.writes(), old.stats()["player"].dead_letters), (0, 0));
    let (worker, sink) = start::<Without>(&buffer, Role::Worker, options()).await;
    sleep(Duration::from_secs(15)).await;
    assert_eq!(sink.row(&Id::of(&1_u64).unwrap()), Some(record));
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_field_that_was_removed_or_renamed_is_no_reason_to_wait() {
    let buffer = MemoryBuffer::new();
    let (writer, _) = start::<Old>(&buffer, Role::Writer, options()).await;
    writer.cache::<Old>().unwrap().put(&Old { id: 1, score: 5 }).await.unwrap();
    let (engine, sink) = start::<Renamed>(&buffer, Role::Both, options()).await;
    sleep(2 * EVERY).await;
    assert_eq!(sink.row(&Id::of(&1_u64).unwrap()), Some(Renamed { id: 1, points: 5 }));
    engine.shutdown(FOREVER).await.unwrap();
    writer.cache::<Old>().unwrap().put(&Old { id: 2, score: 5 }).await.unwrap();
    let (engine, sink) = start::<Without>(&buffer, Role::Both, options()).await;
    sleep(2 * EVERY).await;
    assert_eq!(sink.row(&Id::of(&2_u64).unwrap()), Some(Without { id: 2, rank: None }));
    assert_eq!(engine.stats()["player"].held, 0);
}

#[tokio::test(start_paused = true)]
async fn after_a_rollback_records_wait_until_a_person_decides() {
    let buffer = MemoryBuffer::new();
    let (first, _) = start::<Old>(&buffer, Role::Both, options()).await;
    let (newer, _) = start::<New>(&buffer, Role::Writer, options()).await;
    newer.cache::<New>().unwrap().put(&new(1)).await.unwrap();
    newer.shutdown(FOREVER).await.unwrap();
    assert_eq!(first.shutdown(FOREVER).await.unwrap().remaining, 1, "it is counted");
    let (old, sink) = start::<Old>(&buffer, Role::Both, options()).await;
    sleep(5 * EVERY).await;
    assert_eq!(sink.writes(), 0);
    assert_eq!(old.shutdown(FOREVER).await.unwrap().remaining, 1);
    let (old, sink) = start::<Old>(&buffer, Role::Both, options().accept_unknown_fields()).await;
    sleep(5 * EVERY).await;
    assert_eq!(sink.row(&Id::of(&1_u64).unwrap()), Some(Old { id: 1, score: 1 }));
    assert_eq!(old.shutdown(FOREVER).await.unwrap().remaining, 0);
}

#[tokio::test(start_paused = true)]
async fn garbage_is_a_dead_letter_where_nobody_is_newer() {
    let buffer = MemoryBuffer::new();
    let (writer, _) = start::<Old>(&buffer, Role::Writer, options()).await;
    writer.cache::<Old>().unwrap().put(&Old { id: 1, score: 5 }).await.unwrap();
    let (newest, sink) = start::<Missing>(&buffer, Role::Both, options()).await;
    sleep(3 * EVERY).await;
    assert_eq!((sink.writes(), newest.stats()["player"].dead_letters), (0, 1));
    let letter = newest.dead_letters::<Missing>().unwrap().get(&1).await.unwrap().unwrap();
    assert_eq!((letter.kind.as_str(), letter.payload.as_slice()), ("undecodable", &br#"{"id":1,"score":5}"#[..]));
    newest.shutdown(FOREVER).await.unwrap();
    // The fixed struct reads it.
    let (fixed, sink) = start::<Renamed>(&buffer, Role::Both, options()).await;
    assert_eq!(fixed.dead_letters::<Renamed>().unwrap().replay_all().await.unwrap(), 1);
    sleep(3 * EVERY).await;
    assert_eq!(sink.row(&Id::of(&1_u64).unwrap()), Some(Renamed { id: 1, points: 5 }));
}

player!(Missing { points: u64 });

/// The buffer loses the list of shapes, and a process of the old program starts that has never seen the newer one.
#[tokio::test(start_paused = true)]
async fn p1_an_old_worker_holds_what_nobody_explains_while_the_list_is_young() {
    let buffer = MemoryBuffer::new();
    let often = || options().flush_every(Duration::from_millis(50));
    // Which program is older is known from before the loss.
    let (before, _) = start::<Old>(&buffer, Role::Writer, often()).await;
    before.shutdown(FOREVER).await.unwrap();
    let (newer, new_sink) = start::<New>(&buffer, Role::Writer, often()).await;
    sleep(EVERY / 4).await;
    buffer.lose_shapes();
    let news = newer.cache::<New>().unwrap();
    for id in 0..25 {
        news.put(&new(id)).await.unwrap();
    }
    let (old, old_sink) = start::<Old>(&buffer, Role::Both, often()).await;
    row(&old_sink, &new_sink, 100);
    let changed = old.cache::<Old>().unwrap().update(&100, |player| player.score += 1).await;
    assert!(matches!(changed, Err(CacheError::Outdated { .. })), "it waits until it knows: {changed:?}");
    sleep(Duration::from_secs(20)).await;
    assert_eq!(old_sink.writes(), 0, "the newer program has told its shape again");
    assert_eq!(old.shutdown(FOREVER).await.unwrap().remaining, 25);
    let (worker, new_sink) = start::<New>(&buffer, Role::Worker, often()).await;
    sleep(Duration::from_secs(15)).await;
    assert_eq!(rows(&new_sink), ids(0..25));
    assert!((0..25).all(|id| new_sink.row(&Id::of(&id).unwrap()) == Some(new(id))), "with their new fields");
    drop(worker);
}

/// Nobody explains a field: it was left by a program that is gone with the list. Then it is no reason to wait for ever.
#[tokio::test(start_paused = true)]
async fn what_nobody_explains_is_flushed_when_the_list_is_old() {
    let buffer = MemoryBuffer::new();
    let (newer, _) = start::<New>(&buffer, Role::Writer, options()).await;
    newer.cache::<New>().unwrap().put(&new(1)).await.unwrap();
    newer.shutdown(FOREVER).await.unwrap();
    buffer.lose_shapes();
    let (old, sink) = start::<Old>(&buffer, Role::Both, options()).await;
    sleep(3 * EVERY).await;
    assert_eq!(sink.writes(), 0, "whoever knows it may be about to say so");
    sleep(5 * EVERY).await;
    assert_eq!(sink.row(&Id::of(&1_u64).unwrap()), Some(Old { id: 1, score: 1 }));
    old.shutdown(FOREVER).await.unwrap();
}

/// What a program has seen of the list it tells again when the list is lost, also for those who are gone.
#[tokio::test(start_paused = true)]
async fn p1_who_has_seen_a_newer_program_tells_of_it_when_the_list_is_lost() {
    let buffer = MemoryBuffer::new();
    let (old, _) = start::<Old>(&buffer, Role::Writer, options()).await;
    let (newer, _) = start::<New>(&buffer, Role::Writer, options()).await;
    sleep(2 * EVERY).await;
    newer.cache::<New>().unwrap().put(&new(1)).await.unwrap();
    newer.shutdown(FOREVER).await.unwrap();
    buffer.lose_shapes();
    sleep(2 * EVERY).await;
    let (worker, sink) = start::<Old>(&buffer, Role::Both, options()).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!((sink.writes(), worker.stats()["player"].dirty_keys), (0, 1), "it waits for the newer program");
    drop((worker, old));
}

/// A row that both programs see, each with the columns that it knows; the newer one has written it.
fn row(old: &ScriptedSink<Old>, new: &ScriptedSink<New>, id: u64) {
    old.set_row(Id::of(&id).unwrap(), Old { id, score: 10 });
    new.set_row(Id::of(&id).unwrap(), New { id, score: 10, rank: Some(7) });
}

#[tokio::test(start_paused = true)]
async fn p1_a_refused_change_of_an_old_program_leaves_nothing_to_build_on() {
    let buffer = MemoryBuffer::new();
    let (old, old_sink) = start::<Old>(&buffer, Role::Writer, options()).await;
    let (newer, new_sink) = start::<New>(&buffer, Role::Both, options()).await;
    let (olds, news) = (old.cache::<Old>().unwrap(), newer.cache::<New>().unwrap());
    row(&old_sink, &new_sink, 1);
    for n in 0..3 {
        let changed = olds.update(&1, |player| player.score += 1).await;
        assert!(matches!(changed, Err(CacheError::Outdated { .. })), "try {n}: {changed:?}");
    }
    let expected = New { id: 1, score: 11, rank: Some(7) };
    assert_eq!(news.update(&1, |player| player.score += 1).await.unwrap(), expected);
    // What is in the buffer now is whole: the old program keeps what it does not know.
    assert_eq!(olds.update(&1, |player| player.score += 1).await.unwrap(), Old { id: 1, score: 12 });
    sleep(3 * EVERY).await;
    assert_eq!(new_sink.row(&Id::of(&1_u64).unwrap()), Some(New { score: 12, ..expected }));
}

/// The newer program starts between two looks of the old one.
#[tokio::test(start_paused = true)]
async fn p1_what_an_old_program_reads_is_not_what_a_newer_one_builds_on() {
    let buffer = MemoryBuffer::new();
    let (old, old_sink) = start::<Old>(&buffer, Role::Writer, options()).await;
    let (newer, new_sink) = start::<New>(&buffer, Role::Both, options()).await;
    let (olds, news) = (old.cache::<Old>().unwrap(), newer.cache::<New>().unwrap());
    for id in 1..=4 {
        row(&old_sink, &new_sink, id);
        assert_eq!(olds.get(&id).await.unwrap(), Some(Old { id, score: 10 }));
    }
    assert_eq!((news.peek(&1).await.unwrap(), news.state(&1).await.unwrap()), (None, State::Absent), "not whole");
    let expected = |id: u64| New { id, score: 10, rank: Some(7) };
    assert_eq!(news.get(&1).await.unwrap(), Some(expected(1)));
    assert_eq!(news.peek(&1).await.unwrap(), Some(expected(1)), "in place of the other copy");
    assert_eq!(news.get_many(&[1, 2]).await.unwrap(), [Some(expected(1)), Some(expected(2))]);
    assert_eq!(news.peek(&2).await.unwrap(), Some(expected(2)));
    news.update(&3, |player| player.score += 1).await.unwrap();
    let changed = olds.update(&4, |player| player.score += 1).await;
    assert!(matches!(changed, Err(CacheError::Outdated { .. })), "by way of its own copy: {changed:?}");
    sleep(3 * EVERY).await;
    assert_eq!(new_sink.row(&Id::of(&3_u64).unwrap()), Some(New { score: 11, ..expected(3) }));
    assert_eq!(old_sink.writes() + usize::from(new_sink.writes() > 1), 0, "nothing else was changed");

    // What the newer program has loaded has all that the old one knows.
    let loads = old_sink.loads();
    assert_eq!(olds.get(&2).await.unwrap(), Some(Old { id: 2, score: 10 }));
    assert_eq!(old_sink.loads(), loads, "the copy is good enough");
    assert_eq!(olds.update(&2, |player| player.score += 1).await.unwrap(), Old { id: 2, score: 11 });
    assert_eq!(news.get(&2).await.unwrap(), Some(New { score: 11, ..expected(2) }), "it was built on the whole row");
}

/// Where a copy does not say who loaded it, a newer program builds on one without its field.
#[tokio::test(start_paused = true)]
async fn negative_control_p1_copies_that_do_not_say_by_whom() {
    let buffer = MemoryBuffer::new();
    let (old, old_sink) = start::<Old>(&buffer, Role::Writer, options()).await;
    let (newer, new_sink) = start::<New>(&buffer, Role::Both, options().without(Mechanism::CopyLoaders)).await;
    row(&old_sink, &new_sink, 1);
    old.cache::<Old>().unwrap().get(&1).await.unwrap();
    newer.cache::<New>().unwrap().update(&1, |player| player.score += 1).await.unwrap();
    sleep(3 * EVERY).await;
    let lost = New { id: 1, score: 11, rank: None };
    assert_eq!(new_sink.row(&Id::of(&1_u64).unwrap()), Some(lost), "the field is kept");
}

#[tokio::test(start_paused = true)]
async fn p1_what_an_old_program_reads_is_not_read_together_by_a_newer_one() {
    let buffer = MemoryBuffer::new();
    let options = || options().transactions(true);
    let (old, old_sink) = start::<Old>(&buffer, Role::Writer, options()).await;
    let (newer, new_sink) = start::<New>(&buffer, Role::Writer, options()).await;
    for id in 1..=3 {
        row(&old_sink, &new_sink, id);
    }
    old.cache::<Old>().unwrap().get_many(&[1, 2, 3]).await.unwrap();
    let news = newer.cache::<New>().unwrap();
    let expected: Vec<_> = (1..=3).map(|id| Some(New { id, score: 10, rank: Some(7) })).collect();
    assert_eq!(news.get_many(&[1, 2, 3]).await.unwrap(), expected);
    assert_eq!(news.peek(&3).await.unwrap(), expected[2]);
}

player!(Omits { score: u64, #[serde(default, skip_serializing_if = "Option::is_none")] rank: Option<u32> } omits &["rank"]);

/// A record in which a newer program has left its new field out, because it is cleared, looks like an old one. Written by an
/// old program it leaves the column as it is: what was cleared comes back.
#[tokio::test(start_paused = true)]
async fn p1_a_new_field_that_is_cleared_by_leaving_it_out_is_not_flushed_by_an_old_program() {
    let buffer = MemoryBuffer::new();
    let (_old, old_sink) = start::<Old>(&buffer, Role::Both, options()).await;
    // The list of shapes is not young any more.
    sleep(Duration::from_secs(10)).await;
    let (writer, _) = start::<Omits>(&buffer, Role::Writer, options()).await;
    let news = writer.cache::<Omits>().unwrap();
    let cleared = news.put(&Omits { id: 1, score: 2, rank: None }).await.unwrap();
    let told = cleared.persisted_within(Duration::from_secs(30)).await;
    assert!(rows(&old_sink).is_empty(), "a program that does not know `rank` has written the row, and {told:?}");
}
