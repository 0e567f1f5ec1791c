//! Rolling deploys of another topology or of a program with another shape: processes are replaced one after the other,
//! while old ones go on or are refused.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::storm::Storm;

/// Partitions, one deploy after the other.
const PARTITIONS: [u16; 3] = [16, 8, 32];
/// After so long without a change of the topology a deploy is rolled back: whatever is in the way may last.
const GIVE_UP: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A deploy of another topology.
#[derive(Debug)]
struct Deploy {
    to: u16,
    begun: Instant,
    switched: bool,
}

#[derive(Debug)]
pub(crate) struct Deploys {
    /// Partitions of the programs that are to run.
    partitions: u16,
    topology: Option<Deploy>,
    shapes: bool,
    newer: bool,
    next_look: Instant,
    /// When the next outdated process is replaced.
    next_roll: Instant,
}

impl Deploys {
    /// Partitions before the first deploy.
    pub(crate) const FIRST: u16 = PARTITIONS[0];

    pub(crate) fn new(shapes: bool) -> Self {
        let now = Instant::now();
        Self { partitions: Self::FIRST, topology: None, shapes, newer: false, next_look: now, next_roll: now }
    }
}

impl Storm {
    /// Some workers, or all of them, and some writers of the new topology start, and drain what is dirty. The other writers go on
    /// without a pause, until they are refused.
    pub(crate) fn deploy_topology(&mut self) {
        // One at a time.
        if self.deploys.topology.is_some() {
            *self.done.entry("of them while another one was under way").or_default() += 1;
            return;
        }
        let from = self.deploys.partitions;
        let at = PARTITIONS.iter().position(|partitions| *partitions == from).unwrap_or(0);
        let to = PARTITIONS[(at + 1) % PARTITIONS.len()];
        for writer in 0..self.writers.len() {
            if self.random.random_ratio(1, 2) {
                self.writers[writer].part.partitions = to;
                self.replace_writer(writer);
            }
        }
        // Now and then nobody is left who would flush the old layout.
        let stay = if self.random.random_ratio(1, 3) { 0 } else { self.workers.len().saturating_sub(1) };
        for worker in self.workers.iter_mut().skip(stay) {
            worker.part.partitions = to;
            worker.replace(&self.folder, "");
        }
        self.deploys.topology = Some(Deploy { to, begun: Instant::now(), switched: false });
    }

    /// The other program takes over, process by process; but for the first worker, which is always of the newer one, so
    /// that somebody can flush what it wrote.
    pub(crate) fn deploy_shape(&mut self) {
        self.deploys.newer = !self.deploys.newer;
        self.want_shape(self.deploys.newer);
    }

    fn want_shape(&mut self, newer: bool) {
        for (number, worker) in self.workers.iter_mut().enumerate() {
            worker.part.newer = newer || number == 0;
        }
        self.writers.iter_mut().for_each(|writer| writer.part.newer = newer);
    }

    /// The last deploy of this storm is that of the newer program.
    pub(crate) fn end_deploys(&mut self) {
        if self.deploys.shapes {
            self.want_shape(true);
        }
    }

    pub(crate) fn are_deploying(&self) -> bool {
        self.deploys.topology.is_some() || self.workers.iter().chain(&self.writers).any(|role| role.is_outdated())
    }

    /// Goes on with what was begun.
    pub(crate) async fn advance_deploys(&mut self) {
        let now = Instant::now();
        if now >= self.deploys.next_look {
            self.deploys.next_look = now + LOOK_EVERY;
            self.look_at_topology().await;
        }
        if now >= self.deploys.next_roll {
            self.deploys.next_roll = now + Duration::from_millis(self.random.random_range(200..700));
            self.roll();
        }
    }

    /// Replaces one process that is not of the program that is to run.
    fn roll(&mut self) {
        if let Some(worker) = self.workers.iter_mut().find(|worker| worker.is_outdated()) {
            worker.replace(&self.folder, "");
        } else if let Some(writer) = self.writers.iter().position(|writer| writer.is_outdated()) {
            self.replace_writer(writer);
        }
    }

    async fn look_at_topology(&mut self) {
        let Some(deploy) = &self.deploys.topology else { return };
        let (to, switched, overdue) = (deploy.to, deploy.switched, deploy.begun.elapsed() > GIVE_UP);
        let stored = self.admin.partitions().await;
        if !switched && stored == Some(to) {
            // A process that starts from now on is of the new topology. The others are replaced one by one, after a while
            // in which they have to be refused.
            self.want_partitions(to);
            self.deploys.next_roll = Instant::now() + Duration::from_millis(self.random.random_range(300..1_500));
            if let Some(deploy) = &mut self.deploys.topology {
                deploy.switched = true;
            }
        } else if switched && !self.workers.iter().chain(&self.writers).any(|role| role.is_outdated()) {
            self.deploys.topology = None;
            *self.done.entry("of them changed the topology").or_default() += 1;
        } else if !switched && overdue {
            // Whatever was in the way: outages, or records that only another worker can flush.
            self.want_partitions(self.deploys.partitions);
            self.deploys.topology = None;
            *self.done.entry("of them rolled back").or_default() += 1;
        }
    }

    fn want_partitions(&mut self, partitions: u16) {
        self.deploys.partitions = partitions;
        self.workers.iter_mut().chain(&mut self.writers).for_each(|role| role.part.partitions = partitions);
    }
}
