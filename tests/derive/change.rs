//! Counters and patches.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use write_behind::{Counter, CounterField, Patch, WriteBehind};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[serde(rename_all = "camelCase")]
#[wb(name = "post", table = "posts", collection = "posts")]
struct Post {
    #[wb(key)]
    id: u64,
    title: String,
    #[serde(alias = "redaction")]
    editor: Option<Uuid>,
    views: i64,
    rating_sum: ::core::primitive::f64,
    #[wb(counter = "LIKE_COUNT")]
    r#type: Likes,
    #[wb(insert_only)]
    created_ms: u64,
    #[wb(version)]
    version: u32,
    #[serde(rename = "note", with = "loud")]
    remark: String,
    #[wb(skip)]
    #[serde(skip)]
    cached: u8,
}

impl Post {
    fn new() -> Self {
        let title = "old".to_owned();
        let editor = Some(Uuid::nil());
        let remark = "quiet".to_owned();
        let (views, rating_sum, created_ms, version, cached) = (1, 0.5, 9, 3, 0);
        Self { id: 7, title, editor, views, rating_sum, r#type: Likes(4), created_ms, version, remark, cached }
    }
}

/// A number of the user's own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, sea_orm::DeriveValueType)]
struct Likes(i32);

impl CounterField for Likes {
    type Delta = i64;

    fn plus(self, by: i64) -> Option<Self> {
        self.0.plus(by).map(Self)
    }
}

/// A text that is shouted in documents.
mod loud {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text.to_uppercase())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer).map(|text| text.to_lowercase())
    }
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "generic", patch = "GenericChanges")]
pub struct Generic<K, T: Default, const N: usize>
where
    T: PartialEq,
{
    #[wb(key)]
    key: K,
    pub value: T,
    count: u32,
    child: Option<Box<Self>>,
}

/// It has neither `Clone`, nor `Debug`, nor a form of its own.
pub struct Handle(u8);

mod handle {
    use super::Handle;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(handle: &Handle, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(handle.0)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Handle, D::Error> {
        u8::deserialize(deserializer).map(Handle)
    }
}

#[derive(Serialize, Deserialize, WriteBehind)]
#[wb(name = "poor")]
pub struct Poor {
    #[wb(key)]
    id: u64,
    #[serde(with = "handle")]
    pub handle: Handle,
    pub text: String,
}

/// Nothing of it changes, so there is no patch: this name is free.
#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "member")]
#[expect(dead_code, reason = "only what the derive makes of it matters")]
pub struct Member {
    #[wb(key)]
    team: u64,
    #[wb(key)]
    person: u64,
}

pub struct MemberPatch;

mod account {
    use sea_orm::entity::prelude::*;
    use serde::{Deserialize, Serialize};
    use write_behind::WriteBehind;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, DeriveEntityModel, WriteBehind)]
    #[sea_orm(table_name = "accounts")]
    #[wb(name = "account")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub balance: i64,
        pub owner: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[test]
fn a_plain_number_has_a_counter_in_capitals() {
    let mut post = Post::new();
    let views: Counter<Post, i64> = Post::VIEWS;
    assert_eq!(views.name(), "views");
    assert_eq!(views.add(&mut post, 4), Some(5));
    assert_eq!(Post::RATING_SUM.add(&mut post, 1.0), Some(1.5));
    assert_eq!(Post::LIKE_COUNT.add(&mut post, -1), Some(Likes(3)));
    assert_eq!((post.views, post.rating_sum, post.r#type), (5, 1.5, Likes(3)));
    let mut account = account::Model { id: 1, balance: i64::MAX, owner: None };
    assert_eq!(account::Model::BALANCE.add(&mut account, 1), None);
    let mut generic = Generic::<u8, i64, 3> { key: 1, value: 2, count: 3, child: None };
    assert_eq!(Generic::COUNT.add(&mut generic, 1), Some(4));
}

#[test]
fn a_patch_sets_what_it_holds_and_may_be_applied_again() {
    let patch = PostPatch { title: Some("new".to_owned()), editor: Some(None), ..PostPatch::default() };
    for views in [1, 2] {
        let mut post = Post { views, ..Post::new() };
        patch.apply(&mut post);
        assert_eq!(post, Post { views, title: "new".to_owned(), editor: None, ..Post::new() });
    }
    let mut post = Post::new();
    PostPatch::default().apply(&mut post);
    assert_eq!(post, Post::new());
    let mut account = account::Model { id: 1, balance: 2, owner: Some("Ann".to_owned()) };
    account::ModelPatch { balance: Some(3), ..Default::default() }.apply(&mut account);
    assert_eq!(account, account::Model { id: 1, balance: 3, owner: Some("Ann".to_owned()) });
}

#[test]
fn a_patch_is_read_from_a_document_as_the_entity_is() {
    let read = |text: &str| serde_json::from_str::<PostPatch>(text);
    assert_eq!(read("{}").unwrap(), PostPatch::default());
    // Absent is unchanged, null is nothing.
    let patch = read(r#"{"title":"t","editor":null,"ratingSum":2.5,"note":"LOUD"}"#).unwrap();
    let expected = PostPatch {
        title: Some("t".to_owned()),
        editor: Some(None),
        rating_sum: Some(2.5),
        remark: Some("loud".to_owned()),
        ..PostPatch::default()
    };
    assert_eq!(patch, expected);
    assert_eq!(read(r#"{"redaction":null}"#).unwrap().editor, Some(None));
    // Neither the key, nor the version, nor what is written once can be patched; nor what is no field at all.
    for refused in ["id", "version", "createdMs", "cached", "rating_sum", "remark", "nothing"] {
        let error = read(&format!(r#"{{"{refused}":1}}"#)).unwrap_err().to_string();
        assert!(error.contains(&format!("unknown field `{refused}`")), "{error}");
    }
    assert!(read(r#"{"title":null}"#).is_err());
    assert!(read(r#"{"title":"a","title":"b"}"#).unwrap_err().to_string().contains("duplicate field `title`"));
    assert!(read("7").unwrap_err().to_string().contains("a map of fields of PostPatch"));
}

#[test]
fn a_patch_says_what_it_sets() {
    let patch = PostPatch { editor: Some(None), ..PostPatch::default() };
    assert_eq!(format!("{patch:?}"), "PostPatch { editor: None, .. }");
    assert_eq!(patch.clone(), patch);
}

#[test]
fn a_generic_struct_has_a_generic_patch() {
    let patch = GenericChanges::<u8, String, 3> { value: Some("new".to_owned()), ..Default::default() };
    let mut generic = Generic { key: 1, value: "old".to_owned(), count: 3, child: None };
    patch.apply(&mut generic);
    assert_eq!((generic.value.as_str(), generic.count), ("new", 3));
    let child: GenericChanges<u8, String, 3> = serde_json::from_str(r#"{"child":null,"count":9}"#).unwrap();
    assert!(child.child.is_some_and(|child| child.is_none()) && child.value.is_none());
}

/// Applying needs `Clone`, and says so where the patch is applied; deriving needs nothing.
#[test]
fn a_struct_with_a_field_that_cannot_be_cloned_is_an_entity_all_the_same() {
    let patch: PoorPatch = serde_json::from_str(r#"{"handle":5}"#).unwrap();
    assert_eq!(patch.handle.map(|handle| handle.0), Some(5));
    assert_eq!(patch.text, None);
    let _ = MemberPatch;
}
