//! Entities of the tests, and what is done with them everywhere.

use std::sync::Arc;

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use write_behind::{Batch, Delete, Entity, ErrorKind, Id, Report, Scope, Sink, SinkError, SqlEntity, SqlSink, Upsert};

/// An entity whose name is its table's: `keys` first, then the other fields, marked `@insert_only` where they are.
macro_rules! entity {
    (
        $vis:vis struct $ty:ident in $table:tt {
            keys { $($key:ident: $key_ty:ty),+ }
            $($(@ $mark:ident)? $field:ident: $field_ty:ty,)*
        }
    ) => {
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, write_behind::WriteBehind)]
        #[wb(name = $table, table = $table)]
        $vis struct $ty {
            $(#[wb(key)] $vis $key: $key_ty,)+
            $($(#[wb($mark)])? $vis $field: $field_ty,)*
        }
    };
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
    write_behind::sql::drop_table::<E>(sink.db()).await.unwrap();
    write_behind::sql::create_table::<E>(sink.db()).await.unwrap();
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

/// What the database refuses of a batch whose other records land: each with its id, sorted by it.
pub(crate) async fn refused<E: SqlEntity + Clone>(
    sink: &SqlSink,
    upserts: &[E],
    deletes: &[E::Key],
) -> Vec<(String, SinkError)> {
    let report = match try_write(sink, upserts, deletes).await {
        Ok(report) => report,
        Err(error) => panic!("{}", error.chain()),
    };
    let mut refused: Vec<_> = report.rejected.into_iter().map(|(id, error)| (id.to_string(), error)).collect();
    refused.sort_by(|a, b| a.0.cmp(&b.0));
    refused
}

/// The kinds of refusals, by id.
pub(crate) fn kinds(refused: &[(String, SinkError)]) -> Vec<(&str, ErrorKind)> {
    refused.iter().map(|(id, error)| (id.as_str(), error.kind())).collect()
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
    rows.iter().map(|row| (0..columns.len()).map(|i| row.try_get("", &format!("c{i}")).unwrap()).collect()).collect()
}
