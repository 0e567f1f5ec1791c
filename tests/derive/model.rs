//! SeaORM's `Model` as an entity: nothing is said twice.

use sea_orm::sea_query::{ArrayType, ColumnType};
use sea_orm::{ActiveModelTrait, ConnectionTrait, Database, EntityTrait, IntoActiveModel, Schema, Statement, Value};
use write_behind::{Entity as _, SqlEntity};

mod account {
    use sea_orm::entity::prelude::*;
    use serde::{Deserialize, Serialize};
    use write_behind::WriteBehind;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
    #[sea_orm(rs_type = "String", db_type = "Enum", enum_name = "account_kind")]
    pub enum Kind {
        #[sea_orm(string_value = "free")]
        Free,
        #[sea_orm(string_value = "paid")]
        Paid,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveEntityModel, WriteBehind)]
    #[sea_orm(table_name = "accounts", schema_name = "billing", rename_all = "camelCase")]
    #[wb(name = "account")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub tenant_id: i32,
        pub owner_name: String,
        #[sea_orm(primary_key, auto_increment = false, column_name = "nr")]
        pub number: i64,
        pub kind: Kind,
        pub r#type: Option<i32>,
        #[sea_orm(column_type = "JsonBinary")]
        pub settings: Json,
        #[sea_orm(enum_name = "Opened")]
        #[wb(insert_only)]
        pub opened_at: DateTimeUtc,
        #[wb(insert_only)]
        pub s3_key_1: String,
        #[sea_orm(ignore)]
        pub cached: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

fn account() -> account::Model {
    account::Model {
        tenant_id: 3,
        owner_name: "Ann".into(),
        number: 77,
        kind: account::Kind::Paid,
        r#type: None,
        settings: serde_json::json!({"a": 1}),
        opened_at: chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        s3_key_1: "k".into(),
        cached: Some("x".into()),
    }
}

#[test]
fn the_table_is_what_sea_orm_knows() {
    let table = account::Model::table();
    assert_eq!((&*table.name, table.schema.as_deref()), ("accounts", Some("billing")));
    let names: Vec<_> = table.columns.iter().map(|c| &*c.name).collect();
    assert_eq!(names, ["tenantId", "ownerName", "nr", "kind", "type", "settings", "openedAt", "s3Key1"]);
    let keys: Vec<_> = table.columns.iter().filter(|c| c.key).map(|c| &*c.name).collect();
    assert_eq!(keys, ["tenantId", "nr"]);
    let insert_only: Vec<_> = table.columns.iter().filter(|c| c.insert_only).map(|c| &*c.name).collect();
    assert_eq!(insert_only, ["openedAt", "s3Key1"]);
    let nullable: Vec<_> = table.columns.iter().filter(|c| c.nullable).map(|c| &*c.name).collect();
    assert_eq!(nullable, ["type"]);
    assert!(
        matches!(&table.columns[3].column_type, ColumnType::Enum { name, .. } if name.to_string() == "account_kind")
    );
    assert_eq!(table.columns[5].column_type, ColumnType::JsonBinary);
    assert_eq!(table.columns[5].array_type, ArrayType::Json);
}

#[test]
fn key_and_values_follow_the_columns() {
    let account = account();
    let key: (i32, i64) = account.key();
    assert_eq!(key, (3, 77));
    assert_eq!(account::Model::bind_key(&key), [Value::from(3_i32), 77_i64.into()]);
    let values = account.bind().unwrap();
    assert_eq!(values.len(), account::Model::table().columns.len());
    assert_eq!(values[..4], [Value::from(3_i32), "Ann".into(), 77_i64.into(), "paid".into()]);
    assert_eq!(values[4], Value::Int(None));
}

#[tokio::test]
async fn a_row_becomes_the_model_again() {
    let db = Database::connect("sqlite::memory:").await.unwrap();
    let backend = db.get_database_backend();
    let account = account();
    let table = account::Model::table();
    let columns: Vec<_> =
        table.columns.iter().enumerate().map(|(i, c)| format!("${} AS \"{}\"", i + 1, c.name)).collect();
    let select = format!("SELECT {}", columns.join(", "));
    let statement = Statement::from_sql_and_values(backend, select, account.bind().unwrap());
    let row = db.query_one_raw(statement).await.unwrap().unwrap();
    assert_eq!(account::Model::from_row(&row).unwrap(), account::Model { cached: None, ..account });
}

/// The dense format of SeaORM 2, with relations.
mod dense {
    pub mod author {
        use sea_orm::entity::prelude::*;
        use serde::{Deserialize, Serialize};
        use write_behind::WriteBehind;

        // The plain derive also lands on `ModelEx`, which is no record.
        #[sea_orm::model]
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, DeriveEntityModel, WriteBehind)]
        #[sea_orm(table_name = "authors")]
        #[wb(name = "author")]
        pub struct Model {
            #[sea_orm(primary_key)]
            pub id: i32,
            pub name: String,
            #[wb(insert_only)]
            pub born: String,
            #[sea_orm(has_many)]
            pub books: HasMany<super::book::Entity>,
        }

        impl ActiveModelBehavior for ActiveModel {}
    }

    pub mod book {
        use sea_orm::entity::prelude::*;
        use serde::{Deserialize, Serialize};

        #[sea_orm::model]
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, DeriveEntityModel)]
        #[sea_orm(table_name = "books", model_attrs(derive(write_behind::WriteBehind), wb(name = "book")))]
        pub struct Model {
            #[sea_orm(primary_key, auto_increment = false)]
            pub isbn: String,
            pub author_id: Option<i32>,
            #[sea_orm(belongs_to, from = "author_id", to = "id")]
            pub author: HasOne<super::author::Entity>,
        }

        impl ActiveModelBehavior for ActiveModel {}
    }
}

#[tokio::test]
async fn the_dense_format_works_with_either_way_to_derive() {
    use dense::{author, book};

    assert_eq!(<author::Model as write_behind::Entity>::NAME, "author");
    assert_eq!(<book::Model as write_behind::Entity>::NAME, "book");
    let names = |table: write_behind::sql::Table| table.columns.into_iter().map(|c| c.name).collect::<Vec<_>>();
    assert_eq!(names(author::Model::table()), ["id", "name", "born"]);
    assert!(author::Model::table().columns[2].insert_only);
    assert_eq!(names(book::Model::table()), ["isbn", "author_id"]);
    assert!(book::Model::table().columns[1].nullable);

    let db = Database::connect("sqlite::memory:").await.unwrap();
    let schema = Schema::new(db.get_database_backend());
    db.execute(&schema.create_table_from_entity(author::Entity)).await.unwrap();
    let ann = author::Model { id: 1, name: "Ann".into(), born: "1970".into() };
    ann.clone().into_active_model().reset_all().insert(&db).await.unwrap();
    assert_eq!(author::Entity::find_by_id(ann.key()).one(&db).await.unwrap().unwrap(), ann);
    assert_eq!(author::Model::decode(&ann.encode().unwrap()).unwrap(), ann);
}
