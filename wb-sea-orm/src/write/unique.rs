//! Unique values that move between the rows of a batch: which refusals they cause, which row has which, and what is said of a
//! row that cannot have its value.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::sync::Arc;

use sea_orm::{DbBackend, Value};
use wb_core::moves::{Blocked, Member, Moves, Unique, circle_reason, holder_reason};
use wb_core::{ErrorKind, Id, Report, SinkError};

use crate::connection::error::from_sea_orm;
use crate::connection::tx::Tx;
use crate::examine::table_facts::fold;
use crate::mapping::entity::{SqlEntity, Table};
use crate::statement::bind::{Args, Statement};
use crate::statement::dialect::postgres;
use crate::statement::plan::{Plan, Row};
use crate::write::rows;
use crate::write::rows::Rows;

/// Whether the database says that another row has a unique value: it may be free once that row is written or deleted.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) fn is_taken(error: &SinkError) -> bool {
    use sea_orm::sqlx;

    let mut source = error.source();
    while let Some(error) = source
        && !error.is::<sqlx::Error>()
    {
        source = error.source();
    }
    let Some(sqlx::Error::Database(error)) = source.and_then(|source| source.downcast_ref()) else { return false };
    #[cfg(feature = "postgres")]
    if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        // Unique, exclusion.
        return matches!(error.code(), "23505" | "23P01");
    }
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        // Duplicates, and what an upsert makes of the row that it met when that is another record's.
        return matches!(error.number(), 1022 | 1062 | 1169 | 1242 | 1586 | 1859);
    }
    #[cfg(feature = "sqlite")]
    if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        // Primary key, unique, row number.
        return error.code().is_some_and(|code| matches!(&*code, "1555" | "2067" | "2579"));
    }
    false
}

#[cfg(not(any(feature = "postgres", feature = "mysql", feature = "sqlite")))]
pub(crate) fn is_taken(error: &SinkError) -> bool {
    let _ = error.source();
    false
}

/// Marks what was refused for a unique value, so that it is tried once more after the other batches of the flush.
pub(crate) fn marked(written: Result<Report, SinkError>) -> Result<Report, SinkError> {
    let mark = |error: SinkError| if is_taken(&error) { error.taken() } else { error };
    written.map_err(mark).map(|mut report| {
        report.rejected = report.rejected.into_iter().map(|(id, error)| (id, mark(error))).collect();
        report
    })
}

/// The mapped columns of each unique constraint but the key's, by their places in the mapping.
///
/// Partial indexes count, and of an index on an expression the columns that it reads: this is about order, not about what
/// is refused.
async fn constraints(tx: &mut Tx, plan: &Plan, statements: &mut u64) -> Result<Vec<Vec<usize>>, SinkError> {
    let Plan { backend, table, .. } = plan;
    let (text, values) = match backend {
        DbBackend::Postgres => (
            "SELECT i.indexrelid::regclass::text AS i, a.attname::text AS c FROM pg_index i \
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND (a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1]) \
             OR (i.indexprs IS NOT NULL AND EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass \
             AND d.objid = i.indexrelid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid \
             AND d.refobjsubid = a.attnum))) \
             WHERE i.indrelid = to_regclass($1) AND a.attnum > 0 AND (i.indisunique OR i.indisexclusion)",
            vec![Value::from(postgres::table(table))],
        ),
        DbBackend::MySql => (
            "SELECT CAST(index_name AS CHAR) AS i, CAST(column_name AS CHAR) AS c FROM information_schema.statistics \
             WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND non_unique = 0 \
             AND column_name IS NOT NULL",
            vec![Value::from(table.schema.as_deref()), Value::from(&*table.name)],
        ),
        _ => (
            "SELECT l.name AS i, x.name AS c FROM pragma_index_list(?, ?) l, pragma_index_info(l.name, ?) x \
             WHERE l.\"unique\" = 1 AND x.name IS NOT NULL",
            {
                let schema = Value::from(table.schema.as_deref().unwrap_or("main"));
                vec![Value::from(&*table.name), schema.clone(), schema]
            },
        ),
    };
    let what = format!("look for the unique columns of table `{}`", table.name);
    *statements += 1;
    let found = tx.fetch(&what, Statement { text: Arc::from(text), args: Args::Values(values) }).await?;
    let mut columns: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for row in found {
        let unread = |error| from_sea_orm(what.clone(), error);
        let (index, column): (String, String) =
            (row.try_get_by("i").map_err(unread)?, row.try_get_by("c").map_err(unread)?);
        columns.entry(index).or_default().extend(place(*backend, table, &column));
    }
    let is_key = |place: &usize| table.columns.get(*place).is_some_and(|column| column.key);
    Ok(columns.into_values().filter(|places| !places.iter().all(is_key)).collect())
}

fn place(backend: DbBackend, table: &Table, column: &str) -> Option<usize> {
    table.columns.iter().position(|mapped| fold(backend, &mapped.name) == fold(backend, column))
}

/// What is known of the unique values of a batch.
pub(crate) struct Known {
    constraints: Vec<Vec<usize>>,
    pub(crate) moves: Moves,
}

