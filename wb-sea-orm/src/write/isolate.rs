//! Finding the rows that the database refuses, so that all others land in the same transaction.

use sea_orm::DbBackend;
use wb_core::{Batch, ErrorKind, Id, SinkError};

use crate::connection::tx::{Pool, Tx};
use crate::mapping::entity::SqlEntity;
use crate::statement::plan::{Plan, Row};
use crate::write::missing_parents::Link;
use crate::write::nowhere;
use crate::write::rows::{Part, Rows};
use crate::write::unique::is_taken;
use crate::write::{begin, refuses};
use crate::write::{passes, stale};

/// Sets the savepoint to which a refused statement is rolled back, in place of the last one.
pub(crate) const MARK: &str = "RELEASE SAVEPOINT wb_rows; SAVEPOINT wb_rows";
pub(crate) const UNDO: &str = "ROLLBACK TO SAVEPOINT wb_rows";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Upsert,
    Delete,
}

/// What became of the rows.
pub(crate) struct Isolated {
    /// Those that the database refuses, each with its own error.
    pub(crate) refused: Vec<(Id, SinkError)>,
    /// Those that were left out, because the database has newer ones.
    pub(crate) stale: Vec<Id>,
}

/// Writes all rows but those that the database refuses; none, when the batch is to be written whole and one is refused or
/// stale.
///
/// Rows are tried together and halved when they are refused: a few bad ones among n cost about log2(n) statements
/// each, and a batch that is bad altogether less than 2n. `found` is what was wrong with all of them together: rows whose
/// parents are missing, or whose unique value another row has, are looked for in other ways, because they may be many. In
/// which order, and how often, is the matter of [`passes`].
pub(crate) async fn isolate<E: SqlEntity>(
    pool: &Pool,
    plan: &Plan,
    batch: &Batch<E>,
    mut rows: Rows<'_>,
    found: &SinkError,
    statements: &mut u64,
) -> Result<Isolated, SinkError> {
    // Constraints that wait for the commit would refuse the batch as a whole.
    let first = if pool.backend() == DbBackend::Postgres { "SET CONSTRAINTS ALL IMMEDIATE; " } else { "" };
    let mut tx = begin(pool, batch, first).await?;
    let mut search = Search { tx: &mut tx, plan, entity: E::NAME, statements, waits: false, promising: false };
    let mut refused = std::mem::take(&mut rows.rejected);
    let unsent = refused.len();
    let found = async {
        search.tx.run("savepoint", "SAVEPOINT wb_rows".to_owned()).await?;
        let sent = rows.upserts.rows.len() as u64;
        refused.extend(passes::write::<E>(&mut search, &rows, found).await?);
        // What was counted in all those tries says nothing.
        if !stale::suspects(plan, sent, 0) {
            return Ok(Vec::new());
        }
        stale::find(search.tx, plan, batch, &refused, search.statements).await
    };
    match found.await {
        Ok(stale) if batch.whole && !(refused.is_empty() && stale.is_empty()) => {
            tx.rollback().await;
            Ok(Isolated { refused, stale })
        }
        Ok(stale) => {
            tx.commit().await?;
            // What was not sent at all is known to the caller.
            refused.drain(..unsent);
            Ok(Isolated { refused, stale })
        }
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}

pub(crate) struct Search<'a> {
    pub(crate) tx: &'a mut Tx,
    pub(crate) plan: &'a Plan,
    pub(crate) entity: &'static str,
    pub(crate) statements: &'a mut u64,
    /// A row of this pass may wait for another one.
    pub(crate) waits: bool,
    /// Something landed after such a row: it may have waited for that.
    pub(crate) promising: bool,
}

/// Whether a row that is refused so may pass once other rows are written.
pub(crate) fn waits(error: &SinkError) -> bool {
    error.kind() == ErrorKind::Deferred || is_taken(error)
}

impl Search<'_> {
    /// The error of a row without these parents.
    pub(crate) fn orphan(&self, part: &Part<'_>, index: usize, links: &[usize]) -> Option<(Id, SinkError)> {
        let id = *part.ids.get(index)?;
        let missing: Vec<String> =
            links.iter().filter_map(|&link| self.plan.links.get(link)).map(Link::missing).collect();
        let text = format!("upsert of record `{id}` of entity `{}`: {}", self.entity, missing.join("; "));
        Some((id.clone(), SinkError::new(ErrorKind::Deferred, text)))
    }

    /// Tries these rows once, in this order, together where they pass together; returns those that are refused.
    pub(crate) async fn pass(
        &mut self,
        verb: Verb,
        part: &Part<'_>,
        todo: &[usize],
    ) -> Result<Vec<(usize, SinkError)>, SinkError> {
        let mut failed = Vec::new();
        let mut stack = vec![todo];
        while let Some(some) = stack.pop() {
            if some.is_empty() {
                continue;
            }
            let Err(error) = self.attempt(verb, part, some).await else {
                self.tx.run("savepoint", MARK.to_owned()).await?;
                self.promising |= self.waits;
                continue;
            };
            if !refuses(&error) {
                return Err(error);
            }
            self.tx.run("savepoint", UNDO.to_owned()).await?;
            if let [index] = some {
                if matches!(verb, Verb::Delete)
                    && let Some(key) = part.rows.get(*index)
                    && nowhere::is(self.tx, self.plan, key, &error).await?
                {
                    continue;
                }
                self.waits |= waits(&error);
                failed.push((*index, error));
            } else {
                // Powers of two, because the statements of MySQL and SQLite have such sizes.
                let (first, second) = some.split_at(some.len().next_power_of_two() / 2);
                stack.extend([second, first]);
            }
        }
        Ok(failed)
    }

    pub(crate) async fn attempt(&mut self, verb: Verb, part: &Part<'_>, some: &[usize]) -> Result<(), SinkError> {
        let rows: Vec<Row> = some.iter().filter_map(|&index| part.rows.get(index).cloned()).collect();
        let mut rows = rows.into_iter();
        let verbs = if matches!(verb, Verb::Upsert) { "upsert" } else { "delete" };
        let what = match some {
            [index] => {
                let id = part.ids.get(*index).map_or_else(String::new, |id| format!(" `{id}`"));
                format!("{verbs} of record{id} of entity `{}` in table `{}`", self.entity, self.plan.table.name)
            }
            _ => format!("{verbs} of entity `{}` in table `{}`", self.entity, self.plan.table.name),
        };
        let next = |rows: &mut std::vec::IntoIter<Row>| match verb {
            Verb::Upsert => self.plan.upsert(rows),
            Verb::Delete => self.plan.delete(rows),
        };
        while let Some(statement) = next(&mut rows) {
            *self.statements += 1;
            self.tx.execute(&what, statement?).await?;
        }
        Ok(())
    }
}
