//! `#[wb(merge)]`: what others keep in a document stays.

use std::slice::from_ref;

use mongodb::Database;
use mongodb::bson::{Document, doc};
use serde::{Deserialize, Serialize};
use write_behind::testing::Specimen;
use write_behind::{Scope, Sink, WriteBehind};

use crate::entities::Versioned;
use crate::server::{batch, on_replica_set, on_standalone, opened, stored};

/// Strict, so that it cannot read the fields of others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, WriteBehind)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[wb(name = "shared", collection = "shared", merge)]
pub(crate) struct Shared {
    #[wb(key)]
    pub(crate) id: i64,
    pub(crate) title: String,
    pub(crate) editor: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) tags: Vec<String>,
    #[wb(insert_only)]
    pub(crate) created_ms: i64,
    #[wb(native_bson)]
    pub(crate) seen_at: Option<chrono::DateTime<chrono::Utc>>,
    #[serde(with = "shouted")]
    pub(crate) note: Option<String>,
    #[wb(skip)]
    pub(crate) memo: u32,
}

/// serde does not take an absent field for nothing when it is read by a function.
mod shouted {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
        text.as_ref().map(|text| text.to_uppercase()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(|text| text.to_lowercase()))
    }
}

impl Specimen for Shared {
    fn specimen(n: u64) -> Self {
        Self { id: i64::try_from(n).unwrap(), title: "new".to_owned(), editor: Some("e".to_owned()), ..Self::default() }
    }

    fn revise(&self, round: u64) -> Self {
        let editor = round.is_multiple_of(2).then(|| format!("editor {round}"));
        Self { title: format!("$round.{round}"), editor, ..self.clone() }
    }
}

/// The same, with a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "guarded", collection = "guarded", merge)]
struct Guarded {
    #[wb(key)]
    id: i64,
    #[wb(version)]
    version: i64,
    title: String,
    editor: Option<String>,
    #[wb(insert_only)]
    created: i64,
}

/// Nothing but a key, which serde calls `_id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "keyed", collection = "keyed", merge)]
struct Keyed {
    #[wb(key)]
    #[serde(rename = "_id")]
    id: i64,
}

/// What another program keeps in the document of key 1.
async fn others(database: &Database, collection: &str) {
    let update = doc! { "$set": { "theirs": { "a.b": 1 }, "likes": 5_i64 } };
    database.collection::<Document>(collection).update_one(doc! { "_id": 1_i64 }, update).await.unwrap();
}

async fn merged<E: write_behind::MongoEntity>(database: &Database, key: &E::Key) -> Document {
    Document::try_from(stored::<E>(database, key).await.unwrap()).unwrap()
}

async fn fields_of_others_stay_and_nothing_is_unset_but_nothing(database: Database) {
    let sink = opened::<Shared>(&database).await;
    let at = chrono::DateTime::from_timestamp_millis(1_700_000_000_123).unwrap();
    let first = Shared {
        id: 1,
        title: "$title".to_owned(),
        editor: Some("Ann".to_owned()),
        tags: vec!["$$ROOT".to_owned()],
        created_ms: 10,
        seen_at: Some(at),
        note: Some("quiet".to_owned()),
        memo: 0,
    };
    sink.write(&batch(from_ref(&first), &[])).await.unwrap();
    others(&database, "shared").await;
    let inserted = doc! {
        "_id": 1_i64, "id": 1_i64, "title": "$title", "editor": "Ann", "tags": ["$$ROOT"], "createdMs": 10_i64,
        "seenAt": bson::DateTime::from_millis(1_700_000_000_123), "note": "QUIET",
        "theirs": { "a.b": 1 }, "likes": 5_i64,
    };
    assert_same(&merged::<Shared>(&database, &1).await, &inserted);
    // The fields of others are none of ours.
    assert_eq!(Sink::<Shared>::load(&sink, &[1]).await.unwrap(), from_ref(&first));

    let second = Shared { title: "second".to_owned(), created_ms: 99, ..Shared { id: 1, ..Shared::default() } };
    sink.write(&batch(from_ref(&second), &[])).await.unwrap();
    let updated = doc! {
        "_id": 1_i64, "id": 1_i64, "title": "second", "createdMs": 10_i64, "theirs": { "a.b": 1 }, "likes": 5_i64,
    };
    assert_same(&merged::<Shared>(&database, &1).await, &updated);
    let loaded = Sink::<Shared>::load(&sink, &[1]).await.unwrap();
    assert_eq!(loaded, [Shared { created_ms: 10, ..second.clone() }]);

    // Written again because the answer was lost: nothing changes. Deleted: nothing stays.
    sink.write(&batch(from_ref(&second), &[])).await.unwrap();
    assert_same(&merged::<Shared>(&database, &1).await, &updated);
    sink.write(&batch(&[], from_ref(&second))).await.unwrap();
    assert!(stored::<Shared>(&database, &1).await.is_none());
}

