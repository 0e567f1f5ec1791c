//! Refused rows are found and named; everything else lands in the same transaction.

use sea_orm::{ConnectionTrait, DbBackend};
use write_behind::{ErrorKind, SqlOptions, SqlSink};

use crate::databases::Database;
use crate::entities::{create, kinds, load, raw, refused, try_write, write};

/// A table of its own for each test, which takes no number from 100 on.
macro_rules! measured {
    ($($ty:ident in $table:tt),*) => {$(
        entity! {
            pub(crate) struct $ty in $table {
                keys { id: i64 }
                n: i64,
            }
        }
    )*};
}

measured!(Few in "isolate_few", All in "isolate_all", Many in "isolate_many");

async fn measured(sink: &SqlSink, table: &str) {
    sink.db().execute_unprepared(&format!("DROP TABLE IF EXISTS {table}")).await.unwrap();
    let table = format!("CREATE TABLE {table} (id BIGINT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, CHECK (n < 100))");
    sink.db().execute_unprepared(&table).await.unwrap();
}

async fn p8_three_bad_rows_among_a_thousand(database: Database) {
    let sink = &database.sink;
    measured(sink, "isolate_few").await;
    let bad = [0, 517, 999];
    let rows: Vec<Few> = (0..1_000).map(|id| Few { id, n: if bad.contains(&id) { 100 + id } else { 1 } }).collect();
    write(sink, &[Few { id: 2_000, n: 1 }], &[]).await;
    let report = try_write(sink, &rows, &[2_000]).await.unwrap();
    let mut named: Vec<_> = report.rejected.iter().map(|(id, error)| (id.to_string(), error.kind())).collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(named, ["0", "517", "999"].map(|id| (id.to_owned(), ErrorKind::Rejected)));
    for (id, error) in &report.rejected {
        assert!(error.to_string().contains(&format!("`{id}`")), "{error}");
        assert!(std::error::Error::source(error).is_some());
    }
    assert_eq!(raw::<Few>(sink, "id").await.len(), 997);
    // Three searches of two statements a level, the first try, and what MySQL and SQLite need for uneven sizes.
    assert!(report.statements < 100, "{}", report.statements);
}

/// One transaction: somebody who looks meanwhile sees all of the batch or nothing.
async fn p13_what_lands_of_a_refused_batch_lands_at_once(database: Database) {
    let sink = &database.sink;
    create::<Whole>(sink).await;
    let limit = "CREATE UNIQUE INDEX isolate_whole_code ON isolate_whole (code)";
    sink.db().execute_unprepared(limit).await.unwrap();
    let rows: Vec<Whole> = (0..300).map(|id| Whole { id, code: if id % 50 == 7 { -1 } else { id } }).collect();
    let looking = tokio::spawn({
        let sink = sink.clone();
        async move {
            let mut seen = std::collections::BTreeSet::new();
            while !seen.contains(&295) {
                seen.insert(raw::<Whole>(&sink, "id").await.len());
            }
            seen
        }
    });
    let refused = refused(sink, &rows, &[]).await;
    assert_eq!(refused.len(), 5, "the first of the six is free");
    let seen = looking.await.unwrap();
    assert!(seen.iter().all(|rows| [0, 295].contains(rows)), "{seen:?}");
}

entity! {
    pub(crate) struct Whole in "isolate_whole" {
        keys { id: i64 }
        code: i64,
    }
}

entity! {
    pub(crate) struct Raised in "isolate_raised" {
        keys { id: i64 }
        n: i64,
    }
}

