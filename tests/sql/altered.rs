//! A column that is altered while a program runs: what it can hold now is taken, and what it would change now is refused.

use rust_decimal::Decimal;
use sea_orm::{ConnectionTrait, DbBackend};
use write_behind::{CacheError, ErrorKind, Sink, SqlSink};
use write_behind_tests::eventually;

use crate::databases::Database;
use crate::entities::{load, raw, scope, try_write, write};
use crate::house::{House, SOON};

entity! {
    pub(crate) struct Ticket in "altered_ticket" {
        keys { code: String }
        price: Decimal,
        title: String,
    }
}

fn ticket(code: &str, price: &str, title: &str) -> Ticket {
    Ticket { code: code.into(), price: price.parse().unwrap(), title: title.into() }
}

/// Types of the key, of the price and of the title. SQLite has no widths: there it is the affinity that changes values.
struct Types([&'static str; 3]);

const fn narrow(backend: DbBackend) -> Types {
    match backend {
        DbBackend::Postgres => Types(["varchar(4)", "numeric(10,1)", "varchar(5)"]),
        DbBackend::MySql => Types(["varchar(4)", "decimal(10,1)", "varchar(5)"]),
        _ => Types(["numeric", "decimal(10,1)", "numeric"]),
    }
}

const fn wide(backend: DbBackend) -> Types {
    match backend {
        DbBackend::Postgres => Types(["varchar(40)", "numeric(30,12)", "varchar(50)"]),
        DbBackend::MySql => Types(["varchar(40)", "decimal(30,12)", "varchar(50)"]),
        _ => Types(["text", "text", "text"]),
    }
}

async fn all(sink: &SqlSink, texts: &[String]) {
    for text in texts {
        sink.db().execute_unprepared(text).await.unwrap();
    }
}

fn columns(Types([code, price, title]): &Types) -> String {
    format!("code {code} NOT NULL PRIMARY KEY, price {price} NOT NULL, title {title} NOT NULL")
}

async fn create(sink: &SqlSink, table: &str, types: Types) {
    let columns = columns(&types);
    all(sink, &[format!("DROP TABLE IF EXISTS {table}"), format!("CREATE TABLE {table} ({columns})")]).await;
}

async fn alter(sink: &SqlSink, table: &str, types: Types) {
    let Types([code, price, title]) = &types;
    let text = match sink.db().get_database_backend() {
        DbBackend::Postgres => vec![format!(
            "ALTER TABLE {table} ALTER COLUMN code TYPE {code}, ALTER COLUMN price TYPE {price}, ALTER COLUMN title TYPE {title}"
        )],
        DbBackend::MySql => vec![format!(
            "ALTER TABLE {table} MODIFY code {code} NOT NULL, MODIFY price {price} NOT NULL, MODIFY title {title} NOT NULL"
        )],
        _ => vec![format!(
            "BEGIN; CREATE TABLE {table}_2 ({}); INSERT INTO {table}_2 SELECT * FROM {table}; DROP TABLE {table}; \
             ALTER TABLE {table}_2 RENAME TO {table}; COMMIT",
            columns(&types)
        )],
    };
    all(sink, &text).await;
}

/// One that is wider than the narrow columns, in each of them.
fn wider(backend: DbBackend) -> [Ticket; 3] {
    match backend {
        DbBackend::Sqlite => {
            [ticket("007", "1", "a"), ticket("b", "99999999999999999999", "b"), ticket("c", "1", "1e3")]
        }
        _ => [ticket("seven", "1", "a"), ticket("b", "12.34", "b"), ticket("c", "1", "longer")],
    }
}

async fn a_column_that_was_widened_takes_what_it_can_hold_now(database: Database) {
    let sink = &database.sink;
    let backend = sink.db().get_database_backend();
    create(sink, "altered_ticket", narrow(backend)).await;
    let house = House::<Ticket>::over(sink).await;
    house.put([ticket("old", "1.5", "old")]).await;
    for row in wider(backend) {
        let told = house.cache.put(&row).await.unwrap_err();
        assert!(matches!(told, CacheError::Unstorable { .. }), "{told}");
    }
    alter(sink, "altered_ticket", wide(backend)).await;
    // The refusals above have looked at the table within the last second.
    eventually("a wider one is taken", SOON, async || house.cache.put(&wider(backend)[0]).await.ok()).await;
    for row in wider(backend) {
        house.cache.put(&row).await.unwrap().persisted().await.unwrap();
        house.cache.invalidate(&row.code).await.unwrap();
        assert_eq!(house.cache.get(&row.code).await.unwrap(), Some(row));
    }
    assert_eq!(house.letters.count().await.unwrap(), 0);
}

entity! {
    pub(crate) struct Cut in "altered_cut" {
        keys { code: String }
        price: Decimal,
        title: String,
    }
}

/// The acknowledgement is older than the column, or of a process that has not heard of it: it is a dead letter, and the row is not
/// another value.
async fn a_column_that_was_narrowed_changes_no_value(database: Database) {
    let sink = &database.sink;
    let backend = sink.db().get_database_backend();
    create(sink, "altered_cut", wide(backend)).await;
    let cut = |code: &str, price: &str, title: &str| {
        let Ticket { code, price, title } = ticket(code, price, title);
        Cut { code, price, title }
    };
    Sink::<Cut>::open(sink, &scope::<Cut>()).await.unwrap();
    write(sink, &[cut("a", "1.5", "a")], &[]).await;
    alter(sink, "altered_cut", narrow(backend)).await;
    let finer = cut("b", if backend == DbBackend::Sqlite { "99999999999999999999" } else { "12.34" }, "b");
    Sink::<Cut>::check(sink, &finer).expect("nobody has looked at the table since");
    let report = eventually("the table is looked at again", SOON, async || {
        let report = try_write(sink, &[cut("c", "1.5", "c"), finer.clone()], &[]).await.unwrap();
        (!report.rejected.is_empty()).then_some(report)
    });
    let refused: Vec<_> = report.await.rejected.iter().map(|(id, error)| (id.to_string(), error.kind())).collect();
    assert_eq!(refused, [("b".to_owned(), ErrorKind::Rejected)]);
    assert!(Sink::<Cut>::check(sink, &finer).is_err());
    write(sink, &[cut("d", "1.5", "d")], &[]).await;
}

entity! {
    pub(crate) struct Found in "altered_found" {
        keys { code: String }
        price: Decimal,
        title: String,
    }
}

/// A key that no row could have is looked for as soon as one can.
async fn a_key_column_that_was_widened_is_read_by_its_new_keys(database: Database) {
    let sink = &database.sink;
    let backend = sink.db().get_database_backend();
    create(sink, "altered_found", narrow(backend)).await;
    let key = wider(backend)[0].code.clone();
    assert_eq!(load::<Found>(sink, std::slice::from_ref(&key)).await, []);
    alter(sink, "altered_found", wide(backend)).await;
    all(sink, &[format!("INSERT INTO altered_found VALUES ('{key}', '1', 'x')")]).await;
    let found =
        eventually("the row is found", SOON, async || load::<Found>(sink, std::slice::from_ref(&key)).await.pop());
    assert_eq!(found.await.code, key);
}

entity! {
    pub(crate) struct Doubled in "altered_doubled" {
        keys { id: i64 }
        n: i32,
    }
}

/// Without it an upsert would add a row each time, where the database does not say so itself.
async fn a_table_that_has_lost_its_unique_key_is_misconfigured(database: Database) {
    let sink = &database.sink;
    let texts = [
        "DROP TABLE IF EXISTS altered_doubled".to_owned(),
        "CREATE TABLE altered_doubled (id BIGINT NOT NULL, n INT NOT NULL)".to_owned(),
        "CREATE UNIQUE INDEX altered_doubled_key ON altered_doubled (id)".to_owned(),
    ];
    all(sink, &texts).await;
    write(sink, &[Doubled { id: 1, n: 1 }], &[]).await;
    let drop = match sink.db().get_database_backend() {
        DbBackend::MySql => "DROP INDEX altered_doubled_key ON altered_doubled",
        _ => "DROP INDEX altered_doubled_key",
    };
    all(sink, &[drop.to_owned()]).await;
    let error =
        eventually("the key is missed", SOON, async || try_write(sink, &[Doubled { id: 2, n: 2 }], &[]).await.err());
    let error = error.await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{}", error.chain());
    all(sink, &["DELETE FROM altered_doubled WHERE id = 2".to_owned(), texts[2].clone()]).await;
    write(sink, &[Doubled { id: 1, n: 3 }, Doubled { id: 2, n: 3 }], &[]).await;
    assert_eq!(raw::<Doubled>(sink, "id").await.len(), 2);
}

on_every_database!(
    a_column_that_was_widened_takes_what_it_can_hold_now,
    a_column_that_was_narrowed_changes_no_value,
    a_key_column_that_was_widened_is_read_by_its_new_keys,
    a_table_that_has_lost_its_unique_key_is_misconfigured,
);
