//! In which order the rows of a refused batch are tried, and how often: rows wait for each other, for their parents and for
//! unique values that others have yet.

use std::collections::HashSet;

use sea_orm::DbBackend;
use wb_core::moves::{Member, Order};
use wb_core::{ErrorKind, Id, SinkError};

use crate::mapping::entity::SqlEntity;
use crate::write::isolate::{MARK, Search, UNDO, Verb, waits};
use crate::write::missing_parents;
use crate::write::missing_parents::Orphans;
use crate::write::refuses;
use crate::write::rows::{Part, Rows};
use crate::write::unique;
use crate::write::unique::{Known, is_taken};

/// How often rows that wait for others are tried again, while others land: the depth of a tree whose rows refer to each other
/// in one batch, where every second pass goes the other way round. Unique values need one pass, because it is asked which row has
/// which; more where an index is on an expression or compares in its own way. What is left comes back with a later batch.
const PASSES: usize = 8;

/// A refused row.
type Refused = (Member, SinkError);

/// Writes what can be written; returns the rest, what is wrong in itself first.
pub(crate) async fn write<E: SqlEntity>(
    search: &mut Search<'_>,
    rows: &Rows<'_>,
    found: &SinkError,
) -> Result<Vec<(Id, SinkError)>, SinkError> {
    let mut passes = Passes { search, rows, known: None, refused: Vec::new() };
    let orphans = passes.orphans(found.kind()).await?;
    let apart: HashSet<usize> = orphans.values().flatten().copied().collect();
    let mut order = Order::plain(rows.upserts.rows.len(), rows.deletes.rows.len());
    let mut asked = is_taken(found);
    if asked {
        order = passes.ask::<E>().await?.unwrap_or(order);
    }
    order.keep(|index| !apart.contains(&index), |_| true);
    let mut waiting = passes.ordered(order, orphans).await?;
    for pass in 2..=PASSES {
        let taken = waiting.iter().any(|(_, error)| is_taken(error));
        if waiting.is_empty() || !passes.search.promising && (asked || !taken) {
            break;
        }
        waiting = if taken && !asked {
            asked = true;
            passes.again_asked::<E>(waiting).await?
        } else {
            passes.again(waiting, pass % 2 == 0).await?
        };
    }
    if waiting.len() > 1 && passes.together_at_last(&waiting).await? {
        waiting.clear();
    }
    let Passes { known, refused, .. } = &mut passes;
    refused.append(&mut waiting);
    if known.is_some() && refused.iter().any(|(_, error)| is_taken(error)) {
        // Others have landed since it was asked.
        passes.ask::<E>().await?;
    }
    let Passes { search, known, mut refused, .. } = passes;
    if let Some(known) = &known {
        unique::explain(search.plan, E::NAME, known, rows, &mut refused);
    }
    refused.sort_by_key(|(_, error)| is_taken(error));
    let named = refused.into_iter().filter_map(|(member, error)| {
        let id = match member {
            Member::Upsert(index) => rows.upserts.ids.get(index),
            Member::Delete(index) => rows.deletes.ids.get(index),
        };
        Some(((*id?).clone(), error))
    });
    Ok(named.collect())
}

struct Passes<'s, 't, 'r> {
    search: &'s mut Search<'t>,
    rows: &'r Rows<'r>,
    /// Which rows have which unique values, when it was asked.
    known: Option<Known>,
    /// What waits for nothing.
    refused: Vec<Refused>,
}

const fn member(verb: Verb, index: usize) -> Member {
    match verb {
        Verb::Upsert => Member::Upsert(index),
        Verb::Delete => Member::Delete(index),
    }
}

impl<'r> Passes<'_, '_, 'r> {
    const fn part(&self, verb: Verb) -> &'r Part<'r> {
        match verb {
            Verb::Upsert => &self.rows.upserts,
            Verb::Delete => &self.rows.deletes,
        }
    }

    async fn orphans(&mut self, found: ErrorKind) -> Result<Orphans, SinkError> {
        if found != ErrorKind::Deferred {
            return Ok(Orphans::new());
        }
        let Search { tx, plan, statements, .. } = &mut *self.search;
        missing_parents::find(tx, plan.backend, &plan.links, &self.rows.upserts.rows, statements).await
    }

