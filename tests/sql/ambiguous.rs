//! Codes that do not tell whether a row is at fault or the configuration: others land, and nothing is a dead letter for what is
//! wrong with all.

use sea_orm::{ConnectionTrait, DbBackend};
use write_behind::{ErrorKind, Sink, SqlOptions, SqlSink};

use crate::databases::Database;
use crate::entities::{batch, create, kinds, load, raw, refused, try_write, write};
use crate::house::House;

/// A table of its own for each test.
macro_rules! tables {
    ($($ty:ident in $table:tt),* $(,)?) => {$(
        entity! {
            pub(crate) struct $ty in $table {
                keys { id: i64 }
                n: i64,
            }
        }
    )*};
}

tables!(
    Odd in "ambiguous_odd",
    Lone in "ambiguous_lone",
    Guarded in "ambiguous_guarded",
    Denied in "ambiguous_denied",
    Traced in "ambiguous_traced",
);

/// Makes the database say something about rows whose `n` is 100 that its code does not tell the meaning of.
async fn with_a_trigger(sink: &SqlSink, table: &str, trigger: &str) {
    let db = sink.db();
    let texts = match db.get_database_backend() {
        DbBackend::Postgres => vec![
            format!(
                "CREATE OR REPLACE FUNCTION {table}_f() RETURNS trigger AS $$ BEGIN \
                 IF NEW.n = 100 THEN RAISE EXCEPTION 'not yours' USING ERRCODE = '42501'; END IF; RETURN NEW; END $$ \
                 LANGUAGE plpgsql"
            ),
            format!(
                "CREATE TRIGGER {trigger} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_f()"
            ),
        ],
        DbBackend::MySql => vec![format!(
            "CREATE TRIGGER {trigger} BEFORE INSERT ON {table} FOR EACH ROW BEGIN IF NEW.n = 100 THEN \
             SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 31000, MESSAGE_TEXT = 'strange'; END IF; END"
        )],
        _ => vec![format!(
            "CREATE TRIGGER {trigger} BEFORE INSERT ON {table} WHEN NEW.n = 100 BEGIN SELECT json('{{bad'); END"
        )],
    };
    for text in texts {
        db.execute_unprepared(&text).await.unwrap();
    }
}

async fn without_the_trigger(sink: &SqlSink, table: &str, trigger: &str) {
    let text = match sink.db().get_database_backend() {
        DbBackend::Postgres => format!("DROP TRIGGER {trigger} ON {table}"),
        _ => format!("DROP TRIGGER {trigger}"),
    };
    sink.db().execute_unprepared(&text).await.unwrap();
}

async fn p8_a_code_that_tells_nothing_costs_its_row_only(database: Database) {
    let sink = &database.sink;
    create::<Odd>(sink).await;
    with_a_trigger(sink, "ambiguous_odd", "odd").await;
    let rows: Vec<Odd> = (0..50).map(|id| Odd { id, n: if id == 17 { 100 } else { id } }).collect();
    let found = refused(sink, &rows, &[]).await;
    assert_eq!(kinds(&found), [("17", ErrorKind::Rejected)]);
    assert!(found[0].1.is_ambiguous(), "{}", found[0].1.chain());
    assert_eq!(raw::<Odd>(sink, "id").await.len(), 49);
    let house = House::<Odd>::over(sink).await;
    house.put(rows).await;
    house.dead(1).await;
    assert_eq!(house.letters.get(&17).await.unwrap().unwrap().kind, "rejected");
}

async fn p8_a_row_alone_waits_until_others_land(database: Database) {
    let sink = &database.sink;
    create::<Lone>(sink).await;
    with_a_trigger(sink, "ambiguous_lone", "lone").await;
    let house = House::<Lone>::over(sink).await;
    house.put([Lone { id: 1, n: 100 }]).await;
    house.blames_the_configuration(8).await;
    // It was the trigger: without it the row is as good as any.
    without_the_trigger(sink, "ambiguous_lone", "lone").await;
    house.all_land(1).await;
    // It is the row: others land, and it does not.
    with_a_trigger(sink, "ambiguous_lone", "lone_again").await;
    house.put([Lone { id: 2, n: 100 }]).await;
    house.blames_the_configuration(3).await;
    house.put([Lone { id: 3, n: 3 }]).await;
    house.dead(1).await;
    assert_eq!(load::<Lone>(sink, &[1, 2, 3]).await.len(), 2);
}

