//! Every kind of field: stored as the driver stores it, loaded as it was, readable by the user's own typed code.

use std::collections::{BTreeMap, HashMap};

use bson::doc;
use bson::spec::BinarySubtype;
use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use mongodb::bson::{Document, RawDocumentBuf};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use write_behind::mongo::{MongoEntity, to_raw};
use write_behind::testing::{Specimen, sink as suite};
use write_behind::{ErrorKind, Sink, WriteBehind};

use crate::server::{batch, id, on_replica_set, opened, stored};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nested {
    name: String,
    inner: Option<Box<Nested>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(f64),
    Line(i32, i32),
    Rectangle { width: u32, height: u32 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Event {
    Opened { by: String },
    Closed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Meters(f64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "zoo", collection = "zoo")]
struct Zoo {
    #[wb(key)]
    id: Uuid,
    i8: i8,
    i16: i16,
    i32: i32,
    i64: i64,
    u8: u8,
    u16: u16,
    u32: u32,
    u64: u64,
    f32: f32,
    f64: f64,
    bool: bool,
    char: char,
    text: String,
    bytes: Vec<u8>,
    uuid: Uuid,
    date_time: DateTime<Utc>,
    with_offset: DateTime<FixedOffset>,
    naive: NaiveDateTime,
    date: NaiveDate,
    time: NaiveTime,
    decimal: Decimal,
    json: serde_json::Value,
    nested: Nested,
    shapes: Vec<Shape>,
    events: Vec<Event>,
    meters: Meters,
    some: Option<i64>,
    none: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<String>,
    #[serde(rename = "weird.$name")]
    renamed: i32,
    map: HashMap<String, i64>,
    ordered: BTreeMap<String, Vec<u8>>,
    tuple: (i32, String),
    array: [u16; 3],
    unit: (),
    native_uuid: bson::Uuid,
    native_date: bson::DateTime,
    object_id: bson::oid::ObjectId,
    binary: bson::Binary,
    decimal128: bson::Decimal128,
    document: Document,
}

impl Specimen for Zoo {
    fn specimen(n: u64) -> Self {
        let date_time = DateTime::from_timestamp(1_700_000_000 + n.cast_signed(), 123_456_789).unwrap();
        Self {
            id: Uuid::from_u128(u128::from(n) + 1),
            i8: i8::MIN,
            i16: i16::MIN,
            i32: i32::MIN,
            i64: i64::MIN,
            u8: u8::MAX,
            u16: u16::MAX,
            u32: u32::MAX,
            u64: i64::MAX.cast_unsigned(),
            f32: 0.1,
            f64: -1.0e300,
            bool: true,
            char: 'ß',
            text: "naïve \u{1f980} \"quoted\"".to_owned(),
            bytes: vec![0, 1, 254, 255],
            uuid: Uuid::from_u128(0x0123_4567_89ab_cdef),
            date_time,
            with_offset: date_time.with_timezone(&FixedOffset::east_opt(5 * 3600 + 1800).unwrap()),
            naive: date_time.naive_utc(),
            date: NaiveDate::from_ymd_opt(2024, 2, 29).unwrap(),
            time: NaiveTime::from_hms_nano_opt(23, 59, 58, 1).unwrap(),
            decimal: "12345678901234567890.123456".parse().unwrap(),
            json: json!({ "a": [1, -2, 3.5, null, true, { "b": "c" }], "big": i64::MAX }),
            nested: Nested {
                name: "outer".to_owned(),
                inner: Some(Box::new(Nested { name: "inner".to_owned(), inner: None })),
            },
            shapes: vec![
                Shape::Point,
                Shape::Circle(1.5),
                Shape::Line(1, -1),
                Shape::Rectangle { width: 2, height: 3 },
            ],
            events: vec![Event::Opened { by: "ann".to_owned() }, Event::Closed],
            meters: Meters(2.5),
            some: Some(0),
            none: None,
            absent: None,
            renamed: 1,
            map: HashMap::from([("key".to_owned(), 7)]),
            ordered: BTreeMap::from([("a".to_owned(), vec![1]), (String::new(), vec![])]),
            tuple: (1, "two".to_owned()),
            array: [1, 2, 3],
            unit: (),
            native_uuid: bson::Uuid::from_bytes([7; 16]),
            native_date: bson::DateTime::from_millis(1_700_000_000_123),
            object_id: bson::oid::ObjectId::from_bytes([9; 12]),
            binary: bson::Binary { subtype: BinarySubtype::UserDefined(0x81), bytes: vec![1, 2] },
            decimal128: "3.14".parse().unwrap(),
            document: doc! { "x": { "y": [1, 2_i64] } },
        }
    }

    fn revise(&self, round: u64) -> Self {
        Self {
            i64: i64::try_from(round).unwrap(),
            absent: Some(format!("round {round}")),
            shapes: Vec::new(),
            ..self.clone()
        }
    }
}

#[tokio::test]
async fn passes_the_suite() {
    on_replica_set(|database| async move { suite::all(&opened::<Zoo>(&database).await as &dyn Sink<Zoo>).await }).await;
}

/// A document without its `_id`, byte by byte.
fn fields(document: &RawDocumentBuf) -> Vec<u8> {
    let mut bare = RawDocumentBuf::new();
    for element in document {
        let (name, field) = element.unwrap();
        if name.as_str() != "_id" {
            bare.append(name, field);
        }
    }
    bare.into_bytes()
}

#[tokio::test]
async fn documents_are_those_of_the_drivers_own_insert() {
    on_replica_set(|database| async move {
        let sink = opened::<Zoo>(&database).await;
        for row in [Zoo::specimen(1), Zoo::specimen(2).revise(1)] {
            sink.write(&batch(std::slice::from_ref(&row), &[])).await.unwrap();
            let ours = stored::<Zoo>(&database, &row.id).await.unwrap();
            assert_eq!(ours, to_raw(&row).unwrap());

            let inserted = database.collection::<Zoo>("driver").insert_one(&row).await.unwrap().inserted_id;
            let driver = database.collection::<RawDocumentBuf>("driver");
            let theirs = driver.find_one(doc! { "_id": inserted }).await.unwrap().unwrap();
            assert_eq!(fields(&ours), fields(&theirs));
        }
    })
    .await;
}

#[tokio::test]
async fn the_users_own_typed_reads_work() {
    on_replica_set(|database| async move {
        let sink = opened::<Zoo>(&database).await;
        let row = Zoo::specimen(3);
        sink.write(&batch(std::slice::from_ref(&row), &[])).await.unwrap();
        let typed = database.collection::<Zoo>("zoo");
        let found = typed.find_one(doc! { "_id": Zoo::id_of(&row.id).unwrap() }).await.unwrap();
        assert_eq!(found, Some(row));
    })
    .await;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "unsigned", collection = "unsigned")]
struct Unsigned {
    #[wb(key)]
    id: i64,
    value: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "wide", collection = "wide")]
