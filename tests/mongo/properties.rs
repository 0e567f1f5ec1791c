//! Random values at the edges of their types: what is acknowledged is read back, past the framework, as it was acknowledged;
//! everything else is refused by the write.
//!
//! A failure prints the shortest case that fails and the seed; `WB_SEED=<seed>` plays the same cases again.
#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bson::doc;
use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Timelike, Utc};
use mongodb::Database;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use write_behind::{CacheError, Engine, EntityOptions, MemoryBuffer, Sink, WriteBehind};

use crate::server::{on_replica_set, opened};

macro_rules! kept {
    ($($number:literal $name:ident $(@ $native:ident)?: $ty:ty, $stored:ty;)*) => {
        /// A field of every type, of which one has a value.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, WriteBehind)]
        #[wb(name = "kept", collection = "kept", format = "msgpack")]
        struct Kept {
            #[wb(key)]
            id: i64,
            $($(#[wb($native)])? $name: Option<$ty>,)*
        }

        /// The document as the driver reads it.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct Stored {
            id: i64,
            $($name: Option<$stored>,)*
        }

        const FIELDS: usize = [$($number),*].len();

        impl Kept {
            fn name(field: usize) -> &'static str {
                [$(stringify!($name)),*][field]
            }

            fn draw(id: i64, (field, edge, a, b): (usize, u8, u64, u64)) -> Self {
                match field % FIELDS {
                    $($number => Self { id, $name: Some(Draw::draw(edge, a, b)), ..Self::default() },)*
                    _ => unreachable!(),
                }
            }

            fn stored(&self) -> Stored {
                Stored { id: self.id, $($name: self.$name.clone().map(Into::into),)* }
            }
        }
    };
}

kept! {
    0 f_i8: i8, i8;
    1 f_i64: i64, i64;
    2 f_u8: u8, u8;
    3 f_u32: u32, u32;
    4 f_u64: u64, u64;
    5 f_f32: f32, f32;
    6 f_f64: f64, f64;
    7 f_text: String, String;
    8 f_bytes: Vec<u8>, Vec<u8>;
    9 f_uuid: Uuid, Uuid;
    10 f_decimal: Decimal, Decimal;
    11 f_date: NaiveDate, NaiveDate;
    12 f_time: NaiveTime, NaiveTime;
    13 f_date_time: NaiveDateTime, NaiveDateTime;
    14 f_utc: DateTime<Utc>, DateTime<Utc>;
    15 f_fixed: DateTime<FixedOffset>, DateTime<FixedOffset>;
    16 f_json: serde_json::Value, serde_json::Value;
    17 f_map: BTreeMap<String, i64>, BTreeMap<String, i64>;
    18 f_numbered: HashMap<u32, i64>, HashMap<u32, i64>;
    19 n_uuid @ native_bson: Uuid, bson::Uuid;
    20 n_utc @ native_bson: DateTime<Utc>, bson::DateTime;
    21 n_date_time @ native_bson: NaiveDateTime, Native;
    22 n_bytes @ native_bson: Vec<u8>, Native;
    23 n_dates @ native_bson: Vec<DateTime<Utc>>, Native;
}

/// What the driver has no conversion for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Native(bson::Bson);

impl From<NaiveDateTime> for Native {
    fn from(time: NaiveDateTime) -> Self {
        Self(bson::DateTime::from_millis(time.and_utc().timestamp_millis()).into())
    }
}

impl From<Vec<u8>> for Native {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes }.into())
    }
}

impl From<Vec<DateTime<Utc>>> for Native {
    fn from(times: Vec<DateTime<Utc>>) -> Self {
        Self(bson::Bson::Array(times.into_iter().map(|time| bson::DateTime::from_chrono(time).into()).collect()))
    }
}

trait Draw {
    fn draw(edge: u8, a: u64, b: u64) -> Self;
}

macro_rules! draw {
    ($($ty:ty: |$edge:ident, $a:ident, $b:ident| $draw:expr;)*) => {$(
        impl Draw for $ty {
            fn draw($edge: u8, $a: u64, $b: u64) -> Self {
                let _ = ($edge, $a, $b);
                $draw
            }
        }
    )*};
}

