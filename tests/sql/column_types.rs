//! Columns of other types than the mapping's: what the start says of them, what is refused, and that what is acknowledged is the row.

use chrono::{DateTime, NaiveTime, Utc};
use rust_decimal::Decimal;
use sea_orm::{ConnectionTrait, DbBackend};
use write_behind::{CacheError, Engine, EntityOptions, MemoryBuffer, Severity, Sink, SqlEntity, SqlSink};

use crate::databases::Database;
use crate::entities::{load, raw, scope};

/// An entity of one value for each Rust type.
macro_rules! values {
    ($($ty:ident in $table:tt: $value:ty),* $(,)?) => {$(
        entity! {
            pub(crate) struct $ty in $table {
                keys { id: i64 }
                v: $value,
            }
        }

        impl From<(i64, $value)> for $ty {
            fn from((id, v): (i64, $value)) -> Self {
                Self { id, v }
            }
        }
    )*};
}

values!(
    Integer in "types_integer": i64,
    Small in "types_small": i8,
    Float in "types_float": f64,
    Money in "types_decimal": Decimal,
    Word in "types_word": String,
    Blob in "types_blob": Vec<u8>,
    Uuids in "types_uuid": uuid::Uuid,
    Flag in "types_flag": bool,
    Clock in "types_clock": NaiveTime,
    Maybe in "types_maybe": Option<DateTime<Utc>>,
    Text in "types_text": Option<String>,
);

values!(
    Integers in "types_integers": Vec<i32>,
    Words in "types_words": Vec<String>,
    Moneys in "types_decimals": Vec<Decimal>,
    Moments in "types_moments": Vec<DateTime<Utc>>,
    Ids in "types_uuids": Vec<uuid::Uuid>,
);

async fn table<E: SqlEntity>(sink: &SqlSink, column: &str) -> SqlSink {
    let (column, strict) = column.strip_suffix(" STRICT").map_or((column, ""), |column| (column, " STRICT"));
    let key = if strict.is_empty() { "BIGINT" } else { "INTEGER" };
    let name = &E::table().name;
    let db = sink.db();
    db.execute_unprepared(&format!("DROP TABLE IF EXISTS {name}")).await.unwrap();
    let text = format!("CREATE TABLE {name} (id {key} NOT NULL PRIMARY KEY, v {column}){strict}");
    db.execute_unprepared(&text).await.unwrap();
    SqlSink::new(db.clone())
}

/// Codes of what the start says of the value's column, but for the precision of times.
async fn said<E: SqlEntity>(sink: &SqlSink, column: &str) -> Vec<(Severity, &'static str)> {
    let sink = table::<E>(sink, column).await;
    Sink::<E>::open(&sink, &scope::<E>()).await.unwrap();
    let found = Sink::<E>::examine(&sink, &scope::<E>()).await.unwrap();
    let about = found.iter().filter(|finding| finding.text.contains("`v`") && finding.code != "time-precision");
    about.map(|finding| (finding.severity, finding.code)).collect()
}

/// Puts each value; those that are acknowledged are in the table as they were put, and loaded so; returns whether each was.
async fn kept<E>(sink: &SqlSink, column: &str, values: Vec<E>) -> Vec<bool>
where
    E: SqlEntity<Key = i64> + Clone + PartialEq + std::fmt::Debug,
{
    let sink = table::<E>(sink, column).await;
    let options = EntityOptions::new().flush_every(std::time::Duration::from_millis(5));
    let engine = Engine::builder(MemoryBuffer::new()).entity::<E>(sink.clone(), options).start().await.unwrap();
    let cache = engine.cache::<E>().unwrap();
    let mut acknowledged = Vec::new();
    let mut stored = Vec::new();
    for value in values {
        match cache.put(&value).await {
            Ok(_) => stored.push(value),
            Err(CacheError::Unstorable { .. }) => {
                acknowledged.push(false);
                continue;
            }
            Err(error) => panic!("{error}"),
        }
        acknowledged.push(true);
    }
    cache.flush().await.unwrap();
    assert_eq!(engine.dead_letters::<E>().unwrap().count().await.unwrap(), 0, "{column}");
    assert_eq!(engine.stats()[E::NAME].refused, 0, "{column}");
    let keys: Vec<i64> = stored.iter().map(E::key).collect();
    let mut found = load::<E>(&sink, &keys).await;
    found.sort_by_key(E::key);
    assert_eq!(found, stored, "{column}");
    assert_eq!(raw::<E>(&sink, "id").await.len(), stored.len());
    acknowledged
}

