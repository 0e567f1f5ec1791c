//! What a program casts on the way: SeaORM's `save_as` and `select_as`; and what the sink casts, `i8` beside arrays.

use sea_orm::entity::prelude::*;
use sea_orm::{ConnectionTrait, DbBackend, IntoActiveModel};
use serde::{Deserialize, Serialize};
use write_behind::{Severity, Sink, WriteBehind};

use crate::databases::Database;
use crate::entities::{create, load, scope, write};

/// Text in a column of numbers, and of addresses.
mod parcel {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveEntityModel, WriteBehind)]
    #[sea_orm(table_name = "cast_parcel")]
    #[wb(name = "cast_parcel")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        #[sea_orm(save_as = "inet", select_as = "text")]
        pub host: String,
        #[sea_orm(save_as = "inet", select_as = "text")]
        pub maybe: Option<String>,
        pub count: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The same where the key is cast.
mod host {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveEntityModel, WriteBehind)]
    #[sea_orm(table_name = "cast_host")]
    #[wb(name = "cast_host")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false, save_as = "inet", select_as = "text")]
        pub address: String,
        pub count: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A key that is cast to a type which takes different texts for equal.
mod nick {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveEntityModel, WriteBehind)]
    #[sea_orm(table_name = "cast_nick")]
    #[wb(name = "cast_nick")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false, save_as = "citext", select_as = "text")]
        pub name: String,
        pub count: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Casts that MySQL and SQLite have.
mod label {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveEntityModel, WriteBehind)]
    #[sea_orm(table_name = "cast_label")]
    #[wb(name = "cast_label")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        #[sea_orm(save_as = "decimal", select_as = "char")]
        pub number: String,
        pub count: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

async fn table(database: &Database, name: &str, columns: &str) {
    let db = database.sink.db();
    db.execute_unprepared(&format!("DROP TABLE IF EXISTS {name}")).await.unwrap();
    db.execute_unprepared(&format!("CREATE TABLE {name} ({columns})")).await.unwrap();
}

#[tokio::test]
async fn what_seaorm_casts_the_sink_casts() {
    let Some(database) = crate::databases::postgres().await else { return };
    let sink = &database.sink;
    table(&database, "cast_parcel", "id bigint PRIMARY KEY, host inet NOT NULL, maybe inet, count integer NOT NULL")
        .await;
    Sink::<parcel::Model>::open(sink, &scope::<parcel::Model>()).await.unwrap();
    let found = Sink::<parcel::Model>::examine(sink, &scope::<parcel::Model>()).await.unwrap();
    assert!(found.iter().all(|finding| finding.severity == Severity::Note), "{found:?}");
    let parcel = |id, host: &str, maybe: Option<&str>, count| parcel::Model {
        id,
        host: host.into(),
        maybe: maybe.map(Into::into),
        count,
    };
    parcel::Entity::insert(parcel(1, "10.0.0.1/32", None, 1).into_active_model())
        .exec_without_returning(sink.db())
        .await
        .unwrap();
    let rows = [parcel(1, "10.0.0.2/32", Some("::1/128"), 2), parcel(2, "10.0.0.3/32", None, 3)];
    write(sink, &rows, &[]).await;
    let mut loaded = load::<parcel::Model>(sink, &[1, 2]).await;
    loaded.sort_by_key(|row| row.id);
    assert_eq!(loaded, rows);
    for row in rows {
        assert_eq!(parcel::Entity::find_by_id(row.id).one(sink.db()).await.unwrap(), Some(row));
    }

    table(&database, "cast_host", "address inet PRIMARY KEY, count integer NOT NULL").await;
    let host = |address: &str, count| host::Model { address: address.into(), count };
    let (one, other) = (host("10.0.0.1/32", 1), host("10.0.0.2/32", 2));
    write(sink, &[one.clone(), other.clone()], &[]).await;
    write(sink, &[host("10.0.0.1/32", 5)], std::slice::from_ref(&other.address)).await;
    let keys = [one.address.clone(), other.address];
    assert_eq!(load::<host::Model>(sink, &keys).await, [host("10.0.0.1/32", 5)]);
}

