//! What must hold afterwards. Nothing acknowledged is lost, and what the sink showed one after the other is explained by
//! the operations of the key in their order.

use std::collections::BTreeMap;

use crate::history::{History, Operation, Outcome};
use crate::item::Item;

/// A change of a row, in the order in which the database made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: i64,
    /// The row's number afterwards; `None`: deleted.
    pub(crate) seq: Option<i64>,
}

/// What is wrong; nothing, if all is well.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// Keys whose last acknowledged state, or a later one, is not in the sink.
    pub(crate) lost: Vec<String>,
    /// Changes that took a key back.
    pub(crate) regressions: Vec<String>,
}

impl Judgement {
    pub(crate) fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.regressions.is_empty()
    }
}

/// Judges the changes and the rows that are there at the end.
pub(crate) fn judge(history: &History, changes: &[Change], rows: &BTreeMap<i64, Item>) -> Judgement {
    let mut judgement = Judgement::default();
    let mut by_key: BTreeMap<i64, Vec<Option<i64>>> = BTreeMap::new();
    for change in changes {
        by_key.entry(change.key).or_default().push(change.seq);
    }
    let none = Vec::new();
    for (key, seqs) in &by_key {
        let operations = history.keys.get(key).unwrap_or(&none);
        if let Err(text) = explain(operations, seqs) {
            judgement.regressions.push(format!("key {key}: {text}"));
        }
    }
    for (key, operations) in &history.keys {
        if let Err(text) = last_state(operations, rows.get(key)) {
            judgement.lost.push(format!("key {key}: {text}"));
        }
    }
    for (key, row) in rows {
        if *row != Item::state(*key, row.seq) {
            judgement.lost.push(format!("key {key}: the row is none that was written: {row:?}"));
        }
        if !history.keys.contains_key(key) {
            judgement.lost.push(format!("key {key}: nobody wrote {row:?}"));
        }
    }
    judgement
}

/// Whether the changes of a key are a part of its operations, in their order. A state may be written repeatedly.
fn explain(operations: &[Operation], changes: &[Option<i64>]) -> Result<(), String> {
    let possible = |operation: &&Operation| operation.outcome != Outcome::Refused;
    // The first operation that may explain the next change. Taking the earliest one each time leaves the most room.
    let mut at = i64::MIN;
    for (index, change) in changes.iter().enumerate() {
        let found = match change {
            Some(seq) => {
                operations.iter().filter(possible).find(|operation| operation.seq == *seq && !operation.delete)
            }
            None => operations.iter().filter(possible).find(|operation| operation.delete && operation.seq >= at),
        };
        match found {
            Some(operation) if operation.seq >= at => at = operation.seq,
            _ => {
                let from = index.saturating_sub(4);
                return Err(format!("change {index} is not explained after {at}: {:?}", &changes[from..=index]));
            }
        }
    }
    Ok(())
}

/// Whether this row, or its absence, is the last acknowledged state, or a later one that may have been carried out.
fn last_state(operations: &[Operation], row: Option<&Item>) -> Result<(), String> {
    let acknowledged = operations.iter().rposition(|operation| operation.outcome == Outcome::Acknowledged);
    // Nothing acknowledged: as if the last acknowledged operation had been a delete.
    let candidates = &operations[acknowledged.unwrap_or(0)..];
    let explained = candidates
        .iter()
        .filter(|operation| operation.outcome != Outcome::Refused)
        .any(|operation| row.map_or(operation.delete, |row| !operation.delete && row.seq == operation.seq));
    if explained || (acknowledged.is_none() && row.is_none()) {
        return Ok(());
    }
    Err(format!("{row:?} is there, but the last acknowledged and what follows is {candidates:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Acknowledged, Refused, Unknown};

    /// `p` put, `d` delete; the outcome follows.
    fn operations(list: &[(i64, char, Outcome)]) -> Vec<Operation> {
        list.iter().map(|&(seq, kind, outcome)| Operation { seq, delete: kind == 'd', outcome }).collect()
    }

    fn row(seq: i64) -> Option<Item> {
        Some(Item::state(1, seq))
    }

    #[test]
    fn the_oracle_sees_a_lost_write() {
        let done = operations(&[(1, 'p', Acknowledged), (2, 'p', Acknowledged), (3, 'p', Unknown), (4, 'p', Refused)]);
        for (there, fine) in [(row(1), false), (row(2), true), (row(3), true), (row(4), false), (None, false)] {
            assert_eq!(last_state(&done, there.as_ref()).is_ok(), fine, "{there:?}");
        }
        let gone = operations(&[(1, 'p', Acknowledged), (2, 'd', Acknowledged), (3, 'p', Unknown)]);
        for (there, fine) in [(row(1), false), (row(3), true), (None, true)] {
            assert_eq!(last_state(&gone, there.as_ref()).is_ok(), fine, "{there:?}");
        }
        assert!(last_state(&operations(&[(1, 'p', Unknown)]), None).is_ok());
    }

    #[test]
    fn the_oracle_sees_a_row_that_goes_back() {
        let done = operations(&[
            (1, 'p', Acknowledged),
            (2, 'd', Acknowledged),
            (3, 'p', Acknowledged),
            (4, 'p', Refused),
            (5, 'p', Unknown),
        ]);
        for (changes, fine) in [
            (vec![Some(1), Some(1), None, Some(3), Some(5)], true),
            (vec![Some(3)], true),
            // An old state over a newer one, and over a delete.
            (vec![Some(3), Some(1)], false),
            (vec![Some(1), None, Some(1)], false),
            // An old delete over a newer state.
            (vec![Some(1), Some(3), None], false),
            // Never carried out, and never asked for.
            (vec![Some(4)], false),
            (vec![Some(7)], false),
        ] {
            assert_eq!(explain(&done, &changes).is_ok(), fine, "{changes:?}");
        }
    }
}
