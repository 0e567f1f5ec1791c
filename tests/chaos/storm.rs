//! Everything at random, under load: SIGKILL and SIGSTOP for workers and writers, kill -9 and restart for Redis and the
//! database, connections cut and delayed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use write_behind_tests::{Wire, server};
use xtask::{Kind, Mortal};

use crate::actor::{Actor, Part, Writes};
use crate::history::History;
use crate::place::{Folder, drain, seed, setting};
use crate::report::Report;
use crate::target::Target;

/// Length of the storm, unless `WB_CHAOS_MINUTES` says otherwise.
const SHORT: Duration = Duration::from_secs(35);
const WRITERS: usize = 2;
const WORKERS: u64 = 3;
const KEYS: i64 = 200;
const LEASE: Duration = Duration::from_secs(1);
const NAMESPACE: &str = "chaos";

/// Operations a second that must have been acknowledged, outages included; a storm over nothing proves nothing.
const LOAD_FLOOR: f64 = 100.0;
/// Flushes a second.
const FLUSH_FLOOR: f64 = 2.0;
/// Changes of rows a second.
const CHANGE_FLOOR: f64 = 20.0;
/// Kills of processes and servers a second.
const KILL_FLOOR: f64 = 0.1;

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    KillWorker,
    StopWorker,
    StopBeforeWrite,
    KillWriter,
    StopWriter,
    KillRedis,
    KillDatabase,
    CutRedis,
    CutDatabase,
    Delay,
}

/// Each with its weight. One round of all comes first, so that a short storm has everything.
const ACTIONS: [(Action, u32); 10] = [
    (Action::KillWorker, 30),
    (Action::StopWorker, 10),
    (Action::StopBeforeWrite, 15),
    (Action::KillWriter, 10),
    (Action::StopWriter, 5),
    (Action::KillRedis, 6),
    (Action::KillDatabase, 4),
    (Action::CutRedis, 10),
    (Action::CutDatabase, 10),
    (Action::Delay, 8),
];

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::KillWorker => "workers killed",
            Self::StopWorker => "workers stopped beyond their lease",
            Self::StopBeforeWrite => "workers stopped beyond their lease right before a write",
            Self::KillWriter => "writers killed",
            Self::StopWriter => "writers stopped",
            Self::KillRedis => "kills of Redis",
            Self::KillDatabase => "kills of the database",
            Self::CutRedis => "cuts of all connections to Redis",
            Self::CutDatabase => "cuts of all connections to the database",
            Self::Delay => "delays of all connections",
        }
    }
}

/// What an action has put off.
enum Later {
    GoOn(u32),
    Undelay,
}

/// A process that is replaced when it is killed.
struct Role {
    name: String,
    part: Part,
    actor: Actor,
    /// Logs of this writer and its predecessors.
    logs: Vec<PathBuf>,
}

struct Storm {
    random: StdRng,
    folder: Folder,
    redis: Mortal,
    database: Mortal,
    /// One for the workers, then one for each writer.
    redis_wires: Vec<Wire>,
    database_wire: Wire,
    writers: Vec<Role>,
    workers: Vec<Role>,
    later: Vec<(Instant, Later)>,
    done: BTreeMap<&'static str, u64>,
}

impl Storm {
    fn start_role(&self, name: String, mut part: Part, failpoints: &str) -> Role {
        let mut logs = Vec::new();
        if let Some(writes) = &mut part.writes {
            writes.log = self.folder.file(&format!("{name}.0.log"));
            logs.push(writes.log.clone());
        }
        let actor = Actor::start(&part, &self.folder.file(&name), failpoints);
        Role { name, part, actor, logs }
    }

    /// Kills an actor and starts its successor, which goes on above whatever it has written.
    fn replace(role: &mut Role, folder: &Folder, failpoints: &str) {
        role.actor.kill();
        if let Some(writes) = &mut role.part.writes {
            writes.first_seq = writes.first_seq.max(History::next_seq(&writes.log));
            writes.seed += 1;
            writes.log = folder.file(&format!("{}.{}.log", role.name, role.logs.len()));
            role.logs.push(writes.log.clone());
        }
        role.actor = Actor::start(&role.part, &folder.file(&role.name), failpoints);
    }

    /// A stopped actor goes on when its lease has ended for certain.
    fn go_on_later(&mut self, pid: u32) {
        let beyond = LEASE.mul_f64(self.random.random_range(1.1..2.5));
        self.later.push((Instant::now() + beyond, Later::GoOn(pid)));
    }

