//! Random keys over case, accents, spaces at the end, padding, characters of four bytes, NUL and the empty text, in every kind of
//! column that a start accepts: what is written, deleted and loaded is compared with a map by bytes, and at the end with
//! what the database has. Each key is exact, or refused.
//!
//! A failure prints the shortest history that fails and the seed; `WB_SEED=<seed>` plays the same cases again.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::sample::select;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use write_behind::{ErrorKind, Severity, Sink, SqlOptions, SqlSink};

use crate::databases::server;
use crate::entities::{batch, scope};
use crate::keys::types;

entity! {
    pub(crate) struct Random in "key_properties" {
        keys { name: String, part: i64 }
        n: i64,
    }
}

/// Parts of texts; two or three of them are equal to others under one collation or another.
const PARTS: &[&str] = &[
    "a",
    "A",
    "b",
    "B",
    "e",
    "\u{e9}",
    "e\u{301}",
    "\u{c9}",
    "ss",
    "\u{df}",
    "i",
    "I",
    "\u{131}",
    "\u{130}",
    "\u{fb01}",
    "fi",
    " ",
    "  ",
    "\u{a0}",
    "\t",
    "\0",
    "\u{ad}",
    "\u{200d}",
    "\u{1f600}",
    "\u{10437}",
    "\u{1040f}",
    "\u{6f22}",
    "\u{ff21}",
    "0",
    "7",
    "e1",
    ".",
    "-",
    "x'",
];

/// A step, keys by their parts.
#[derive(Clone, Debug)]
enum Step {
    /// What is put with which number, and what is deleted.
    Write(Vec<(String, i64)>, Vec<String>),
    Load(Vec<String>),
}

fn key() -> impl Strategy<Value = String> {
    vec(select(PARTS), 0..4).prop_map(|parts| parts.concat())
}

fn step() -> impl Strategy<Value = Step> {
    let write = (vec((key(), 0..1_000_i64), 0..5), vec(key(), 0..4));
    proptest::prop_oneof![
        3 => write.prop_map(|(puts, deletes)| Step::Write(puts, deletes)),
        1 => vec(key(), 1..6).prop_map(Step::Load),
    ]
}

fn row(key: &str, n: i64) -> Random {
    Random { name: key.to_owned(), part: 1, n }
}

/// What a column is like.
struct Definition {
    column: &'static str,
    /// Every key that is storable is kept, whatever else is there.
    exact: bool,
}

const fn exact(column: &'static str) -> Definition {
    Definition { column, exact: true }
}

const fn loose(column: &'static str) -> Definition {
    Definition { column, exact: false }
}

type Failed = Result<(), TestCaseError>;

/// Plays the steps on an empty table.
async fn play(sink: &SqlSink, definition: &Definition, steps: &[Step]) -> Failed {
    sink.db().execute_unprepared("DELETE FROM key_properties").await.unwrap();
    let fail = |text: String| Err(TestCaseError::fail(format!("{}: {text}", definition.column)));
    let mut model = BTreeMap::<String, i64>::new();
    for step in steps {
        match step {
            Step::Write(puts, deletes) => {
                let puts: BTreeMap<&String, i64> = puts.iter().map(|(key, n)| (key, *n)).collect();
                let deletes: BTreeSet<&String> = deletes.iter().filter(|key| !puts.contains_key(key)).collect();
                let mut rows: Vec<Random> = puts.iter().map(|(key, n)| row(key, *n)).collect();
                rows.retain(|row| match Sink::check(sink, row) {
                    Ok(()) => true,
                    Err(_) => {
                        assert!(!model.contains_key(&row.name), "what is there can be written again");
                        false
                    }
                });
                let keys: Vec<(String, i64)> = deletes.iter().map(|key| ((*key).clone(), 1)).collect();
                let report = match sink.write(&batch(&rows, &keys)).await {
                    Ok(report) => report,
                    Err(error) => return fail(error.chain()),
                };
                let refused: BTreeMap<String, ErrorKind> =
                    report.rejected.iter().map(|(id, error)| (id.to_string(), error.kind())).collect();
                for row in rows {
                    let id = write_behind::Id::of(&(row.name.clone(), row.part)).unwrap().to_string();
                    match refused.get(&id) {
                        None => drop(model.insert(row.name, row.n)),
                        Some(ErrorKind::Rejected) if !definition.exact && !model.contains_key(&row.name) => {}
                        Some(kind) => return fail(format!("{:?} is refused as {kind:?}", row.name)),
                    }
                }
                for key in deletes {
                    model.remove(key);
                }
            }
            Step::Load(keys) => {
                let asked: Vec<(String, i64)> = keys.iter().map(|key| (key.clone(), 1)).collect();
                let found = match Sink::<Random>::load(sink, &asked).await {
                    Ok(found) => found,
                    Err(error) => return fail(error.chain()),
                };
                let found: BTreeMap<String, i64> = found.into_iter().map(|row| (row.name, row.n)).collect();
                let wanted: BTreeMap<String, i64> =
                    keys.iter().filter_map(|key| Some((key.clone(), *model.get(key)?))).collect();
                if found != wanted {
                    return fail(format!("loaded {found:?}, not {wanted:?}"));
                }
            }
        }
    }
    let there = stored(sink).await;
    if there == model { Ok(()) } else { fail(format!("the table has {there:?}, not {model:?}")) }
}