/// A trigger that raises, for one row, what a server says that is full, shuts down or only reads: the others land.
async fn p8_a_row_for_which_a_trigger_speaks_as_the_server_holds_up_nobody(database: Database) {
    let sink = &database.sink;
    let rows: Vec<Raised> = (0..40).map(|id| Raised { id, n: id }).collect();
    let codes: &[&str] = match sink.db().get_database_backend() {
        DbBackend::Postgres => &["53100", "53300", "57P01", "25006", "08006", "HV000", "72000", "F0000"],
        DbBackend::MySql => &["1290", "1836", "1040", "1053", "1021", "1114"],
        _ => return,
    };
    for code in codes {
        create::<Raised>(sink).await;
        let triggers = match sink.db().get_database_backend() {
            DbBackend::Postgres => vec![
                format!(
                    "CREATE OR REPLACE FUNCTION isolate_raise() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.id = 25 \
                     THEN RAISE EXCEPTION ''no'' USING ERRCODE = ''{code}''; END IF; RETURN NEW; END'"
                ),
                "CREATE TRIGGER raises BEFORE INSERT OR UPDATE ON isolate_raised FOR EACH ROW EXECUTE FUNCTION isolate_raise()"
                    .to_owned(),
            ],
            _ => vec![format!(
                "CREATE TRIGGER isolate_raises BEFORE INSERT ON isolate_raised FOR EACH ROW IF NEW.id = 25 THEN \
                 SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'no'; END IF"
            )],
        };
        for trigger in triggers {
            sink.db().execute_unprepared(&trigger).await.unwrap();
        }
        assert_eq!(kinds(&refused(sink, &rows, &[]).await), [("25", ErrorKind::Rejected)], "{code}");
        assert_eq!(raw::<Raised>(sink, "id").await.len(), 39, "{code}");
    }
}

async fn p8_a_batch_that_is_bad_altogether_ends(database: Database) {
    let sink = &database.sink;
    measured(sink, "isolate_all").await;
    let rows: Vec<All> = (0..200).map(|id| All { id, n: 1_000 }).collect();
    let report = try_write(sink, &rows, &[7]).await.unwrap();
    assert_eq!(report.rejected.len(), 200);
    assert!(report.statements < 420, "{}", report.statements);
    // Its connections are as good as new.
    for _ in 0..10 {
        write(sink, &[All { id: 1, n: 1 }], &[]).await;
    }
}

async fn p8_rows_in_many_statements(database: Database) {
    let small = SqlSink::with_options(database.sink.db().clone(), SqlOptions::new().max_rows(7));
    measured(&small, "isolate_many").await;
    let rows: Vec<Many> = (0..100).map(|id| Many { id, n: if id % 33 == 5 { 100 } else { 1 } }).collect();
    let found = refused(&small, &rows, &[]).await;
    assert_eq!(kinds(&found), ["38", "5", "71"].map(|id| (id, ErrorKind::Rejected)));
    assert_eq!(raw::<Many>(&small, "id").await.len(), 97);
}

entity! {
    pub(crate) struct Mother in "isolate_mother" {
        keys { id: i64 }
    }
}

entity! {
    pub(crate) struct Daughter in "isolate_daughter" {
        keys { id: i64 }
        mother: i64,
    }
}

entity! {
    pub(crate) struct Son in "isolate_son" {
        keys { id: i64 }
        father: i64,
    }
}

/// A table `child` that refers to `parent`, whose rows are 1 and 2.
async fn family(sink: &SqlSink, child: &str, parent: &str, deferrable: &str) {
    let text = format!(
        "DROP TABLE IF EXISTS isolate_{child}; DROP TABLE IF EXISTS isolate_{parent}; \
         CREATE TABLE isolate_{parent} (id BIGINT NOT NULL PRIMARY KEY); \
         INSERT INTO isolate_{parent} VALUES (1), (2); \
         CREATE TABLE isolate_{child} (id BIGINT NOT NULL PRIMARY KEY, {parent} BIGINT NOT NULL, \
         FOREIGN KEY ({parent}) REFERENCES isolate_{parent} (id) {deferrable}, CHECK (id < 1000))"
    );
    for statement in text.split("; ") {
        sink.db().execute_unprepared(statement).await.unwrap();
    }
}