fn numbered<T, E: From<(i64, T)>>(values: impl IntoIterator<Item = T>) -> Vec<E> {
    (1..).zip(values).map(E::from).collect()
}

const CLASH: [(Severity, &str); 1] = [(Severity::Fatal, "incompatible-type")];
const NARROW: [(Severity, &str); 1] = [(Severity::Warning, "narrow-type")];

/// A column that the driver reads as no such value, or that makes another one of it, is no column for it: an engine does not start.
async fn a_column_of_a_type_of_another_kind_is_found_at_start(sink: &SqlSink) {
    match sink.db().get_database_backend() {
        DbBackend::Postgres => {
            for column in ["money", "interval", "bit(64)", "xid8", "\"char\""] {
                assert_eq!(said::<Integer>(sink, column).await, CLASH, "{column}");
            }
            assert_eq!(said::<Small>(sink, "\"char\"").await, CLASH);
            assert_eq!(said::<Float>(sink, "money").await, CLASH);
            assert_eq!(said::<Money>(sink, "money").await, CLASH);
            for column in ["\"char\"", "xml", "inet", "tsvector", "regclass", "macaddr", "interval"] {
                assert_eq!(said::<Word>(sink, column).await, CLASH, "{column}");
            }
            assert_eq!(said::<Blob>(sink, "bit(8)").await, CLASH);
            assert_eq!(said::<Flag>(sink, "bit(1)").await, CLASH);
            assert_eq!(said::<Clock>(sink, "timetz").await, CLASH);
            assert_eq!(said::<Clock>(sink, "interval").await, CLASH);
            assert_eq!(said::<Integers>(sink, "text[]").await, CLASH);
            assert_eq!(said::<Words>(sink, "uuid[]").await, CLASH);
            assert_eq!(said::<Moneys>(sink, "money[]").await, CLASH);
            assert_eq!(said::<Moments>(sink, "timestamp[]").await, CLASH);
            assert_eq!(said::<Moments>(sink, "date[]").await, CLASH);
            assert_eq!(said::<Ids>(sink, "text[]").await, CLASH);
            assert_eq!(said::<Integers>(sink, "jsonb").await, CLASH);
            // What goes together.
            assert_eq!(said::<Clock>(sink, "time").await, []);
            assert_eq!(said::<Words>(sink, "varchar(9)[]").await, []);
            assert_eq!(said::<Words>(sink, "text[]").await, []);
        }
        DbBackend::MySql => {
            assert_eq!(said::<Word>(sink, "YEAR").await, CLASH);
            assert_eq!(said::<Word>(sink, "BIT(8)").await, CLASH);
            assert_eq!(said::<Blob>(sink, "BIT(16)").await, CLASH);
            assert_eq!(said::<Flag>(sink, "YEAR").await, CLASH);
            assert_eq!(said::<Flag>(sink, "BIT(1)").await, []);
            assert_eq!(said::<Word>(sink, "POINT").await, CLASH);
            if is_mariadb(sink).await {
                assert_eq!(said::<Uuids>(sink, "INET6").await, CLASH);
                assert_eq!(said::<Uuids>(sink, "UUID").await, []);
            }
        }
        _ => {
            assert_eq!(said::<Word>(sink, "BLOB STRICT").await, CLASH);
            assert_eq!(said::<Word>(sink, "TEXT STRICT").await, []);
            assert_eq!(said::<Blob>(sink, "TEXT STRICT").await, CLASH);
            assert_eq!(said::<Uuids>(sink, "TEXT STRICT").await, CLASH);
            assert_eq!(said::<Uuids>(sink, "BLOB STRICT").await, []);
            assert_eq!(said::<Money>(sink, "INTEGER STRICT").await, CLASH);
            assert_eq!(said::<Word>(sink, "ANY STRICT").await, []);
        }
    }
}

async fn is_mariadb(sink: &SqlSink) -> bool {
    let text = "SELECT VERSION() AS v";
    let version = sink.db().query_one_raw(sea_orm::Statement::from_string(DbBackend::MySql, text)).await.unwrap();
    version.unwrap().try_get::<String>("", "v").unwrap().contains("MariaDB")
}

