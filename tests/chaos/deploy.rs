//! Rolling deploys of another topology or of a program with another shape: processes are replaced one after the other,
//! while old ones go on or are refused.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::storm::{Later, Storm};

/// Partitions, one deploy after the other.
const PARTITIONS: [u16; 3] = [16, 8, 32];
/// After so long without a moment at which the topology can change, a deploy is rolled back.
const GIVE_UP: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A deploy of another topology.
#[derive(Debug)]
struct Deploy {
    to: u16,
    begun: Instant,
    /// A writer of the old topology, stopped so that everything can be flushed. It goes on when the topology has changed.
    stale: Option<u32>,
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
    /// One worker and one writer of the new topology start, and wait until it can change: until the old workers, which
    /// run on, have flushed everything. Old writers are stopped meanwhile.
    pub(crate) fn deploy_topology(&mut self) {
        // One at a time.
        if self.deploys.topology.is_some() {
            *self.done.entry("of them while another one was under way").or_default() += 1;
            return;
        }
        let from = self.deploys.partitions;
        let at = PARTITIONS.iter().position(|partitions| *partitions == from).unwrap_or(0);
        let to = PARTITIONS[(at + 1) % PARTITIONS.len()];
        let mut stale = None;
        for writer in 0..self.writers.len() {
            if stale.is_none() && self.random.random_ratio(2, 3) {
                self.writers[writer].actor.stop();
                stale = Some(self.writers[writer].actor.pid());
            } else {
                self.writers[writer].part.partitions = to;
                self.replace_writer(writer);
            }
        }
        if let Some(worker) = self.workers.last_mut() {
            worker.part.partitions = to;
            worker.replace(&self.folder, "");
        }
        self.deploys.topology = Some(Deploy { to, begun: Instant::now(), stale, switched: false });
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
            self.let_stale_go_on();
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
            self.let_stale_go_on();
            self.deploys.topology = None;
            *self.done.entry("of them rolled back").or_default() += 1;
        }
    }

    fn want_partitions(&mut self, partitions: u16) {
        self.deploys.partitions = partitions;
        self.workers.iter_mut().chain(&mut self.writers).for_each(|role| role.part.partitions = partitions);
    }

    fn let_stale_go_on(&mut self) {
        if let Some(pid) = self.deploys.topology.as_mut().and_then(|deploy| deploy.stale.take()) {
            let wait = Duration::from_millis(self.random.random_range(0..300));
            self.later.push((Instant::now() + wait, Later::GoOn(pid)));
        }
    }
}