    /// Asks which rows have which unique values, and finds an order in which they are free. `None` when it cannot be asked,
    /// because a column cannot be read, say: then it is found out by trying.
    async fn ask<E: SqlEntity>(&mut self) -> Result<Option<Order>, SinkError> {
        let Search { tx, plan, statements, .. } = &mut *self.search;
        match unique::ask::<E>(tx, plan, self.rows, statements).await {
            Ok(known) => {
                let order = known.moves.order();
                self.known = Some(known);
                Ok(Some(order))
            }
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Transient) => Err(error),
            Err(error) => {
                tracing::debug!(entity = E::NAME, error = %error.chain(), "unique values are not known");
                tx.run("savepoint", UNDO.to_owned()).await?;
                Ok(None)
            }
        }
    }

    /// Tries everything once, in this order, and the orphans after all other upserts; returns what waits.
    async fn ordered(&mut self, order: Order, orphans: Orphans) -> Result<Vec<Refused>, SinkError> {
        let Order { before, freeing, after, circles, deletes } = order;
        let mut waiting = Vec::new();
        self.try_each(Verb::Upsert, &before, &mut waiting).await?;
        self.try_each(Verb::Delete, &freeing, &mut waiting).await?;
        self.try_each(Verb::Upsert, &after, &mut waiting).await?;
        for circle in circles {
            if !self.together(&circle, &[]).await? {
                self.try_each(Verb::Upsert, &circle, &mut waiting).await?;
            }
        }
        for (links, rows) in orphans {
            // The database decides: perhaps it does not ask for these parents at all.
            match self.search.attempt(Verb::Upsert, &self.rows.upserts, &rows).await {
                Ok(()) => drop(self.search.tx.run("savepoint", MARK.to_owned()).await?),
                Err(error) if !refuses(&error) => return Err(error),
                Err(error) => {
                    self.search.tx.run("savepoint", UNDO.to_owned()).await?;
                    if error.kind() == ErrorKind::Deferred {
                        for index in rows {
                            let orphan = self.search.orphan(&self.rows.upserts, index, &links);
                            self.refused.extend(orphan.map(|(_, error)| (Member::Upsert(index), error)));
                        }
                    } else {
                        self.try_each(Verb::Upsert, &rows, &mut waiting).await?;
                    }
                }
            }
        }
        self.try_each(Verb::Delete, &deletes, &mut waiting).await?;
        Ok(waiting)
    }

    async fn try_each(&mut self, verb: Verb, todo: &[usize], waiting: &mut Vec<Refused>) -> Result<(), SinkError> {
        let part = self.part(verb);
        for (index, error) in self.search.pass(verb, part, todo).await? {
            if waits(&error) { &mut *waiting } else { &mut self.refused }.push((member(verb, index), error));
        }
        Ok(())
    }

    /// Tries what waits once more, in its order or the other way round.
    async fn again(&mut self, waiting: Vec<Refused>, reversed: bool) -> Result<Vec<Refused>, SinkError> {
        let mut order = Order::default();
        for (member, _) in waiting {
            match member {
                Member::Upsert(index) => order.before.push(index),
                Member::Delete(index) => order.deletes.push(index),
            }
        }
        for todo in [&mut order.before, &mut order.deletes] {
            todo.sort_unstable();
            if reversed {
                todo.reverse();
            }
        }
        self.start_pass();
        self.ordered(order, Orphans::new()).await
    }

    /// Tries what waits once more, in an order in which unique values are free.
    async fn again_asked<E: SqlEntity>(&mut self, waiting: Vec<Refused>) -> Result<Vec<Refused>, SinkError> {
        let Some(mut order) = self.ask::<E>().await? else { return self.again(waiting, true).await };
        let left: HashSet<Member> = waiting.into_iter().map(|(member, _)| member).collect();
        order.keep(|upsert| left.contains(&Member::Upsert(upsert)), |delete| left.contains(&Member::Delete(delete)));
        self.start_pass();
        self.ordered(order, Orphans::new()).await
    }

    fn start_pass(&mut self) {
        (self.search.waits, self.search.promising) = (false, false);
    }

    /// Rows of which each waits for another one pass together where the constraint is checked after all of them.
    async fn together_at_last(&mut self, waiting: &[Refused]) -> Result<bool, SinkError> {
        let (mut upserts, mut deletes) = (Vec::new(), Vec::new());
        for (member, _) in waiting {
            match member {
                Member::Upsert(index) => upserts.push(*index),
                Member::Delete(index) => deletes.push(*index),
            }
        }
        self.together(&upserts, &deletes).await
    }

    /// Writes all of these, or none: with the constraints that can be checked afterwards. PostgreSQL alone has such ones.
    async fn together(&mut self, upserts: &[usize], deletes: &[usize]) -> Result<bool, SinkError> {
        if self.search.plan.backend != DbBackend::Postgres {
            return Ok(false);
        }
        let rows = self.rows;
        let Search { tx, .. } = &mut *self.search;
        tx.run("defer constraints", "SET CONSTRAINTS ALL DEFERRED".to_owned()).await?;
        let mut done = self.search.attempt(Verb::Upsert, &rows.upserts, upserts).await;
        if done.is_ok() {
            done = self.search.attempt(Verb::Delete, &rows.deletes, deletes).await;
        }
        let Search { tx, waits, promising, .. } = &mut *self.search;
        if done.is_ok() {
            let checked = tx.run("check constraints", format!("SET CONSTRAINTS ALL IMMEDIATE; {MARK}")).await;
            done = checked.map(drop);
        }
        match done {
            Ok(()) => {
                *promising |= *waits;
                Ok(true)
            }
            Err(error) if !refuses(&error) => Err(error),
            Err(_) => {
                tx.run("savepoint", format!("{UNDO}; SET CONSTRAINTS ALL IMMEDIATE")).await?;
                Ok(false)
            }
        }
    }
}
