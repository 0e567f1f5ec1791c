//! How many rows a second go to the sink: a bucket that refills with time, over values and a clock reading.

use std::time::Duration;

use tokio::time::Instant;

/// A batch goes as soon as the time that the rows before it are worth is over. So no more than the limit times the time,
/// and one batch, is written in any stretch of time.
#[derive(Clone, Debug)]
pub(crate) struct RateLimiter {
    /// Rows a second; `None`: as fast as the sink takes them.
    limit: Option<u32>,
    free: Option<Instant>,
}

impl RateLimiter {
    pub(crate) const fn new(limit: Option<u32>) -> Self {
        Self { limit, free: None }
    }

    /// Takes the time of this many rows, or says when to ask again.
    pub(crate) fn take(&mut self, now: Instant, rows: usize) -> Result<(), Instant> {
        let Some(limit) = self.limit else { return Ok(()) };
        match self.free {
            Some(free) if free > now => Err(free),
            _ => {
                let rows = u32::try_from(rows).unwrap_or(u32::MAX);
                let worth = Duration::from_secs_f64(f64::from(rows) / f64::from(limit.max(1)));
                // Time that went by unused is not saved up.
                self.free = now.checked_add(worth);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rows_take_their_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        for (limit, asks) in [
            (None, vec![(0, 1_000_000, Ok(())), (0, 1_000_000, Ok(()))]),
            // (when, rows, answer)
            (Some(100), vec![(0, 50, Ok(())), (0, 1, Err(at(500))), (499, 1, Err(at(500))), (500, 1, Ok(()))]),
            (
                Some(100),
                vec![(0, 300, Ok(())), (2_999, 1, Err(at(3_000))), (3_000, 1, Ok(())), (3_000, 1, Err(at(3_010)))],
            ),
            // An idle hour is no credit.
            (Some(10), vec![(0, 10, Ok(())), (3_600_000, 10, Ok(())), (3_600_000, 1, Err(at(3_601_000)))]),
            (Some(u32::MAX), vec![(0, 1_000, Ok(())), (1, 1_000, Ok(()))]),
        ] {
            let mut pace = RateLimiter::new(limit);
            for (when, rows, expected) in asks {
                assert_eq!(pace.take(at(when), rows), expected, "{limit:?} at {when} ms");
            }
        }
    }
}
