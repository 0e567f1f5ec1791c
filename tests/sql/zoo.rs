//! Every type, through a SeaORM `Model`: what the sink stores is what SeaORM's own insert stores, and both SeaORM's
//! `find` and the sink's `load` read it back.

use sea_orm::entity::prelude::*;
use sea_orm::{IntoActiveModel, Set};
use serde::{Deserialize, Serialize};
use write_behind::{Sink, SqlEntity, WriteBehind};

use crate::databases::Database;
use crate::entities::{create, load, raw, scope, write};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(10))")]
pub(crate) enum Status {
    #[sea_orm(string_value = "draft")]
    Draft,
    #[sea_orm(string_value = "public")]
    Public,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i32", db_type = "Integer")]
pub(crate) enum Level {
    #[sea_orm(num_value = 1)]
    Low,
    #[sea_orm(num_value = 7)]
    High,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveValueType)]
pub(crate) struct Cents(pub(crate) i64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveValueType)]
pub(crate) struct Slug(pub(crate) String);

pub(crate) mod animal {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveEntityModel, WriteBehind)]
    #[sea_orm(table_name = "zoo_animal")]
    #[wb(name = "zoo_animal")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub small: i16,
        pub int: i32,
        pub float: f32,
        pub double: f64,
        #[sea_orm(column_type = "Decimal(Some((20, 4)))")]
        pub decimal: Decimal,
        pub flag: bool,
        pub text: String,
        #[sea_orm(column_type = "Text")]
        pub long_text: String,
        pub bytes: Vec<u8>,
        pub uuid: Uuid,
        pub date: Date,
        pub time: Time,
        pub date_time: DateTime,
        pub utc: DateTimeUtc,
        pub zoned: DateTimeWithTimeZone,
        pub t_date: TimeDate,
        pub t_time: TimeTime,
        pub t_date_time: TimeDateTime,
        pub t_zoned: TimeDateTimeWithTimeZone,
        pub json: Json,
        pub status: Status,
        pub level: Level,
        pub cents: Cents,
        #[sea_orm(column_name = "Slug")]
        pub slug: Slug,
        pub o_small: Option<i16>,
        pub o_int: Option<i32>,
        pub o_big: Option<i64>,
        pub o_float: Option<f32>,
        pub o_double: Option<f64>,
        #[sea_orm(column_type = "Decimal(Some((20, 4)))", nullable)]
        pub o_decimal: Option<Decimal>,
        pub o_flag: Option<bool>,
        pub o_text: Option<String>,
        pub o_bytes: Option<Vec<u8>>,
        pub o_uuid: Option<Uuid>,
        pub o_date: Option<Date>,
        pub o_time: Option<Time>,
        pub o_date_time: Option<DateTime>,
        pub o_utc: Option<DateTimeUtc>,
        pub o_zoned: Option<DateTimeWithTimeZone>,
        pub o_t_date: Option<TimeDate>,
        pub o_t_time: Option<TimeTime>,
        pub o_t_date_time: Option<TimeDateTime>,
        pub o_t_zoned: Option<TimeDateTimeWithTimeZone>,
        pub o_json: Option<Json>,
        pub o_status: Option<Status>,
        pub o_level: Option<Level>,
        pub o_cents: Option<Cents>,
        pub o_slug: Option<Slug>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

