//! The mapping of a SeaORM `Model`, asked of SeaORM's own metadata.

use std::borrow::Cow;

use sea_orm::{
    ColumnTrait, EntityName, EntityTrait, IdenStatic, Iterable, ModelTrait, PrimaryKeyToColumn, PrimaryKeyTrait,
};

use crate::mapping::casts::Casts;
use crate::mapping::entity::{Column, Table};
use crate::mapping::value::Values;
use crate::values::kept::Kept;

/// The `Column` of a `Model`.
pub type ColumnOf<M> = <<M as ModelTrait>::Entity as EntityTrait>::Column;

/// The table of a `Model`; its key columns are SeaORM's primary key.
#[must_use]
pub fn table<M: ModelTrait>(insert_only: &[ColumnOf<M>], version: Option<ColumnOf<M>>) -> Table {
    let entity = M::Entity::default();
    let primary_key: Vec<&str> =
        <M::Entity as EntityTrait>::PrimaryKey::iter().map(|key| key.into_column().as_str()).collect();
    let columns = ColumnOf::<M>::iter().map(|column| {
        let name = column.as_str();
        let def = column.def();
        Column {
            name: Cow::Borrowed(name),
            column_type: def.get_column_type().clone(),
            array_type: M::get_value_type(column),
            key: primary_key.contains(&name),
            nullable: def.is_null(),
            insert_only: insert_only.iter().any(|only| only.as_str() == name),
            version: version.as_ref().is_some_and(|version| version.as_str() == name),
            kept: Kept::default(),
            casts: Casts::of(&column),
        }
    });
    Table {
        schema: entity.schema_name().map(|schema| Cow::Owned(schema.to_owned())),
        name: Cow::Borrowed(entity.table_name()),
        columns: columns.collect(),
        client_keys: false,
        auto_increment: <M::Entity as EntityTrait>::PrimaryKey::auto_increment(),
    }
}

/// Name of a column.
#[must_use]
pub fn name<M: ModelTrait>(column: ColumnOf<M>) -> &'static str {
    column.as_str()
}

/// One value per column of [`table`], in the same order.
#[must_use]
pub fn values<M: ModelTrait>(model: &M) -> Values {
    ColumnOf::<M>::iter().map(|column| model.get(column)).collect()
}
