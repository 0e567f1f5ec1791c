//! The shapes of an entity's struct that engines in this process have made known.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::buffer::{SeenShape, SeenShapes};

/// The list, sorted by time.
#[derive(Debug, Default)]
pub(super) struct Listed {
    list: Vec<SeenShape>,
    /// When it was lost; it never is but by a test.
    lost: Option<Instant>,
}

impl Listed {
    /// Makes shapes known, as the script of the Redis buffer does.
    pub(super) fn tell(&mut self, shape: &str, seen: &[SeenShape]) -> SeenShapes {
        for SeenShape { shape, since_ms } in seen {
            self.add(shape, Some(*since_ms));
        }
        // A caller without a shape only looks.
        if !shape.is_empty() {
            self.add(shape, None);
        }
        let list = &mut self.list;
        list.drain(..list.len().saturating_sub(SeenShape::MOST));
        SeenShapes::new(list.clone(), self.lost.map_or(Duration::MAX, |lost| lost.elapsed()))
    }

    fn add(&mut self, shape: &str, since_ms: Option<u64>) {
        let list = &mut self.list;
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
        }
    }

    #[cfg(feature = "testing")]
    pub(super) fn lose(&mut self) {
        *self = Self { list: Vec::new(), lost: Some(Instant::now()) };
    }
}
