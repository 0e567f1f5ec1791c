//! Foreign keys by which a parent's delete changes rows of an entity behind the cache.

use std::collections::BTreeMap;

use sea_orm::{DbBackend, DbErr, QueryResult, Value};
use wb_core::{Finding, SinkError};

use crate::connection::tx::Pool;
use crate::examine::live_table::ask;
use crate::examine::table_facts::{fold, place};
use crate::mapping::entity::Table;
use crate::statement::dialect::postgres;

/// A foreign key that does something on delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cascade {
    columns: Vec<String>,
    parent: String,
    /// `CASCADE`, `SET NULL` or `SET DEFAULT`.
    rule: String,
}

/// What is found of them in the table of an entity.
pub(crate) async fn examine(pool: &Pool, subject: &str, table: &Table) -> Result<Vec<Finding>, SinkError> {
    let backend = pool.backend();
    let found = match backend {
        DbBackend::Postgres => on_postgres(pool, table).await?,
        DbBackend::MySql => on_mysql(pool, table).await?,
        _ => on_sqlite(pool, table).await?,
    };
    let is_mapped =
        |name: &String| table.columns.iter().any(|column| fold(backend, &column.name) == fold(backend, name));
    let place = place(table);
    // What is set in a column that nobody maps is nobody's copy.
    let felt = found.into_iter().filter(|cascade| cascade.rule == "CASCADE" || cascade.columns.iter().any(is_mapped));
    Ok(felt.map(|cascade| Finding::warning("cascading-delete", subject, text(&place, &cascade))).collect())
}

fn text(place: &str, Cascade { columns, parent, rule }: &Cascade) -> String {
    let columns = columns.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ");
    let done = if rule == "CASCADE" { "deletes rows" } else { "changes rows" };
    format!(
        "column {columns} of table `{place}` refers to table `{parent}` with ON DELETE {rule}: a delete there {done} of this \
         entity behind the buffer, where their copies stay readable until they expire, and a change that is made to such a \
         copy is acknowledged and becomes a dead letter; delete the children through the cache, before their parent, and let the \
         foreign key be ON DELETE NO ACTION or RESTRICT"
    )
}

/// Rows of constraint, column, parent and rule, in the order of the columns.
fn grouped(rows: Vec<(String, Cascade)>) -> Vec<Cascade> {
    let mut all: BTreeMap<String, Cascade> = BTreeMap::new();
    for (constraint, row) in rows {
        let cascade = all.entry(constraint).or_default();
        cascade.columns.extend(row.columns);
        (cascade.parent, cascade.rule) = (row.parent, row.rule);
    }
    all.into_values().collect()
}

fn read(row: &QueryResult) -> Result<(String, Cascade), DbErr> {
    let text = |name: &str| row.try_get_by::<String, _>(name);
    Ok((text("i")?, Cascade { columns: vec![text("c")?], parent: text("p")?, rule: text("r")?.to_uppercase() }))
}

async fn on_postgres(pool: &Pool, table: &Table) -> Result<Vec<Cascade>, SinkError> {
    let query = "SELECT c.conname::text AS i, a.attname::text AS c, c.confrelid::regclass::text AS p, \
                 (CASE c.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END) AS r \
                 FROM pg_constraint c CROSS JOIN LATERAL UNNEST(c.conkey) WITH ORDINALITY AS k(attnum, n) \
                 JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum \
                 WHERE c.conrelid = to_regclass($1) AND c.contype = 'f' AND c.confdeltype IN ('c', 'n', 'd') ORDER BY k.n";
    Ok(grouped(ask(pool, query, vec![Value::from(postgres::table(table))], read).await?))
}

async fn on_mysql(pool: &Pool, table: &Table) -> Result<Vec<Cascade>, SinkError> {
    let query = "SELECT CAST(r.constraint_name AS CHAR) AS i, CAST(k.column_name AS CHAR) AS c, \
                 CAST(r.referenced_table_name AS CHAR) AS p, CAST(r.delete_rule AS CHAR) AS r \
                 FROM information_schema.referential_constraints r JOIN information_schema.key_column_usage k \
                 ON k.constraint_schema = r.constraint_schema AND k.constraint_name = r.constraint_name \
                 AND k.table_name = r.table_name \
                 WHERE r.constraint_schema = COALESCE(?, DATABASE()) AND r.table_name = ? \
                 AND r.delete_rule IN ('CASCADE', 'SET NULL', 'SET DEFAULT') ORDER BY k.ordinal_position";
    let name = vec![Value::from(table.schema.as_deref()), Value::from(&*table.name)];
    Ok(grouped(ask(pool, query, name, read).await?))
}

async fn on_sqlite(pool: &Pool, table: &Table) -> Result<Vec<Cascade>, SinkError> {
    let query = "SELECT CAST(id AS TEXT) AS i, \"from\" AS c, \"table\" AS p, on_delete AS r \
                 FROM pragma_foreign_key_list(?, ?) WHERE on_delete IN ('CASCADE', 'SET NULL', 'SET DEFAULT') ORDER BY seq";
    let schema = table.schema.as_deref().unwrap_or("main");
    Ok(grouped(ask(pool, query, vec![Value::from(&*table.name), Value::from(schema)], read).await?))
}
