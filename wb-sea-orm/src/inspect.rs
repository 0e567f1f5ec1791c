//! What the sink must know of a table before it writes to it.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, QueryResult, Statement, Value};
use wb_core::{ErrorKind, SinkError};

use crate::classify::from_sea_orm;
use crate::dialect::{keys, postgres};
use crate::entity::Table;

/// What the database says of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Largest packet that the server takes, in bytes (MySQL).
    pub(crate) max_packet: Option<usize>,
    /// The key column that the server fills in when it is zero (MySQL).
    pub(crate) auto_increment: Option<String>,
}

/// Looks at the table: it must exist, and its key must be unique in the database too, or each write would add a row.
pub(crate) async fn inspect(
    db: &DatabaseConnection,
    backend: DbBackend,
    entity: &'static str,
    table: &Table,
) -> Result<Facts, SinkError> {
    let failed = |error| from_sea_orm(format!("looking at table `{}` of entity `{entity}`", table.name), error);
    let misconfigured = |what: String| {
        let place = table.schema.as_ref().map_or_else(|| table.name.to_string(), |s| format!("{s}.{}", table.name));
        SinkError::new(ErrorKind::Misconfigured, format!("table `{place}` of entity `{entity}` {what}"))
    };
    let found = match backend {
        DbBackend::Postgres => on_postgres(db, table).await,
        DbBackend::MySql => on_mysql(db, table).await,
        _ => on_sqlite(db, table).await,
    };
    let Some(found) = found.map_err(failed)? else {
        return Err(misconfigured("does not exist".into()));
    };
    // MySQL and SQLite take column names without their case.
    let fold = |name: &str| if backend == DbBackend::Postgres { name.to_owned() } else { name.to_lowercase() };
    let key: BTreeSet<String> = keys(table).map(|c| fold(&c.name)).collect();
    let matches = |unique: &BTreeSet<String>| unique.iter().map(|c| fold(c)).collect::<BTreeSet<_>>() == key;
    if !found.unique.values().any(matches) {
        let columns = keys(table).map(|c| format!("`{}`", c.name)).collect::<Vec<_>>().join(", ");
        return Err(misconfigured(format!(
            "has no primary key or unique index on exactly its key columns ({columns}); create one, or key the entity by the table's primary key"
        )));
    }
    let mut facts = found.facts;
    facts.auto_increment = facts.auto_increment.filter(|column| key.contains(&fold(column)));
    Ok(facts)
}

struct Found {
    /// Columns of each unique index.
    unique: BTreeMap<String, BTreeSet<String>>,
    facts: Facts,
}

async fn query(
    db: &DatabaseConnection,
    backend: DbBackend,
    text: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<QueryResult>, DbErr> {
    db.query_all_raw(Statement::from_sql_and_values(backend, text, values)).await
}

fn unique(rows: &[QueryResult]) -> Result<BTreeMap<String, BTreeSet<String>>, DbErr> {
    let mut unique: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        unique.entry(row.try_get("", "i")?).or_default().insert(row.try_get("", "c")?);
    }
    Ok(unique)
}

async fn on_postgres(db: &DatabaseConnection, table: &Table) -> Result<Option<Found>, DbErr> {
    let backend = DbBackend::Postgres;
    let name = || [Value::from(postgres::table(table))];
    let exists =
        query(db, backend, "SELECT to_regclass($1)::text AS t WHERE to_regclass($1) IS NOT NULL", name()).await?;
    if exists.is_empty() {
        return Ok(None);
    }
    // ON CONFLICT can use neither partial nor deferrable indexes, nor those on expressions.
    let text = "SELECT i.indexrelid::regclass::text AS i, a.attname::text AS c FROM pg_index i \
                JOIN pg_attribute a ON a.attrelid = i.indrelid \
                AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1]) \
                WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indimmediate \
                AND i.indpred IS NULL AND i.indexprs IS NULL";
    let rows = query(db, backend, text, name()).await?;
    Ok(Some(Found { unique: unique(&rows)?, facts: Facts::default() }))
}

async fn on_mysql(db: &DatabaseConnection, table: &Table) -> Result<Option<Found>, DbErr> {
    let backend = DbBackend::MySql;
    let name = || [Value::from(table.schema.as_deref()), Value::from(&*table.name)];
    let text = "SELECT CAST(column_name AS CHAR) AS c, CAST(extra AS CHAR) AS e FROM information_schema.columns \
                WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?";
    let columns = query(db, backend, text, name()).await?;
    if columns.is_empty() {
        return Ok(None);
    }
    let mut auto_increment = None;
    for column in &columns {
        if column.try_get::<String>("", "e")?.to_lowercase().contains("auto_increment") {
            auto_increment = Some(column.try_get("", "c")?);
        }
    }
    let text = "SELECT CAST(index_name AS CHAR) AS i, CAST(MAX(column_name) AS CHAR) AS c \
                FROM information_schema.statistics \
                WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND non_unique = 0 \
                AND index_name NOT IN (SELECT index_name FROM information_schema.statistics \
                WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND sub_part IS NOT NULL) \
                GROUP BY index_name, seq_in_index";
    let rows = query(db, backend, text, name().into_iter().chain(name())).await?;
    let text = "SELECT CAST(@@max_allowed_packet AS CHAR) AS p, CAST(@@sql_mode AS CHAR) AS m";
    let mut max_packet = None;
    for row in query(db, backend, text, []).await? {
        max_packet = row.try_get::<String>("", "p")?.parse().ok();
        if !row.try_get::<String>("", "m")?.contains("STRICT_") {
            tracing::warn!(
                table = %table.name,
                "sql_mode is not strict: values that do not fit are cut without an error; add STRICT_ALL_TABLES"
            );
        }
    }
    Ok(Some(Found { unique: unique(&rows)?, facts: Facts { max_packet, auto_increment } }))
}

async fn on_sqlite(db: &DatabaseConnection, table: &Table) -> Result<Option<Found>, DbErr> {
    let backend = DbBackend::Sqlite;
    let schema = table.schema.as_deref().unwrap_or("main");
    let name = || [Value::from(&*table.name), Value::from(schema)];
    // A key of one integer is the row's own number and has no index.
    let text = "SELECT '' AS i, name AS c, pk AS k FROM pragma_table_info(?, ?)";
    let columns = query(db, backend, text, name()).await?;
    if columns.is_empty() {
        return Ok(None);
    }
    let text = "SELECT l.name AS i, x.name AS c FROM pragma_index_list(?, ?) l, pragma_index_info(l.name) x \
                WHERE l.\"unique\" = 1 AND l.partial = 0 AND x.name IS NOT NULL";
    let mut unique = unique(&query(db, backend, text, name()).await?)?;
    for column in &columns {
        if column.try_get::<i64>("", "k")? > 0 {
            unique.entry(String::new()).or_default().insert(column.try_get("", "c")?);
        }
    }
    Ok(Some(Found { unique, facts: Facts::default() }))
}
