//! An older version never replaces a newer one, and batches that are all or nothing.

use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend};
use write_behind::buffer::Registration;
use write_behind::{
    Buffer, CacheError, Engine, Entity, EntityOptions, ErrorKind, Id, MemoryBuffer, Record, Scope, Sink, State, Write,
    partition_of,
};

use crate::databases::Database;
use crate::entities::{batch, create, load, try_write, write};

/// Nullable, as a column is that was added later.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, write_behind::WriteBehind)]
#[wb(name = "version_note", table = "version_note")]
struct Note {
    #[wb(key)]
    id: i64,
    #[wb(version)]
    version: i64,
    text: String,
}

fn note(id: i64, version: i64) -> Note {
    Note { id, version, text: format!("ours {id} at {version}") }
}

async fn foreign(sink: &write_behind::SqlSink, text: &str) {
    sink.db().execute_unprepared(text).await.unwrap();
}

fn id(n: i64) -> Id {
    Id::of(&n).unwrap()
}

async fn versions_of_other_programs(database: Database) {
    let sink = &database.sink;
    foreign(sink, "DROP TABLE IF EXISTS version_note").await;
    foreign(sink, "CREATE TABLE version_note (id bigint PRIMARY KEY, version bigint, text varchar(50) UNIQUE)").await;
    // A row without a version is older than all.
    foreign(sink, "INSERT INTO version_note VALUES (1, NULL, 'foreign 1'), (2, 9, 'foreign 2'), (3, 5, 'foreign 3')")
        .await;
    let rows: Vec<Note> = (1..=4).map(|id| Note { text: format!("ours {id}"), ..note(id, 5) }).collect();
    let report = write(sink, &rows, &[]).await;
    assert_eq!(report.stale, [id(2)]);
    let mut found = load::<Note>(sink, &[1, 2, 3, 4]).await;
    found.sort_by_key(|note| note.id);
    let texts: Vec<&str> = found.iter().map(|note| note.text.as_str()).collect();
    assert_eq!(texts, ["ours 1", "foreign 2", "ours 3", "ours 4"]);
    assert_eq!(found[1].version, 9);

    // Beside a refused row: its own collision is not what the guard hides.
    let rows = [note(2, 8), Note { text: "ours 1".into(), ..note(5, 1) }, note(6, 1), note(1, 4)];
    let report = try_write(sink, &rows, &[4]).await.unwrap();
    let refused: Vec<_> = report.rejected.iter().map(|(id, error)| (id.clone(), error.kind())).collect();
    assert_eq!(refused, [(id(5), ErrorKind::Rejected)]);
    assert_eq!(report.stale, [id(1), id(2)]);
    let mut found: Vec<_> = load::<Note>(sink, &[1, 2, 4, 5, 6]).await.into_iter().map(|n| (n.id, n.version)).collect();
    found.sort_unstable();
    assert_eq!(found, [(1, 5), (2, 9), (6, 1)]);
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, write_behind::WriteBehind)]
#[wb(name = "version_trade", table = "version_trade")]
struct Trade {
    #[wb(key)]
    id: i64,
    party: String,
}

