//! The shapes of an entity's struct that engines in this process have made known.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::buffer::SeenShape;

/// Makes a shape known, as the script of the Redis buffer does; the list is sorted by time.
pub(super) fn register(list: &mut Vec<SeenShape>, shape: &str, since_ms: Option<u64>) -> Vec<SeenShape> {
    let known = list.iter().find(|seen| seen.shape == shape).map(|seen| seen.since_ms);
    if known.is_none_or(|known| since_ms.is_some_and(|since_ms| since_ms < known)) {
        let since_ms = since_ms.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let now = u64::try_from(now).unwrap_or(u64::MAX);
            list.last().map_or(now, |last| now.max(last.since_ms + 1))
        });
        list.retain(|seen| seen.shape != shape);
        list.push(SeenShape::new(shape.to_owned(), since_ms));
        list.sort_by_key(|seen| seen.since_ms);
        list.drain(..list.len().saturating_sub(SeenShape::MOST));
    }
    list.clone()
}