fn pick<T: Clone>(edge: u8, edges: &[T], drawn: T) -> T {
    edges.get(usize::from(edge) % (edges.len() + 2)).cloned().unwrap_or(drawn)
}

fn date_time(edge: u8, a: u64, b: u64) -> NaiveDateTime {
    NaiveDate::draw(edge, a, b).and_time(NaiveTime::draw((b >> 8) as u8, b, a))
}

draw! {
    i8: |edge, a, _b| pick(edge, &[i8::MIN, i8::MAX, 0], a as i8);
    i64: |edge, a, b| pick(edge, &[i64::MIN, i64::MAX, 0, (1 << 53) + 1], (a >> (b % 64)) as i64);
    u8: |edge, a, _b| pick(edge, &[0, u8::MAX], a as u8);
    u32: |edge, a, _b| pick(edge, &[0, u32::MAX, 1 << 31], a as u32);
    u64: |edge, a, b| pick(edge, &[0, u64::MAX, 1 << 63, (1 << 63) - 1], a >> (b % 64));
    f32: |edge, a, _b| pick(edge, &[0.1, f32::MAX, f32::MIN_POSITIVE, f32::INFINITY, -0.0], (a as i16).into());
    f64: |edge, a, _b| pick(edge, &[0.1, 0.1 + 0.2, f64::MAX, 5e-324, f64::NEG_INFINITY, -0.0], f64::from(a as i16) / 8.0);
    String: |edge, a, b| pick(edge, &[String::new(), "a\0".into(), "\u{1f980}".into(), " a ".into(), "$a.b".into(), "x".repeat(70_000)],
        (0..b % 9).map(|n| ['a', 'ä', '\0', '\u{1f980}', '$', '.'][(a >> (n * 4)) as usize % 6]).collect());
    Vec<u8>: |edge, a, b| pick(edge, &[Vec::new(), vec![0], vec![255; 3_000]], a.to_le_bytes()[..b as usize % 8].to_vec());
    Uuid: |edge, a, b| pick(edge, &[Uuid::nil(), Uuid::max()], Uuid::from_u64_pair(a, b));
    Decimal: |edge, a, b| pick(edge, &[Decimal::MAX, Decimal::MIN, Decimal::ZERO, Decimal::new(1, 28), Decimal::new(1_200, 2)],
        Decimal::from_i128_with_scale((i128::from(a) << 32) + i128::from(b as u32), (b % 29) as u32));
    NaiveDate: |edge, a, _b| {
        let day = |y, m, d| NaiveDate::from_ymd_opt(y, m, d).unwrap();
        pick(edge, &[day(2099, 12, 31), day(9_999, 12, 31), day(10_000, 1, 1), day(1, 1, 1), day(-1, 12, 31), day(1969, 12, 31),
            day(200_000, 1, 1), day(-200_000, 1, 1)], NaiveDate::from_num_days_from_ce_opt((a % 3_000_000) as i32).unwrap())
    };
    NaiveTime: |edge, a, b| {
        let at = |h, m, s, n| NaiveTime::from_hms_nano_opt(h, m, s, n).unwrap();
        pick(edge, &[at(0, 0, 0, 0), at(23, 59, 59, 999_999_999), at(23, 59, 59, 1_500_000_000), at(12, 0, 0, 1), at(1, 2, 3, 4_000_000)],
            NaiveTime::from_num_seconds_from_midnight_opt((a % 86_400) as u32, (b % 1_000_000_000) as u32).unwrap())
    };
    NaiveDateTime: |edge, a, b| date_time(edge, a, b);
    DateTime<Utc>: |edge, a, b| date_time(edge, a, b).and_utc();
    DateTime<FixedOffset>: |edge, a, b| {
        let offset = FixedOffset::east_opt([0, 19_800, -39_600][(a >> 40) as usize % 3]).unwrap();
        offset.from_utc_datetime(&date_time(edge, a, b))
    };
    serde_json::Value: |edge, a, _b| pick(edge, &[json!({}), json!([1, -2, 3.5, null, true, { "b": "c", "$a.b": [] }]), json!("a\0"),
        json!(i64::MIN), json!(u64::MAX), json!({ "k\0": 1 }), json!({ "": { "": 1 } })], json!((a as i16) as f64 / 8.0));
    BTreeMap<String, i64>: |edge, a, b| BTreeMap::from([(String::draw(edge, a, b), a as i64)]);
    HashMap<u32, i64>: |edge, a, b| (0..b % 3).map(|n| (edge as u32 + n as u32, a as i64)).collect();
    Vec<DateTime<Utc>>: |edge, a, b| (0..b % 3).map(|n| date_time(edge, a, b >> n).and_utc()).collect();
}

