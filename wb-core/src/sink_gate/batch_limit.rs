//! How many rows a batch may have, by what the sink has shown that it takes in its time: additive increase, multiplicative
//! decrease, over values.

/// A batch that was too large halves the limit; each one that lands by it raises it a little, until it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchLimit {
    /// What the entity's options allow.
    most: usize,
    /// `most`: no limit of the sink's is known.
    rows: usize,
}

/// Batches of the limit's size that land until it has grown from nothing to what the options allow.
const STEPS: usize = 64;

impl BatchLimit {
    pub(crate) const fn new(most: usize) -> Self {
        Self { most, rows: most }
    }

    /// Rows that a batch may have; at least 1. What belongs together may be more.
    pub(crate) const fn rows(&self) -> usize {
        if self.rows >= self.most { usize::MAX } else { self.rows }
    }

    /// It was not the rows' number: back to what was known before.
    pub(crate) fn restore(&mut self, before: Self) {
        self.rows = self.rows.max(before.rows);
    }

    /// So many rows were too many.
    pub(crate) fn too_large(&mut self, rows: usize) {
        self.rows = self.rows.min(rows / 2).max(1);
    }

    /// So many rows landed. Of small batches, which prove nothing, nothing is learned.
    pub(crate) fn landed(&mut self, rows: usize) {
        if self.rows < self.most && rows.saturating_mul(2) >= self.rows {
            // From very little twice as much each time: it was more than one record's fault.
            self.rows = self.rows.saturating_add(self.rows.min(self.most.div_ceil(STEPS))).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_halves_and_grows_again() {
        enum Batch {
            Lands(usize),
            Fails(usize),
        }
        use Batch::{Fails, Lands};
        const NONE: usize = usize::MAX;
        for (most, batches, expected) in [
            (1_000, vec![], NONE),
            (1_000, vec![Lands(1_000)], NONE),
            (1_000, vec![Fails(1_000)], 500),
            (1_000, vec![Fails(1_000), Fails(500), Fails(250)], 125),
            // Another batch of the old size that was under way.
            (1_000, vec![Fails(1_000), Fails(500), Fails(1_000)], 250),
            (1_000, vec![Fails(1_000), Lands(500)], 516),
            // A small one says nothing about the limit.
            (1_000, vec![Fails(1_000), Lands(249)], 500),
            (1_000, vec![Fails(1), Fails(1)], 1),
            (1_000, vec![Fails(1), Lands(1)], 2),
            (1_000, vec![Fails(1), Lands(1), Lands(2)], 4),
            (10, vec![Fails(3), Lands(1)], 2),
            (1, vec![Fails(1)], NONE),
        ] {
            let mut limit = BatchLimit::new(most);
            for batch in batches {
                match batch {
                    Lands(rows) => limit.landed(rows),
                    Fails(rows) => limit.too_large(rows),
                }
            }
            assert_eq!(limit.rows(), expected, "{limit:?}");
        }
        let mut limit = BatchLimit::new(1_000);
        limit.too_large(1);
        let landed = (0..).take_while(|_| {
            limit.landed(limit.rows());
            limit.rows() != NONE
        });
        assert_eq!(landed.count(), 65, "it goes away");
    }
}
