//! A table as the database has it now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sea_orm::{DbBackend, DbErr, QueryResult, Value};
use wb_core::SinkError;

use crate::connection::error::from_sea_orm;
use crate::connection::tx::Pool;
use crate::mapping::entity::Table;
use crate::statement::bind::{Args, Statement};
use crate::statement::dialect::postgres;
use crate::values::limit::Limit;

/// A table that exists.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) columns: Vec<LiveColumn>,
    /// Columns of each unique index on which an upsert can be.
    pub(crate) unique: BTreeMap<String, BTreeSet<String>>,
    /// A trigger sees rows before they are inserted and may fill in what is missing.
    pub(crate) prepared: bool,
}

/// Before the type of a column of a STRICT table (SQLite), which takes no value of another one.
pub(crate) const STRICT: &str = "strict ";

/// One of its columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveColumn {
    pub(crate) name: String,
    /// The type's name, in lower case, without its length; of a domain, the type below; `enum` for an enumeration; for an array that
    /// of its elements, behind a `_`.
    pub(crate) kind: String,
    /// What it keeps of a value.
    pub(crate) limit: Limit,
    pub(crate) nullable: bool,
    /// The database knows a value when none is given.
    pub(crate) fills: bool,
    /// The database alone sets its value.
    pub(crate) generated: bool,
    /// The server numbers new rows by it when it is zero (MySQL).
    pub(crate) numbers: bool,
    /// The database is meant to number new rows by it: an identity, a sequence, AUTO_INCREMENT, AUTOINCREMENT.
    pub(crate) makes: bool,
}

/// Asks the database; `None` when there is no such table.
pub(crate) async fn look(pool: &Pool, table: &Table) -> Result<Option<Live>, SinkError> {
    match pool.backend() {
        DbBackend::Postgres => on_postgres(pool, table).await,
        DbBackend::MySql => on_mysql(pool, table).await,
        _ => on_sqlite(pool, table).await,
    }
}

/// Rows of a query about the schema.
pub(crate) async fn ask<T>(
    pool: &Pool,
    text: &'static str,
    values: Vec<Value>,
    mut read: impl FnMut(&QueryResult) -> Result<T, DbErr>,
) -> Result<Vec<T>, SinkError> {
    let what = "looking at the schema";
    let rows = pool.fetch(what, Statement { text: Arc::from(text), args: Args::Values(values) }).await?;
    rows.iter().map(|row| read(row).map_err(|error| from_sea_orm(what, error))).collect()
}

fn text(row: &QueryResult, name: &str) -> Result<String, DbErr> {
    row.try_get_by(name)
}

fn pair(row: &QueryResult) -> Result<(String, String), DbErr> {
    Ok((text(row, "i")?, text(row, "c")?))
}

fn grouped(pairs: Vec<(String, String)>) -> BTreeMap<String, BTreeSet<String>> {
    let mut unique: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (index, column) in pairs {
        unique.entry(index).or_default().insert(column);
    }
    unique
}

