//! How long what can land of a batch is looked for, over values.

/// How the search for what can land goes, among the parts of a batch that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Search {
    /// Parts that failed since one landed.
    in_a_row: u32,
    /// Parts that failed.
    failures: u32,
    /// Parts that landed since one failed.
    streak: u32,
    /// Rows of the largest part that landed.
    landed: usize,
    /// Rows of the smallest part that failed.
    smallest: Option<usize>,
}

/// Parts that may fail in a row when they are single records already: then it is not them.
const SINGLES: u32 = 4;

/// Parts that land in a row before larger ones are tried.
const STREAK: u32 = 3;

impl Search {
    /// A part failed. Whether it says that parts of its size are too large: another one may have landed, and then it is
    /// what is in it.
    pub(crate) fn failed(&mut self, rows: usize) -> bool {
        self.smallest = Some(self.smallest.map_or(rows, |smallest| smallest.min(rows)));
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.failures = self.failures.saturating_add(1);
        self.streak = 0;
        self.landed < rows
    }

    /// A part landed, or the sink said what is wrong with it. Whether larger ones may be tried: each one that fails takes
    /// its time.
    pub(crate) fn landed(&mut self, rows: usize) -> bool {
        self.in_a_row = 0;
        self.streak = self.streak.saturating_add(1);
        self.landed = self.landed.max(rows);
        self.streak >= STREAK
    }

    /// Whether anything failed yet.
    pub(crate) const fn is_on(&self) -> bool {
        self.failures > 0
    }

    /// Rows of the smallest part that failed: where the next search goes on.
    pub(crate) const fn smallest(&self) -> Option<usize> {
        self.smallest
    }

    /// Whether nothing more is tried of a batch of `rows` for now: each try may take as long as the sink lets it, and the
    /// partitions wait for the end of their epochs. Enough to get from the whole batch down to single records, and for a few
    /// of those; what is left has its next try soon, and by the smaller size.
    pub(crate) const fn is_over(&self, rows: usize) -> bool {
        let levels = usize::BITS - rows.leading_zeros();
        self.in_a_row >= levels + SINGLES || self.failures >= 3 * (levels + SINGLES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_ends() {
        enum Part {
            Fails(usize, bool),
            Lands(usize),
        }
        use Part::{Fails, Lands};
        let fails = |parts: &[usize]| parts.iter().map(|&rows| Fails(rows, true)).collect::<Vec<_>>();
        for (rows, parts, over) in [
            // The whole, down to a single one, and some more of those.
            (1_000, fails(&[1_000, 500, 250, 125, 62, 31, 15, 7, 3, 1, 1, 1, 1]), false),
            (1_000, fails(&[1_000, 500, 250, 125, 62, 31, 15, 7, 3, 1, 1, 1, 1, 1]), true),
            (1, fails(&[1, 1, 1, 1]), false),
            (1, fails(&[1, 1, 1, 1, 1]), true),
            // A part that lands says that the size is not too large, and that the sink is well.
            (
                4,
                vec![Fails(4, true), Fails(2, true), Fails(1, true), Lands(2), Fails(2, false), Fails(1, false)],
                false,
            ),
            (4, vec![Fails(4, true), Lands(1), Fails(2, true), Lands(2), Fails(1, false)], false),
        ] {
            let mut search = Search::default();
            assert!(!search.is_on());
            for part in parts {
                match part {
                    Fails(rows, expected) => assert_eq!(search.failed(rows), expected, "{search:?}"),
                    Lands(rows) => _ = search.landed(rows),
                }
            }
            assert_eq!(search.is_over(rows), over, "{rows} rows: {search:?}");
        }
        // Not for ever either, when some lands in between.
        let mut search = Search::default();
        let failures = (0..).take_while(|_| {
            search.failed(1);
            search.landed(1);
            !search.is_over(1_000)
        });
        assert_eq!(failures.count(), 41);
    }
}
