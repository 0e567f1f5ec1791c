//! Everything at random, under load: SIGKILL and SIGSTOP for workers and writers, kill -9 and restart for Redis and the
//! database, connections cut, silenced and delayed, a Redis that refuses or is full, keys that vanish, deploys of other
//! topologies and shapes. Then every fault ends, and whoever is left must go on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use write_behind_tests::{Wire, server};
use xtask::{Kind, Mortal};

use crate::actor::{Part, Writes};
use crate::admin::{Admin, Ill};
use crate::deploy::Deploys;
use crate::fault::Fault;
use crate::history::History;
use crate::place::{Folder, drain, held, letters, seed, setting};
use crate::report::Report;
use crate::role::Role;
use crate::target::Target;

/// Length of the storm, unless `WB_CHAOS_MINUTES` says otherwise.
const SHORT: Duration = Duration::from_secs(35);
const WRITERS: usize = 2;
const WORKERS: u64 = 3;
const KEYS: i64 = 200;
const LEASE: Duration = Duration::from_secs(1);
pub(crate) const NAMESPACE: &str = "chaos";

/// Operations a second that must have been acknowledged, outages included; a storm over nothing proves nothing.
const LOAD_FLOOR: f64 = 50.0;
/// Flushes a second.
const FLUSH_FLOOR: f64 = 1.0;
/// Changes of rows a second.
const CHANGE_FLOOR: f64 = 20.0;
/// Kills of processes and servers a second.
const KILL_FLOOR: f64 = 0.1;

/// What a fault has put off.
pub(crate) enum Later {
    GoOn(u32),
    Undelay,
    Heal(Ill),
}

pub(crate) struct Storm {
    pub(crate) random: StdRng,
    pub(crate) folder: Folder,
    faults: Vec<Fault>,
    pub(crate) redis: Mortal,
    database: Mortal,
    pub(crate) admin: Admin,
    /// One for the workers, then one for each writer.
    pub(crate) redis_wires: Vec<Wire>,
    database_wire: Wire,
    pub(crate) writers: Vec<Role>,
    pub(crate) workers: Vec<Role>,
    pub(crate) deploys: Deploys,
    pub(crate) later: Vec<(Instant, Later)>,
    pub(crate) done: BTreeMap<&'static str, u64>,
}

impl Storm {
    fn put_off(&mut self, range: std::ops::Range<u64>, later: Later) {
        let wait = Duration::from_millis(self.random.random_range(range));
        self.later.push((Instant::now() + wait, later));
    }

    /// A successor, which goes on above whatever the writer has written.
    pub(crate) fn replace_writer(&mut self, one: usize) {
        self.writers[one].replace(&self.folder, "");
        // What a dead writer has on its way would land after its successor's writes: no operation of a key may
        // begin while another one may still be carried out, and that is the application's part.
        self.redis_wires[1 + one].cut();
    }

    /// A stopped actor goes on when its lease has ended for certain.
    fn go_on_later(&mut self, pid: u32) {
        let beyond = LEASE.mul_f64(self.random.random_range(1.1..2.5));
        self.later.push((Instant::now() + beyond, Later::GoOn(pid)));
    }