/// Fields whose fraction of a second is finer than a date's are cut, and by nothing else.
fn is_cut_of(found: &Kept, written: &Kept) -> bool {
    let cut = |found: NaiveDateTime, written: NaiveDateTime| {
        (TimeDelta::zero()..TimeDelta::milliseconds(1)).contains(&(written - found))
            && found.nanosecond().is_multiple_of(1_000_000)
    };
    let mut same = written.clone();
    match (found.n_utc, written.n_utc) {
        (Some(one), Some(other)) if cut(one.naive_utc(), other.naive_utc()) => same.n_utc = Some(one),
        _ => {}
    }
    match (found.n_date_time, written.n_date_time) {
        (Some(one), Some(other)) if cut(one, other) => same.n_date_time = Some(one),
        _ => {}
    }
    if let (Some(ones), Some(others)) = (&found.n_dates, &written.n_dates)
        && ones.iter().zip(others).all(|(one, other)| cut(one.naive_utc(), other.naive_utc()))
        && ones.len() == others.len()
    {
        same.n_dates.clone_from(&found.n_dates);
    }
    same == *found
}

async fn play(database: &Database, draws: &[(usize, u8, u64, u64)]) {
    database.collection::<bson::Document>("kept").delete_many(doc! {}).await.unwrap();
    let sink = opened::<Kept>(database).await;
    let options = EntityOptions::new().flush_every(Duration::from_secs(3_600));
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Kept>(sink.clone(), options).start().await.unwrap();
    let cache = engine.cache::<Kept>().unwrap();
    let mut acknowledged = Vec::new();
    for (id, draw) in (0_i64..).zip(draws) {
        let row = Kept::draw(id, *draw);
        match cache.put(&row).await {
            Ok(_) => {
                let found = cache.get(&id).await.unwrap().unwrap();
                assert!(is_cut_of(&found, &row), "{found:?} is not {row:?}");
                acknowledged.push(found);
            }
            Err(CacheError::Unstorable { field, .. }) => assert_eq!(field, Kept::name(draw.0 % FIELDS), "{row:?}"),
            Err(error) => panic!("{row:?}: {error}"),
        }
    }
    cache.flush().await.unwrap();
    let letters = engine.dead_letters::<Kept>().unwrap().page(None, 3).await.unwrap();
    let stats = &engine.stats()["kept"];
    assert_eq!((stats.dead_letters, stats.refused), (0, 0), "{letters:?}");
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
    for row in acknowledged {
        let stored = database.collection::<Stored>("kept").find_one(doc! { "_id": row.id }).await.unwrap().unwrap();
        assert_eq!(stored, row.stored());
        assert_eq!(Sink::<Kept>::load(&sink, &[row.id]).await.unwrap(), [row]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_what_is_acknowledged_is_stored_as_it_is() {
    on_replica_set(|database| async move {
        let given = std::env::var("WB_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(Uuid::new_v4().as_fields().0));
        eprintln!("WB_SEED={seed}");
        let seeded = Config { rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new(Config { cases: 24, max_shrink_iters: 60, ..seeded });
        let handle = tokio::runtime::Handle::current();
        let case = vec((0..FIELDS, any::<u8>(), any::<u64>(), any::<u64>()), 1..60);
        let result = tokio::task::block_in_place(|| {
            runner.run(&case, |draws| {
                handle.block_on(play(&database, &draws));
                Ok(())
            })
        });
        assert!(result.is_ok(), "{}", result.unwrap_err());
    })
    .await;
}