async fn on_postgres(pool: &Pool, table: &Table) -> Result<Option<Live>, SinkError> {
    let name = || vec![Value::from(postgres::table(table))];
    // A domain may be over another one, or its array, and passes the modifier that it was made with to what is below.
    let query = "SELECT a.attname::text AS c, NOT (a.attnotnull OR e.required) AS n, \
                 (CASE WHEN e.many THEN '_' ELSE '' END || CASE b.typtype WHEN 'e' THEN 'enum' ELSE b.typname END)::text AS t, \
                 e.typmod AS l, \
                 (a.atthasdef OR a.attidentity <> '' OR e.filled) AS f, \
                 (a.attgenerated <> '' OR a.attidentity = 'a') AS g, \
                 (a.attidentity <> '' OR COALESCE(pg_get_expr(d.adbin, d.adrelid), '') LIKE 'nextval(%') AS m \
                 FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum JOIN pg_type t ON t.oid = a.atttypid CROSS JOIN LATERAL ( \
                 WITH RECURSIVE below(oid, typmod, required, filled, many) AS ( \
                 SELECT t.oid, a.atttypmod, t.typtype = 'd' AND t.typnotnull, t.typdefault IS NOT NULL, FALSE UNION ALL \
                 SELECT n.oid, CASE WHEN p.typtype = 'd' THEN p.typtypmod ELSE below.typmod END, \
                 below.required OR (n.typtype = 'd' AND n.typnotnull AND NOT below.many AND p.typtype = 'd'), \
                 below.filled OR (n.typdefault IS NOT NULL AND NOT below.many AND p.typtype = 'd'), \
                 below.many OR p.typtype = 'b' \
                 FROM below JOIN pg_type p ON p.oid = below.oid JOIN pg_type n ON n.oid = CASE \
                 WHEN p.typtype = 'd' THEN p.typbasetype WHEN p.typtype = 'b' AND p.typcategory = 'A' THEN p.typelem END) \
                 SELECT below.* FROM below JOIN pg_type p ON p.oid = below.oid WHERE NOT (p.typtype = 'd' \
                 OR (p.typtype = 'b' AND p.typcategory = 'A' AND p.typelem <> 0))) AS e \
                 JOIN pg_type b ON b.oid = e.oid \
                 WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    let columns = ask(pool, query, name(), |row| {
        let kind = text(row, "t")?.to_lowercase();
        Ok(LiveColumn {
            name: text(row, "c")?,
            limit: Limit::on_postgres(&kind, row.try_get_by("l")?),
            kind,
            nullable: row.try_get_by("n")?,
            fills: row.try_get_by("f")?,
            generated: row.try_get_by("g")?,
            numbers: false,
            makes: row.try_get_by("m")?,
        })
    });
    let columns = columns.await?;
    if columns.is_empty() {
        let query = "SELECT 1 AS x WHERE to_regclass($1) IS NOT NULL";
        if ask(pool, query, name(), |_| Ok(())).await?.is_empty() {
            return Ok(None);
        }
    }
    // ON CONFLICT can use neither partial nor deferrable indexes, nor those on expressions.
    let query = "SELECT i.indexrelid::regclass::text AS i, a.attname::text AS c FROM pg_index i \
                 JOIN pg_attribute a ON a.attrelid = i.indrelid \
                 AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1]) \
                 WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indimmediate \
                 AND i.indpred IS NULL AND i.indexprs IS NULL";
    let unique = grouped(ask(pool, query, name(), pair).await?);
    // Before, for each row, on insert.
    let query = "SELECT 1 AS x FROM pg_trigger WHERE tgrelid = to_regclass($1) AND tgtype & 7 = 7 LIMIT 1";
    let prepared = !ask(pool, query, name(), |_| Ok(())).await?.is_empty();
    Ok(Some(Live { columns, unique, prepared }))
}

async fn on_mysql(pool: &Pool, table: &Table) -> Result<Option<Live>, SinkError> {
    let name = || [Value::from(table.schema.as_deref()), Value::from(&*table.name)];
    let query = "SELECT CAST(column_name AS CHAR) AS c, CAST(column_type AS CHAR) AS t, CAST(extra AS CHAR) AS e, \
                 CAST(is_nullable AS CHAR) AS n, column_default IS NOT NULL AS f, CAST(character_set_name AS CHAR) AS s, \
                 CAST(VERSION() AS CHAR) AS v FROM information_schema.columns \
                 WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? ORDER BY ordinal_position";
    let columns = ask(pool, query, name().into(), |row| {
        let extra = text(row, "e")?.to_lowercase();
        let declared = text(row, "t")?;
        let kind = declared.to_lowercase();
        let unsigned = if kind.contains("unsigned") { " unsigned" } else { "" };
        let numbers = extra.contains("auto_increment");
        let base = kind.split(['(', ' ']).next().unwrap_or_default();
        let charset: Option<String> = row.try_get_by("s")?;
        Ok(LiveColumn {
            name: text(row, "c")?,
            limit: Limit::on_mysql(&declared, charset.as_deref(), last_second(&text(row, "v")?)),
            kind: format!("{base}{unsigned}"),
            nullable: text(row, "n")?.eq_ignore_ascii_case("yes"),
            fills: row.try_get_by::<i64, _>("f")? != 0 || numbers,
            // Of a default that is an expression, MySQL says `DEFAULT_GENERATED`.
            generated: extra.contains("virtual") || extra.contains("stored") || extra.contains("persistent"),
            numbers,
            makes: numbers,
        })
    });
    let columns = columns.await?;
    if columns.is_empty() {
        return Ok(None);
    }
    let query = "SELECT CAST(index_name AS CHAR) AS i, CAST(MAX(column_name) AS CHAR) AS c \
                 FROM information_schema.statistics \
                 WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND non_unique = 0 \
                 AND index_name NOT IN (SELECT index_name FROM information_schema.statistics \
                 WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND sub_part IS NOT NULL) \
                 GROUP BY index_name, seq_in_index";
    let unique = grouped(ask(pool, query, name().into_iter().chain(name()).collect(), pair).await?);
    let query = "SELECT 1 AS x FROM information_schema.triggers \
                 WHERE event_object_schema = COALESCE(?, DATABASE()) AND event_object_table = ? \
                 AND event_manipulation = 'INSERT' AND action_timing = 'BEFORE' LIMIT 1";
    let prepared = !ask(pool, query, name().into(), |_| Ok(())).await?.is_empty();
    Ok(Some(Live { columns, unique, prepared }))
}