/// What a key is cast to may take another one for equal: its row is left alone all the same.
#[tokio::test]
async fn a_key_that_is_cast_touches_no_other_row() {
    let Some(database) = crate::databases::postgres().await else { return };
    let sink = &database.sink;
    sink.db().execute_unprepared("CREATE EXTENSION IF NOT EXISTS citext").await.unwrap();
    table(&database, "cast_nick", "name citext PRIMARY KEY, count integer NOT NULL").await;
    let nick = |name: &str, count| nick::Model { name: name.into(), count };
    write(sink, &[nick("Bob", 1)], &[]).await;
    let refused = crate::entities::refused(sink, &[nick("bob", 2), nick("eve", 3)], &[]).await;
    assert_eq!(crate::entities::kinds(&refused), [("bob", write_behind::ErrorKind::Rejected)]);
    write::<nick::Model>(sink, &[], &["BOB".into()]).await;
    assert!(load::<nick::Model>(sink, &["bob".into()]).await.is_empty());
    write(sink, &[nick("Bob", 4)], &["eve".into()]).await;
    assert_eq!(load::<nick::Model>(sink, &["Bob".into(), "eve".into()]).await, [nick("Bob", 4)]);
    write::<nick::Model>(sink, &[], &["Bob".into()]).await;
    assert!(load::<nick::Model>(sink, &["Bob".into()]).await.is_empty());
}

async fn casts_are_those_of_the_model_on_mysql_and_sqlite(database: Database) {
    let sink = &database.sink;
    if sink.db().get_database_backend() == DbBackend::Postgres {
        return;
    }
    table(&database, "cast_label", "id bigint PRIMARY KEY, number decimal(20, 0) NOT NULL, count integer NOT NULL")
        .await;
    let label = |id, number: &str| label::Model { id, number: number.into(), count: 1 };
    label::Entity::insert(label(1, "7").into_active_model()).exec_without_returning(sink.db()).await.unwrap();
    write(sink, &[label(1, "8"), label(2, "9")], &[]).await;
    let mut loaded = load::<label::Model>(sink, &[1, 2]).await;
    loaded.sort_by_key(|row| row.id);
    assert_eq!(loaded, [label(1, "8"), label(2, "9")]);
    assert_eq!(label::Entity::find_by_id(2).one(sink.db()).await.unwrap(), Some(label(2, "9")));
}

/// A small integer beside an array, where each value is a parameter of its own.
mod dice {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveEntityModel, WriteBehind)]
    #[sea_orm(table_name = "cast_dice")]
    #[wb(name = "cast_dice")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub small: i8,
        pub maybe: Option<i8>,
        pub throws: Vec<i8>,
        pub sums: Option<Vec<i32>>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[tokio::test]
async fn small_integers_beside_an_array_are_numbers() {
    let Some(database) = crate::databases::postgres().await else { return };
    let sink = &database.sink;
    create::<dice::Model>(sink).await;
    let rows = [
        dice::Model { id: 1, small: i8::MIN, maybe: Some(i8::MAX), throws: vec![1, -6, 0, 100], sums: Some(vec![7]) },
        dice::Model { id: 2, small: 48, maybe: None, throws: Vec::new(), sums: None },
    ];
    write(sink, &rows, &[]).await;
    let mut loaded = load::<dice::Model>(sink, &[1, 2]).await;
    loaded.sort_by_key(|row| row.id);
    assert_eq!(loaded, rows);
    let text = "SELECT small::text || ' ' || throws::text AS c FROM cast_dice WHERE id = 1";
    let row =
        sink.db().query_one_raw(sea_orm::Statement::from_string(DbBackend::Postgres, text)).await.unwrap().unwrap();
    assert_eq!(row.try_get::<String>("", "c").unwrap(), "-128 {1,-6,0,100}");
}

on_every_database!(casts_are_those_of_the_model_on_mysql_and_sqlite);