/// Asks which rows have which unique values now.
pub(crate) async fn ask<E: SqlEntity>(
    tx: &mut Tx,
    plan: &Plan,
    rows: &Rows<'_>,
    statements: &mut u64,
) -> Result<Known, SinkError> {
    let constraints = constraints(tx, plan, statements).await?;
    let mut moves = Moves::default();
    let now = if constraints.is_empty() { HashMap::new() } else { current::<E>(tx, plan, rows, statements).await? };
    let values = |row: &Row| -> Vec<Unique> {
        let values = constraints.iter().enumerate().filter_map(|(number, places)| Some((number, text(row, places)?)));
        values.collect()
    };
    for (id, row) in rows.upserts.ids.iter().zip(&rows.upserts.rows) {
        let Some(before) = now.get(*id) else {
            moves.upsert(Vec::new(), values(row));
            continue;
        };
        let mut after = row.clone();
        for ((column, value), before) in plan.table.columns.iter().zip(&mut after.values).zip(&before.values) {
            if column.insert_only {
                value.clone_from(before);
            }
        }
        moves.upsert(values(before), values(&after));
    }
    for id in &rows.deletes.ids {
        moves.delete(now.get(*id).map(values).unwrap_or_default());
    }
    Ok(Known { constraints, moves })
}

/// These values as one text; `None` when one of them is NULL, which is equal to nothing. Collations differ: what differs by its
/// case alone is taken for equal.
fn text(row: &Row, places: &[usize]) -> Option<String> {
    let mut text = String::new();
    for &place in places {
        let value = row.values.get(place)?;
        if *value == value.as_null() {
            return None;
        }
        text.push_str(&format!("{value:?}").to_lowercase());
        text.push('\n');
    }
    (!text.is_empty()).then_some(text)
}

/// The rows of the batch's records as they are now, by id. One that is no value of the entity is left out.
async fn current<E: SqlEntity>(
    tx: &mut Tx,
    plan: &Plan,
    rows: &Rows<'_>,
    statements: &mut u64,
) -> Result<HashMap<Id, Row>, SinkError> {
    let keys = rows.upserts.rows.iter().map(|row| {
        let values = plan.table.columns.iter().zip(&row.values).filter(|(column, _)| column.key);
        Row { values: values.map(|(_, value)| value.clone()).collect(), bytes: row.bytes }
    });
    let keys: Vec<Row> = keys.chain(rows.deletes.rows.iter().cloned()).collect();
    let mut keys = keys.into_iter();
    let what = format!("look at the rows of entity `{}` in table `{}`", E::NAME, plan.table.name);
    let mut current = HashMap::new();
    while let Some(statement) = plan.select(&mut keys) {
        *statements += 1;
        for row in tx.fetch(&what, statement?).await? {
            if let Ok(value) = E::from_row(&row)
                && let Ok(id) = Id::of(&value.key())
                && let Some(row) = rows::values(plan, &value)?
            {
                current.insert(id, row);
            }
        }
    }
    Ok(current)
}

/// Says of the rows whose unique value somebody else has who that is, where it is a record of the batch. What waits for a
/// record that is deferred is deferred with it.
pub(crate) fn explain(plan: &Plan, entity: &str, known: &Known, rows: &Rows<'_>, refused: &mut [(Member, SinkError)]) {
    let taken = refused.iter().enumerate().filter(|(_, (_, error))| is_taken(error));
    let (places, upserts): (Vec<usize>, Vec<usize>) = taken
        .filter_map(|(place, (member, _))| match member {
            Member::Upsert(index) => Some((place, *index)),
            Member::Delete(_) => None,
        })
        .unzip();
    let blocked = known.moves.blocked(&upserts);
    let kinds: HashMap<Member, ErrorKind> = refused.iter().map(|(member, error)| (*member, error.kind())).collect();
    let by: HashMap<Member, Member> = upserts
        .iter()
        .zip(&blocked)
        .filter_map(|(&upsert, blocked)| Some((Member::Upsert(upsert), blocked.as_ref()?.holder)))
        .collect();
    for ((place, upsert), blocked) in places.into_iter().zip(upserts).zip(blocked) {
        let (Some(blocked), Some((_, error)), Some(id)) =
            (blocked, refused.get_mut(place), rows.upserts.ids.get(upsert))
        else {
            continue;
        };
        let kind = last(&by, &kinds, blocked.holder).unwrap_or(ErrorKind::Rejected);
        let text = format!("record `{id}` of entity `{entity}` {}", reason(plan, known, rows, &blocked, &kinds));
        let source = std::mem::replace(error, SinkError::new(kind, String::new()));
        *error = SinkError::new(kind, text).with_source(source);
    }
}

/// What became of the last record in a line of those that wait for each other.
fn last(by: &HashMap<Member, Member>, kinds: &HashMap<Member, ErrorKind>, first: Member) -> Option<ErrorKind> {
    let (mut at, mut seen) = (first, HashSet::new());
    while let Some(&next) = by.get(&at)
        && seen.insert(at)
    {
        at = next;
    }
    kinds.get(&at).copied()
}

fn reason(
    plan: &Plan,
    known: &Known,
    rows: &Rows<'_>,
    blocked: &Blocked,
    kinds: &HashMap<Member, ErrorKind>,
) -> String {
    let places = known.constraints.get(blocked.constraint).map(Vec::as_slice).unwrap_or_default();
    let columns: Vec<String> =
        places.iter().filter_map(|&place| Some(format!("`{}`", plan.table.columns.get(place)?.name))).collect();
    let columns = columns.join(", ");
    let name = |member: Member| {
        let id = match member {
            Member::Upsert(index) => rows.upserts.ids.get(index),
            Member::Delete(index) => rows.deletes.ids.get(index),
        };
        id.map_or_else(String::new, |id| format!("`{id}`"))
    };
    if blocked.circle.is_empty() {
        return holder_reason(&columns, &name(blocked.holder), kinds.contains_key(&blocked.holder));
    }
    let circle = blocked.circle.iter().map(|&upsert| name(Member::Upsert(upsert)));
    circle_reason(&columns, circle, plan.backend == DbBackend::Postgres)
}