struct Wide {
    #[wb(key)]
    id: u64,
}

#[tokio::test]
async fn p12_a_value_without_a_bson_form_is_refused_by_name_and_the_others_land() {
    on_replica_set(|database| async move {
        let sink = opened::<Unsigned>(&database).await;
        let rows = [1, u64::MAX, i64::MAX.cast_unsigned(), i64::MAX.cast_unsigned() + 1]
            .map(|value| Unsigned { id: i64::try_from(value % 1_000).unwrap(), value });
        let report = sink.write(&batch(&rows, &[])).await.unwrap();
        let mut named: Vec<_> = report.rejected.iter().map(|(id, error)| (id.clone(), error.kind())).collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        let mut expected = vec![(id(&rows[1]), ErrorKind::Rejected), (id(&rows[3]), ErrorKind::Rejected)];
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(named, expected);
        let keys = rows.clone().map(|row| row.id);
        assert_eq!(Sink::<Unsigned>::load(&sink, &keys).await.unwrap().len(), 2);

        // A key without a BSON form, written and deleted.
        let sink = opened::<Wide>(&database).await;
        let (good, bad) = (Wide { id: 1 }, Wide { id: u64::MAX });
        for rows in
            [batch(&[good.clone(), bad.clone()], &[]), batch(std::slice::from_ref(&good), std::slice::from_ref(&bad))]
        {
            let report = sink.write(&rows).await.unwrap();
            // Such a key is nowhere, so there is nothing to delete.
            let named = if rows.deletes.is_empty() { vec![id(&bad)] } else { Vec::new() };
            assert_eq!(report.rejected.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), named);
        }
        assert_eq!(Sink::<Wide>::load(&sink, &[1, u64::MAX]).await.unwrap(), [good]);
    })
    .await;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "deep", collection = "deep")]
struct Deep {
    #[wb(key)]
    id: i64,
    nested: Nested,
}

impl Deep {
    fn of(id: i64, depth: usize) -> Self {
        let leaf = Nested { name: "leaf".to_owned(), inner: None };
        let nested = (0..depth).fold(leaf, |inner, _| Nested { name: String::new(), inner: Some(Box::new(inner)) });
        Self { id, nested }
    }
}

impl Specimen for Deep {
    fn specimen(n: u64) -> Self {
        Self::of(i64::try_from(n).unwrap(), 1)
    }

    fn revise(&self, round: u64) -> Self {
        Self::of(self.id, usize::try_from(round).unwrap() + 1)
    }
}

#[tokio::test]
async fn p8_a_document_nested_too_deep_is_refused() {
    on_replica_set(|database| async move {
        // The server does not read such a command at all, so it is the batch that is refused.
        suite::refuses(&opened::<Deep>(&database).await, Deep::of(-1, 250)).await;
    })
    .await;
}

/// A native UUID, a native date, and a field that is not stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "native", collection = "native")]
struct Native {
    #[wb(key)]
    id: i64,
    before: i32,
    #[wb(native_bson)]
    owner: Uuid,
    #[wb(native_bson)]
    seen: DateTime<Utc>,
    #[wb(skip)]
    draft: String,
    after: i32,
}

#[tokio::test]
async fn rules_store_native_types_and_leave_skipped_fields_out() {
    on_replica_set(|database| async move {
        let sink = opened::<Native>(&database).await;
        let row = Native {
            id: 1,
            before: 1,
            owner: Uuid::from_u128(5),
            seen: DateTime::from_timestamp_millis(1_700_000_000_123).unwrap(),
            draft: "not stored".to_owned(),
            after: 2,
        };
        sink.write(&batch(std::slice::from_ref(&row), &[])).await.unwrap();
        let document = Document::try_from(stored::<Native>(&database, &1).await.unwrap()).unwrap();
        assert_eq!(
            document,
            doc! {
                "_id": 1_i64,
                "id": 1_i64,
                "before": 1,
                "owner": bson::Uuid::from_uuid_1(row.owner),
                "seen": bson::DateTime::from_millis(1_700_000_000_123),
                "after": 2,
            }
        );
        // Somebody else's value of a skipped field is not taken for ours.
        let raw = database.collection::<Document>("native");
        raw.update_one(doc! { "_id": 1_i64 }, doc! { "$set": { "draft": "theirs" } }).await.unwrap();
        let loaded: Vec<Native> = Sink::<Native>::load(&sink, &[1]).await.unwrap();
        assert_eq!(loaded, [Native { draft: String::new(), ..row }]);
    })
    .await;
}
