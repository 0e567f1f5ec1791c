//! What changes, as server-sent events: `tick` with live counts and figures, four times a second, and `engine` with what the
//! engine tells.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::failure::Failure;
use super::feed::line;
use super::posts::newest;
use super::stats::{Stats, figures};
use crate::store::Store;

const TICK: Duration = Duration::from_millis(250);

/// What one looks at all the time.
#[derive(Serialize)]
struct Tick {
    posts: Vec<Count>,
    /// The cache or the database could not be asked for the counts.
    away: bool,
    stats: Stats,
}

/// How often a post was seen.
#[derive(Serialize)]
struct Count {
    id: Uuid,
    views: i64,
    /// As the database knows it; `None` when the post has not arrived there.
    stored_views: Option<i64>,
}

pub(crate) async fn stream(State(store): State<Arc<Store>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let left = store.left();
    let told = stream::iter(store.events()).flatten();
    let told = told.filter_map(async |event| line(&event).map(|line| named("engine", &line)));
    let events = stream::select(told, ticks(store)).take_until(left).map(Ok);
    Sse::new(events).keep_alive(KeepAlive::default())
}

fn ticks(store: Arc<Store>) -> impl Stream<Item = Event> {
    let mut clock = interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((clock, store), async |(mut clock, store)| {
        clock.tick().await;
        let event = named("tick", &tick(&store).await);
        Some((event, (clock, store)))
    })
}

async fn tick(store: &Store) -> Tick {
    let listed = newest(store).await;
    let away = matches!(listed, Err(Failure::Cache(_) | Failure::Database(_)));
    let counts = listed.unwrap_or_default().into_iter();
    let posts =
        counts.map(|listed| Count { id: listed.post.id, views: listed.post.views, stored_views: listed.stored_views });
    Tick { posts: posts.collect(), away, stats: figures(store) }
}

fn named(name: &str, data: &impl Serialize) -> Event {
    // These structs have a JSON form.
    Event::default().event(name).json_data(data).unwrap_or_default()
}
