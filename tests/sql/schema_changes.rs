//! A schema that changes while a program runs: reads go on, and what is wrong with every row is no dead letter.

use futures::future::join_all;
use sea_orm::{ConnectionTrait, DbBackend};
use write_behind::{ErrorKind, SqlSink};

use crate::databases::Database;
use crate::entities::{create, kinds, load, raw, refused, try_write, write};
use crate::house::House;

async fn run(sink: &SqlSink, texts: &[&str]) {
    // One transaction, where the database has such for tables: nobody sees a step of it.
    let joined = format!("BEGIN; {}; COMMIT", texts.join("; "));
    match sink.db().get_database_backend() {
        DbBackend::MySql => {
            for text in texts {
                sink.db().execute_unprepared(text).await.unwrap();
            }
        }
        _ => drop(sink.db().execute_unprepared(&joined).await.unwrap()),
    }
}

/// A table of its own for each test.
macro_rules! tables {
    ($($ty:ident in $table:tt),* $(,)?) => {$(
        entity! {
            pub(crate) struct $ty in $table {
                keys { id: i64 }
                name: String,
                n: i32,
            }
        }

        impl $ty {
            fn new(id: i64) -> Self {
                Self { id, name: format!("name {id}"), n: 7 }
            }
        }
    )*};
}

tables!(
    Read in "change_read",
    Grown in "change_grown",
    Stamped in "change_stamped",
    Frozen in "change_frozen",
);

entity! {
    pub(crate) struct Versioned in "change_versioned" {
        keys { id: String }
        @version v: i64,
        name: String,
    }
}

/// A type that changes under prepared statements: every read, and every write, goes on at once.
async fn p9_reads_go_on_when_the_type_of_a_column_changes(database: Database) {
    let sink = &database.sink;
    create::<Read>(sink).await;
    create::<Versioned>(sink).await;
    let backend = sink.db().get_database_backend();
    let versioned = |v| [Versioned { id: "a".into(), v, name: "x".into() }];
    write(sink, &[Read::new(1), Read::new(2)], &[]).await;
    write(sink, &versioned(5), &[]).await;
    let old = versioned(1);
    let changes: &[&[&str]] = match backend {
        DbBackend::Postgres => &[
            &["ALTER TABLE change_read ALTER COLUMN name TYPE varchar(500), ALTER COLUMN n TYPE int8"],
            &["ALTER TABLE change_read ALTER COLUMN name TYPE text, ALTER COLUMN n TYPE int4"],
            &["ALTER TABLE change_versioned ALTER COLUMN id TYPE varchar(500)"],
            &["ALTER TABLE change_versioned ALTER COLUMN id TYPE text"],
        ],
        DbBackend::MySql => &[
            &["ALTER TABLE change_read MODIFY name VARCHAR(500) NOT NULL, MODIFY n BIGINT NOT NULL"],
            &["ALTER TABLE change_read MODIFY name MEDIUMTEXT NOT NULL, MODIFY n INT NOT NULL"],
            &["ALTER TABLE change_read ADD COLUMN first INT FIRST"],
        ],
        _ => &[
            &["ALTER TABLE change_read ADD COLUMN more INTEGER"],
            &[
                "CREATE TABLE change_read_2 (n BIGINT NOT NULL, name VARCHAR(9) NOT NULL, id BIGINT PRIMARY KEY)",
                "INSERT INTO change_read_2 SELECT n, name, id FROM change_read",
                "DROP TABLE change_read",
                "ALTER TABLE change_read_2 RENAME TO change_read",
            ],
        ],
    };
    for change in changes {
        // Every connection of the pool has the statements prepared.
        for _ in 0..5 {
            join_all((0..8).map(|_| load::<Read>(sink, &[1, 2]))).await;
            // Left out, so that the database is asked for the version.
            join_all((0..4).map(|_| try_write(sink, &old, &[]))).await;
        }
        run(sink, change).await;
        for _ in 0..10 {
            let (read, mine, written) =
                tokio::join!(load::<Read>(sink, &[1]), load::<Read>(sink, &[2, 1, 3]), try_write(sink, &old, &[]));
            assert_eq!((read, mine.len()), (vec![Read::new(1)], 2), "{change:?}");
            match written {
                Ok(report) => assert_eq!(report.stale.len(), 1),
                // Tried again at once.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Transient, "{}", error.chain()),
            }
        }
        write(sink, &[Read::new(1)], &[]).await;
        // A connection that was in use while others were closed may be asked only now.
        let report = write_behind_tests::eventually("the batch passes", crate::house::SOON, async || {
            try_write(sink, &old, &[]).await.ok()
        });
        assert_eq!(report.await.stale.len(), 1);
    }
}