/// `$set` and pipelines put fields where they like.
fn assert_same(found: &Document, expected: &Document) {
    let sorted = |document: &Document| {
        let mut fields: Vec<_> = document.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields
    };
    assert_eq!(sorted(found), sorted(expected));
}

#[tokio::test]
async fn fields_of_others_stay_in_a_transaction() {
    on_replica_set(fields_of_others_stay_and_nothing_is_unset_but_nothing).await;
}

#[tokio::test]
async fn fields_of_others_stay_on_a_standalone_server() {
    on_standalone(fields_of_others_stay_and_nothing_is_unset_but_nothing).await;
}

async fn an_older_version_changes_nothing_of_a_merged_document(database: Database) {
    let sink = opened::<Guarded>(&database).await;
    let state = |version, title: &str, editor: Option<&str>| Guarded {
        id: 1,
        version,
        title: title.to_owned(),
        editor: editor.map(str::to_owned),
        created: version,
    };
    sink.write(&batch(&[state(2, "$$REMOVE", Some("Ann"))], &[])).await.unwrap();
    others(&database, "guarded").await;
    let expected = doc! {
        "_id": 1_i64, "id": 1_i64, "version": 2_i64, "title": "$$REMOVE", "editor": "Ann", "created": 2_i64,
        "theirs": { "a.b": 1 }, "likes": 5_i64,
    };
    assert_same(&merged::<Guarded>(&database, &1).await, &expected);
    sink.write(&batch(&[state(1, "late", None)], &[])).await.unwrap();
    assert_same(&merged::<Guarded>(&database, &1).await, &expected);
    sink.write(&batch(&[state(3, "$title", None)], &[])).await.unwrap();
    let expected = doc! {
        "_id": 1_i64, "id": 1_i64, "version": 3_i64, "title": "$title", "created": 2_i64,
        "theirs": { "a.b": 1 }, "likes": 5_i64,
    };
    assert_same(&merged::<Guarded>(&database, &1).await, &expected);
}

#[tokio::test]
async fn an_older_version_changes_nothing_of_a_merged_document_on_a_standalone_server() {
    on_standalone(an_older_version_changes_nothing_of_a_merged_document).await;
}

#[tokio::test]
async fn a_document_of_nothing_but_its_key_is_inserted_and_never_emptied() {
    on_replica_set(|database| async move {
        let sink = opened::<Keyed>(&database).await;
        for _ in 0..2 {
            sink.write(&batch(&[Keyed { id: 1 }], &[])).await.unwrap();
            others(&database, "keyed").await;
        }
        let expected = doc! { "_id": 1_i64, "theirs": { "a.b": 1 }, "likes": 5_i64 };
        assert_same(&merged::<Keyed>(&database, &1).await, &expected);
        assert_eq!(Sink::<Keyed>::load(&sink, &[1]).await.unwrap(), [Keyed { id: 1 }]);
    })
    .await;
}

/// Without `merge` a document is replaced, and what is none is null as serde writes it.
#[tokio::test]
async fn a_document_that_is_not_merged_is_replaced() {
    on_replica_set(|database| async move {
        let sink = opened::<Versioned>(&database).await;
        sink.write(&batch(&[Versioned::new(1, 1, "first")], &[])).await.unwrap();
        others(&database, "versioned").await;
        sink.write(&batch(&[Versioned::new(1, 2, "second")], &[])).await.unwrap();
        let expected = doc! { "_id": 1_i64, "id": 1_i64, "rowVersion": 2_i64, "text": "second" };
        assert_same(&merged::<Versioned>(&database, &1).await, &expected);
    })
    .await;
}

/// Written on insert only, in documents that are replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "both", table = "both", collection = "both")]
struct Both {
    #[wb(key)]
    id: i64,
    #[wb(insert_only)]
    created: i64,
}

#[tokio::test]
async fn examine_says_that_a_replaced_document_knows_no_insert_only() {
    on_replica_set(|database| async move {
        let findings = async |found: Result<Vec<write_behind::Finding>, _>| {
            let found: Vec<write_behind::Finding> =
                found.map_err(|error: write_behind::SinkError| error.chain()).unwrap();
            found.into_iter().filter(|finding| finding.code == "insert-only").map(|f| f.text).collect::<Vec<_>>()
        };
        let sink = opened::<Both>(&database).await;
        let scope = Scope::new("test", "both", 16);
        let said = findings(Sink::<Both>::examine(&sink, &scope).await).await;
        assert!(matches!(said.as_slice(), [text] if text.contains("`created`")), "{said:?}");
        let sink = opened::<Guarded>(&database).await;
        let said = findings(Sink::<Guarded>::examine(&sink, &Scope::new("test", "guarded", 16)).await).await;
        assert_eq!(said, [""; 0]);
    })
    .await;
}