async fn a_whole_batch_names_the_refused_row_and_writes_nothing(database: Database) {
    let sink = &database.sink;
    assert!(Sink::<Trade>::writes_whole(sink).await.unwrap());
    foreign(sink, "DROP TABLE IF EXISTS version_trade").await;
    foreign(sink, "CREATE TABLE version_trade (id bigint PRIMARY KEY, party varchar(50) UNIQUE)").await;
    let trade = |id: i64, party: &str| Trade { id, party: party.into() };
    write(sink, &[trade(1, "ann"), trade(2, "bob")], &[]).await;
    for rows in [vec![trade(3, "cid"), trade(4, "bob"), trade(5, "dot")], vec![trade(4, "bob")]] {
        let error = sink.write(&batch(&rows, &[1]).whole()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert!(error.chain().contains("`4`"), "{}", error.chain());
        assert_eq!(load::<Trade>(sink, &[1, 3, 4, 5]).await, [trade(1, "ann")]);
    }
    let error = sink.write(&batch(&[trade(4, "bob")], &[]).whole()).await.unwrap_err();
    assert!(error.chain().contains("`4`"), "{}", error.chain());
    let report = sink.write(&batch(&[trade(3, "cid"), trade(4, "dot")], &[1]).whole()).await.unwrap();
    assert!(report.rejected.is_empty());
    assert_eq!(load::<Trade>(sink, &[1, 3, 4]).await.len(), 2);
}

/// As after a Redis that was restored from an old copy of its data.
async fn p3_dirty_records_that_come_back_replace_no_newer_rows(database: Database) {
    let sink = &database.sink;
    create::<Old>(sink).await;
    let buffer = MemoryBuffer::new();
    let options = EntityOptions::new().flush_every(Duration::from_millis(20)).cache_ttl(Duration::from_secs(600));
    let engine = Engine::builder(buffer.clone()).entity::<Old>(sink.clone(), options).start().await.unwrap();
    let cache = engine.cache::<Old>().unwrap();
    cache.put(&Old { id: 1, version: 5 }).await.unwrap();
    cache.flush().await.unwrap();
    let scope = Arc::new(Scope::new("wb", Old::NAME, 16));
    let space = buffer.space(Registration::new(scope, Old::FORMAT)).await.unwrap();
    let record = Record::from_bytes(Old { id: 1, version: 3 }.encode().unwrap());
    space.put(vec![Write { partition: partition_of(&id(1), 16), id: id(1), record }]).await.unwrap();
    cache.flush().await.unwrap();
    assert_eq!(load::<Old>(sink, &[1]).await, [Old { id: 1, version: 5 }]);
    assert_eq!(cache.get(&1).await.unwrap(), Some(Old { id: 1, version: 5 }));
    assert_eq!(engine.stats()[Old::NAME].stale, 1);
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// As `Note`, in a table of its own.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, write_behind::WriteBehind)]
#[wb(name = "version_guarded", table = "version_guarded")]
struct Guarded {
    #[wb(key)]
    id: i64,
    #[wb(version)]
    version: i64,
    text: String,
}

fn guarded(id: i64, version: i64) -> Guarded {
    Guarded { id, version, text: format!("ours {id} at {version}") }
}

/// Another program's row has a version far above ours. A transaction that writes such a record is refused.
async fn a_write_that_the_version_guard_leaves_out_is_told(database: Database) {
    let sink = &database.sink;
    foreign(sink, "DROP TABLE IF EXISTS version_guarded").await;
    foreign(sink, "CREATE TABLE version_guarded (id bigint PRIMARY KEY, version bigint, text varchar(50) UNIQUE)")
        .await;
    let options = EntityOptions::new().flush_every(Duration::from_millis(20)).cache_ttl(Duration::from_secs(600));
    let builder = Engine::builder(MemoryBuffer::new()).entity::<Guarded>(sink.clone(), options.transactions(true));
    let engine = builder.start().await.unwrap();
    let cache = engine.cache::<Guarded>().unwrap();
    for id in [1, 2, 3] {
        cache.put(&guarded(id, 1)).await.unwrap().persisted().await.unwrap();
    }
    foreign(sink, "UPDATE version_guarded SET version = 100 WHERE id <> 2").await;
    let receipts = [cache.put(&guarded(1, 2)).await.unwrap(), cache.put(&guarded(2, 2)).await.unwrap()];
    let told = receipts[0].persisted().await;
    assert!(matches!(&told, Err(CacheError::Stale { id, version: 2 }) if id == "1"), "{told:?}");
    receipts[1].persisted().await.unwrap();
    assert_eq!(cache.state(&1).await.unwrap(), State::Stale);

    // Of a transaction all is left out, and kept.
    engine.transaction(|tx| (2..=3).try_for_each(|id| tx.put(&guarded(id, 3)))).await.unwrap();
    for id in [2, 3] {
        let told = cache.receipt(&id).unwrap().persisted().await;
        assert!(matches!(&told, Err(CacheError::DeadLettered { reason, .. }) if reason.contains("newer")), "{told:?}");
    }
    assert_eq!(engine.stats()[Guarded::NAME].stale, 1);

    // What builds on the row that stands gets in.
    assert_eq!(cache.update(&1, |row| row.text = "ours at last".into()).await.unwrap().version, 101);
    cache.receipt(&1).unwrap().persisted().await.unwrap();
    receipts[0].persisted().await.unwrap();
    let mut found: Vec<_> = load::<Guarded>(sink, &[1, 2, 3]).await.into_iter().map(|n| (n.id, n.version)).collect();
    found.sort_unstable();
    assert_eq!(found, [(1, 101), (2, 2), (3, 100)]);
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
    foreign(sink, "DROP TABLE version_guarded").await;
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, write_behind::WriteBehind)]
#[wb(name = "version_old", table = "version_old")]
struct Old {
    #[wb(key)]
    id: i64,
    #[wb(version)]
    version: u64,
}

mod keys {
    use sea_orm::entity::prelude::*;

    /// As SeaORM generates it from a table with a sequence.
    #[derive(
        Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, DeriveEntityModel, write_behind::WriteBehind,
    )]
    #[sea_orm(table_name = "version_keys")]
    #[wb(name = "version_keys")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, write_behind::WriteBehind)]
