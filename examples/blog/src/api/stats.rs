//! Figures of the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use write_behind::EntityStats;

use crate::store::Store;

#[derive(Serialize)]
pub(crate) struct Stats {
    /// Where records wait, and where they go.
    buffer: &'static str,
    database: &'static str,
    /// Keys that are not in the database, over all entities.
    dirty_keys: u64,
    /// None of them has waited for longer than this, in milliseconds; `None` when there is none.
    oldest_dirty_ms: Option<u128>,
    entities: BTreeMap<&'static str, Figures>,
}

/// Figures of one entity since the start.
#[derive(Serialize)]
struct Figures {
    writes: u64,
    rows: u64,
    /// Writes per row.
    coalescing: f64,
    statements: u64,
    transactions: u64,
    retries: u64,
    dead_letters: u64,
    dirty_keys: u64,
    oldest_dirty_ms: Option<u128>,
    slowest_flush_ms: u128,
}

impl From<EntityStats> for Figures {
    fn from(stats: EntityStats) -> Self {
        Self {
            writes: stats.puts,
            rows: stats.rows(),
            coalescing: (stats.coalescing() * 10.0).round() / 10.0,
            statements: stats.statements,
            transactions: stats.batches,
            retries: stats.retries.total(),
            dead_letters: stats.dead_letters,
            dirty_keys: stats.dirty_keys,
            oldest_dirty_ms: stats.oldest_dirty.map(|age| age.as_millis()),
            slowest_flush_ms: stats.slowest_cycle.as_millis(),
        }
    }
}

pub(crate) async fn show(State(store): State<Arc<Store>>) -> Json<Stats> {
    Json(figures(&store))
}

pub(crate) fn figures(store: &Store) -> Stats {
    let entities: BTreeMap<&'static str, Figures> =
        store.stats().into_iter().map(|(entity, stats)| (entity, stats.into())).collect();
    Stats {
        buffer: store.buffer(),
        database: store.database().name(),
        dirty_keys: entities.values().map(|figures| figures.dirty_keys).sum(),
        oldest_dirty_ms: entities.values().filter_map(|figures| figures.oldest_dirty_ms).max(),
        entities,
    }
}
