//! A table's definition: tells whether the table was altered. As it was when rows landed it tells whether a refusal of every row of a batch can be its fault. A constraint
//! or a trigger that no row meets is no different from a column that is missing, but only its history tells it from a bad row.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sea_orm::{DbBackend, Value};
use tokio::time::Instant;
use wb_core::SinkError;

use crate::connection::tx::Pool;
use crate::examine::live_table;
use crate::mapping::entity::Table;
use crate::statement::dialect::postgres;

/// Of each entity what was seen last of its table.
#[derive(Debug, Default)]
pub(crate) struct Definitions(Mutex<HashMap<TypeId, Definition>>);

#[derive(Debug)]
struct Definition {
    lines: Vec<String>,
    /// When it was first seen like this.
    seen: Instant,
    /// Rows of a write have landed that was begun after that, or it was so at the start, which has checked it.
    proven: bool,
}

impl Definitions {
    /// The table that a start has checked.
    pub(crate) fn checked(&self, entity: TypeId, lines: Vec<String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(entity, Definition { lines, seen: Instant::now(), proven: true });
    }

    /// Whether it is to be told what a table is like when rows land in it.
    pub(crate) fn wants_proof(&self, entity: TypeId) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&entity).is_some_and(|known| !known.proven)
    }

    /// Rows of a write landed that was begun then, in a table that is like this now.
    pub(crate) fn landed(&self, entity: TypeId, lines: Vec<String>, (begun, now): (Instant, Instant)) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get_mut(&entity) {
            Some(known) if known.lines == lines => known.proven |= begun >= known.seen,
            _ => drop(known.insert(entity, Definition { lines, seen: now, proven: false })),
        }
    }

    /// A table is like this now. Whether rows are known to land in it.
    pub(crate) fn is_proven(&self, entity: TypeId, lines: Vec<String>, now: Instant) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&entity) {
            Some(known) if known.lines == lines => known.proven,
            _ => {
                known.insert(entity, Definition { lines, seen: now, proven: false });
                false
            }
        }
    }
}

/// Columns, constraints, unique indexes and triggers of a table, a line each, in order.
pub(crate) async fn look(pool: &Pool, table: &Table) -> Result<Vec<String>, SinkError> {
    let (query, values) = match pool.backend() {
        DbBackend::Postgres => (
            "SELECT d.s FROM (SELECT concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attcollation) AS s \
             FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped \
             UNION ALL SELECT concat_ws(' ', conname, pg_get_constraintdef(oid)) FROM pg_constraint \
             WHERE conrelid = to_regclass($1) \
             UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = to_regclass($1) AND indisunique \
             UNION ALL SELECT concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled, p.prosrc) FROM pg_trigger t \
             JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = to_regclass($1) AND NOT t.tgisinternal) d \
             ORDER BY d.s COLLATE \"C\"",
            vec![Value::from(postgres::table(table))],
        ),
        DbBackend::MySql => {
            let name = || [Value::from(table.schema.as_deref()), Value::from(&*table.name)];
            (
                "SELECT CAST(CONCAT_WS(' ', column_name, column_type, is_nullable, column_default, collation_name) AS BINARY) AS s \
                 FROM information_schema.columns WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? \
                 UNION ALL SELECT CAST(CONCAT_WS(' ', c.constraint_name, c.check_clause) AS BINARY) \
                 FROM information_schema.check_constraints c JOIN information_schema.table_constraints t \
                 ON t.constraint_schema = c.constraint_schema AND t.constraint_name = c.constraint_name \
                 WHERE t.table_schema = COALESCE(?, DATABASE()) AND t.table_name = ? \
                 UNION ALL SELECT CAST(CONCAT_WS(' ', index_name, seq_in_index, column_name, sub_part) AS BINARY) \
                 FROM information_schema.statistics \
                 WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND non_unique = 0 \
                 UNION ALL SELECT CAST(CONCAT_WS(' ', trigger_name, action_statement) AS BINARY) \
                 FROM information_schema.triggers \
                 WHERE event_object_schema = COALESCE(?, DATABASE()) AND event_object_table = ? ORDER BY s",
                name().into_iter().chain(name()).chain(name()).chain(name()).collect(),
            )
        }
        _ => (
            "SELECT COALESCE(sql, '') AS s FROM sqlite_master WHERE tbl_name = ? COLLATE NOCASE ORDER BY name",
            vec![Value::from(&*table.name)],
        ),
    };
    let is_bytes = pool.backend() == DbBackend::MySql;
    live_table::ask(pool, query, values, |row| {
        if is_bytes {
            Ok(String::from_utf8_lossy(&row.try_get_by::<Vec<u8>, _>("s")?).into_owned())
        } else {
            row.try_get_by("s")
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_landed_since_a_definition_was_seen_says_that_it_can_be_met() {
        let (definitions, entity) = (Definitions::default(), TypeId::of::<u8>());
        let (old, new) = (vec!["a".to_owned()], vec!["a".to_owned(), "CHECK (a > 7)".to_owned()]);
        definitions.checked(entity, old.clone());
        let first = Instant::now();
        let later = first + Duration::from_secs(1);
        assert!(definitions.is_proven(entity, old.clone(), first), "the start has checked it");
        assert!(!definitions.is_proven(entity, new.clone(), later), "it has changed");
        assert!(definitions.wants_proof(entity));
        definitions.landed(entity, new.clone(), (first, later));
        assert!(!definitions.is_proven(entity, new.clone(), later), "begun before it was seen");
        definitions.landed(entity, new.clone(), (later, later));
        assert!(definitions.is_proven(entity, new, later));
        assert!(!definitions.wants_proof(entity));
        assert!(!definitions.is_proven(entity, old.clone(), later), "it is as it was, and nothing has landed since");
        let latest = later + Duration::from_secs(1);
        let third = vec!["b".to_owned()];
        definitions.landed(entity, third.clone(), (later, latest));
        assert!(!definitions.is_proven(entity, third.clone(), latest), "it may have changed after they landed");
        definitions.landed(entity, third.clone(), (latest, latest));
        assert!(definitions.is_proven(entity, third, latest));
    }
}
