//! What only PostgreSQL has: native enums and arrays.

use sea_orm::entity::prelude::*;
use sea_orm::{IntoActiveModel, QuerySelect};
use serde::{Deserialize, Serialize};
use write_behind::{SqlEntity, WriteBehind};

use crate::entities::{create, load, raw, write};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Enum", enum_name = "zoo_tea")]
pub(crate) enum Tea {
    #[sea_orm(string_value = "EverydayTea")]
    Everyday,
    #[sea_orm(string_value = "it's")]
    Quoted,
}

pub(crate) mod cup {
    use super::*;

    /// No arrays: the values travel as one array per column.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveEntityModel, WriteBehind)]
    #[sea_orm(table_name = "zoo_cup")]
    #[wb(name = "zoo_cup")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub tea: Tea,
        pub o_tea: Option<Tea>,
        #[sea_orm(column_type = "JsonBinary")]
        pub json: Json,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod pot {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveEntityModel, WriteBehind)]
    #[sea_orm(table_name = "zoo_pot")]
    #[wb(name = "zoo_pot")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub tea: Tea,
        pub o_tea: Option<Tea>,
        pub teas: Vec<Tea>,
        pub o_teas: Option<Vec<Tea>>,
        pub ints: Vec<i32>,
        pub longs: Option<Vec<i64>>,
        pub doubles: Vec<f64>,
        pub flags: Vec<bool>,
        pub texts: Vec<String>,
        pub o_texts: Option<Vec<String>>,
        pub uuids: Vec<Uuid>,
        pub o_uuids: Option<Vec<Uuid>>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

fn cup(id: i64, o_tea: Option<Tea>) -> cup::Model {
    cup::Model { id, tea: Tea::Quoted, o_tea, json: serde_json::json!({"b": 1, "a": [true]}) }
}

fn pot(id: i64, some: bool) -> pot::Model {
    pot::Model {
        id,
        tea: Tea::Everyday,
        o_tea: some.then_some(Tea::Quoted),
        teas: vec![Tea::Quoted, Tea::Everyday],
        o_teas: some.then(Vec::new),
        ints: vec![1, -2, i32::MAX],
        longs: some.then(|| vec![i64::MIN]),
        doubles: vec![0.1, f64::MAX],
        flags: vec![true, false],
        texts: vec!["a,b".into(), "{\"}".into(), "NULL".into(), String::new()],
        o_texts: some.then(|| vec!["\u{1f980}".into()]),
        uuids: vec![Uuid::nil(), Uuid::from_u128(7)],
        o_uuids: some.then(Vec::new),
    }
}

#[tokio::test]
async fn enums_are_stored_as_seaorm_stores_them() {
    let Some(database) = crate::databases::postgres().await else { return };
    let sink = &database.sink;
    create::<cup::Model>(sink).await;
    cup::Entity::insert(cup(1, Some(Tea::Everyday)).into_active_model())
        .exec_without_returning(sink.db())
        .await
        .unwrap();
    write(sink, &[cup(2, Some(Tea::Everyday)), cup(3, None)], &[]).await;
    let stored = raw::<cup::Model>(sink, "id").await;
    assert_eq!(stored[1][1..], stored[0][1..]);
    let found = cup::Entity::find_by_id(3).one(sink.db()).await.unwrap().unwrap();
    assert_eq!(found, cup(3, None));
    assert_eq!(load::<cup::Model>(sink, &[3]).await, [found]);
}

#[tokio::test]
async fn arrays_are_stored_as_seaorm_stores_them() {
    let Some(database) = crate::databases::postgres().await else { return };
    let sink = &database.sink;
    create::<pot::Model>(sink).await;
    for (id, some) in [(1, true), (2, false)] {
        pot::Entity::insert(pot(id, some).into_active_model()).exec_without_returning(sink.db()).await.unwrap();
    }
    write(sink, &[pot(3, true), pot(4, false)], &[]).await;
    let stored = raw::<pot::Model>(sink, "id").await;
    let names: Vec<_> = pot::Model::table().columns.into_iter().map(|c| c.name).collect();
    for (theirs, ours) in [(0, 2), (1, 3)] {
        for column in 1..names.len() {
            assert_eq!(stored[ours][column], stored[theirs][column], "column {}", names[column]);
        }
    }
    for (id, some) in [(3, true), (4, false)] {
        let found = pot::Entity::find_by_id(id).one(sink.db()).await.unwrap().unwrap();
        assert_eq!(found, pot(id, some));
        assert_eq!(load::<pot::Model>(sink, &[id]).await, [found]);
    }
    // Five hundred and one rows take a few fixed sizes.
    let rows: Vec<_> = (10..511).map(|id| pot(id, id % 2 == 0)).collect();
    let report = write(sink, &rows, &[1, 2]).await;
    assert!(report.statements <= 8, "{}", report.statements);
    let count: Vec<i64> =
        pot::Entity::find().select_only().column(pot::Column::Id).into_tuple().all(sink.db()).await.unwrap();
    assert_eq!(count.len(), 503);
}

/// A table in a schema, with names that need quotes.
#[tokio::test]
async fn a_schema_is_named() {
    use sea_orm::ConnectionTrait;
    let Some(database) = crate::databases::postgres().await else { return };
    let sink = &database.sink;
    sink.db().execute_unprepared("CREATE SCHEMA IF NOT EXISTS \"Zoo schema\"").await.unwrap();
    create::<Placed>(sink).await;
    let row = Placed { id: 1, n: 2 };
    write(sink, std::slice::from_ref(&row), &[]).await;
    assert_eq!(load::<Placed>(sink, &[1]).await, [row]);
    write::<Placed>(sink, &[], &[1]).await;
    assert!(load::<Placed>(sink, &[1]).await.is_empty());
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "zoo_placed", schema = "Zoo schema", table = "Placed here")]
struct Placed {
    #[wb(key)]
    id: i64,
    n: i32,
}