fn animal(id: i64, some: bool) -> animal::Model {
    use sea_orm::sea_query::prelude::{chrono, time};

    let date = chrono::NaiveDate::from_ymd_opt(2024, 2, 29).unwrap();
    let clock = chrono::NaiveTime::from_hms_micro_opt(23, 59, 58, 123_456).unwrap();
    let zoned = chrono::DateTime::parse_from_rfc3339("2024-07-01T01:02:03.000004+05:30").unwrap();
    let t_date = time::Date::from_calendar_date(1999, time::Month::December, 31).unwrap();
    let t_time = time::Time::from_hms_micro(1, 2, 3, 40).unwrap();
    let t_date_time = TimeDateTime::new(t_date, t_time);
    let json = serde_json::json!({"b": [1, 2.5, null, "x\u{1f980}"], "a": {"": true}});
    macro_rules! opt {
        ($value:expr) => {
            if some { Some($value) } else { None }
        };
    }
    animal::Model {
        id,
        small: -32_768,
        int: i32::MIN,
        float: 0.1,
        double: 1.0 / 3.0,
        // Fifteen digits, which a floating-point number of SQLite keeps.
        decimal: "-12345678901.4567".parse().unwrap(),
        flag: some,
        text: "it's \u{1f980} \"q\" \\".into(),
        long_text: "long ".repeat(200),
        bytes: vec![0, 1, 255, 39, 92],
        uuid: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        date,
        time: clock,
        date_time: date.and_time(clock),
        utc: zoned.to_utc(),
        zoned,
        t_date,
        t_time,
        t_date_time,
        t_zoned: t_date_time.assume_utc(),
        json: json.clone(),
        status: Status::Public,
        level: Level::High,
        cents: Cents(-5),
        slug: Slug("a-b".into()),
        o_small: opt!(1),
        o_int: opt!(2),
        o_big: opt!(i64::MIN),
        o_float: opt!(-1.5),
        o_double: opt!(f64::MAX),
        o_decimal: opt!(Decimal::new(15, 1)),
        o_flag: opt!(false),
        o_text: opt!(String::new()),
        o_bytes: opt!(Vec::new()),
        o_uuid: opt!(Uuid::nil()),
        o_date: opt!(date),
        o_time: opt!(clock),
        o_date_time: opt!(date.and_time(clock)),
        o_utc: opt!(zoned.to_utc()),
        o_zoned: opt!(zoned),
        o_t_date: opt!(t_date),
        o_t_time: opt!(t_time),
        o_t_date_time: opt!(t_date_time),
        o_t_zoned: opt!(t_date_time.assume_utc()),
        o_json: opt!(json),
        o_status: opt!(Status::Draft),
        o_level: opt!(Level::Low),
        o_cents: opt!(Cents(0)),
        o_slug: opt!(Slug("s".into())),
    }
}

async fn a_model_is_stored_as_seaorm_stores_it(database: Database) {
    let sink = &database.sink;
    create::<animal::Model>(sink).await;
    Sink::<animal::Model>::open(sink, &scope::<animal::Model>()).await.unwrap();
    Sink::<animal::Model>::prepare(sink, &scope::<animal::Model>()).await.unwrap();
    let found = Sink::<animal::Model>::examine(sink, &scope::<animal::Model>()).await.unwrap();
    let codes: std::collections::BTreeSet<&str> = found.iter().map(|finding| finding.code).collect();
    // No column keeps nanoseconds there; SeaORM's decimals are floating-point numbers here.
    let sqlite = sink.db().get_database_backend() == sea_orm::DbBackend::Sqlite;
    assert_eq!(codes, [if sqlite { "narrow-type" } else { "time-precision" }].into(), "{found:?}");
    for (id, some) in [(1, true), (2, false)] {
        animal::Entity::insert(animal(id, some).into_active_model()).exec_without_returning(sink.db()).await.unwrap();
    }
    let rows = [animal(3, true), animal(4, false)];
    write(sink, &rows, &[]).await;
    let stored = raw::<animal::Model>(sink, "id").await;
    let names: Vec<_> = animal::Model::table().columns.into_iter().map(|c| c.name).collect();
    for (theirs, ours) in [(0, 2), (1, 3)] {
        for column in 1..names.len() {
            assert_eq!(stored[ours][column], stored[theirs][column], "column {}", names[column]);
        }
    }
    for (ours, theirs) in [(3, 1), (4, 2)] {
        let found = animal::Entity::find_by_id(ours).one(sink.db()).await.unwrap().unwrap();
        let loaded = load::<animal::Model>(sink, &[ours]).await;
        assert_eq!(loaded, std::slice::from_ref(&found));
        let expected = animal::Entity::find_by_id(theirs).one(sink.db()).await.unwrap().unwrap();
        assert_eq!(animal::Model { id: ours, ..expected }, found);
        assert_eq!(found, animal(ours, ours == 3));
    }
    // An update replaces every value: some by none, none by some.
    write(sink, &[animal(3, false), animal(4, true)], &[]).await;
    let swapped = raw::<animal::Model>(sink, "id").await;
    assert_eq!((&swapped[2][1..], &swapped[3][1..]), (&stored[3][1..], &stored[2][1..]));
    // SeaORM's rows are the sink's rows, too.
    let mut active = animal(1, true).into_active_model();
    active.small = Set(5);
    active.update(sink.db()).await.unwrap();
    write(sink, &[animal(1, false)], &[2]).await;
    assert!(load::<animal::Model>(sink, &[2]).await.is_empty());
}

