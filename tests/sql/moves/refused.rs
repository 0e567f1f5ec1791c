//! What cannot move is refused, and says why; the others land.

use sea_orm::DbBackend;
use write_behind::{ErrorKind, SqlOptions, SqlSink};

use super::{Named, named, names, rows, run, unique, whole};
use crate::databases::Database;
use crate::entities::{kinds, raw, refused, write};

named!(
    Swap in "moves_swap",
    Mixed in "moves_mixed",
    Whole in "moves_whole",
    Deferred in "moves_deferred",
);

async fn a_true_swap_is_refused_and_says_so(database: Database) {
    let sink = &database.sink;
    unique::<Swap>(sink).await;
    let before = rows::<Swap>(&[(1, "a"), (2, "b"), (3, "c"), (5, "e")]);
    write(sink, &before, &[]).await;
    let swap = rows::<Swap>(&[(1, "b"), (2, "a"), (3, "d"), (4, "c"), (6, "b"), (7, "e")]);
    let found = refused(sink, &swap, &[5]).await;
    assert_eq!(kinds(&found), ["1", "2", "6"].map(|id| (id, ErrorKind::Rejected)));
    let reasons: Vec<String> = found.iter().map(|(_, error)| error.chain()).collect();
    for (reason, text) in reasons.iter().zip([
        "record `1` of entity `moves_swap` cannot take its unique value of `name`: records `1`, `2` exchange unique values",
        "records `2`, `1` exchange unique values",
        "cannot take its unique value of `name`: it is held by record `2`, which is refused itself",
    ]) {
        assert!(reason.contains(text), "{reason}");
    }
    let hint = "flush it first";
    assert!(reasons[0].contains(hint) && !reasons[0].contains('\n'), "{}", reasons[0]);
    let deferrable = database.sink.db().get_database_backend() == DbBackend::Postgres;
    assert_eq!(reasons[0].contains("DEFERRABLE"), deferrable, "{}", reasons[0]);
    let expected = named(&[(1, "a"), (2, "b"), (3, "d"), (4, "c"), (7, "e")]);
    assert_eq!(names::<Swap>(sink, 0..9).await, expected);
    // All or nothing.
    let error = whole(sink, &rows::<Swap>(&[(1, "b"), (2, "a"), (8, "x")]), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert!(error.chain().contains("exchange unique values"), "{}", error.chain());
    assert_eq!(names::<Swap>(sink, 0..9).await, expected);
    // As the reason says: by way of another value.
    whole(sink, &rows::<Swap>(&[(1, "between")]), &[]).await.unwrap();
    whole(sink, &rows::<Swap>(&[(1, "b"), (2, "a")]), &[]).await.unwrap();
}

async fn p8_a_bad_row_among_moves_is_isolated(database: Database) {
    let sink = &database.sink;
    unique::<Mixed>(sink).await;
    let many: Vec<Mixed> = (100..200).map(|n| Mixed::named(n, &format!("name {n}"))).collect();
    write(sink, &many, &[]).await;
    write(sink, &rows::<Mixed>(&[(1, "neo"), (2, "a"), (3, "b"), (4, "x")]), &[]).await;
    // 150 is bad and keeps what 149 wants, and so on; the others move.
    let mut moved: Vec<Mixed> = (100..200).map(|n| Mixed::named(n, &format!("name {}", n + 1))).collect();
    moved[50] = Mixed::named(150, "bad");
    moved.extend(rows::<Mixed>(&[(5, "neo"), (2, "b"), (3, "c"), (6, "x")]));
    let found = refused(sink, &moved, &[1]).await;
    // The letters of what only waits name what it waits for.
    let reasons: std::collections::BTreeMap<&str, String> =
        found.iter().map(|(id, error)| (id.as_str(), error.chain())).collect();
    assert_eq!(found.len(), 52, "{:?}", reasons.keys());
    assert!(!reasons["150"].contains("unique value"), "{}", reasons["150"]);
    for id in 100..150 {
        let (reason, holder) = (&reasons[id.to_string().as_str()], format!("held by record `{}`", id + 1));
        assert!(reason.contains(&format!("{holder}, which is refused itself")), "{reason}");
    }
    assert!(reasons.contains_key("6"), "`x` is held by a row that nobody moves");
    assert_eq!(names::<Mixed>(sink, 0..9).await, named(&[(2, "b"), (3, "c"), (4, "x"), (5, "neo")]));
    assert_eq!(names::<Mixed>(sink, 151..153).await, named(&[(151, "name 152"), (152, "name 153")]));
}

async fn p13_whole_batches_of_moves_are_all_or_nothing(database: Database) {
    let sink = &database.sink;
    unique::<Whole>(sink).await;
    let before = rows::<Whole>(&[(1, "neo"), (2, "a"), (3, "b"), (4, "x")]);
    write(sink, &before, &[]).await;
    let then = raw::<Whole>(sink, "id").await;
    // What is wrong in itself is named, not what waits for it.
    let moves = rows::<Whole>(&[(2, "b"), (3, "bad"), (5, "neo")]);
    let error = whole(sink, &moves, &[1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert!(error.to_string().contains("`3`"), "{}", error.chain());
    // The value is held by a record that is in no batch.
    let error = whole(sink, &rows::<Whole>(&[(2, "b"), (3, "c"), (5, "x")]), &[1]).await.unwrap_err();
    assert!(error.chain().contains("`5`"), "{}", error.chain());
    assert_eq!(raw::<Whole>(sink, "id").await, then);
    whole(sink, &rows::<Whole>(&[(2, "b"), (3, "c"), (5, "neo")]), &[1]).await.unwrap();
    assert_eq!(names::<Whole>(sink, 0..9).await, named(&[(2, "b"), (3, "c"), (4, "x"), (5, "neo")]));
}

/// PostgreSQL can check a constraint after all rows: then they may even exchange values.
#[tokio::test]
async fn deferrable_constraints_take_a_swap_also_beside_a_bad_row() {
    let Some(database) = crate::databases::postgres().await else { return };
    let few = SqlSink::with_options(database.sink.db().clone(), SqlOptions::new().max_rows(2));
    for initially in ["DEFERRED", "IMMEDIATE"] {
        for sink in [&database.sink, &few] {
            unique::<Deferred>(sink).await;
            let constraint = format!("ALTER TABLE moves_deferred ADD UNIQUE (name) DEFERRABLE INITIALLY {initially}");
            run(sink, &["DROP INDEX moves_deferred_name", &constraint]).await;
            let before = [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"), (6, "f")];
            write(sink, &rows::<Deferred>(&before), &[]).await;
            let swap = [(1, "d"), (2, "c"), (3, "b"), (4, "a")];
            whole(sink, &rows::<Deferred>(&swap), &[]).await.unwrap();
            assert_eq!(names::<Deferred>(sink, 1..5).await, named(&swap), "{initially}");
            // A circle of three, one of two whose partner is bad, and a duplicate.
            let back = [(1, "b"), (2, "d"), (3, "c"), (4, "a"), (5, "f"), (6, "bad"), (7, "f"), (8, "g")];
            let found = refused(sink, &rows::<Deferred>(&back), &[]).await;
            assert_eq!(kinds(&found), ["5", "6", "7"].map(|id| (id, ErrorKind::Rejected)), "{initially}");
            let expected = [(1, "b"), (2, "d"), (3, "c"), (4, "a"), (5, "e"), (6, "f"), (8, "g")];
            assert_eq!(names::<Deferred>(sink, 1..9).await, named(&expected), "{initially}");
        }
    }
}

on_every_database!(
    a_true_swap_is_refused_and_says_so,
    p8_a_bad_row_among_moves_is_isolated,
    p13_whole_batches_of_moves_are_all_or_nothing,
);