async fn p8_children_without_parents_are_named(database: Database) {
    let sink = &database.sink;
    family(sink, "daughter", "mother", "").await;
    let child = |id, mother| Daughter { id, mother };
    let rows = [child(1, 1), child(2, 9), child(3, 2), child(4, 8), child(1_000, 1)];
    let found = refused(sink, &rows, &[]).await;
    assert_eq!(kinds(&found), [("1000", ErrorKind::Rejected), ("2", ErrorKind::Deferred), ("4", ErrorKind::Deferred)]);
    assert_eq!(load::<Daughter>(sink, &[1, 2, 3, 4]).await.len(), 2);
    // Parents that still have children are named too, the childless one goes.
    write(sink, &[Mother { id: 3 }], &[]).await;
    let found = refused::<Mother>(sink, &[], &[1, 2, 3]).await;
    assert_eq!(kinds(&found), [("1", ErrorKind::Deferred), ("2", ErrorKind::Deferred)]);
    assert!(load::<Mother>(sink, &[3]).await.is_empty());
}

/// Constraints that fail at the commit are found row by row where the database can check them earlier.
async fn p8_deferred_constraints_are_found_too(database: Database) {
    let sink = &database.sink;
    let backend = sink.db().get_database_backend();
    if backend == DbBackend::MySql {
        // It has none.
        return;
    }
    family(sink, "son", "father", "DEFERRABLE INITIALLY DEFERRED").await;
    let child = |id, father| Son { id, father };
    let rows = [child(1, 1), child(2, 9), child(3, 2)];
    if backend == DbBackend::Postgres {
        assert_eq!(kinds(&refused(sink, &rows, &[]).await), [("2", ErrorKind::Deferred)]);
        assert_eq!(load::<Son>(sink, &[1, 2, 3]).await.len(), 2);
    } else {
        // The whole batch: whoever asked halves it.
        let error = try_write(sink, &rows, &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deferred, "{}", error.chain());
        assert_eq!(kinds(&refused(sink, &rows[1..2], &[]).await), [("2", ErrorKind::Deferred)]);
        write(sink, &rows[..1], &[]).await;
    }
}

entity! {
    pub(crate) struct Node in "isolate_node" {
        keys { id: i64 }
        parent: Option<i64>,
        size: i64,
    }
}

/// Rows of one batch that refer to each other land together, whatever their order, also beside a bad one.
async fn p8_a_tree_in_one_batch_lands(database: Database) {
    let sink = &database.sink;
    sink.db().execute_unprepared("DROP TABLE IF EXISTS isolate_node").await.unwrap();
    let table = "CREATE TABLE isolate_node (id BIGINT NOT NULL PRIMARY KEY, parent BIGINT, size BIGINT NOT NULL, \
                 FOREIGN KEY (parent) REFERENCES isolate_node (id), CHECK (size < 100))";
    sink.db().execute_unprepared(table).await.unwrap();
    let node = |id, parent, size| Node { id, parent, size };
    // Sorted as text, children come first.
    let rows = [node(3, Some(7), 1), node(4, Some(3), 1), node(5, Some(99), 1), node(6, None, 100), node(7, None, 1)];
    let found = refused(sink, &rows, &[]).await;
    assert_eq!(kinds(&found), [("5", ErrorKind::Deferred), ("6", ErrorKind::Rejected)]);
    assert_eq!(raw::<Node>(sink, "id").await.len(), 3);
}

on_every_database!(
    p8_a_row_for_which_a_trigger_speaks_as_the_server_holds_up_nobody,
    p8_three_bad_rows_among_a_thousand,
    p13_what_lands_of_a_refused_batch_lands_at_once,
    p8_a_batch_that_is_bad_altogether_ends,
    p8_rows_in_many_statements,
    p8_children_without_parents_are_named,
    p8_deferred_constraints_are_found_too,
    p8_a_tree_in_one_batch_lands,
);
