//! A second unique key: an upsert writes its own row or none.

use sea_orm::ConnectionTrait;
use write_behind::ErrorKind;

use crate::databases::Database;
use crate::entities::{create, kinds, load, raw, refused, write};

entity! {
    pub(crate) struct Account in "collide_account" {
        keys { id: i64 }
        email: String,
        visits: i64,
    }
}

fn account(id: i64, email: &str, visits: i64) -> Account {
    Account { id, email: email.into(), visits }
}

async fn a_second_unique_key_overwrites_nobody(database: Database) {
    let sink = &database.sink;
    create::<Account>(sink).await;
    sink.db().execute_unprepared("CREATE UNIQUE INDEX collide_account_email ON collide_account (email)").await.unwrap();
    write(sink, &[account(1, "a@x", 1), account(2, "b@x", 1)], &[]).await;
    let before = raw::<Account>(sink, "id").await;
    // A new row, an existing row, and either of them among good ones.
    for (bad, id) in [
        (vec![account(3, "a@x", 9)], "3"),
        (vec![account(2, "a@x", 9)], "2"),
        (vec![account(1, "a@x", 1), account(3, "a@x", 9)], "3"),
        (vec![account(1, "a@x", 1), account(2, "a@x", 9)], "2"),
    ] {
        assert_eq!(kinds(&refused(sink, &bad, &[]).await), [(id, ErrorKind::Rejected)]);
        assert_eq!(raw::<Account>(sink, "id").await, before);
    }
    // Its own row may keep its value, or take one that is free.
    write(sink, &[account(1, "a@x", 2), account(2, "c@x", 2)], &[]).await;
    assert_eq!(load::<Account>(sink, &[2]).await, [account(2, "c@x", 2)]);
}

entity! {
    pub(crate) struct Shape in "collide_shape" {
        keys { kind: String, size: i64 }
        note: String,
    }
}

async fn a_second_unique_key_of_a_composite_key(database: Database) {
    let sink = &database.sink;
    create::<Shape>(sink).await;
    sink.db().execute_unprepared("CREATE UNIQUE INDEX collide_shape_note ON collide_shape (note)").await.unwrap();
    let shape = |kind: &str, size, note: &str| Shape { kind: kind.into(), size, note: note.into() };
    write(sink, &[shape("a", 1, "x"), shape("a", 2, "y")], &[]).await;
    let before = raw::<Shape>(sink, "size").await;
    assert_eq!(kinds(&refused(sink, &[shape("a", 3, "x")], &[]).await), [("a:3", ErrorKind::Rejected)]);
    assert_eq!(raw::<Shape>(sink, "size").await, before);
}

entity! {
    pub(crate) struct Word in "collide_word" {
        keys { word: String }
        n: i64,
    }
}

/// Two keys that the collation takes for equal are two records; the second is refused, and neither reads, updates or
/// deletes the first one's row.
#[tokio::test]
async fn a_collation_does_not_mix_records() {
    let Some(database) = crate::databases::mysql().await else { return };
    let sink = &database.sink;
    let word = |word: &str, n| Word { word: word.into(), n };
    for charset in ["utf8mb4 COLLATE utf8mb4_general_ci", "latin1 COLLATE latin1_swedish_ci"] {
        let db = sink.db();
        db.execute_unprepared("DROP TABLE IF EXISTS collide_word").await.unwrap();
        let table =
            format!("CREATE TABLE collide_word (word VARCHAR(50) PRIMARY KEY, n BIGINT) CHARACTER SET {charset}");
        db.execute_unprepared(&table).await.unwrap();
        write(sink, &[word("Änne", 1)], &[]).await;
        assert_eq!(kinds(&refused(sink, &[word("änne", 2)], &[]).await), [("änne", ErrorKind::Rejected)]);
        assert!(load::<Word>(sink, &["änne".into()]).await.is_empty());
        write::<Word>(sink, &[], &["änne".into()]).await;
        assert_eq!(load::<Word>(sink, &["Änne".into()]).await, [word("Änne", 1)]);
        write(sink, &[word("Änne", 3)], &[]).await;
        write::<Word>(sink, &[], &["Änne".into()]).await;
        assert!(raw::<Word>(sink, "word").await.is_empty());
    }
}

entity! {
    pub(crate) struct Seat in "collide_seat" {
        keys { id: i64 }
        place: String,
        n: Option<i64>,
    }
}

/// What a table of SQLite says it does about a conflict (REPLACE deletes the other row, IGNORE leaves this one out) is not what an
/// upsert does.
#[tokio::test]
async fn a_constraint_that_says_what_to_do_overwrites_nobody() {
    let Some(database) = crate::databases::sqlite().await else { return };
    let sink = &database.sink;
    let seat = |id, place: &str| Seat { id, place: place.into(), n: Some(1) };
    for action in ["REPLACE", "IGNORE", "FAIL", "ABORT", "ROLLBACK"] {
        sink.db().execute_unprepared("DROP TABLE IF EXISTS collide_seat").await.unwrap();
        let table = format!(
            "CREATE TABLE collide_seat (id BIGINT PRIMARY KEY, place TEXT UNIQUE ON CONFLICT {action}, n BIGINT)"
        );
        sink.db().execute_unprepared(&table).await.unwrap();
        write(sink, &[seat(1, "a"), seat(2, "b")], &[]).await;
        // Alone, among others, a row that is there already; and a value that moves.
        assert_eq!(kinds(&refused(sink, &[seat(3, "a")], &[]).await), [("3", ErrorKind::Rejected)], "{action}");
        assert_eq!(
            kinds(&refused(sink, &[seat(4, "d"), seat(2, "a")], &[]).await),
            [("2", ErrorKind::Rejected)],
            "{action}"
        );
        write(sink, &[seat(1, "c"), seat(3, "a")], &[]).await;
        let mut rows = load::<Seat>(sink, &[1, 2, 3, 4]).await;
        rows.sort_by_key(|row| row.id);
        assert_eq!(rows, [seat(1, "c"), seat(2, "b"), seat(3, "a"), seat(4, "d")], "{action}");
    }
}

on_every_database!(a_second_unique_key_overwrites_nobody, a_second_unique_key_of_a_composite_key);