/// A column that the struct does not have, which takes no row without a value, and is put right later.
fn grown(backend: DbBackend, table: &str) -> (Vec<String>, Vec<String>) {
    let own = |texts: &[&str]| texts.iter().map(|text| text.replace("TABLE_NAME", table)).collect();
    match backend {
        DbBackend::Postgres => (
            own(&[
                "ALTER TABLE TABLE_NAME ADD COLUMN owner BIGINT NOT NULL DEFAULT 0",
                "ALTER TABLE TABLE_NAME ALTER COLUMN owner DROP DEFAULT",
            ]),
            own(&["ALTER TABLE TABLE_NAME ALTER COLUMN owner SET DEFAULT 0"]),
        ),
        DbBackend::MySql => (
            own(&["ALTER TABLE TABLE_NAME ADD COLUMN owner BIGINT NOT NULL"]),
            own(&["ALTER TABLE TABLE_NAME ALTER COLUMN owner SET DEFAULT 0"]),
        ),
        _ => {
            let anew = |owner: &str| {
                own(&[
                    &format!(
                        "CREATE TABLE TABLE_NAME_2 (id BIGINT PRIMARY KEY, name TEXT NOT NULL, n INT NOT NULL, {owner})"
                    ),
                    "INSERT INTO TABLE_NAME_2 SELECT id, name, n, 0 FROM TABLE_NAME",
                    "DROP TABLE TABLE_NAME",
                    "ALTER TABLE TABLE_NAME_2 RENAME TO TABLE_NAME",
                ])
            };
            (anew("owner BIGINT NOT NULL"), anew("owner BIGINT NOT NULL DEFAULT 0"))
        }
    }
}