entity! {
    pub(crate) struct Integers in "zoo_integers" {
        keys { id: u64 }
        a: i8,
        b: i16,
        c: i32,
        d: i64,
        e: u8,
        f: u16,
        g: u32,
        h: u64,
        oa: Option<i8>,
        ob: Option<i16>,
        oc: Option<i32>,
        od: Option<i64>,
        oe: Option<u8>,
        of: Option<u16>,
        og: Option<u32>,
        oh: Option<u64>,
    }
}

async fn integers_of_every_width_in_a_plain_struct(database: Database) {
    let sink = &database.sink;
    create::<Integers>(sink).await;
    let mysql = sink.db().get_database_backend() == sea_orm::DbBackend::MySql;
    let largest = if mysql { u64::MAX } else { i64::MAX as u64 };
    let full = Integers {
        id: largest,
        a: i8::MIN,
        b: i16::MIN,
        c: i32::MIN,
        d: i64::MIN,
        e: u8::MAX,
        f: u16::MAX,
        g: u32::MAX,
        h: largest,
        oa: Some(i8::MAX),
        ob: Some(i16::MAX),
        oc: Some(i32::MAX),
        od: Some(i64::MAX),
        oe: Some(0),
        of: Some(0),
        og: Some(0),
        oh: Some(0),
    };
    let bare = Integers {
        id: 1,
        oa: None,
        ob: None,
        oc: None,
        od: None,
        oe: None,
        of: None,
        og: None,
        oh: None,
        ..full.clone()
    };
    write(sink, &[full.clone(), bare.clone()], &[]).await;
    assert_eq!(load::<Integers>(sink, &[largest]).await, [full]);
    assert_eq!(load::<Integers>(sink, &[1]).await, [bare]);
    write::<Integers>(sink, &[], &[largest]).await;
    assert!(load::<Integers>(sink, &[largest]).await.is_empty());
}

entity! {
    pub(crate) struct Keyed in "zoo_keyed" {
        keys { id: uuid::Uuid, flag: bool, bytes: Vec<u8>, small: i16 }
        at: chrono::DateTime<chrono::Utc>,
        tags: serde_json::Value,
    }
}

async fn keys_of_every_kind(database: Database) {
    let sink = &database.sink;
    create::<Keyed>(sink).await;
    let at = chrono::DateTime::parse_from_rfc3339("2024-07-01T01:02:03.000004Z").unwrap().to_utc();
    let keyed = |n: u128, flag| Keyed {
        id: uuid::Uuid::from_u128(n),
        flag,
        bytes: vec![0, 255, n as u8],
        small: 3,
        at,
        tags: serde_json::json!([n as u64]),
    };
    let rows = [keyed(1, true), keyed(1, false), keyed(2, true)];
    write(sink, &rows, &[]).await;
    let keys: Vec<_> = rows.iter().map(write_behind::Entity::key).collect();
    assert_eq!(load::<Keyed>(sink, &keys).await.len(), 3);
    assert_eq!(load::<Keyed>(sink, &keys[2..]).await, rows[2..]);
    write::<Keyed>(sink, &[], &keys[1..]).await;
    assert_eq!(load::<Keyed>(sink, &keys).await, rows[..1]);
}

on_every_database!(
    a_model_is_stored_as_seaorm_stores_it,
    integers_of_every_width_in_a_plain_struct,
    keys_of_every_kind
);