    async fn act(&mut self, action: Action) {
        // A successor that is to stop counts as a kill now, and again when it has stopped.
        let counted = if action == Action::StopBeforeWrite { Action::KillWorker } else { action };
        *self.done.entry(counted.name()).or_default() += 1;
        match action {
            Action::KillWorker => {
                let one = self.random.random_range(0..self.workers.len());
                Self::replace(&mut self.workers[one], &self.folder, "");
            }
            Action::StopBeforeWrite => {
                // The moment is the successor's to find: between its last look at its lease and a write.
                let one = self.random.random_range(0..self.workers.len());
                let point = format!("before_write:{}:stop", self.random.random_range(1..10));
                Self::replace(&mut self.workers[one], &self.folder, &point);
            }
            Action::KillWriter => {
                let one = self.random.random_range(0..self.writers.len());
                Self::replace(&mut self.writers[one], &self.folder, "");
                // What a dead writer has on its way would land after its successor's writes: no operation of a key may
                // begin while another one may still be carried out, and that is the application's part.
                self.redis_wires[1 + one].cut();
            }
            Action::StopWorker | Action::StopWriter => {
                let roles = if action == Action::StopWorker { &self.workers } else { &self.writers };
                let actor = &roles[self.random.random_range(0..roles.len())].actor;
                actor.stop();
                self.go_on_later(actor.pid());
            }
            Action::KillRedis | Action::KillDatabase => {
                let server = if action == Action::KillRedis { &mut self.redis } else { &mut self.database };
                let away = Duration::from_millis(self.random.random_range(0..1_500));
                tokio::task::block_in_place(|| server.kill()).unwrap();
                tokio::time::sleep(away).await;
                tokio::task::block_in_place(|| server.start_again()).unwrap();
            }
            Action::CutRedis => self.redis_wires.iter().for_each(Wire::cut),
            Action::CutDatabase => self.database_wire.cut(),
            Action::Delay => {
                // Sometimes longer than any answer is waited for, and than a lease.
                let range = if self.random.random_ratio(1, 4) { 1_000..2_500 } else { 1..150 };
                let delay = Duration::from_millis(self.random.random_range(range));
                self.delay(delay);
                let wait = Duration::from_millis(self.random.random_range(500..2_000));
                self.later.push((Instant::now() + wait, Later::Undelay));
            }
        }
    }

    fn delay(&self, delay: Duration) {
        self.redis_wires.iter().chain([&self.database_wire]).for_each(|wire| wire.delay(delay));
    }

    /// Actors that have stopped by themselves, at a failpoint.
    fn look_for_stopped(&mut self) {
        let expected = |pid| self.later.iter().any(|(_, later)| matches!(later, Later::GoOn(other) if *other == pid));
        let stopped = self.workers.iter().filter(|role| role.actor.is_stopped() && !expected(role.actor.pid()));
        let stopped: Vec<u32> = stopped.map(|role| role.actor.pid()).collect();
        for pid in stopped {
            *self.done.entry(Action::StopBeforeWrite.name()).or_default() += 1;
            self.go_on_later(pid);
        }
    }

    /// Does what was put off and is due.
    fn catch_up(&mut self, now: Instant) {
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        let due: Vec<(Instant, Later)> = due;
        for (_, later) in due {
            match later {
                Later::GoOn(pid) => {
                    // A successor has another id, and was not stopped.
                    let mut roles = self.workers.iter().chain(&self.writers);
                    if let Some(role) = roles.find(|role| role.actor.pid() == pid) {
                        role.actor.go_on();
                    }
                }
                Later::Undelay => self.delay(Duration::ZERO),
            }
        }
    }