/// A sink of a user who may do little.
async fn as_user(role: &str, grants: &[&str]) -> Option<(SqlSink, SqlSink)> {
    let url = crate::databases::server("WB_POSTGRES_URL")?;
    let owner = SqlSink::connect_with(&url, SqlOptions::new().max_connections(2)).await.unwrap();
    let db = owner.db();
    let fences = write_behind::sql::fence_table_sql(DbBackend::Postgres);
    // Another test may make it at the same moment.
    let _ = db.execute_unprepared(&fences).await;
    let make = format!(
        "DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    );
    db.execute_unprepared(&make).await.unwrap();
    for grant in ["SELECT, INSERT, UPDATE ON wb_fence"].iter().chain(grants) {
        db.execute_unprepared(&format!("GRANT {grant} TO {role}")).await.unwrap();
    }
    let url = url.replace("postgres@", &format!("{role}@"));
    let user = SqlSink::connect_with(&url, SqlOptions::new().max_connections(2)).await.unwrap();
    Some((owner, user))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_row_level_security_refuses_its_row_only() {
    let Some(database) = crate::databases::postgres().await else { return };
    create::<Guarded>(&database.sink).await;
    let grants = ["SELECT, INSERT, UPDATE, DELETE ON ambiguous_guarded"];
    let (owner, user) = as_user("wb_guarded", &grants).await.unwrap();
    for text in [
        "ALTER TABLE ambiguous_guarded ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON ambiguous_guarded USING (true) WITH CHECK (n < 100)",
    ] {
        owner.db().execute_unprepared(text).await.unwrap();
    }
    let rows: Vec<Guarded> = (0..50).map(|id| Guarded { id, n: if id == 17 { 100 } else { id } }).collect();
    let found = refused(&user, &rows, &[]).await;
    assert_eq!(kinds(&found), [("17", ErrorKind::Rejected)]);
    assert!(found[0].1.is_ambiguous(), "{}", found[0].1.chain());
    assert_eq!(raw::<Guarded>(&owner, "id").await.len(), 49);
    let house = House::<Guarded>::over(&user).await;
    house.put(rows).await;
    house.dead(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_a_right_that_is_missing_for_all_rows_is_no_dead_letter() {
    let Some(database) = crate::databases::postgres().await else { return };
    create::<Denied>(&database.sink).await;
    let (owner, user) = as_user("wb_denied", &["SELECT, UPDATE, DELETE ON ambiguous_denied"]).await.unwrap();
    let house = House::<Denied>::over(&user).await;
    house.put((0..100).map(|id| Denied { id, n: id })).await;
    house.blames_the_configuration(5).await;
    house.put([Denied { id: 100, n: 1 }]).await;
    house.blames_the_configuration(3).await;
    owner.db().execute_unprepared("GRANT INSERT ON ambiguous_denied TO wb_denied").await.unwrap();
    house.all_land(101).await;
}

/// What a trigger says of another table may be that table's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_a_fault_of_a_table_that_a_trigger_writes_to_is_no_dead_letter() {
    let Some(database) = crate::databases::postgres().await else { return };
    let sink = &database.sink;
    create::<Traced>(sink).await;
    for text in [
        "DROP TABLE IF EXISTS ambiguous_audit",
        "CREATE TABLE ambiguous_audit (of BIGINT, by TEXT NOT NULL)",
        "CREATE OR REPLACE FUNCTION ambiguous_traced_f() RETURNS trigger AS $$ BEGIN \
         INSERT INTO ambiguous_audit (of) VALUES (NEW.id); RETURN NEW; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER t AFTER INSERT ON ambiguous_traced FOR EACH ROW EXECUTE FUNCTION ambiguous_traced_f()",
    ] {
        sink.db().execute_unprepared(text).await.unwrap();
    }
    let house = House::<Traced>::over(sink).await;
    house.put((0..100).map(|id| Traced { id, n: id })).await;
    house.blames_the_configuration(5).await;
    sink.db().execute_unprepared("ALTER TABLE ambiguous_audit ALTER COLUMN by SET DEFAULT 'nobody'").await.unwrap();
    house.all_land(100).await;
}

entity! {
    pub(crate) struct Word in "ambiguous_word" {
        keys { word: String }
        n: i64,
    }
}

fn word(word: &str, n: i64) -> Word {
    Word { word: word.to_owned(), n }
}

/// No row has a key that the column's character set lacks: it loads nothing, and deleting it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_a_key_that_the_column_cannot_have_is_nowhere() {
    let Some(database) = crate::databases::mysql().await else { return };
    let sink = &database.sink;
    for charset in ["utf8mb3 COLLATE utf8mb3_bin", "utf8mb3 COLLATE utf8mb3_general_ci", "latin1", "ascii"] {
        sink.db().execute_unprepared("DROP TABLE IF EXISTS ambiguous_word").await.unwrap();
        let table =
            format!("CREATE TABLE ambiguous_word (word VARCHAR(50) PRIMARY KEY, n BIGINT) CHARACTER SET {charset}");
        sink.db().execute_unprepared(&table).await.unwrap();
        // What a question mark would be found for, too.
        write(sink, &[word("k?", 1), word("k", 2), word("a", 3)], &[]).await;
        let bad = "k😀".to_owned();
        assert!(load::<Word>(sink, std::slice::from_ref(&bad)).await.is_empty(), "{charset}");
        let keys = ["k", "k😀", "a", "猫", "none", "k?"].map(str::to_owned);
        assert_eq!(load::<Word>(sink, &keys).await.len(), 3, "{charset}");
        write::<Word>(sink, &[], std::slice::from_ref(&bad)).await;
        write(sink, &[word("b", 4)], &[bad.clone(), "a".to_owned(), "猫".to_owned()]).await;
        for whole in
            [batch(&[word("c", 5)], std::slice::from_ref(&bad)), batch::<Word>(&[], std::slice::from_ref(&bad))]
        {
            assert!(sink.write(&whole.whole()).await.unwrap().rejected.is_empty());
        }
        assert_eq!(raw::<Word>(sink, "word").await.len(), 4, "{charset}: k, k?, b and c");
        let found = refused(sink, &[word("d", 6), word(&bad, 7)], &[]).await;
        assert_eq!(kinds(&found), [("k😀", ErrorKind::Rejected)], "{charset}");
        let house = House::<Word>::over(sink).await;
        house.cache.delete(&bad).await.unwrap();
        house.cache.delete(&"d".to_owned()).await.unwrap();
        house.cache.flush().await.unwrap();
        assert_eq!(house.cache.get(&bad).await.unwrap(), None);
        assert_eq!((house.stats().dead_letters, house.stats().rows_deleted), (0, 2), "{charset}");
    }
}

/// Types of its own, with which MariaDB compares no values of the mapping: wrong for every row, and no outage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_native_type_is_no_endless_outage() {
    let Some(database) = crate::databases::mysql().await else { return };
    for (kind, text) in [("UUID", "11111111-1111-1111-1111-111111111111"), ("INET6", "::1")] {
        // What a sink has seen of a table it knows until it ends.
        let sink = &SqlSink::with_options(database.sink.db().clone(), SqlOptions::new());
        sink.db().execute_unprepared("DROP TABLE IF EXISTS ambiguous_native").await.unwrap();
        let table = format!("CREATE TABLE ambiguous_native (id {kind} PRIMARY KEY, n BIGINT)");
        sink.db().execute_unprepared(&table).await.unwrap();
        let answers = [
            try_write(sink, &[Native { id: text.into(), n: 1 }], &[]).await.map(|report| report.rejected),
            try_write::<Native>(sink, &[], &[text.into()]).await.map(|report| report.rejected),
        ];
        for answer in answers {
            match answer {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Misconfigured, "{kind}: {}", error.chain()),
                Ok(rejected) => {
                    assert!(rejected.iter().all(|(_, error)| error.is_ambiguous()), "{kind}: {rejected:?}");
                }
            }
        }
        if let Err(error) = Sink::<Native>::load(sink, &[text.into()]).await {
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{kind}: {}", error.chain());
        }
    }
}

entity! {
    pub(crate) struct Native in "ambiguous_native" {
        keys { id: String }
        n: i64,
    }
}

on_every_database!(p8_a_code_that_tells_nothing_costs_its_row_only, p8_a_row_alone_waits_until_others_land);
