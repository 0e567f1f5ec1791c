//! What is said at the end of a run: text for people, a line of JSON for machines.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::history::History;
use crate::oracle::{Judgement, judge};
use crate::target::Memory;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) test: String,
    pub(crate) seed: u64,
    pub(crate) minutes: f64,
    /// What was done to processes, servers and connections.
    pub(crate) actions: BTreeMap<&'static str, u64>,
    pub(crate) acknowledged: u64,
    pub(crate) unknown: u64,
    pub(crate) refused: u64,
    /// Rows that the database has at the end.
    pub(crate) rows: usize,
    /// Changes of rows that the database made.
    pub(crate) changes: usize,
    /// Transactions that made them.
    pub(crate) flushes: usize,
    pub(crate) lost: usize,
    pub(crate) regressions: usize,
    pub(crate) stale_reads: usize,
    pub(crate) dead_letters: u64,
    /// States of the newer program that lost its field.
    pub(crate) stripped: usize,
    /// What did not go on although every fault was gone.
    pub(crate) stuck: Vec<String>,
    #[serde(skip)]
    missing: Vec<String>,
    #[serde(skip)]
    judgement: Judgement,
    #[serde(skip)]
    stale: Vec<String>,
}

impl Report {
    pub(crate) fn new(test: &str, seed: u64, took: Duration, history: &History, memory: &Memory, dead: u64) -> Self {
        let judgement = judge(history, &memory.changes, &memory.rows);
        Self {
            test: test.to_owned(),
            seed,
            minutes: (took.as_secs_f64() / 6.0).round() / 10.0,
            actions: BTreeMap::new(),
            acknowledged: history.acknowledged,
            unknown: history.unknown,
            refused: history.refused,
            rows: memory.rows.len(),
            changes: memory.changes.len(),
            flushes: memory.transactions,
            lost: judgement.lost.len(),
            regressions: judgement.regressions.len(),
            stale_reads: history.stale_reads.len(),
            dead_letters: dead,
            stripped: memory.stripped.len(),
            stuck: Vec::new(),
            missing: memory.stripped.clone(),
            judgement,
            stale: history.stale_reads.clone(),
        }
    }

    pub(crate) fn print(&self) {
        println!("{}: seed {}, {} minutes", self.test, self.seed, self.minutes);
        for (action, count) in &self.actions {
            println!("  {count:>7} {action}");
        }
        for (count, what) in [
            (self.acknowledged, "operations acknowledged"),
            (self.unknown, "of unknown outcome"),
            (self.refused, "refused"),
            (self.changes as u64, "changes of rows"),
            (self.flushes as u64, "flushes"),
            (self.rows as u64, "rows at the end"),
            (self.lost as u64, "lost"),
            (self.regressions as u64, "regressions"),
            (self.stale_reads as u64, "stale reads"),
            (self.dead_letters, "dead letters"),
            (self.stripped as u64, "states without a newer program's field"),
            (self.stuck.len() as u64, "stuck"),
        ] {
            println!("  {count:>7} {what}");
        }
        println!("{}", serde_json::to_string(self).unwrap());
    }

    /// The promises.
    pub(crate) fn assert_clean(&self) {
        let some = |list: &[String]| list.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
        assert!(self.judgement.regressions.is_empty(), "went back:\n{}", some(&self.judgement.regressions));
        assert!(self.judgement.lost.is_empty(), "lost:\n{}", some(&self.judgement.lost));
        assert!(self.stale.is_empty(), "stale reads:\n{}", some(&self.stale));
        assert_eq!(self.dead_letters, 0, "dead letters");
        assert!(self.missing.is_empty(), "without a newer program's field:\n{}", some(&self.missing));
        assert!(self.stuck.is_empty(), "stuck after every fault was gone:\n{}", some(&self.stuck));
        assert!(self.judgement.is_clean());
    }
}
