//! What is said of a record whose key the database takes for another one's: its upsert met that row, and failed instead of
//! writing over it.

use sea_orm::DbBackend;
use wb_core::{ErrorKind, SinkError};

use crate::statement::dialect::text_keys;
use crate::statement::plan::Plan;

/// The error with what it means, where it is the guard's in an upsert.
pub(crate) fn explained(plan: &Plan, error: SinkError) -> SinkError {
    if error.kind() != ErrorKind::Rejected || !is_guards(plan.backend, &error) {
        return error;
    }
    let loose: Vec<String> = text_keys(&plan.table)
        .filter_map(|column| Some(format!("`{}` ({})", column.name, column.kept.compares.as_ref()?)))
        .collect();
    let table = &plan.table.name;
    let text = match (loose.join(", "), plan.backend) {
        (loose, DbBackend::MySql) if loose.is_empty() => {
            format!("table `{table}` has this value in a row of another key, under a second unique index")
        }
        (loose, DbBackend::MySql) => format!(
            "table `{table}` has a row of another key that it takes for this one: keys that {loose} does not tell apart are \
             one row, and a second unique index may say the same of another value"
        ),
        (loose, _) if loose.is_empty() => {
            format!("table `{table}` has a row of another spelling of the key, which it takes for this one")
        }
        (loose, _) => format!(
            "table `{table}` has a row of another spelling of the key: keys that {loose} does not tell apart are one row"
        ),
    };
    error.within(text)
}

/// PostgreSQL: `cardinality_violation`. MySQL: `ER_SUBQUERY_NO_1_ROW`. SQLite: `SQLITE_TOOBIG`.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
fn is_guards(backend: DbBackend, error: &SinkError) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<sea_orm::sqlx::Error>());
    let Some(error) = source.and_then(sea_orm::sqlx::Error::as_database_error) else { return false };
    match backend {
        #[cfg(feature = "mysql")]
        DbBackend::MySql => error
            .try_downcast_ref::<sea_orm::sqlx::mysql::MySqlDatabaseError>()
            .is_some_and(|error| error.number() == 1242),
        DbBackend::Postgres => error.code().is_some_and(|code| code == "21000"),
        DbBackend::Sqlite => error.code().is_some_and(|code| code == "18"),
        _ => false,
    }
}

#[cfg(not(any(feature = "postgres", feature = "mysql", feature = "sqlite")))]
fn is_guards(_: DbBackend, _: &SinkError) -> bool {
    false
}
