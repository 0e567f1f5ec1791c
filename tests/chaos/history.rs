//! What writers did: a log that outlives a SIGKILL, and the list of operations of each key that is read from it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// What is known of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Refused as not carried out; must never be seen.
    Refused,
    /// No answer, or one that says so: may be seen or not.
    Unknown,
    /// Acknowledged; must not be lost.
    Acknowledged,
}

/// An operation on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) seq: i64,
    pub(crate) delete: bool,
    pub(crate) outcome: Outcome,
}

/// The log of a writer: a line before each operation and a line after its answer. Lines go to the kernel at once, which
/// is what outlives the process.
#[derive(Debug)]
pub(crate) struct Log(File);

impl Log {
    pub(crate) fn create(path: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(path).unwrap())
    }

    pub(crate) fn intent(&self, key: i64, seq: i64, delete: bool) {
        self.line(&format!("intent {key} {seq} {}\n", if delete { "delete" } else { "put" }));
    }

    pub(crate) fn answer(&self, key: i64, seq: i64, outcome: Outcome) {
        let word = match outcome {
            Outcome::Acknowledged => "ok",
            Outcome::Unknown => "unknown",
            Outcome::Refused => "refused",
        };
        self.line(&format!("answer {key} {seq} {word}\n"));
    }

    /// A read that saw what it must not.
    pub(crate) fn stale(&self, key: i64, what: &str) {
        self.line(&format!("stale {key} {}\n", what.replace([' ', '\n'], "_")));
    }

    fn line(&self, line: &str) {
        (&self.0).write_all(line.as_bytes()).unwrap();
    }
}

/// All operations, by key, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) keys: BTreeMap<i64, Vec<Operation>>,
    pub(crate) acknowledged: u64,
    pub(crate) unknown: u64,
    pub(crate) refused: u64,
    pub(crate) stale_reads: Vec<String>,
}

/// Attempts of one operation.
#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    delete: bool,
    sent: u32,
    answered: u32,
    best: Option<Outcome>,
}

impl History {
    /// Reads logs; the numbers of a key's operations must grow from log to log.
    pub(crate) fn read<P: AsRef<Path>>(logs: impl IntoIterator<Item = P>) -> Self {
        let mut history = Self::default();
        let mut attempts: BTreeMap<(i64, i64), Attempts> = BTreeMap::new();
        for log in logs {
            let Ok(text) = std::fs::read_to_string(log) else { continue };
            for line in text.lines() {
                history.line(line, &mut attempts);
            }
        }
        for ((key, seq), attempts) in attempts {
            let open = if attempts.answered < attempts.sent { Outcome::Unknown } else { Outcome::Refused };
            let outcome = attempts.best.map_or(open, |best| best.max(open));
            match outcome {
                Outcome::Acknowledged => history.acknowledged += 1,
                Outcome::Unknown => history.unknown += 1,
                Outcome::Refused => history.refused += 1,
            }
            history.keys.entry(key).or_default().push(Operation { seq, delete: attempts.delete, outcome });
        }
        history
    }

    fn line(&mut self, line: &str, attempts: &mut BTreeMap<(i64, i64), Attempts>) {
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            ["intent", key, seq, operation] => {
                let attempt = attempts.entry((key.parse().unwrap(), seq.parse().unwrap())).or_default();
                attempt.sent += 1;
                attempt.delete = operation == "delete";
            }
            ["answer", key, seq, outcome] => {
                let attempt = attempts.entry((key.parse().unwrap(), seq.parse().unwrap())).or_default();
                attempt.answered += 1;
                let outcome = match outcome {
                    "ok" => Outcome::Acknowledged,
                    "unknown" => Outcome::Unknown,
                    _ => Outcome::Refused,
                };
                attempt.best = attempt.best.max(Some(outcome));
            }
            ["stale", ..] => self.stale_reads.push(line.to_owned()),
            _ => panic!("not a line of a log: {line}"),
        }
    }

    /// Above every number in a log.
    pub(crate) fn next_seq(log: &Path) -> i64 {
        let history = Self::read([log]);
        let last = history.keys.values().filter_map(|operations| operations.last()).map(|operation| operation.seq);
        last.max().unwrap_or(0) + 1
    }
}
