//! Foreign keys by which the database changes rows behind the buffer are found at start.

use sea_orm::{ConnectionTrait, DbBackend};
use write_behind::{Severity, Sink, SqlSink};

use crate::databases::Database;
use crate::entities::scope;

entity! {
    pub(crate) struct Leaf in "cascades_leaf" {
        keys { id: i64 }
        tree: Option<i64>,
        above: Option<i64>,
    }
}

/// What is found of a table with this reference to its parents, and this one to itself.
async fn found(sink: &SqlSink, tree: &str, above: &str, other: &str) -> Vec<(Severity, &'static str, String)> {
    for text in ["DROP TABLE IF EXISTS cascades_leaf", "DROP TABLE IF EXISTS cascades_tree"] {
        sink.db().execute_unprepared(text).await.unwrap();
    }
    sink.db().execute_unprepared("CREATE TABLE cascades_tree (id BIGINT NOT NULL PRIMARY KEY)").await.unwrap();
    let text = format!(
        "CREATE TABLE cascades_leaf (id BIGINT NOT NULL PRIMARY KEY, tree BIGINT, above BIGINT, other BIGINT, \
         FOREIGN KEY (tree) REFERENCES cascades_tree (id) {tree}, FOREIGN KEY (above) REFERENCES cascades_leaf (id) {above}, \
         FOREIGN KEY (other) REFERENCES cascades_tree (id) {other})"
    );
    sink.db().execute_unprepared(&text).await.unwrap();
    Sink::<Leaf>::open(sink, &scope::<Leaf>()).await.unwrap();
    Sink::<Leaf>::prepare(sink, &scope::<Leaf>()).await.unwrap();
    let findings = Sink::<Leaf>::examine(sink, &scope::<Leaf>()).await.unwrap();
    let mut found: Vec<_> = findings
        .into_iter()
        .map(|finding| {
            assert!(finding.text.contains("dead letter"), "{finding}");
            let words = finding.text.split('`').collect::<Vec<_>>();
            (finding.severity, finding.code, format!("{} {}", words[1], words[5]))
        })
        .collect();
    found.sort();
    found
}

async fn a_foreign_key_that_cascades_is_warned_of(database: Database) {
    let sink = &database.sink;
    let warning = |text: &str| (Severity::Warning, "cascading-delete", text.to_owned());
    assert_eq!(found(sink, "", "ON DELETE NO ACTION", "ON DELETE RESTRICT").await, []);
    let both = [warning("above cascades_leaf"), warning("tree cascades_tree")];
    assert_eq!(found(sink, "ON DELETE CASCADE", "ON DELETE SET NULL", "").await, both);
    // A column that is not mapped: only a row that goes with it is the entity's matter.
    assert_eq!(found(sink, "", "", "ON DELETE SET NULL").await, []);
    assert_eq!(found(sink, "", "", "ON DELETE CASCADE").await, [warning("other cascades_tree")]);
    if sink.db().get_database_backend() != DbBackend::MySql {
        assert_eq!(found(sink, "ON DELETE SET DEFAULT", "", "").await, [warning("tree cascades_tree")]);
    }
}

on_every_database!(a_foreign_key_that_cascades_is_warned_of);