/// Numbers, texts and times that the type of the column would change are refused by the put; all others come back.
async fn what_a_column_would_change_is_refused(sink: &SqlSink) {
    let words = || ["a", "bb", "A", "1", " ", "a ", "bb,a", "a,bb", "", "zz"].map(str::to_owned);
    let keeps = async |column: &str| kept::<Word>(sink, column, numbered(words())).await;
    match sink.db().get_database_backend() {
        DbBackend::MySql => {
            let years = kept::<Integer>(sink, "YEAR", numbered([0, 1, 99, 1900, 1901, 2024, 2155, 2156, -1])).await;
            assert_eq!(years, [true, false, false, false, true, true, true, false, false]);
            let bits = kept::<Integer>(sink, "BIT(8)", numbered([0, 1, 255, 256, -1])).await;
            assert_eq!(bits, [true, true, true, false, false]);
            let chosen = keeps("ENUM('a','bb','')").await;
            assert_eq!(chosen, [true, true, false, false, false, false, false, false, true, false]);
            let combined = keeps("SET('a','bb')").await;
            assert_eq!(combined, [true, true, false, false, false, false, false, true, true, false]);
            assert_eq!(said::<Word>(sink, "ENUM('a','bb')").await, NARROW);
            assert_eq!(said::<Word>(sink, "SET('a','bb')").await, NARROW);
            assert_eq!(said::<Integer>(sink, "YEAR").await, NARROW);
            assert_eq!(said::<Integer>(sink, "BIT(8)").await, NARROW);
            // A counter that is no key may be zero, also where the server would number rows by it.
            assert_eq!(
                kept::<Integer>(sink, "BIGINT NOT NULL AUTO_INCREMENT UNIQUE", numbered([7, 0, 9])).await,
                [true; 3]
            );
            if is_mariadb(sink).await {
                let addresses = ["::1", "0:0::1", "::A", "::a", "x"].map(str::to_owned);
                let found = kept::<Word>(sink, "INET6", numbered(addresses)).await;
                assert_eq!(found, [true, false, false, true, false]);
                let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
                let spelled = [uuid.to_owned(), uuid.to_uppercase(), "x".to_owned()];
                assert_eq!(kept::<Word>(sink, "UUID", numbered(spelled)).await, [true, false, false]);
            }
        }
        DbBackend::Postgres => {
            let bare = keeps("bpchar").await;
            assert_eq!(bare, [true, true, true, true, false, false, true, true, true, true]);
            let oids = kept::<Integer>(sink, "oid", numbered([0, 1, u32::MAX.into(), 1 << 32, -1])).await;
            assert_eq!(oids, [true, true, true, false, false]);
            for text in [
                "DROP DOMAIN IF EXISTS types_price CASCADE",
                "CREATE DOMAIN types_price AS numeric(5,2)",
                "CREATE DOMAIN types_net AS types_price",
                "DROP DOMAIN IF EXISTS types_code CASCADE",
                "CREATE DOMAIN types_code AS char(3)",
                "DROP DOMAIN IF EXISTS types_second CASCADE",
                "CREATE DOMAIN types_second AS timestamptz(0)",
            ] {
                sink.db().execute_unprepared(text).await.unwrap();
            }
            let decimals =
                || ["1.5", "999.99", "1000", "0.001", "7.9228162514264337593543950335"].map(|n| n.parse().unwrap());
            for column in ["types_price", "types_net", "numeric(5,2)"] {
                let found = kept::<Money>(sink, column, numbered(decimals())).await;
                assert_eq!(found, [true, true, false, false, false], "{column}");
            }
            for column in ["types_net[]", "types_price[]", "numeric(5,2)[]"] {
                let found = kept::<Moneys>(sink, column, numbered(decimals().map(|n: Decimal| vec![n]))).await;
                assert_eq!(found, [true, true, false, false, false], "{column}");
            }
            for column in ["char(3)[]", "types_code[]"] {
                let codes = [vec!["de", "at"], vec![], vec!["abc"], vec!["a "], vec!["abcd"]];
                let codes = codes.map(|codes| codes.into_iter().map(str::to_owned).collect());
                assert_eq!(
                    kept::<Words>(sink, column, numbered(codes)).await,
                    [true, true, true, false, false],
                    "{column}"
                );
            }
            let lists = || [vec![1, -1], vec![], vec![99], vec![100], vec![40_000]];
            assert_eq!(kept::<Integers>(sink, "bigint[]", numbered(lists())).await, [true; 5]);
            assert_eq!(kept::<Integers>(sink, "numeric[]", numbered(lists())).await, [true; 5]);
            assert_eq!(kept::<Integers>(sink, "smallint[]", numbered(lists())).await, [true, true, true, true, false]);
            assert_eq!(
                kept::<Integers>(sink, "numeric(3,1)[]", numbered(lists())).await,
                [true, true, true, false, false]
            );
            let second = |text: &str| vec![text.parse::<DateTime<Utc>>().unwrap()];
            let moments = [second("2024-02-29T23:59:59Z"), second("0001-01-01T00:00:00Z")];
            assert_eq!(kept::<Moments>(sink, "types_second[]", numbered(moments)).await, [true; 2]);
        }
        _ => {
            let any = keeps("ANY STRICT").await;
            assert_eq!(any, [true; 10]);
        }
    }
}

