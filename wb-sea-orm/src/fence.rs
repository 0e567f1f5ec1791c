//! Fences: what makes a stale owner of a partition harmless. The database issues a generation for each owner; a batch
//! names those of its partitions, and its transaction checks and locks them before it writes anything.

use std::collections::BTreeMap;

use sea_orm::{DbBackend, QueryResult};
use wb_core::{ErrorKind, Fence, Scope, SinkError};

use crate::connection::error::from_sea_orm;
use crate::connection::session::literal;
use crate::connection::tx::Pool;
use crate::examine::live_table;
use crate::mapping::entity::Table;
use crate::statement::dialect::list;

/// How often a fence is tried at once when transactions meet.
const TRIES: usize = 3;

/// The statement that creates the table of fences, for migrations. [`prepare`](wb_core::Sink::prepare) runs it too, unless
/// the table is there.
///
/// The table has one row for each partition that ever had an owner. Nothing may be deleted from it while a worker
/// runs.
#[must_use]
pub fn fence_table_sql(backend: DbBackend) -> String {
    let (text, key, end) = match backend {
        DbBackend::Postgres => ("text", "partition", ""),
        // Other engines of MySQL have neither transactions nor row locks.
        DbBackend::MySql => {
            ("varchar(191)", "`partition`", " ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        }
        _ => ("text", "partition", ""),
    };
    format!(
        "CREATE TABLE IF NOT EXISTS wb_fence (namespace {text} NOT NULL, entity {text} NOT NULL, \
         {key} integer NOT NULL, generation bigint NOT NULL, PRIMARY KEY (namespace, entity, {key})){end}"
    )
}

/// The name of the column, which is a word of MySQL.
const fn partition(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::MySql => "`partition`",
        _ => "partition",
    }
}

/// Makes sure that the table of fences is there.
pub(crate) async fn prepare(pool: &Pool) -> Result<(), SinkError> {
    let create = fence_table_sql(pool.backend());
    let Err(absent) = look(pool).await else { return Ok(()) };
    if absent.kind() != ErrorKind::Misconfigured {
        return Err(absent);
    }
    let made = pool.run("creating the table of fences", create.clone()).await;
    // Another engine that started at the same moment may have been faster: on PostgreSQL both try, and one fails.
    match (look(pool).await, made) {
        (Ok(()), _) => Ok(()),
        (Err(error), _) | (_, Err(error)) if error.kind() != ErrorKind::Misconfigured => Err(error),
        (Err(unseen), made) => {
            let text = format!(
                "the table of fences cannot be made or used; have `{create}` run, and grant SELECT, INSERT and UPDATE \
                 on it"
            );
            Err(SinkError::new(ErrorKind::Misconfigured, text).with_source(made.err().unwrap_or(unseen)))
        }
    }
}

/// Whether the table of fences can be read.
pub(crate) async fn look(pool: &Pool) -> Result<(), SinkError> {
    let partition = partition(pool.backend());
    let text = format!("SELECT namespace, entity, {partition}, generation FROM wb_fence WHERE 1 = 0");
    pool.run("looking at the table of fences", text).await
}

/// Whether there is such a table, for all that this user is told.
pub(crate) async fn is_there(pool: &Pool) -> Result<bool, SinkError> {
    Ok(live_table::look(pool, &Table::new(None, "wb_fence", Vec::new())).await?.is_some())
}

/// Issues the next generation of a partition. Waits for every transaction that has checked the current one.
pub(crate) async fn issue(pool: &Pool, scope: &Scope, partition: u16) -> Result<Fence, SinkError> {
    let pool = &pool.patient();
    let what = format!("fence of partition {partition} of entity `{}`", scope.entity);
    let text = issue_text(pool.backend(), scope, partition);
    let mut tries = 1;
    loop {
        match issued(pool, &what, &text).await {
            Ok(generation) => return Ok(Fence::new(partition, generation)),
            Err(error) if error.kind() == ErrorKind::Transient && tries < TRIES => tries += 1,
            // Dropped while the worker runs. A new table issues no generation twice, because of the clock.
            Err(error) if error.kind() == ErrorKind::Misconfigured && tries < TRIES => {
                prepare(pool).await?;
                tries = TRIES;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn issued(pool: &Pool, what: &str, text: &str) -> Result<u64, SinkError> {
    let (tx, rows) = pool.begin(what, text).await?;
    let generation = rows.last().map(|row| row.try_get_by::<i64, _>("generation"));
    match generation {
        Some(Ok(generation)) => {
            tx.commit().await?;
            Ok(generation.unsigned_abs())
        }
        Some(Err(error)) => Err(from_sea_orm(what, error)),
        None => Err(SinkError::new(ErrorKind::Misconfigured, format!("{what}: the table of fences takes no rows"))),
    }
}

/// One more than the last generation, and never less than the server's clock in milliseconds: also a database that was
/// restored from a backup, or a standby that missed the last commits, issues no generation twice.
fn issue_text(backend: DbBackend, scope: &Scope, number: u16) -> String {
    let (namespace, entity) = (literal(backend, &scope.namespace), literal(backend, scope.entity));
    let partition = partition(backend);
    let insert = |clock: &str| {
        format!(
            "INSERT INTO wb_fence (namespace, entity, {partition}, generation) \
             VALUES ({namespace}, {entity}, {number}, {clock})"
        )
    };
    let on_conflict = |greater: &str| {
        format!(
            "ON CONFLICT (namespace, entity, partition) DO UPDATE \
             SET generation = {greater}(wb_fence.generation + 1, excluded.generation) RETURNING generation"
        )
    };
    match backend {
        DbBackend::Postgres => {
            format!("{} {}", insert("(extract(epoch FROM clock_timestamp()) * 1000)::bigint"), on_conflict("GREATEST"))
        }
        // The row is locked by then, so what is read is what was issued.
        DbBackend::MySql => format!(
            "{} ON DUPLICATE KEY UPDATE generation = GREATEST(generation + 1, VALUES(generation)); \
             SELECT generation FROM wb_fence WHERE namespace = {namespace} AND entity = {entity} \
             AND {partition} = {number}",
            insert("CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)")
        ),
        _ => format!("{} {}", insert("CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"), on_conflict("MAX")),
    }
}

/// The query that reads the generations of these fences and holds them until the transaction ends; empty for none.
///
/// Shared locks, in the order of the partitions: the batches of one owner do not wait for each other, the next owner's
/// fence waits for them, and no two of them for one another. (`FOR KEY SHARE` would not do: the generation is no key.)
pub(crate) fn check_text(backend: DbBackend, scope: &Scope, fences: &[Fence]) -> String {
    if fences.is_empty() {
        return String::new();
    }
    let mut numbers: Vec<u16> = fences.iter().map(|fence| fence.partition).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let partition = partition(backend);
    let (index, lock) = match backend {
        DbBackend::Postgres => ("", " FOR SHARE"),
        // In words that MariaDB knows, too. Without the index a short table is read, and locked, as a whole.
        DbBackend::MySql => (" FORCE INDEX (PRIMARY)", " LOCK IN SHARE MODE"),
        // There is one writer, and this is it.
        _ => ("", ""),
    };
    format!(
        "SELECT {partition}, generation FROM wb_fence{index} WHERE namespace = {} AND entity = {} \
         AND {partition} IN ({}) ORDER BY {partition}{lock}",
        literal(backend, &scope.namespace),
        literal(backend, scope.entity),
        list(numbers, |number| number.to_string()),
    )
}

/// Compares what [`check_text`] found with what a batch carries.
pub(crate) fn check(scope: &Scope, fences: &[Fence], rows: &[QueryResult]) -> Result<(), SinkError> {
    if fences.is_empty() {
        return Ok(());
    }
    let mut newest = BTreeMap::new();
    for row in rows {
        let read = || Ok((row.try_get_by::<i32, _>("partition")?, row.try_get_by::<i64, _>("generation")?));
        let (partition, generation) = read().map_err(|error| from_sea_orm("reading the table of fences", error))?;
        newest.insert(partition, generation.unsigned_abs());
    }
    compare(scope, fences, &newest)
}

fn compare(scope: &Scope, fences: &[Fence], newest: &BTreeMap<i32, u64>) -> Result<(), SinkError> {
    for fence in fences {
        let found = newest.get(&i32::from(fence.partition));
        if found != Some(&fence.generation) {
            let newest = found.map_or_else(|| "none".to_owned(), u64::to_string);
            let text = format!(
                "partition {} of entity `{}` has another owner: generation {newest}, not {}",
                fence.partition, scope.entity, fence.generation
            );
            return Err(SinkError::new(ErrorKind::Fenced, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p3_only_the_very_generation_passes() {
        let scope = Scope::new("blog", "post", 16);
        let newest = BTreeMap::from([(1, 5), (2, 9)]);
        let kind = |fences: &[Fence]| compare(&scope, fences, &newest).err().map(|error| error.kind());
        assert_eq!(kind(&[Fence::new(1, 5), Fence::new(2, 9)]), None);
        for stale in [&[Fence::new(1, 4)][..], &[Fence::new(1, 6)], &[Fence::new(3, 5)]] {
            assert_eq!(kind(stale), Some(ErrorKind::Fenced));
        }
        assert_eq!(kind(&[Fence::new(1, 5), Fence::new(2, 8)]), Some(ErrorKind::Fenced));
        assert_eq!(kind(&[Fence::new(1, 5), Fence::new(1, 4)]), Some(ErrorKind::Fenced));
    }

    #[test]
    fn a_check_locks_the_partitions_in_order() {
        let scope = Scope::new("blog", "post", 16);
        let fences = [Fence::new(7, 1), Fence::new(2, 1), Fence::new(7, 1)];
        assert_eq!(
            check_text(DbBackend::Postgres, &scope, &fences),
            "SELECT partition, generation FROM wb_fence WHERE namespace = E'blog' AND entity = E'post' \
             AND partition IN (2, 7) ORDER BY partition FOR SHARE"
        );
        assert!(check_text(DbBackend::MySql, &scope, &fences).ends_with("ORDER BY `partition` LOCK IN SHARE MODE"));
        assert!(check_text(DbBackend::Sqlite, &scope, &[]).is_empty());
    }
}
