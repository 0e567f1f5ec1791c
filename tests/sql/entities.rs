//! Entities of the tests, and what is done with them everywhere.

use std::sync::Arc;

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use write_behind::{Batch, Delete, Entity, Id, Report, Scope, Sink, SinkError, SqlEntity, SqlSink, Upsert};

/// A struct with its mapping: `keys` first, then the others; `insert_only` where it is said.
macro_rules! entity {
    (
        $(#[$meta:meta])*
        $vis:vis struct $ty:ident in $table:literal {
            keys { $($key:ident $(($key_name:literal))?: $key_ty:ty),+ }
            $($(@ $mark:ident)? $field:ident $(($field_name:literal))?: $field_ty:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        $vis struct $ty {
            $($vis $key: $key_ty,)+
            $($vis $field: $field_ty,)*
        }

        impl write_behind::Entity for $ty {
            type Key = entity!(@key_type $($key_ty),+);
            const NAME: &'static str = $table;
            const FORMAT: write_behind::Format = write_behind::Format::Json;
            fn key(&self) -> Self::Key {
                entity!(@key self $($key),+)
            }
            fn encode(&self) -> Result<Vec<u8>, write_behind::CodecError> {
                write_behind::codec::encode(Self::FORMAT, self)
            }
            fn decode(payload: &[u8]) -> Result<Self, write_behind::CodecError> {
                write_behind::codec::decode(Self::FORMAT, payload)
            }
        }

        impl write_behind::SqlEntity for $ty {
            fn table() -> write_behind::Table {
                #[allow(unused_mut)]
                let mut columns = vec![
                    $(write_behind::Column::of::<$key_ty>(entity!(@name $key $($key_name)?)).key(),)+
                    $(entity!(@mark ($($mark)?) write_behind::Column::of::<$field_ty>(entity!(@name $field $($field_name)?))),)*
                ];
                write_behind::Table::new(None, $table, columns)
            }
            fn bind(&self) -> Result<Vec<sea_orm::Value>, write_behind::SqlMappingError> {
                Ok(vec![$(self.$key.clone().into(),)+ $(self.$field.clone().into(),)*])
            }
            fn bind_key(key: &Self::Key) -> Vec<sea_orm::Value> {
                let entity!(@key_pattern $($key),+) = key.clone();
                vec![$($key.into(),)+]
            }
            fn from_row(row: &sea_orm::QueryResult) -> Result<Self, sea_orm::DbErr> {
                Ok(Self {
                    $($key: write_behind::sql::read(row, entity!(@name $key $($key_name)?))?,)+
                    $($field: write_behind::sql::read(row, entity!(@name $field $($field_name)?))?,)*
                })
            }
        }
    };
    (@key_type $one:ty) => { $one };
    (@key_type $($many:ty),+) => { ($($many,)+) };
    (@key $self:ident $one:ident) => { $self.$one.clone() };
    (@key $self:ident $($many:ident),+) => { ($($self.$many.clone(),)+) };
    (@key_pattern $one:ident) => { $one };
    (@key_pattern $($many:ident),+) => { ($($many,)+) };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
    (@mark () $column:expr) => { $column };
    (@mark (insert_only) $column:expr) => { $column.insert_only() };
}

pub(crate) fn scope<E: Entity>() -> Scope {
    Scope::new("test", E::NAME, 16)
}

pub(crate) fn batch<E: Entity + Clone>(upserts: &[E], deletes: &[E::Key]) -> Batch<E> {
    Batch::new(
        Arc::new(scope::<E>()),
        Vec::new(),
        upserts.iter().map(|v| Upsert::new(Id::of(&v.key()).unwrap(), v.clone())).collect(),
        deletes.iter().map(|k| Delete::new(Id::of(k).unwrap(), k.clone())).collect(),
    )
}

/// A new, empty table.
pub(crate) async fn create<E: SqlEntity>(sink: &SqlSink) {
    write_behind::drop_table::<E>(sink.db()).await.unwrap();
    write_behind::create_table::<E>(sink.db()).await.unwrap();
}

pub(crate) async fn try_write<E: SqlEntity + Clone>(
    sink: &SqlSink,
    upserts: &[E],
    deletes: &[E::Key],
) -> Result<Report, SinkError> {
    sink.write(&batch(upserts, deletes)).await
}

/// Writes a batch that the sink must take as a whole.
pub(crate) async fn write<E: SqlEntity + Clone>(sink: &SqlSink, upserts: &[E], deletes: &[E::Key]) -> Report {
    let report = match try_write(sink, upserts, deletes).await {
        Ok(report) => report,
        Err(error) => panic!("{}", error.chain()),
    };
    if let Some((id, error)) = report.rejected.first() {
        panic!("{id}: {}", error.chain());
    }
    report
}

pub(crate) async fn load<E: SqlEntity>(sink: &SqlSink, keys: &[E::Key]) -> Vec<E> {
    match Sink::<E>::load(sink, keys).await {
        Ok(values) => values,
        Err(error) => panic!("{}", error.chain()),
    }
}

/// Every column of every row as the database writes it, in the order of `order`.
pub(crate) async fn raw<E: SqlEntity>(sink: &SqlSink, order: &str) -> Vec<Vec<Option<String>>> {
    let backend = sink.db().get_database_backend();
    let table = E::table();
    let quote = if backend == DbBackend::MySql { '`' } else { '"' };
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|c| {
            let name = format!("{quote}{}{quote}", c.name);
            match backend {
                DbBackend::Postgres => format!("{name}::text"),
                DbBackend::MySql => format!("HEX({name})"),
                _ => format!("typeof({name}) || ' ' || quote({name})"),
            }
        })
        .enumerate()
        .map(|(i, expression)| format!("{expression} AS c{i}"))
        .collect();
    let text = format!("SELECT {} FROM {quote}{}{quote} ORDER BY {order}", columns.join(", "), table.name);
    let rows = sink.db().query_all_raw(Statement::from_string(backend, text)).await.unwrap();
    rows.iter()
        .map(|row| (0..columns.len()).map(|i| row.try_get("", &format!("c{i}")).unwrap()).collect())
        .collect()
}
