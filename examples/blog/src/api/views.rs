//! Views: counted without being read first, and added up before they travel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use write_behind::{CacheError, EntityStats};

use super::failure::Failure;
use super::input::{Body, Key};
use crate::entities::Post;
use crate::store::Store;

/// Views that may be counted in one request.
const MOST: u32 = 10_000;

#[derive(Serialize)]
pub(crate) struct Views {
    views: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Burst {
    count: u32,
}

/// What became of many views.
#[derive(Serialize)]
pub(crate) struct Counted {
    views: i64,
    /// Milliseconds until the last one was in the buffer.
    acknowledged_ms: f64,
    /// Milliseconds until all of them were in the database; `None` when they were not within ten seconds.
    persisted_ms: Option<f64>,
    /// Writes to posts meanwhile, as this process counted them,
    writes: u64,
    /// and the rows that they became.
    rows: u64,
}

pub(crate) async fn one(State(store): State<Arc<Store>>, Key(id): Key) -> Result<Json<Views>, Failure> {
    Ok(Json(Views { views: store.posts.increment(&id, Post::VIEWS, 1).await? }))
}

/// Each view is a write of its own, all at the same time.
pub(crate) async fn many(
    State(store): State<Arc<Store>>,
    Key(id): Key,
    Body(burst): Body<Burst>,
) -> Result<Json<Counted>, Failure> {
    if burst.count == 0 || burst.count > MOST {
        return Err(Failure::BadInput(format!("`count` must be from 1 to {MOST}")));
    }
    let before = figures(&store);
    let begun = Instant::now();
    let increments = (0..burst.count).map(|_| store.posts.increment(&id, Post::VIEWS, 1));
    let views = try_join_all(increments).await?.into_iter().max().unwrap_or_default();
    let acknowledged_ms = ms(begun.elapsed());
    let persisted_ms = match store.posts.receipt(&id)?.persisted_within(Duration::from_secs(10)).await {
        Ok(()) => Some(ms(begun.elapsed())),
        // They are counted all the same.
        Err(CacheError::NotPersisted { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let after = figures(&store);
    Ok(Json(Counted {
        views,
        acknowledged_ms,
        persisted_ms,
        writes: after.puts - before.puts,
        rows: after.rows() - before.rows(),
    }))
}

fn figures(store: &Store) -> EntityStats {
    store.stats().remove("post").unwrap_or_default()
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}