/// What the table has, by the bytes of its keys.
async fn stored(sink: &SqlSink) -> BTreeMap<String, i64> {
    let backend = sink.db().get_database_backend();
    let bytes = match backend {
        DbBackend::Postgres => "UPPER(ENCODE(CONVERT_TO(name::text, 'UTF8'), 'hex'))",
        DbBackend::MySql => "HEX(CONVERT(name USING utf8mb4))",
        _ => "HEX(CAST(name AS BLOB))",
    };
    let query = Statement::from_string(backend, format!("SELECT {bytes} AS k, n FROM key_properties"));
    let rows = sink.db().query_all_raw(query).await.unwrap();
    let text = |hex: String| {
        let bytes =
            hex.as_bytes().chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap());
        String::from_utf8(bytes.collect()).unwrap()
    };
    rows.iter().map(|row| (text(row.try_get("", "k").unwrap()), row.try_get("", "n").unwrap())).collect()
}

/// Every definition with cases of its own.
fn histories(sink: impl AsyncFn() -> SqlSink, definitions: &[Definition]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let given = std::env::var("WB_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
    eprintln!("WB_SEED={seed}");
    for definition in definitions {
        // A new pool, whose connections know nothing of the last table.
        let sink = runtime.block_on(async {
            let sink = sink().await;
            let text = format!(
                "CREATE TABLE key_properties (name {} NOT NULL, part BIGINT NOT NULL, n BIGINT, PRIMARY KEY (name, part))",
                definition.column
            );
            for text in ["DROP TABLE IF EXISTS key_properties", &text] {
                sink.db().execute_unprepared(text).await.unwrap();
            }
            Sink::<Random>::open(&sink, &scope::<Random>()).await.unwrap();
            Sink::<Random>::prepare(&sink, &scope::<Random>()).await.unwrap();
            let found = Sink::<Random>::examine(&sink, &scope::<Random>()).await.unwrap();
            assert!(found.iter().all(|finding| finding.severity != Severity::Fatal), "{}: {found:?}", definition.column);
            sink
        });
        let seeded =
            Config { cases: 24, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new(Config { max_shrink_iters: 300, ..seeded });
        let result = runner.run(&vec(step(), 1..12), |steps| runtime.block_on(play(&sink, definition, &steps)));
        result.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

async fn connect(url: &str) -> SqlSink {
    SqlSink::connect_with(url, SqlOptions::new().max_connections(2)).await.unwrap()
}

#[test]
fn no_key_touches_the_row_of_another_one_on_postgres() {
    let Some(url) = server("WB_POSTGRES_URL") else { return };
    let sink = async || {
        let sink = connect(&url).await;
        types(&sink).await;
        sink
    };
    let definitions = [
        exact("text"),
        exact("varchar(40)"),
        loose("varchar(2)"),
        loose("char(8)"),
        loose("citext"),
        loose("wb_nick_below"),
        loose("wb_code"),
        loose("name"),
        loose("text COLLATE wb_ci"),
        loose("varchar(8) COLLATE wb_ai"),
    ];
    histories(sink, &definitions);
}

#[test]
fn no_key_touches_the_row_of_another_one_on_mariadb() {
    let Some(url) = server("WB_MYSQL_URL") else { return };
    let definitions = [
        exact("varchar(20) COLLATE utf8mb4_nopad_bin"),
        loose("varchar(20) COLLATE utf8mb4_bin"),
        loose("varchar(20) COLLATE utf8mb4_general_ci"),
        loose("varchar(20) COLLATE utf8mb4_unicode_ci"),
        loose("varchar(20) COLLATE utf8mb4_unicode_nopad_ci"),
        loose("varchar(20) COLLATE utf8mb4_unicode_520_ci"),
        loose("varchar(2) COLLATE utf8mb4_general_ci"),
        loose("char(20) COLLATE utf8mb4_general_ci"),
        loose("char(20) COLLATE utf8mb4_nopad_bin"),
        loose("varchar(20) CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci"),
        loose("varchar(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci"),
    ];
    histories(async || connect(&url).await, &definitions);
}

#[test]
fn no_key_touches_the_row_of_another_one_on_sqlite() {
    let folder = std::env::temp_dir().join(format!("wb-keys-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.join("test.db").display());
    let definitions = [
        exact("TEXT"),
        exact("VARCHAR(2)"),
        exact("BLOB"),
        exact(""),
        loose("TEXT COLLATE NOCASE"),
        loose("TEXT COLLATE RTRIM"),
        loose("STRING"),
        loose("DECIMAL(9, 2)"),
    ];
    histories(async || connect(&url).await, &definitions);
    let _ = std::fs::remove_dir_all(&folder);
}
