//! Rows whose parents are missing are found by asking for the parents.

use sea_orm::{ConnectionTrait, DbBackend};
use serde::{Deserialize, Serialize};
use write_behind::{ErrorKind, SqlSink, WriteBehind};

use crate::databases::Database;
use crate::entities::{create, kinds, raw, refused, try_write, write};

/// Parents by number and by text, and children that refer to both; each test has tables of its own.
macro_rules! family {
    ($($module:ident: $numbers:literal $texts:literal $children:literal;)*) => {$(
        mod $module {
            use super::*;

            #[derive(Clone, Serialize, Deserialize, WriteBehind)]
            #[wb(name = $numbers, table = $numbers)]
            pub(super) struct Number {
                #[wb(key)]
                pub(super) id: i64,
            }

            #[derive(Clone, Serialize, Deserialize, WriteBehind)]
            #[wb(name = $texts, table = $texts)]
            pub(super) struct Text {
                #[wb(key)]
                pub(super) id: String,
            }

            #[derive(Clone, Serialize, Deserialize, WriteBehind)]
            #[wb(name = $children, table = $children)]
            pub(super) struct Child {
                #[wb(key)]
                pub(super) id: i64,
                #[wb(belongs_to = "Number", rename = "theNumber")]
                pub(super) number: Option<i64>,
                #[wb(belongs_to = "Text")]
                pub(super) text: Option<String>,
                pub(super) small: i64,
            }

            /// New tables, with a constraint for the numbers, and one for the texts if `both`.
            pub(super) async fn tables(sink: &SqlSink, both: bool) {
                write_behind::sql::drop_table::<Child>(sink.db()).await.unwrap();
                create::<Number>(sink).await;
                create::<Text>(sink).await;
                let my = sink.db().get_database_backend() == DbBackend::MySql;
                let (quote, text) = if my { ('`', "VARCHAR(191) COLLATE utf8mb4_bin") } else { ('"', "VARCHAR(191)") };
                let texts = format!(", FOREIGN KEY (text) REFERENCES {} (id)", $texts);
                let table = format!(
                    "CREATE TABLE {} (id BIGINT NOT NULL PRIMARY KEY, {quote}theNumber{quote} BIGINT, text {text}, \
                     small BIGINT NOT NULL, CHECK (small < 100), \
                     FOREIGN KEY ({quote}theNumber{quote}) REFERENCES {} (id){})",
                    $children, $numbers, if both { texts.as_str() } else { "" }
                );
                sink.db().execute_unprepared(&table).await.unwrap();
            }
        }
    )*};
}

family! {
    many: "orphans_many_n" "orphans_many_t" "orphans_many_c";
    free: "orphans_free_n" "orphans_free_t" "orphans_free_c";
    bad: "orphans_bad_n" "orphans_bad_t" "orphans_bad_c";
}

async fn half_of_a_batch_without_parents_costs_a_few_statements(database: Database) {
    use many::{Child, Number, Text, tables};

    let sink = &database.sink;
    tables(sink, true).await;
    write(sink, &(0..500).map(|id| Number { id }).collect::<Vec<_>>(), &[]).await;
    let texts = ["a", "ü'\"\\", "no"].map(|id| Text { id: id.to_owned() });
    write(sink, &texts[..2], &[]).await;
    let child = |id: i64| Child {
        id,
        // The upper half has no parents; some refer to nothing.
        number: (id % 10 != 3).then_some(id),
        text: (id % 10 != 4).then(|| texts[usize::try_from(id % 2).unwrap()].id.clone()),
        small: 1,
    };
    let rows: Vec<Child> = (0..1_000).map(child).collect();
    let report = try_write(sink, &rows, &[]).await.unwrap();
    let orphans: Vec<i64> = (500..1_000).filter(|id| id % 10 != 3).collect();
    let mut named: Vec<i64> = report.rejected.iter().map(|(id, _)| id.to_string().parse().unwrap()).collect();
    named.sort_unstable();
    assert_eq!(named, orphans);
    for (id, error) in &report.rejected {
        assert_eq!(error.kind(), ErrorKind::Deferred);
        assert!(error.to_string().contains(&format!("`{id}`")) && error.to_string().contains("theNumber"), "{error}");
    }
    assert_eq!(raw::<Child>(sink, "id").await.len(), 1_000 - orphans.len());
    // Halving takes nearly a thousand.
    assert!(report.statements <= 40, "{}", report.statements);

    // Of two references at once, and of either.
    let lost = |id, number, text: &str| Child { id, number, text: Some(text.to_owned()), small: 1 };
    let rows = [lost(1, Some(1), "no"), lost(2, Some(2_000), "no"), lost(3, Some(3_000), "a"), lost(4, None, "ü'\"\\")];
    let found = refused(sink, &rows, &[]).await;
    assert_eq!(kinds(&found), ["1", "2", "3"].map(|id| (id, ErrorKind::Deferred)));
}

/// What the struct says and the database does not ask for is no reason to refuse a row.
async fn a_reference_without_a_constraint_refuses_nothing(database: Database) {
    use free::{Child, Number, tables};

    let sink = &database.sink;
    tables(sink, false).await;
    write(sink, &[Number { id: 1 }], &[]).await;
    let child = |id, number, text: Option<&str>| Child { id, number, text: text.map(str::to_owned), small: 1 };
    let rows = [child(1, Some(1), Some("nowhere")), child(2, Some(2), None), child(3, None, Some("nowhere"))];
    let found = refused(sink, &rows, &[]).await;
    assert_eq!(kinds(&found), [("2", ErrorKind::Deferred)]);
    assert_eq!(raw::<Child>(sink, "id").await.len(), 2);
}

async fn rows_that_are_bad_otherwise_are_told_apart(database: Database) {
    use bad::{Child, Number, tables};

    let sink = &database.sink;
    tables(sink, true).await;
    write(sink, &[Number { id: 1 }], &[]).await;
    let child = |id, number, small| Child { id, number: Some(number), text: None, small };
    // Without a parent first, so that this is what the batch is refused for.
    let rows = [child(1, 2, 1), child(2, 1, 1), child(3, 1, 200), child(4, 2, 200), child(5, 1, 1)];
    let found = refused(sink, &rows, &[]).await;
    let kinds = kinds(&found);
    assert_eq!(kinds[..2], [("1", ErrorKind::Deferred), ("3", ErrorKind::Rejected)]);
    // Which of its two faults is told first is the database's choice.
    assert_eq!(kinds.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["1", "3", "4"]);
    assert_eq!(raw::<Child>(sink, "id").await.len(), 2);
}

on_every_database!(
    half_of_a_batch_without_parents_costs_a_few_statements,
    a_reference_without_a_constraint_refuses_nothing,
    rows_that_are_bad_otherwise_are_told_apart,
);