    async fn blow(&mut self, length: Duration) {
        let until = Instant::now() + length;
        let mut first: Vec<Action> = ACTIONS.iter().map(|(action, _)| *action).collect();
        first.shuffle(&mut self.random);
        let sum = ACTIONS.iter().map(|(_, weight)| weight).sum();
        let mut next = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            assert!(!xtask::interrupted(), "interrupted");
            self.catch_up(Instant::now());
            if Instant::now() >= next {
                let mut pick: u32 = self.random.random_range(0..sum);
                let picked = ACTIONS.iter().find(|(_, weight)| {
                    let found = pick < *weight;
                    pick = pick.saturating_sub(*weight);
                    found
                });
                let action = first.pop().unwrap_or(picked.unwrap().0);
                self.act(action).await;
                next = Instant::now() + Duration::from_millis(self.random.random_range(100..900));
            }
            self.look_for_stopped();
            for role in self.workers.iter_mut().chain(&mut self.writers) {
                assert!(!role.actor.has_ended(), "{} ended by itself", role.name);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn storm(name: &str, kind: Kind) {
    let length = setting("WB_CHAOS_MINUTES").map_or(SHORT, |minutes| Duration::from_secs(60 * minutes));
    let (seed, workers) = (seed(), setting("WB_CHAOS_WORKERS").unwrap_or(WORKERS));
    xtask::watch_for_interrupts().unwrap();
    let (redis, database) = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let redis = scope.spawn(|| Mortal::start(Kind::Redis).unwrap());
            let database = Mortal::start(kind).unwrap();
            (redis.join().unwrap(), database)
        })
    });
    let mut redis_wires = Vec::new();
    for _ in 0..=WRITERS {
        redis_wires.push(Wire::to(&redis.url()).await.unwrap());
    }
    let database_wire = Wire::to(&database.url()).await.unwrap();
    let target = Target::create(&database.url(), "chaos").await;
    let worker =
        Part { lease: LEASE, ..Part::worker(&redis_wires[0].url, &target.behind(&database_wire.url), NAMESPACE) };
    let mut storm = Storm {
        random: StdRng::seed_from_u64(seed),
        folder: Folder::create(name),
        redis,
        database,
        redis_wires,
        database_wire,
        writers: Vec::new(),
        workers: Vec::new(),
        later: Vec::new(),
        done: BTreeMap::new(),
    };
    let begun = Instant::now();
    for number in 0..workers {
        let point = format!("before_write:{}:stop", 10 + 10 * number);
        let role = storm.start_role(format!("worker{number}"), worker.clone(), &point);
        storm.workers.push(role);
    }
    for number in 0..WRITERS {
        let writes = Writes {
            first_key: i64::try_from(number).unwrap() * KEYS,
            keys: KEYS,
            tasks: 8,
            first_seq: 0,
            pause: Duration::from_millis(10),
            seed: seed.wrapping_add(1_000 * number as u64),
            log: PathBuf::new(),
        };
        // One of them flushes too, as most applications do.
        let redis = storm.redis_wires[1 + number].url.clone();
        let part = Part { redis, writes: Some(writes), flushes: number == 0, ..worker.clone() };
        let role = storm.start_role(format!("writer{number}"), part, "");
        storm.writers.push(role);
    }
    storm.blow(length).await;
    let took = begun.elapsed();

    for role in storm.workers.iter_mut().chain(&mut storm.writers) {
        role.actor.kill();
    }
    let healthy = Part { redis: storm.redis.url(), target: target.clone(), ..worker };
    let dead = drain(&healthy, &storm.folder.file("healthy"), Duration::from_secs(60)).await;
    let logs: Vec<&PathBuf> = storm.writers.iter().flat_map(|role| &role.logs).collect();
    let mut report = Report::new(name, seed, took, &History::read(logs), &target.memory().await, dead);
    report.actions = std::mem::take(&mut storm.done);
    report.print();
    report.assert_clean();
    let seconds = length.as_secs_f64();
    let kills = [Action::KillWorker, Action::KillWriter, Action::KillRedis, Action::KillDatabase];
    let kills = kills.iter().filter_map(|action| report.actions.get(action.name())).sum();
    for (what, count, floor) in [
        ("operations", report.acknowledged, LOAD_FLOOR),
        ("flushes", report.flushes as u64, FLUSH_FLOOR),
        ("changes", report.changes as u64, CHANGE_FLOOR),
        ("kills", kills, KILL_FLOOR),
    ] {
        assert!(count as f64 > floor * seconds, "a storm over nothing: {count} {what} in {seconds} s");
    }
    for (action, _) in ACTIONS {
        assert!(report.actions.contains_key(action.name()), "no {}", action.name());
    }
}

/// Where servers are there for tests, or a storm was asked for, private ones can be started.
fn wanted(variable: &str) -> bool {
    setting("WB_CHAOS_MINUTES").is_some() || server("WB_REDIS_URL").and(server(variable)).is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_and_nothing_goes_back_on_postgres() {
    if wanted("WB_POSTGRES_URL") {
        storm("storm_postgres", Kind::Postgres).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_and_nothing_goes_back_on_mongo() {
    if wanted("WB_MONGO_URL") {
        storm("storm_mongo", Kind::Mongo).await;
    }
}
