//! What the engine tells, as lines for people.

use serde::Serialize;
use write_behind::Event;

#[derive(Serialize)]
pub(crate) struct Line {
    text: String,
    /// Something is not as it should be.
    wrong: bool,
}

impl Line {
    fn good(text: String) -> Option<Self> {
        Some(Self { text, wrong: false })
    }

    fn wrong(text: String) -> Option<Self> {
        Some(Self { text, wrong: true })
    }
}

/// `None` for what nobody here would want to read.
pub(crate) fn line(event: &Event) -> Option<Line> {
    match event {
        Event::Flushed { entity, upserts, deletes, took, .. } => {
            let deleted = if *deletes > 0 { format!(", {deletes} deleted") } else { String::new() };
            let ms = took.as_secs_f64() * 1_000.0;
            Line::good(format!("{entity}: {upserts} {} written{deleted} in {ms:.1} ms", rows(*upserts)))
        }
        Event::Retried { entity, rows: count, wait, reason, .. } => {
            Line::wrong(format!("{entity}: {count} {} again in {wait:.1?}: {reason}", rows(*count)))
        }
        Event::Refused { entity, id, wait, reason, .. } => {
            Line::wrong(format!("{entity} {id}: refused, again in {wait:.1?}: {reason}"))
        }
        Event::DeadLettered { entity, id, reason, .. } => {
            Line::wrong(format!("{entity} {id}: a dead letter: {reason}"))
        }
        Event::Paused { entity, reason, .. } => Line::wrong(format!("{entity}: paused: {reason}")),
        Event::Resumed { entity, lasted, .. } => {
            Line::good(format!("{entity}: the database is back after {lasted:.1?}"))
        }
        Event::PartitionGained { entity, partition, .. } => {
            Line::good(format!("{entity}: partition {partition} is ours to flush"))
        }
        Event::PartitionLost { entity, partition, .. } => {
            Line::good(format!("{entity}: partition {partition} is another worker's"))
        }
        Event::Fenced { entity, .. } => Line::good(format!("{entity}: another worker was faster; nothing was written")),
        Event::BufferLostData { entity, .. } => Line::wrong(format!("{entity}: the buffer has lost data")),
        Event::BufferRestarted { entity, .. } => Line::wrong(format!("{entity}: the buffer was restarted")),
        Event::Missed { count, .. } => Line::wrong(format!("{count} events came too fast to be shown")),
        _ => None,
    }
}

const fn rows(count: u64) -> &'static str {
    if count == 1 { "row" } else { "rows" }
}
