//! What an entity belongs to.

use sea_orm::Value;
use serde::{Deserialize, Serialize};
use write_behind::{Entity as _, SqlEntity as _, WriteBehind};

mod people {
    use super::*;

    #[derive(Clone, Serialize, Deserialize, WriteBehind)]
    #[wb(name = "author", table = "authors", schema = "blog", rename_all = "camelCase")]
    pub(super) struct Author {
        #[wb(key)]
        pub(super) author_id: i64,
    }

    /// In no database.
    #[derive(Clone, Serialize, Deserialize, WriteBehind)]
    #[wb(name = "reader", collection = "readers")]
    pub(super) struct Reader {
        #[wb(key)]
        pub(super) id: i64,
    }
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "shelf", table = "shelves")]
struct Shelf {
    #[wb(key)]
    room: i32,
    #[wb(key)]
    number: i32,
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", table = "posts", rename_all = "camelCase")]
struct Post {
    #[wb(key)]
    id: i64,
    #[wb(belongs_to = "people::Author")]
    written_by: i64,
    #[wb(belongs_to = "Self", rename = "answered")]
    answer_to: Option<i64>,
    #[wb(belongs_to = "people::Reader")]
    first_reader: i64,
    #[wb(belongs_to = "Shelf")]
    room: i32,
    shelf: i32,
    title: String,
}

/// Its key is its parent's.
#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "portrait", collection = "portraits")]
struct Portrait {
    #[wb(key, belongs_to = "people::Author")]
    author: i64,
}

mod comment {
    use sea_orm::entity::prelude::*;
    use serde::{Deserialize, Serialize};
    use write_behind::WriteBehind;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveEntityModel, WriteBehind)]
    #[sea_orm(table_name = "comments", rename_all = "camelCase")]
    #[wb(name = "comment")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        #[wb(belongs_to = "super::Post")]
        pub post_id: i64,
        #[sea_orm(enum_name = "Who", column_name = "reader_nr")]
        #[wb(belongs_to = "super::people::Author")]
        pub author: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[test]
fn parents_are_named() {
    assert_eq!(Post::PARENTS, ["author", "post", "reader", "shelf"]);
    assert_eq!(Portrait::PARENTS, ["author"]);
    assert_eq!(comment::Model::PARENTS, ["post", "author"]);
    assert_eq!(people::Author::PARENTS, [""; 0]);
    assert_eq!(people::Reader { id: 1 }.key(), 1);
}

/// The column, and the table, schema and key that it refers to.
fn references<E: write_behind::SqlEntity>() -> Vec<(String, String, Option<String>, String)> {
    let name = |columns: &[write_behind::Column]| columns.iter().map(|column| column.name.to_string()).collect();
    let references = E::references().into_iter();
    references
        .map(|r| {
            let schema = r.parent.schema.map(std::borrow::Cow::into_owned);
            (r.column.into_owned(), r.parent.name.into_owned(), schema, name(&r.parent.columns))
        })
        .collect()
}

#[test]
fn references_are_those_to_tables_with_a_key_of_one_column() {
    let author =
        |column: &str| (column.to_owned(), "authors".to_owned(), Some("blog".to_owned()), "authorId".to_owned());
    let post = |column: &str| (column.to_owned(), "posts".to_owned(), None, "id".to_owned());
    assert_eq!(references::<Post>(), [author("writtenBy"), post("answered")]);
    assert_eq!(references::<comment::Model>(), [post("postId"), author("reader_nr")]);
    assert_eq!(references::<people::Author>(), []);
}

#[test]
fn the_field_is_a_column_like_others() {
    let post =
        Post { id: 1, written_by: 2, answer_to: None, first_reader: 3, room: 4, shelf: 5, title: "t".to_owned() };
    assert_eq!(post.bind().unwrap()[1..3], [Value::BigInt(Some(2)), Value::BigInt(None)]);
}