    async fn act(&mut self, fault: Fault) {
        // A successor that is to stop counts as a kill now, and again when it has stopped.
        let counted = if fault == Fault::StopBeforeWrite { Fault::KillWorker } else { fault };
        *self.done.entry(counted.title()).or_default() += 1;
        match fault {
            Fault::KillWorker => {
                let one = self.random.random_range(0..self.workers.len());
                self.workers[one].replace(&self.folder, "");
            }
            Fault::StopBeforeWrite => {
                // The moment is the successor's to find: between its last look at its lease and a write.
                let one = self.random.random_range(0..self.workers.len());
                let point = format!("before_write:{}:stop", self.random.random_range(1..10));
                self.workers[one].replace(&self.folder, &point);
            }
            Fault::KillWriter => {
                let one = self.random.random_range(0..self.writers.len());
                self.replace_writer(one);
            }
            Fault::StopWorker | Fault::StopWriter => {
                let roles = if fault == Fault::StopWorker { &self.workers } else { &self.writers };
                let actor = &roles[self.random.random_range(0..roles.len())].actor;
                actor.stop();
                self.go_on_later(actor.pid());
            }
            Fault::KillRedis | Fault::KillDatabase => {
                let server = if fault == Fault::KillRedis { &mut self.redis } else { &mut self.database };
                let away = Duration::from_millis(self.random.random_range(0..1_500));
                tokio::task::block_in_place(|| server.kill()).unwrap();
                tokio::time::sleep(away).await;
                tokio::task::block_in_place(|| server.start_again()).unwrap();
            }
            Fault::CutRedis => self.redis_wires.iter().for_each(Wire::cut),
            Fault::CutDatabase => self.database_wire.cut(),
            Fault::Delay => {
                // Sometimes longer than any answer is waited for, and than a lease.
                let range = if self.random.random_ratio(1, 4) { 1_000..2_500 } else { 1..150 };
                let delay = Duration::from_millis(self.random.random_range(range));
                self.delay(delay);
                self.put_off(500..2_000, Later::Undelay);
            }
            Fault::SilenceRedis => self.redis_wires.iter().for_each(Wire::silence),
            Fault::SilenceDatabase => self.database_wire.silence(),
            Fault::Password => {
                let ill = self.admin.change_password().await;
                // Whoever is connected would not notice.
                self.redis_wires.iter().for_each(Wire::cut);
                self.put_off(500..3_000, Later::Heal(ill));
            }
            Fault::ReadOnly => {
                let ill = self.admin.demote().await;
                self.put_off(500..3_000, Later::Heal(ill));
            }
            Fault::NoReplicas => {
                let ill = self.admin.want_replicas().await;
                self.put_off(500..3_000, Later::Heal(ill));
            }
            Fault::Full => {
                let ill = self.admin.fill(&mut self.random).await;
                self.put_off(1_000..4_000, Later::Heal(ill));
            }
            Fault::DeleteKeys => self.admin.delete_keys(&mut self.random).await,
            Fault::WrongType => {
                if let Some(ill) = self.admin.wrong_type(&mut self.random).await {
                    self.put_off(500..2_000, Later::Heal(ill));
                }
            }
            Fault::Topology => self.deploy_topology(),
            Fault::Shape => self.deploy_shape(),
        }
    }

    fn delay(&self, delay: Duration) {
        self.redis_wires.iter().chain([&self.database_wire]).for_each(|wire| wire.delay(delay));
    }

    /// Actors that have stopped by themselves, at a failpoint.
    pub(crate) fn look_for_stopped(&mut self) {
        let expected = |pid| self.later.iter().any(|(_, later)| matches!(later, Later::GoOn(other) if *other == pid));
        let stopped = self.workers.iter().filter(|role| role.actor.is_stopped() && !expected(role.actor.pid()));
        let stopped: Vec<u32> = stopped.map(|role| role.actor.pid()).collect();
        for pid in stopped {
            *self.done.entry(Fault::StopBeforeWrite.title()).or_default() += 1;
            self.go_on_later(pid);
        }
    }

    /// Whether the server is kept from taking writes, until it is healed of that.
    fn refuses_writes(&self) -> bool {
        self.later.iter().any(|(_, later)| matches!(later, Later::Heal(Ill::ReadOnly | Ill::NoReplicas)))
    }

    /// Does what was put off and is due.
    pub(crate) async fn catch_up(&mut self, now: Instant) {
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        let mut due: Vec<(Instant, Later)> = due;
        // A key can only be taken away where the server takes writes: what keeps it from that is ended first.
        due.sort_by_key(|(_, later)| matches!(later, Later::Heal(Ill::WrongType(_))));
        for (_, later) in due {
            match later {
                Later::Heal(ill @ Ill::WrongType(_)) if self.refuses_writes() => {
                    self.later.push((now + Duration::from_millis(100), Later::Heal(ill)));
                }
                Later::GoOn(pid) => {
                    // A successor has another id, and was not stopped.
                    let mut roles = self.workers.iter().chain(&self.writers);
                    if let Some(role) = roles.find(|role| role.actor.pid() == pid) {
                        role.actor.go_on();
                    }
                }
                Later::Undelay => self.delay(Duration::ZERO),
                Later::Heal(ill) => self.admin.heal(&ill).await,
            }
        }
    }