#[wb(name = "version_made", table = "version_keys")]
struct Made {
    #[wb(key)]
    id: i64,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, write_behind::WriteBehind)]
#[wb(name = "version_own", table = "version_keys", client_keys)]
struct Own {
    #[wb(key)]
    id: i64,
}

async fn keys_that_the_database_makes_are_refused_at_start(database: Database) {
    let sink = &database.sink;
    let tables: &[&str] = match sink.db().get_database_backend() {
        DbBackend::Postgres => &["bigserial PRIMARY KEY", "bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"],
        DbBackend::MySql => &["bigint AUTO_INCREMENT PRIMARY KEY"],
        _ => &["integer PRIMARY KEY AUTOINCREMENT"],
    };
    let plain = match sink.db().get_database_backend() {
        DbBackend::Sqlite => "integer PRIMARY KEY",
        _ => "bigint PRIMARY KEY",
    };
    let builder = || Engine::builder(MemoryBuffer::new());
    for column in tables {
        foreign(sink, "DROP TABLE IF EXISTS version_keys").await;
        foreign(sink, &format!("CREATE TABLE version_keys (id {column})")).await;
        let error = builder().entity::<Made>(sink.clone(), EntityOptions::new()).start().await.unwrap_err().to_string();
        assert!(error.contains("`id`") && error.contains("client_keys") && error.contains("Engine::ids"), "{error}");
        let engine = builder().entity::<Own>(sink.clone(), EntityOptions::new()).start().await.unwrap();
        let ids = engine.ids::<Own>(10).unwrap();
        let row = Own { id: ids.next().await.unwrap() };
        engine.cache::<Own>().unwrap().put(&row).await.unwrap();
        engine.shutdown(Duration::from_secs(5)).await.unwrap();
        assert_eq!(load::<Own>(sink, &[row.id]).await, [row]);
    }
    foreign(sink, "DROP TABLE IF EXISTS version_keys").await;
    foreign(sink, &format!("CREATE TABLE version_keys (id {plain})")).await;
    let engine = builder().entity::<Made>(sink.clone(), EntityOptions::new()).start().await.unwrap();
    assert_eq!(Sink::<Made>::highest_key(sink).await.unwrap(), None);
    write(sink, &[Made { id: 7 }, Made { id: 41 }], &[]).await;
    assert_eq!(Sink::<Made>::highest_key(sink).await.unwrap(), Some(41));
    let made = engine.ids::<Made>(5).unwrap().next().await.unwrap();
    assert!(made > 41, "{made}");
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
    // SeaORM says that the database makes the key, whatever the table is like.
    let error = builder().entity::<keys::Model>(sink.clone(), EntityOptions::new()).start().await.unwrap_err();
    assert!(error.to_string().contains("client_keys"), "{error}");
    foreign(sink, "DROP TABLE version_keys").await;
}

async fn composite_and_text_keys_have_no_highest(database: Database) {
    let sink = &database.sink;
    create::<Part>(sink).await;
    write(sink, from_ref(&Part { a: 1, b: 2 }), &[]).await;
    assert_eq!(Sink::<Part>::highest_key(sink).await.unwrap(), None);
}

entity! {
    pub(crate) struct Part in "version_part" {
        keys { a: i64, b: i64 }
    }
}

on_every_database!(
    versions_of_other_programs,
    a_whole_batch_names_the_refused_row_and_writes_nothing,
    p3_dirty_records_that_come_back_replace_no_newer_rows,
    a_write_that_the_version_guard_leaves_out_is_told,
    keys_that_the_database_makes_are_refused_at_start,
    composite_and_text_keys_have_no_highest,
);
