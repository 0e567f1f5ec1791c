//! Finding the rows that the database refuses, so that all others land in the same transaction.

use std::collections::HashSet;

use sea_orm::DbBackend;
use wb_core::{Batch, ErrorKind, Id, SinkError};

use crate::entity::SqlEntity;
use crate::orphans::{self, Link, Orphans};
use crate::plan::{Plan, Row};
use crate::rows::{Part, Rows};
use crate::stale;
use crate::tx::{Pool, Tx};
use crate::write::{begin, refuses};

/// How often rows that wait for others are tried again, while others land: the depth of a tree whose rows refer to
/// each other in one batch. What is left comes back with a later batch.
const PASSES: usize = 4;

/// Sets the savepoint to which a refused statement is rolled back, in place of the last one.
const MARK: &str = "RELEASE SAVEPOINT wb_rows; SAVEPOINT wb_rows";
const UNDO: &str = "ROLLBACK TO SAVEPOINT wb_rows";

#[derive(Clone, Copy)]
enum Verb {
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
/// parents are missing are looked for in another way where it is known what they refer to, because they may be many.
pub(crate) async fn isolate<E: SqlEntity>(
    pool: &Pool,
    plan: &Plan,
    batch: &Batch<E>,
    rows: Rows<'_>,
    found: ErrorKind,
    statements: &mut u64,
) -> Result<Isolated, SinkError> {
    // Constraints that wait for the commit would refuse the batch as a whole.
    let first = if pool.backend() == DbBackend::Postgres { "SET CONSTRAINTS ALL IMMEDIATE; " } else { "" };
    let mut tx = begin(pool, batch, first).await?;
    let mut search = Search { tx: &mut tx, plan, entity: E::NAME, statements };
    let mut refused = rows.rejected;
    let unsent = refused.len();
    let found = async {
        search.tx.run("savepoint", "SAVEPOINT wb_rows".to_owned()).await?;
        let sent = rows.upserts.rows.len() as u64;
        refused.extend(search.upserts(&rows.upserts, found).await?);
        let deletes = (0..rows.deletes.rows.len()).collect();
        refused.extend(search.through(Verb::Delete, &rows.deletes, deletes).await?);
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

struct Search<'a> {
    tx: &'a mut Tx,
    plan: &'a Plan,
    entity: &'static str,
    statements: &'a mut u64,
}

impl Search<'_> {
    /// Writes what can be written, orphans apart; returns the rest.
    async fn upserts(&mut self, part: &Part<'_>, found: ErrorKind) -> Result<Vec<(Id, SinkError)>, SinkError> {
        let orphans = if found == ErrorKind::Deferred {
            orphans::find(self.tx, self.plan.backend, &self.plan.links, &part.rows, self.statements).await?
        } else {
            Orphans::new()
        };
        let apart: HashSet<usize> = orphans.values().flatten().copied().collect();
        let todo = (0..part.rows.len()).filter(|index| !apart.contains(index)).collect();
        let mut refused = self.through(Verb::Upsert, part, todo).await?;
        for (links, rows) in orphans {
            // The database decides: perhaps it does not ask for these parents at all.
            match self.attempt(Verb::Upsert, part, &rows).await {
                Ok(()) => drop(self.tx.run("savepoint", MARK.to_owned()).await?),
                Err(error) if !refuses(&error) => return Err(error),
                Err(error) => {
                    self.tx.run("savepoint", UNDO.to_owned()).await?;
                    if error.kind() == ErrorKind::Deferred {
                        refused.extend(rows.iter().filter_map(|&index| self.orphan(part, index, &links)));
                    } else {
                        refused.extend(self.through(Verb::Upsert, part, rows).await?);
                    }
                }
            }
        }
        Ok(refused)
    }

    /// The error of a row without these parents.
    fn orphan(&self, part: &Part<'_>, index: usize, links: &[usize]) -> Option<(Id, SinkError)> {
        let id = *part.ids.get(index)?;
        let missing: Vec<String> =
            links.iter().filter_map(|&link| self.plan.links.get(link)).map(Link::missing).collect();
        let text = format!("upsert of record `{id}` of entity `{}`: {}", self.entity, missing.join("; "));
        Some((id.clone(), SinkError::new(ErrorKind::Deferred, text)))
    }

    /// Writes what can be written of these rows; returns the rest.
    async fn through(
        &mut self,
        verb: Verb,
        part: &Part<'_>,
        mut todo: Vec<usize>,
    ) -> Result<Vec<(Id, SinkError)>, SinkError> {
        let mut refused = Vec::new();
        for pass in 1..=PASSES {
            let Passed { failed, promising } = self.pass(verb, part, &todo).await?;
            todo.clear();
            for (index, error) in failed {
                if promising && pass < PASSES && error.kind() == ErrorKind::Deferred {
                    todo.push(index);
                } else if let Some(id) = part.ids.get(index) {
                    refused.push(((*id).clone(), error));
                }
            }
            if todo.is_empty() {
                break;
            }
        }
        Ok(refused)
    }

    /// Tries these rows once, together where they pass together.
    async fn pass(&mut self, verb: Verb, part: &Part<'_>, todo: &[usize]) -> Result<Passed, SinkError> {
        let mut passed = Passed { failed: Vec::new(), promising: false };
        let mut waits = false;
        let mut stack = vec![todo];
        while let Some(some) = stack.pop() {
            let Err(error) = self.attempt(verb, part, some).await else {
                self.tx.run("savepoint", MARK.to_owned()).await?;
                passed.promising |= waits && !some.is_empty();
                continue;
            };
            if !refuses(&error) {
                return Err(error);
            }
            self.tx.run("savepoint", UNDO.to_owned()).await?;
            if let [index] = some {
                waits |= error.kind() == ErrorKind::Deferred;
                passed.failed.push((*index, error));
            } else {
                // Powers of two, because the statements of MySQL and SQLite have such sizes.
                let (first, second) = some.split_at(some.len().next_power_of_two() / 2);
                stack.extend([second, first]);
            }
        }
        Ok(passed)
    }

    async fn attempt(&mut self, verb: Verb, part: &Part<'_>, some: &[usize]) -> Result<(), SinkError> {
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

/// What became of one pass.
struct Passed {
    /// The rows that were refused, each by itself.
    failed: Vec<(usize, SinkError)>,
    /// Something landed after a row that waits for others: it may have waited for that.
    promising: bool,
}