    /// What goes on beside the faults.
    pub(crate) async fn tick(&mut self, now: Instant) {
        assert!(!xtask::interrupted(), "interrupted");
        self.catch_up(now).await;
        self.look_for_stopped();
        self.advance_deploys().await;
        for role in self.workers.iter_mut().chain(&mut self.writers) {
            assert!(!role.actor.has_ended(), "{} ended by itself", role.name);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    async fn blow(&mut self, length: Duration) {
        let until = Instant::now() + length;
        // One round of all comes first, so that a short storm has everything.
        let mut first = self.faults.clone();
        first.shuffle(&mut self.random);
        let faults = self.faults.clone();
        let mut next = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            if Instant::now() >= next {
                let fault = first
                    .pop()
                    .unwrap_or_else(|| *faults.choose_weighted(&mut self.random, |fault| fault.weight()).unwrap());
                self.act(fault).await;
                next = Instant::now() + Duration::from_millis(self.random.random_range(100..900));
            }
            self.tick(Instant::now()).await;
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
    let faults = Fault::chosen();
    println!("faults: {}", faults.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(","));
    let login = with_login(&redis_wires[0].url);
    let worker = Part {
        lease: LEASE,
        partitions: Deploys::FIRST,
        ..Part::worker(&login, &target.behind(&database_wire.url), NAMESPACE)
    };
    let shapes = faults.contains(&Fault::Shape);
    let mut storm = Storm {
        random: StdRng::seed_from_u64(seed),
        folder: Folder::create(name),
        deploys: Deploys::new(shapes),
        admin: Admin::new(&redis.url(), NAMESPACE),
        faults,
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
    // One worker is always of the newer program, so that somebody can flush what it writes. Newer is who was seen later:
    // it starts when the older one is known.
    let start_worker = |storm: &Storm, number: u64| {
        let part = Part { newer: shapes && number == 0, ..worker.clone() };
        let point = format!("before_write:{}:stop", 10 + 10 * number);
        Role::start(format!("worker{number}"), part, &storm.folder, &point)
    };
    for number in 1..workers {
        let role = start_worker(&storm, number);
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
            noted: shapes,
            log: PathBuf::new(),
        };
        // One of them flushes too, as most applications do.
        let url = &storm.redis_wires[1 + number].url;
        let redis = if number == 0 { with_login(url) } else { url.clone() };
        let part = Part { redis, writes: Some(writes), flushes: number == 0, ..worker.clone() };
        storm.writers.push(Role::start(format!("writer{number}"), part, &storm.folder, ""));
    }
    storm.admin.await_shape().await;
    let role = start_worker(&storm, 0);
    storm.workers.insert(0, role);
    storm.blow(length).await;
    let took = begun.elapsed();

    let stuck = storm.calm().await;
    let mut plain = crate::place::redis(&storm.redis.url()).await;
    let dead = if stuck.is_empty() {
        held(&mut plain, NAMESPACE).await.unwrap().dead
    } else {
        // What is lost, and what only waits for a healthy worker?
        println!("stuck: {stuck:?}");
        let partitions = storm.admin.partitions().await.unwrap_or(Deploys::FIRST);
        let healthy = Part { redis: storm.redis.url(), target: target.clone(), partitions, newer: shapes, ..worker };
        drain(&healthy, &storm.folder.file("healthy"), Duration::from_secs(60)).await.unwrap_or_default()
    };
    for letter in letters(&mut plain, NAMESPACE).await.iter().take(10) {
        println!("dead letter: {letter}");
    }
    let logs: Vec<&PathBuf> = storm.writers.iter().flat_map(|role| &role.logs).collect();
    let mut report = Report::new(name, seed, took, &History::read(logs), &target.memory().await, dead);
    report.actions = std::mem::take(&mut storm.done);
    report.stuck = stuck;
    report.print();
    report.assert_clean();
    let seconds = length.as_secs_f64();
    let kills = [Fault::KillWorker, Fault::KillWriter, Fault::KillRedis, Fault::KillDatabase];
    let killers = kills.iter().any(|fault| storm.faults.contains(fault));
    let kills = kills.iter().filter_map(|fault| report.actions.get(fault.title())).sum();
    for (what, count, floor) in [
        ("operations", report.acknowledged, LOAD_FLOOR),
        ("flushes", report.flushes as u64, FLUSH_FLOOR),
        ("changes", report.changes as u64, CHANGE_FLOOR),
        ("kills", kills, if killers { KILL_FLOOR } else { -1.0 }),
    ] {
        assert!(count as f64 > floor * seconds, "a storm over nothing: {count} {what} in {seconds} s");
    }
    for fault in &storm.faults {
        assert!(report.actions.contains_key(fault.title()), "no {}", fault.title());
    }
}

/// Some log in, and are refused as such while the password is another one; who does not is refused at each command.
fn with_login(url: &str) -> String {
    url.replace("redis://", "redis://default:storm@")
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