/// `None` where the column is NOT NULL: not acknowledged, and no value of the database's own is stored in its place.
async fn none_in_a_column_that_takes_no_null_is_refused(sink: &SqlSink) {
    let moment: DateTime<Utc> = "2024-02-29T12:00:00Z".parse().unwrap();
    let columns: &[&str] = match sink.db().get_database_backend() {
        DbBackend::MySql => {
            &["TIMESTAMP NOT NULL", "TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP", "DATETIME NOT NULL"]
        }
        DbBackend::Postgres => &["timestamptz NOT NULL", "timestamptz NOT NULL DEFAULT now()"],
        _ => &["TEXT NOT NULL", "TEXT NOT NULL ON CONFLICT REPLACE DEFAULT '2001-01-01T00:00:00+00:00'"],
    };
    for column in columns {
        assert_eq!(kept::<Maybe>(sink, column, numbered([None, Some(moment)])).await, [false, true], "{column}");
    }
    let texts = || numbered([None, Some(String::new())]);
    let own = "VARCHAR(9) NOT NULL DEFAULT 'd'";
    assert_eq!(kept::<Text>(sink, own, texts()).await, [false, true]);
    assert_eq!(kept::<Text>(sink, "VARCHAR(9) DEFAULT 'd'", texts()).await, [true, true]);
}

/// A trigger may fill in what is missing: then the database decides.
async fn none_is_left_to_a_trigger_that_may_fill_it_in(sink: &SqlSink) {
    let sink = table::<Text>(sink, "text NOT NULL").await;
    for text in [
        "CREATE OR REPLACE FUNCTION types_fill() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN NEW.v = COALESCE(NEW.v, ''none''); RETURN NEW; END'",
        "CREATE TRIGGER types_fill BEFORE INSERT OR UPDATE ON types_text FOR EACH ROW EXECUTE FUNCTION types_fill()",
    ] {
        sink.db().execute_unprepared(text).await.unwrap();
    }
    crate::entities::write(&sink, &[Text { id: 1, v: None }], &[]).await;
    assert_eq!(load::<Text>(&sink, &[1]).await, [Text { id: 1, v: Some("none".into()) }]);
}

/// A column of more digits behind the point than a `Decimal` has: what it holds can be loaded, and written as text.
async fn decimals_of_a_large_scale_are_loaded(sink: &SqlSink) {
    let sink = table::<Money>(sink, "numeric(1000,500)").await;
    sink.db().execute_unprepared("INSERT INTO types_decimal VALUES (1, 12.34), (2, 0)").await.unwrap();
    let found = load::<Money>(&sink, &[1, 2]).await;
    let mut texts: Vec<String> = found.iter().map(|row| row.v.normalize().to_string()).collect();
    texts.sort();
    assert_eq!(texts, ["0", "12.34"]);
}

/// One after the other, because they are about the same tables.
async fn p3_what_is_acknowledged_is_the_row_whatever_the_type_of_its_column(database: Database) {
    a_column_of_a_type_of_another_kind_is_found_at_start(&database.sink).await;
    what_a_column_would_change_is_refused(&database.sink).await;
    none_in_a_column_that_takes_no_null_is_refused(&database.sink).await;
    if database.sink.db().get_database_backend() == DbBackend::Postgres {
        none_is_left_to_a_trigger_that_may_fill_it_in(&database.sink).await;
        decimals_of_a_large_scale_are_loaded(&database.sink).await;
    }
}

on_every_database!(p3_what_is_acknowledged_is_the_row_whatever_the_type_of_its_column);
