//! The SQL mapping of a struct with a table.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{ArrayType, ColumnType, StringLen};
use sea_orm::{ConnectionTrait, Database, DeriveActiveEnum, DeriveValueType, EnumIter, Statement, Value};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use write_behind::sql::{Column, SqlMappingError};
use write_behind::{SqlEntity, WriteBehind};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tag {
    word: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, DeriveValueType)]
struct Cents(i64);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Enum", enum_name = "post_state")]
enum State {
    #[sea_orm(string_value = "draft")]
    Draft,
    #[sea_orm(string_value = "public")]
    Public,
}

type Maybe<T> = Option<T>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", table = "posts", schema = "blog", rename_all = "camelCase")]
struct Post {
    #[wb(key)]
    post_id: Uuid,
    #[wb(rename = "headline")]
    title: String,
    #[wb(json)]
    tags: Vec<Tag>,
    #[wb(json)]
    main_tag: Option<Tag>,
    subtitle: Option<String>,
    hidden_option: Maybe<i32>,
    price: Cents,
    state: State,
    #[wb(insert_only)]
    created_at: DateTime<Utc>,
    r#type: i16,
    #[wb(skip)]
    rendered: Option<String>,
    #[wb(skip)]
    score: u8,
    #[wb(key)]
    tenant: i32,
}

fn post() -> Post {
    Post {
        post_id: Uuid::from_u128(5),
        title: "Hello".into(),
        tags: vec![Tag { word: "a".into() }],
        main_tag: None,
        subtitle: None,
        hidden_option: Some(4),
        price: Cents(250),
        state: State::Public,
        created_at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        r#type: 2,
        rendered: Some("<p>".into()),
        score: 9,
        tenant: 11,
    }
}

fn column<'a>(columns: &'a [Column], name: &str) -> &'a Column {
    columns.iter().find(|column| column.name == name).unwrap()
}

#[test]
fn the_table_has_the_columns_that_are_said() {
    let table = Post::table();
    assert_eq!(table.name, "posts");
    assert_eq!(table.schema.as_deref(), Some("blog"));
    let names: Vec<_> = table.columns.iter().map(|column| &*column.name).collect();
    assert_eq!(
        names,
        [
            "postId",
            "headline",
            "tags",
            "mainTag",
            "subtitle",
            "hiddenOption",
            "price",
            "state",
            "createdAt",
            "type",
            "tenant"
        ]
    );
    let keys: Vec<_> = table.columns.iter().filter(|c| c.key).map(|c| &*c.name).collect();
    assert_eq!(keys, ["postId", "tenant"]);
    let insert_only: Vec<_> = table.columns.iter().filter(|c| c.insert_only).map(|c| &*c.name).collect();
    assert_eq!(insert_only, ["createdAt"]);
}

#[test]
fn nullability_is_that_of_the_type_not_of_its_spelling() {
    let nullable: Vec<_> = Post::table().columns.into_iter().filter(|c| c.nullable).map(|c| c.name).collect();
    assert_eq!(nullable, ["mainTag", "subtitle", "hiddenOption"]);
}

#[test]
fn types_are_those_of_sea_orm() {
    let columns = Post::table().columns;
    assert_eq!(column(&columns, "postId").column_type, ColumnType::Uuid);
    assert_eq!(column(&columns, "postId").array_type, ArrayType::Uuid);
    assert_eq!(column(&columns, "headline").column_type, ColumnType::String(StringLen::None));
    assert_eq!(column(&columns, "price").column_type, ColumnType::BigInteger);
    assert_eq!(column(&columns, "tags").column_type, ColumnType::Json);
    assert_eq!(column(&columns, "tags").array_type, ArrayType::Json);
    assert_eq!(column(&columns, "subtitle").array_type, ArrayType::String);
    assert!(matches!(column(&columns, "state").column_type, ColumnType::Enum { .. }));
}

#[test]
fn values_are_those_that_sea_orm_binds() {
    let post = post();
    let values = post.bind().unwrap();
    assert_eq!(
        values,
        [
            Value::from(Uuid::from_u128(5)),
            "Hello".into(),
            serde_json::json!([{"word": "a"}]).into(),
            Value::Json(None),
            Value::String(None),
            Value::Int(Some(4)),
            Value::BigInt(Some(250)),
            "public".into(),
            post.created_at.into(),
            2_i16.into(),
            11_i32.into(),
        ]
    );
    assert_eq!(Post::bind_key(&(Uuid::from_u128(5), 11)), [Value::from(Uuid::from_u128(5)), 11_i32.into()]);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "odd", table = "odd")]
struct Odd {
    #[wb(key)]
    id: i32,
    #[wb(json)]
    map: std::collections::HashMap<Option<u8>, ()>,
}

#[test]
fn json_that_serde_refuses_is_an_error_that_names_the_column() {
    let odd = Odd { id: 1, map: [(None, ())].into() };
    let SqlMappingError::Json { column, .. } = odd.bind().unwrap_err() else { panic!("not the column's error") };
    assert_eq!(column, "map");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "pair", table = "pairs")]
struct Pair<K, T> {
    #[wb(key)]
    id: K,
    value: T,
    #[wb(json)]
    list: Vec<T>,
    #[wb(skip)]
    memo: Option<T>,
}

#[test]
fn a_generic_struct_has_the_columns_of_its_types() {
    let table = Pair::<i32, String>::table();
    assert_eq!(table.columns[1].array_type, ArrayType::String);
    assert_eq!(Pair::<i32, Option<bool>>::table().columns[1].nullable, true);
}

#[tokio::test]
async fn a_row_becomes_the_value_again() {
    let db = Database::connect("sqlite::memory:").await.unwrap();
    let backend = db.get_database_backend();
    let post = post();
    let values = post.bind().unwrap();
    let columns: Vec<_> =
        Post::table().columns.iter().enumerate().map(|(i, c)| format!("${} AS \"{}\"", i + 1, c.name)).collect();
    let select = format!("SELECT {}", columns.join(", "));
    let row = db.query_one_raw(Statement::from_sql_and_values(backend, select, values)).await.unwrap().unwrap();
    let loaded = Post::from_row(&row).unwrap();
    assert_eq!(loaded, Post { rendered: None, score: 0, ..post });
}