async fn run_all(sink: &SqlSink, texts: &[String]) {
    run(sink, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn p8_a_column_that_takes_no_row_pauses_until_it_has_a_default(database: Database) {
    let sink = &database.sink;
    create::<Grown>(sink).await;
    let (broken, mended) = grown(sink.db().get_database_backend(), "change_grown");
    let house = House::<Grown>::over(sink).await;
    house.put((0..20).map(Grown::new)).await;
    house.all_land(20).await;
    run_all(sink, &broken).await;
    house.put((20..120).map(Grown::new)).await;
    house.blames_the_configuration(4).await;
    // Rows that are there already, one alone, and together with deletes.
    house.put([Grown { n: 8, ..Grown::new(1) }]).await;
    house.cache.delete(&2).await.unwrap();
    house.blames_the_configuration(4).await;
    for rows in [vec![Grown::new(500)], vec![Grown::new(500), Grown::new(501)]] {
        let error = try_write(sink, &rows, &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{}", error.chain());
        assert!(error.to_string().contains("`owner`"), "{error}");
    }
    run_all(sink, &mended).await;
    house.all_land(122).await;
    assert_eq!(raw::<Grown>(sink, "id").await.len(), 119);
}

/// A trigger before each row may set the column, so the schema alone says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_a_column_that_takes_no_row_pauses_beside_a_trigger() {
    let Some(database) = crate::databases::postgres().await else { return };
    let sink = &database.sink;
    create::<Stamped>(sink).await;
    for text in [
        "CREATE OR REPLACE FUNCTION change_stamped_f() RETURNS trigger AS $$ BEGIN RETURN NEW; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON change_stamped FOR EACH ROW EXECUTE FUNCTION change_stamped_f()",
    ] {
        sink.db().execute_unprepared(text).await.unwrap();
    }
    let (broken, mended) = grown(DbBackend::Postgres, "change_stamped");
    let house = House::<Stamped>::over(sink).await;
    house.put((0..20).map(Stamped::new)).await;
    house.all_land(20).await;
    run_all(sink, &broken).await;
    house.put((20..120).map(Stamped::new)).await;
    house.blames_the_configuration(6).await;
    house.put([Stamped::new(120)]).await;
    house.blames_the_configuration(4).await;
    run_all(sink, &mended).await;
    house.all_land(121).await;
}

/// A trigger that lets no row in for a while, with a code that is about rows: the table has changed, so it is not the rows.
async fn p8_a_trigger_that_refuses_every_row_is_no_dead_letter(database: Database) {
    let sink = &database.sink;
    let backend = sink.db().get_database_backend();
    let table = "CREATE TABLE change_frozen (id BIGINT PRIMARY KEY, name VARCHAR(99) NOT NULL, n INT NOT NULL, CHECK (n < 100))";
    sink.db().execute_unprepared("DROP TABLE IF EXISTS change_frozen").await.unwrap();
    sink.db().execute_unprepared(table).await.unwrap();
    let (freeze, thaw): (&[&str], &str) = match backend {
        DbBackend::Postgres => (
            &[
                "CREATE OR REPLACE FUNCTION change_frozen_f() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'closed'; END $$ \
                 LANGUAGE plpgsql",
                "CREATE TRIGGER closed BEFORE INSERT ON change_frozen FOR EACH ROW EXECUTE FUNCTION change_frozen_f()",
            ],
            "DROP TRIGGER closed ON change_frozen",
        ),
        DbBackend::MySql => (
            &["CREATE TRIGGER change_closed BEFORE INSERT ON change_frozen FOR EACH ROW \
               SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'closed'"],
            "DROP TRIGGER change_closed",
        ),
        _ => (
            &["CREATE TRIGGER change_closed BEFORE INSERT ON change_frozen BEGIN SELECT RAISE(ABORT, 'closed'); END"],
            "DROP TRIGGER change_closed",
        ),
    };
    let house = House::<Frozen>::over(sink).await;
    // As it was at the start, one row alone is at fault at once.
    house.put([Frozen { n: 100, ..Frozen::new(1_000) }]).await;
    house.dead(1).await;
    assert_eq!(house.stats().retries.misconfigured, 0);
    house.put([Frozen::new(1_000)]).await;
    house.put((0..20).map(Frozen::new)).await;
    house.cache.flush().await.unwrap();
    let refused = house.stats().refused;
    for text in freeze {
        sink.db().execute_unprepared(text).await.unwrap();
    }
    house.put((20..120).map(Frozen::new)).await;
    let waits = async || {
        let before = house.stats().retries.misconfigured;
        write_behind_tests::eventually("the table is blamed", crate::house::SOON, async || {
            (house.stats().retries.misconfigured >= before + 5).then_some(())
        })
        .await;
        assert_eq!((house.letters.count().await.unwrap(), house.stats().refused), (0, refused));
    };
    waits().await;
    house.put([Frozen::new(120)]).await;
    waits().await;
    sink.db().execute_unprepared(thaw).await.unwrap();
    write_behind_tests::eventually("all rows land", crate::house::SOON, async || {
        (raw::<Frozen>(sink, "id").await.len() == 122).then_some(())
    })
    .await;
    house.cache.flush().await.unwrap();
    assert_eq!((house.letters.count().await.unwrap(), house.stats().refused), (0, refused));
    // Rows land again: one alone is at fault at once.
    for id in 200..205 {
        house.put([Frozen::new(id)]).await;
        house.cache.flush().await.unwrap();
    }
    let paused = house.stats().retries.misconfigured;
    house.put([Frozen { n: 100, ..Frozen::new(2_000) }]).await;
    house.dead(1).await;
    assert_eq!(house.stats().retries.misconfigured, paused);
}

entity! {
    pub(crate) struct Dated in "change_dated" {
        keys { id: i64, month: i32 }
        n: i64,
    }
}

fn dated(id: i64, month: i32) -> Dated {
    Dated { id, month, n: 1 }
}

/// Rows of a partition that is not there yet wait for it, and hold nobody up.
async fn p8_rows_wait_for_their_partition(database: Database) {
    let sink = &database.sink;
    let columns = "id BIGINT NOT NULL, month INT NOT NULL, n BIGINT NOT NULL, PRIMARY KEY (id, month)";
    let (made, more) = match sink.db().get_database_backend() {
        DbBackend::Postgres => (
            vec![
                "DROP TABLE IF EXISTS change_dated".to_owned(),
                format!("CREATE TABLE change_dated ({columns}) PARTITION BY RANGE (month)"),
                "CREATE TABLE change_dated_1 PARTITION OF change_dated FOR VALUES FROM (1) TO (2)".to_owned(),
            ],
            "CREATE TABLE change_dated_2 PARTITION OF change_dated FOR VALUES FROM (2) TO (3)",
        ),
        DbBackend::MySql => (
            vec![
                "DROP TABLE IF EXISTS change_dated".to_owned(),
                format!("CREATE TABLE change_dated ({columns}) PARTITION BY LIST (month) (PARTITION p1 VALUES IN (1))"),
            ],
            "ALTER TABLE change_dated ADD PARTITION (PARTITION p2 VALUES IN (2))",
        ),
        // It has no partitions.
        _ => return,
    };
    for text in made {
        sink.db().execute_unprepared(&text).await.unwrap();
    }
    // Beside others it waits as for a parent; alone, nobody can say that it is not the table.
    let found = refused(sink, &[dated(1, 1), dated(2, 2)], &[]).await;
    assert_eq!(kinds(&found), [("2:2", ErrorKind::Deferred)]);
    let house = House::<Dated>::over(sink).await;
    house.put((10..60).map(|id| dated(id, 2))).await;
    house.blames_the_configuration(5).await;
    house.put([dated(60, 1)]).await;
    write_behind_tests::eventually("another month's row lands", crate::house::SOON, async || {
        (!load::<Dated>(sink, &[(60, 1)]).await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(house.stats().dead_letters, 0);
    sink.db().execute_unprepared(more).await.unwrap();
    house.all_land(51).await;
    assert_eq!(raw::<Dated>(sink, "id").await.len(), 52);
}

on_every_database!(
    p9_reads_go_on_when_the_type_of_a_column_changes,
    p8_a_column_that_takes_no_row_pauses_until_it_has_a_default,
    p8_a_trigger_that_refuses_every_row_is_no_dead_letter,
    p8_rows_wait_for_their_partition,
);
