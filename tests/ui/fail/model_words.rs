
mod post {
    use sea_orm::entity::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveEntityModel, write_behind::WriteBehind)]
    #[sea_orm(table_name = "posts")]
    #[wb(name = "post", table = "posts", schema = "blog", rename_all = "camelCase")]
    pub struct Model {
        #[sea_orm(primary_key)]
        #[wb(insert_only)]
        pub id: i64,
        #[wb(key)]
        pub tenant: i64,
        #[wb(rename = "headline")]
        pub title: String,
        #[wb(json)]
        pub tags: Json,
        #[wb(skip)]
        pub memo: String,
        #[serde(default, skip_serializing)]
        pub password: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

fn main() {}
