//! The tables of the entities as they were seen last. A table can be altered while programs run, and a plan of what it was refuses
//! values that it takes now, or sends values that it changes now. So before a plan is used whose table nobody has looked at for a
//! second, the table's definition is asked for; if it has changed, the table is looked at anew.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use wb_core::SinkError;

use crate::connection::tx::Pool;
use crate::examine::definition;
use crate::examine::definition::Definitions;
use crate::examine::table_facts::inspect;
use crate::mapping::entity::SqlEntity;
use crate::options::SqlOptions;
use crate::statement::plan::Plan;
use crate::values::kept;

/// How long a table is taken to be as it was seen. A row that is written within it into a column that was narrowed meanwhile is what it
/// would be if it had been written before.
const FRESH: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Tables {
    known: RwLock<HashMap<TypeId, Arc<Known>>>,
    pub(crate) definitions: Definitions,
}

/// The table of one entity.
struct Known {
    plan: Arc<Plan>,
    /// Its definition, as it was before the plan was made.
    lines: Vec<String>,
    /// When the definition was last known to be this one.
    seen: Mutex<Instant>,
    /// Single flight: one asks for the definition, the others wait.
    turn: Semaphore,
}

impl Known {
    fn seen(&self) -> MutexGuard<'_, Instant> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_fresh(&self) -> bool {
        self.seen().elapsed() < FRESH
    }
}

impl Tables {
    fn known(&self, entity: TypeId) -> Option<Arc<Known>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&entity).cloned()
    }

    /// The plan of an entity as it was made last, whatever its table is by now; `None` before somebody has looked at it.
    pub(crate) fn last<E: SqlEntity>(&self) -> Option<Arc<Plan>> {
        self.known(TypeId::of::<E>()).map(|known| Arc::clone(&known.plan))
    }

    /// The plan of an entity for its table as it is.
    pub(crate) async fn plan<E: SqlEntity>(&self, pool: &Pool, options: &SqlOptions) -> Result<Arc<Plan>, SinkError> {
        let Some(known) = self.known(TypeId::of::<E>()) else { return self.look::<E>(pool, options, true).await };
        if known.is_fresh() {
            return Ok(Arc::clone(&known.plan));
        }
        // It is never closed.
        let _turn = known.turn.acquire().await.ok();
        match self.last::<E>() {
            // Somebody has made another one meanwhile.
            Some(plan) if !Arc::ptr_eq(&plan, &known.plan) => return Ok(plan),
            _ if known.is_fresh() => return Ok(Arc::clone(&known.plan)),
            _ => {}
        }
        let begun = Instant::now();
        if definition::look(pool, &known.plan.table).await? == known.lines {
            *known.seen() = begun;
            return Ok(Arc::clone(&known.plan));
        }
        tracing::info!(entity = E::NAME, table = %known.plan.table.name, "the table was altered: its columns are looked at again");
        self.look::<E>(pool, options, false).await
    }

    /// Looks at an entity's table and plans for it. `checked`: for the first time, or by a start.
    pub(crate) async fn look<E: SqlEntity>(
        &self,
        pool: &Pool,
        options: &SqlOptions,
        checked: bool,
    ) -> Result<Arc<Plan>, SinkError> {
        let mut table = E::table();
        if E::APPEND {
            // A key that the table has already is ignored: nothing is left that an update would set.
            table.columns.iter_mut().filter(|column| !column.key).for_each(|column| column.insert_only = true);
        }
        let begun = Instant::now();
        // Before all else: what is altered after it is found by the next look.
        let lines = definition::look(pool, &table).await?;
        let facts = inspect(pool, E::NAME, &table).await?;
        kept::look(pool, &mut table).await?;
        if checked {
            self.definitions.checked(TypeId::of::<E>(), lines.clone());
        } else {
            self.definitions.is_proven(TypeId::of::<E>(), lines.clone(), Instant::now());
        }
        tracing::debug!(entity = E::NAME, table = %table.name, ?facts, "table inspected");
        let plan = Arc::new(Plan::new(pool.backend(), table, facts, options)?.with_references(E::references()));
        let known = Known { plan: Arc::clone(&plan), lines, seen: Mutex::new(begun), turn: Semaphore::new(1) };
        let mut tables = self.known.write().unwrap_or_else(PoisonError::into_inner);
        tables.insert(TypeId::of::<E>(), Arc::new(known));
        Ok(plan)
    }
}
