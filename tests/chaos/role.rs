//! A process of the storm that is replaced when it is killed, and deployed anew.

use std::path::PathBuf;

use crate::actor::{Actor, Part};
use crate::history::History;
use crate::place::Folder;

pub(crate) struct Role {
    pub(crate) name: String,
    /// What its next process will be.
    pub(crate) part: Part,
    pub(crate) actor: Actor,
    /// Partitions and program of the process that runs.
    running: (u16, bool),
    /// Logs of this writer and its predecessors.
    pub(crate) logs: Vec<PathBuf>,
}

impl Role {
    pub(crate) fn start(name: String, mut part: Part, folder: &Folder, failpoints: &str) -> Self {
        let mut logs = Vec::new();
        if let Some(writes) = &mut part.writes {
            writes.log = folder.file(&format!("{name}.0.log"));
            logs.push(writes.log.clone());
        }
        let actor = Actor::start(&part, &folder.file(&name), failpoints);
        let running = (part.partitions, part.newer);
        Self { name, part, actor, running, logs }
    }

    /// Kills the process and starts its successor, which goes on above whatever it has written.
    pub(crate) fn replace(&mut self, folder: &Folder, failpoints: &str) {
        self.actor.kill();
        if let Some(writes) = &mut self.part.writes {
            writes.first_seq = writes.first_seq.max(History::next_seq(&writes.log));
            writes.seed += 1;
            writes.log = folder.file(&format!("{}.{}.log", self.name, self.logs.len()));
            self.logs.push(writes.log.clone());
        }
        self.actor = Actor::start(&self.part, &folder.file(&self.name), failpoints);
        self.running = (self.part.partitions, self.part.newer);
    }

    /// Whether another program is to run than does.
    pub(crate) fn is_outdated(&self) -> bool {
        self.running != (self.part.partitions, self.part.newer)
    }

    /// Acknowledged operations of the process that runs.
    pub(crate) fn acknowledged(&self) -> u64 {
        let text = self.logs.last().and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
        text.lines().filter(|line| line.ends_with(" ok")).count() as u64
    }
}
