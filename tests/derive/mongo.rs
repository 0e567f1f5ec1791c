//! The MongoDB mapping.

use bson::spec::BinarySubtype;
use bson::{Bson, doc};
use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use write_behind::mongo::{FieldRule, MongoEntity};
use write_behind::{Entity, WriteBehind};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, WriteBehind)]
#[serde(rename_all = "camelCase")]
#[wb(name = "event", collection = "events")]
struct Event {
    #[wb(key)]
    tenant_id: i64,
    #[wb(key)]
    #[serde(rename = "nr")]
    number: Uuid,
    #[wb(native_bson)]
    happened_at: DateTime<Utc>,
    #[wb(native_bson)]
    #[serde(rename(serialize = "ended", deserialize = "ended"))]
    ended_at: Option<DateTime<Utc>>,
    #[wb(skip)]
    retry_count: u32,
    #[wb(skip)]
    #[serde(skip)]
    cache: Option<String>,
    r#type: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "native", collection = "natives", native_bson)]
struct Native {
    #[wb(key)]
    #[serde(rename = "_id")]
    id: Uuid,
    text: String,
    at: DateTime<Utc>,
    local: NaiveDateTime,
    parents: Vec<Uuid>,
    bytes: Option<Vec<u8>>,
    map: std::collections::BTreeMap<String, i32>,
    #[wb(skip)]
    memo: Vec<i32>,
    #[serde(skip)]
    unwritten: Uuid,
    #[serde(with = "as_text")]
    own: Uuid,
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use uuid::Uuid;

    pub fn serialize<S: Serializer>(uuid: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(uuid)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The document that the driver's `insert_one` would write.
fn written(value: &impl Serialize) -> bson::Document {
    bson::serialize_to_raw_document_buf(value).unwrap().try_into().unwrap()
}

fn names<E>(rules: &[FieldRule<E>]) -> Vec<(&'static str, bool)> {
    rules
        .iter()
        .map(|rule| match rule {
            FieldRule::Skip { name, .. } => (*name, false),
            FieldRule::Native { name, .. } => (*name, true),
            _ => panic!("unknown rule"),
        })
        .collect()
}

#[test]
fn rules_name_serdes_fields() {
    assert_eq!(Event::COLLECTION, "events");
    assert_eq!(names(Event::rules()), [("happenedAt", true), ("ended", true), ("retryCount", false)]);
    let document = written(&Event::default());
    for (name, _) in names(Event::rules()) {
        assert!(document.contains_key(name), "{name}");
    }
}

#[test]
fn a_struct_level_rule_takes_the_types_that_have_a_native_form() {
    let native: Vec<_> = names(Native::rules());
    assert_eq!(
        native,
        [("_id", true), ("at", true), ("local", true), ("parents", true), ("bytes", true), ("memo", false)]
    );
}

#[test]
fn a_native_form_comes_back_as_serdes() {
    let native = Native {
        id: Uuid::from_u128(1),
        at: DateTime::from_timestamp_millis(1_700_000_000_123).unwrap(),
        local: DateTime::from_timestamp_millis(1_600_000_000_123).unwrap().naive_utc(),
        parents: vec![Uuid::from_u128(2)],
        bytes: Some(vec![1, 2]),
        ..Native::default()
    };
    let document = written(&native);
    let mut stored = Vec::new();
    for rule in Native::rules() {
        match rule {
            FieldRule::Native { name, store, load, .. } => {
                let form = store(&native).unwrap();
                assert_eq!(load(form.clone()).unwrap(), document[*name], "{name}");
                stored.push(form);
            }
            FieldRule::Skip { name, default } => assert_eq!(default().unwrap(), document[*name]),
            _ => panic!("unknown rule"),
        }
    }
    let uuid = |n| Bson::Binary(bson::Uuid::from(Uuid::from_u128(n)).into());
    assert_eq!(
        stored,
        [
            uuid(1),
            Bson::DateTime(bson::DateTime::from_millis(1_700_000_000_123)),
            Bson::DateTime(bson::DateTime::from_millis(1_600_000_000_123)),
            Bson::Array(vec![uuid(2)]),
            Bson::Binary(bson::Binary { subtype: BinarySubtype::Generic, bytes: vec![1, 2] }),
        ]
    );
}

#[test]
fn a_foreign_native_form_is_an_error() {
    let Some(FieldRule::Native { load, .. }) = Event::rules().first() else { panic!("no rule") };
    assert!(load(Bson::String("2020".into())).is_err());
    assert!(load(Bson::DateTime(bson::DateTime::MAX)).is_err());
}

#[test]
fn the_id_is_the_key_as_the_driver_would_write_it() {
    let event = Event { tenant_id: 4, number: Uuid::from_u128(9), ..Event::default() };
    let document = written(&event);
    assert_eq!(
        Event::id_of(&event.key()).unwrap(),
        Bson::Document(doc! { "tenantId": 4_i64, "nr": document["nr"].clone() })
    );

    let native = Native { id: Uuid::from_u128(9), ..Native::default() };
    assert_eq!(Native::id_of(&native.key()).unwrap(), bson::Uuid::from(native.id).into());
}

#[derive(Clone, Debug, Serialize, Deserialize, WriteBehind)]
#[wb(name = "big", collection = "big")]
struct Big {
    #[wb(key)]
    id: u64,
}

#[test]
fn a_key_without_a_bson_form_is_an_error() {
    assert_eq!(Big::id_of(&1).unwrap(), Bson::Int64(1));
    assert!(Big::id_of(&u64::MAX).is_err());
}

#[derive(Clone, Debug, Serialize, Deserialize, WriteBehind)]
#[wb(name = "generic", collection = "generic", native_bson)]
struct Generic<K, T> {
    #[wb(key)]
    id: K,
    at: DateTime<Utc>,
    #[wb(native_bson)]
    value: T,
    #[wb(skip)]
    memo: Option<T>,
}

#[test]
fn a_generic_struct_has_rules() {
    assert_eq!(names(Generic::<i32, Uuid>::rules()), [("at", true), ("value", true), ("memo", false)]);
    assert_eq!(Generic::<i32, Uuid>::id_of(&3).unwrap(), Bson::Int32(3));
}
