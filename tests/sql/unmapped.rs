//! What the struct does not say: columns that it does not have, and fields that are nothing.

use sea_orm::{ConnectionTrait, Statement};

use crate::databases::Database;
use crate::entities::{create, load, raw, write};

entity! {
    pub(crate) struct Page in "unmapped_page" {
        keys { id: i64 }
        title: String,
        editor: Option<String>,
        words: Option<i64>,
        @insert_only created: i64,
    }
}

fn page(title: &str, editor: Option<&str>, words: Option<i64>, created: i64) -> Page {
    Page { id: 1, title: title.to_owned(), editor: editor.map(str::to_owned), words, created }
}

async fn columns_that_the_struct_does_not_have_stay_untouched(database: Database) {
    let sink = &database.sink;
    create::<Page>(sink).await;
    let backend = sink.db().get_database_backend();
    let run = async |text: &str| sink.db().execute_raw(Statement::from_string(backend, text)).await.unwrap();
    // Another program's column, with a default of its own.
    run("ALTER TABLE unmapped_page ADD COLUMN likes INTEGER NOT NULL DEFAULT 3").await;
    write(sink, &[page("first", Some("Ann"), Some(9), 10)], &[]).await;
    run("UPDATE unmapped_page SET likes = likes + 4").await;
    for round in 0..3 {
        write(sink, &[page(&format!("round {round}"), Some("Bob"), Some(round), 99)], &[]).await;
    }
    let text = "SELECT likes FROM unmapped_page WHERE id = 1";
    let row = sink.db().query_one_raw(Statement::from_string(backend, text)).await.unwrap().unwrap();
    assert_eq!(row.try_get::<i32>("", "likes").unwrap(), 7);
    assert_eq!(load::<Page>(sink, &[1]).await, [page("round 2", Some("Bob"), Some(2), 10)]);
}

entity! {
    pub(crate) struct Leaf in "unmapped_leaf" {
        keys { id: i64 }
        editor: Option<String>,
        words: Option<i64>,
    }
}

async fn a_field_that_becomes_nothing_becomes_null(database: Database) {
    let sink = &database.sink;
    create::<Leaf>(sink).await;
    write(sink, &[Leaf { id: 1, editor: Some("Ann".to_owned()), words: Some(9) }], &[]).await;
    let nothing = Leaf { id: 1, editor: None, words: None };
    write(sink, std::slice::from_ref(&nothing), &[]).await;
    assert_eq!(load::<Leaf>(sink, &[1]).await, [nothing]);
    let backend = sink.db().get_database_backend();
    let text = "SELECT COUNT(*) AS n FROM unmapped_leaf WHERE editor IS NULL AND words IS NULL";
    let row = sink.db().query_one_raw(Statement::from_string(backend, text)).await.unwrap().unwrap();
    assert_eq!(row.try_get::<i64>("", "n").unwrap(), 1);
    assert_eq!(raw::<Leaf>(sink, "id").await.len(), 1);
}

on_every_database!(columns_that_the_struct_does_not_have_stay_untouched, a_field_that_becomes_nothing_becomes_null);