/// The last second that a `TIMESTAMP` has: MariaDB 11.5 made the number unsigned.
fn last_second(version: &str) -> i64 {
    let mut numbers =
        version.split(|char: char| !char.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let longer = version.contains("MariaDB") && (major, minor) >= (11, 5);
    if longer { u32::MAX.into() } else { i32::MAX.into() }
}

/// Whether a `CREATE TABLE` has the keyword.
fn autoincrements(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word.eq_ignore_ascii_case("autoincrement"))
}

async fn on_sqlite(pool: &Pool, table: &Table) -> Result<Option<Live>, SinkError> {
    let schema = table.schema.as_deref().unwrap_or("main");
    let name = || vec![Value::from(&*table.name), Value::from(schema)];
    let query = "SELECT strict AS s FROM pragma_table_list(?) WHERE schema = ? COLLATE NOCASE";
    let strict = ask(pool, query, name(), |row| row.try_get_by::<i64, _>("s")).await?;
    let is_strict = strict.first().is_some_and(|strict| *strict != 0);
    let query = "SELECT name AS c, type AS t, \"notnull\" AS n, dflt_value IS NOT NULL AS f, pk AS k, hidden AS h \
                 FROM pragma_table_xinfo(?, ?)";
    let columns = ask(pool, query, name(), |row| {
        let (number, key) = (|name: &str| row.try_get_by::<i64, _>(name), row.try_get_by::<i64, _>("k")?);
        let kind = text(row, "t")?.to_lowercase();
        let column = LiveColumn {
            name: text(row, "c")?,
            nullable: number("n")? == 0,
            // A key of one integer is the row's own number, which the database finds when none is given.
            fills: number("f")? != 0 || (key > 0 && kind == "integer"),
            limit: Limit::on_sqlite(&kind, is_strict),
            kind: if is_strict { format!("{STRICT}{kind}") } else { kind },
            // 1 is a hidden column of a virtual table.
            generated: number("h")? > 1,
            numbers: false,
            makes: false,
        };
        Ok((column, key > 0))
    });
    let mut columns = columns.await?;
    if columns.is_empty() {
        return Ok(None);
    }
    // The keyword can stand at the one key column only. A key of one integer without it is the row's number, and as often
    // as not it is the application that gives it.
    let query = "SELECT sql AS s FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE";
    let made = ask(pool, query, vec![Value::from(&*table.name)], |row| row.try_get_by::<Option<String>, _>("s"));
    let makes = made.await?.into_iter().flatten().any(|text| autoincrements(&text));
    for (column, key) in &mut columns {
        column.makes = makes && *key;
    }
    let query = "SELECT l.name AS i, x.name AS c FROM pragma_index_list(?, ?) l, pragma_index_info(l.name) x \
                 WHERE l.\"unique\" = 1 AND l.partial = 0 AND x.name IS NOT NULL";
    let mut unique = grouped(ask(pool, query, name(), pair).await?);
    // A key of one integer has no index.
    for (column, _) in columns.iter().filter(|(_, key)| *key) {
        unique.entry(String::new()).or_default().insert(column.name.clone());
    }
    Ok(Some(Live { columns: columns.into_iter().map(|(column, _)| column).collect(), unique, prepared: false }))
}
