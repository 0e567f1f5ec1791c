//! Parents reach the sink before their children, and children are deleted before their parents. The clock is paused, and
//! the sinks check every foreign key at every write, as a database does.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and prints its seed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use wb_core::{
    Batch, Cache, CodecError, ConfigError, Engine, Entity, EntityOptions, ErrorKind, Fence, Format, Mechanism,
    MemoryBuffer, Report, Role, Scope, Sink, SinkError, StartError, codec,
};

const FOREVER: Duration = Duration::from_secs(100_000);

macro_rules! entities {
    ($($name:ident $text:literal [$($parent:literal),*])*) => {$(
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct $name {
            id: u64,
            parent: u64,
            round: u64,
        }

        impl Entity for $name {
            type Key = u64;
            const NAME: &'static str = $text;
            const FORMAT: Format = Format::Json;
            const PARENTS: &'static [&'static str] = &[$($parent),*];

            fn key(&self) -> u64 {
                self.id
            }

            fn encode(&self) -> Result<Vec<u8>, CodecError> {
                codec::encode(Self::FORMAT, self)
            }

            fn decode(payload: &[u8]) -> Result<Self, CodecError> {
                codec::decode(Self::FORMAT, payload)
            }
        }

        impl Row for $name {
            fn new(id: u64, parent: u64, round: u64) -> Self {
                Self { id, parent, round }
            }

            fn parent(&self) -> u64 {
                self.parent
            }
        }
    )*};
}

trait Row: Entity<Key = u64> {
    fn new(id: u64, parent: u64, round: u64) -> Self;
    fn parent(&self) -> u64;
}

entities! {
    Author "author" []
    Post "post" ["author"]
    Comment "comment" ["post"]
    Hen "hen" ["egg"]
    Egg "egg" ["hen"]
    Tree "tree" ["tree"]
}

/// Who is whose parent in the database.
const LEVELS: [&str; 3] = ["author", "post", "comment"];

#[derive(Default)]
struct Tables {
    /// Parent by key, by entity.
    rows: BTreeMap<&'static str, BTreeMap<u64, u64>>,
    /// What was refused for a foreign key.
    violations: Vec<String>,
}

/// A database with foreign keys, one for all entities.
#[derive(Clone, Default)]
struct Database {
    tables: Arc<Mutex<Tables>>,
    /// Longest time that a write takes, in ms.
    slow: u64,
}

impl Database {
    fn slow(slow: u64) -> Self {
        Self { slow, ..Self::default() }
    }

    fn keys(&self, entity: &str) -> BTreeSet<u64> {
        self.tables.lock().unwrap().rows.get(entity).map(|rows| rows.keys().copied().collect()).unwrap_or_default()
    }

    fn violations(&self) -> Vec<String> {
        self.tables.lock().unwrap().violations.clone()
    }
}

#[async_trait]
impl<E: Row> Sink<E> for Database {
    async fn open(&self, _: &Scope) -> Result<(), SinkError> {
        Ok(())
    }

    async fn fence(&self, _: &Scope, _: u16) -> Result<Option<Fence>, SinkError> {
        Ok(None)
    }

    async fn write(&self, batch: &Batch<E>) -> Result<Report, SinkError> {
        if self.slow > 0 {
            let takes = Duration::from_millis(rand::rng().random_range(0..self.slow));
            tokio::time::sleep(takes).await;
        }
        let level = LEVELS.iter().position(|level| *level == E::NAME).unwrap();
        let Tables { rows, violations } = &mut *self.tables.lock().unwrap();
        let mut refused = Vec::new();
        for upsert in &batch.upserts {
            let parent = upsert.value.parent();
            let has = level == 0 || rows.get(LEVELS[level - 1]).is_some_and(|rows| rows.contains_key(&parent));
            if has {
                rows.entry(E::NAME).or_default().insert(upsert.value.key(), parent);
            } else {
                refused.push((upsert.id.clone(), format!("{} {} without its parent {parent}", E::NAME, upsert.id)));
            }
        }
        for delete in &batch.deletes {
            let children = LEVELS.get(level + 1).and_then(|child| rows.get(child));
            if children.is_some_and(|rows| rows.values().any(|parent| *parent == delete.key)) {
                refused.push((delete.id.clone(), format!("{} {} with children", E::NAME, delete.id)));
            } else {
                rows.entry(E::NAME).or_default().remove(&delete.key);
            }
        }
        violations.extend(refused.iter().map(|(_, text)| text.clone()));
        let error = |text| SinkError::new(ErrorKind::Deferred, text);
        Ok(Report::written(1).with_rejected(refused.into_iter().map(|(id, text)| (id, error(text))).collect()))
    }

    async fn load(&self, keys: &[u64]) -> Result<Vec<E>, SinkError> {
        let tables = self.tables.lock().unwrap();
        let found = |key: &u64| Some(E::new(*key, *tables.rows.get(E::NAME)?.get(key)?, 0));
        Ok(keys.iter().filter_map(found).collect())
    }
}

fn options() -> EntityOptions {
    EntityOptions::new().partitions(4).flush_every(Duration::from_millis(50)).max_batch(20)
}

struct House {
    engine: Engine,
    authors: Cache<Author>,
    posts: Cache<Post>,
    comments: Cache<Comment>,
}

impl House {
    async fn start(buffer: &MemoryBuffer, database: &Database, options: &EntityOptions) -> Self {
        Self::with_role(buffer, database, options, Role::Both).await
    }

    async fn with_role(buffer: &MemoryBuffer, database: &Database, options: &EntityOptions, role: Role) -> Self {
        // Children first: the order in which entities are given does not matter.
        let engine = Engine::builder(buffer.clone())
            .lease(Duration::from_millis(500))
            .role(role)
            .entity::<Comment>(database.clone(), options.clone())
            .entity::<Post>(database.clone(), options.clone())
            .entity::<Author>(database.clone(), options.clone())
            .start()
            .await
            .unwrap();
        let (authors, posts, comments) = (engine.cache().unwrap(), engine.cache().unwrap(), engine.cache().unwrap());
        Self { engine, authors, posts, comments }
    }

    fn dead_letters(&self) -> u64 {
        self.engine.stats().values().map(|stats| stats.dead_letters).sum()
    }

    async fn shutdown(self) -> u64 {
        self.engine.shutdown(FOREVER).await.unwrap().remaining
    }
}

fn seed() -> u64 {
    let seed = std::env::var("WB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("WB_SEED={seed}");
    seed
}

/// A program that keeps every foreign key at every moment, as it sees it.
struct Program {
    rng: StdRng,
    next: u64,
    /// Rows up to this key are in the database, and may be deleted. Of a family that comes and goes between two flushes the
    /// database may be asked to take a child whose parent it never sees: it refuses it, and the delete that is on its way
    /// already replaces it.
    known: u64,
    authors: BTreeMap<u64, usize>,
    posts: BTreeMap<u64, (u64, usize)>,
    comments: BTreeMap<u64, u64>,
}

impl Program {
    fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { rng, next: 0, known: 0, authors: BTreeMap::new(), posts: BTreeMap::new(), comments: BTreeMap::new() }
    }

    fn pick(&mut self, keys: Vec<u64>) -> Option<u64> {
        keys.choose(&mut self.rng).copied()
    }

    async fn step(&mut self, house: &House, deletes: bool) {
        self.next += 1;
        let id = self.next;
        match self.rng.random_range(0..if deletes { 10 } else { 5 }) {
            0 => {
                house.authors.put(&Author::new(id, 0, 0)).await.unwrap();
                self.authors.insert(id, 0);
            }
            1 | 2 => {
                let Some(author) = self.pick(self.authors.keys().copied().collect()) else { return };
                house.posts.put(&Post::new(id, author, 0)).await.unwrap();
                *self.authors.get_mut(&author).unwrap() += 1;
                self.posts.insert(id, (author, 0));
            }
            3 | 4 => {
                let Some(post) = self.pick(self.posts.keys().copied().collect()) else { return };
                house.comments.put(&Comment::new(id, post, 0)).await.unwrap();
                self.posts.get_mut(&post).unwrap().1 += 1;
                self.comments.insert(id, post);
            }
            5 | 6 => {
                let known = self.comments.keys().copied().filter(|id| *id <= self.known).collect();
                let Some(comment) = self.pick(known) else { return };
                house.comments.delete(&comment).await.unwrap();
                let post = self.comments.remove(&comment).unwrap();
                self.posts.get_mut(&post).unwrap().1 -= 1;
            }
            7 | 8 => {
                let free = self.posts.iter().filter(|(_, (_, comments))| *comments == 0).map(|(id, _)| *id);
                let Some(post) = self.pick(free.filter(|id| *id <= self.known).collect()) else { return };
                house.posts.delete(&post).await.unwrap();
                let (author, _) = self.posts.remove(&post).unwrap();
                *self.authors.get_mut(&author).unwrap() -= 1;
            }
            _ => {
                let free = self.authors.iter().filter(|(_, posts)| **posts == 0).map(|(id, _)| *id);
                let Some(author) = self.pick(free.filter(|id| *id <= self.known).collect()) else { return };
                house.authors.delete(&author).await.unwrap();
                self.authors.remove(&author);
            }
        }
    }

    async fn settle(&mut self, house: &House) {
        flush(house).await;
        self.known = self.next;
    }

    async fn pause(&mut self) {
        if self.rng.random_bool(0.1) {
            let wait = Duration::from_millis(self.rng.random_range(0..80));
            tokio::time::sleep(wait).await;
        }
    }

    fn check(&self, database: &Database) {
        assert_eq!(database.keys("author"), self.authors.keys().copied().collect());
        assert_eq!(database.keys("post"), self.posts.keys().copied().collect());
        assert_eq!(database.keys("comment"), self.comments.keys().copied().collect());
    }
}

async fn flush(house: &House) {
    for flushed in [
        timeout(FOREVER, house.authors.flush()).await,
        timeout(FOREVER, house.comments.flush()).await,
        timeout(FOREVER, house.posts.flush()).await,
    ] {
        flushed.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn parents_are_written_first_and_deleted_last_whoever_flushes_them() {
    let seed = seed();
    for round in 0..6 {
        let (buffer, database) = (MemoryBuffer::new(), Database::slow(60));
        let one = House::start(&buffer, &database, &options()).await;
        let two = House::start(&buffer, &database, &options()).await;
        let mut program = Program::new(seed.wrapping_add(round));
        for n in 0..600 {
            program.step(if n % 2 == 0 { &one } else { &two }, n >= 100).await;
            program.pause().await;
            if n % 100 == 99 {
                program.settle(&two).await;
            }
        }
        flush(&one).await;
        program.check(&database);
        assert_eq!(database.violations(), [""; 0], "seed {seed}, round {round}");
        assert_eq!(one.dead_letters() + two.dead_letters(), 0);
        assert_eq!((one.shutdown().await, two.shutdown().await), (0, 0));
    }
}

/// One worker dies in the middle; what its successor remembers of held deletes is nothing.
#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_leaves_the_order() {
    let seed = seed();
    for round in 0..6 {
        let (buffer, database) = (MemoryBuffer::new(), Database::slow(60));
        let mut one = House::start(&buffer, &database, &options()).await;
        let mut program = Program::new(seed.wrapping_add(round));
        for n in 0..400 {
            program.step(&one, n >= 100).await;
            program.pause().await;
            if n % 100 == 99 {
                program.settle(&one).await;
            }
            if n % 90 == 89 {
                drop(std::mem::replace(&mut one, House::start(&buffer, &database, &options()).await));
            }
        }
        flush(&one).await;
        program.check(&database);
        assert_eq!(database.violations(), [""; 0], "seed {seed}, round {round}");
        assert_eq!(one.shutdown().await, 0);
    }
}

/// Families that come and go faster than they are flushed: a child may be refused, and only one that is gone already.
#[tokio::test(start_paused = true)]
async fn families_that_come_and_go_end_as_they_should() {
    let seed = seed();
    for round in 0..6 {
        let (buffer, database) = (MemoryBuffer::new(), Database::slow(60));
        let one = House::start(&buffer, &database, &options()).await;
        let two = House::start(&buffer, &database, &options()).await;
        let mut program = Program::new(seed.wrapping_add(round));
        program.known = u64::MAX;
        for n in 0..600 {
            program.step(if n % 2 == 0 { &one } else { &two }, true).await;
            program.pause().await;
        }
        flush(&one).await;
        program.check(&database);
        for violation in database.violations() {
            let id: u64 = violation.split(' ').nth(1).and_then(|id| id.parse().ok()).unwrap();
            let alive = program.comments.contains_key(&id) || program.posts.contains_key(&id);
            assert!(violation.contains("without its parent") && !alive, "{violation}; seed {seed}, round {round}");
        }
        assert_eq!(one.dead_letters() + two.dead_letters(), 0);
        assert_eq!((one.shutdown().await, two.shutdown().await), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn negative_control_without_the_order_children_come_before_their_parents() {
    let seed = seed();
    let (mut orphans, mut widows) = (0, 0);
    for round in 0..6 {
        let (buffer, database) = (MemoryBuffer::new(), Database::slow(60));
        let house = House::start(&buffer, &database, &options().without(Mechanism::Order)).await;
        let mut program = Program::new(seed.wrapping_add(round));
        for n in 0..400 {
            program.step(&house, n >= 100).await;
            program.pause().await;
            if n % 100 == 99 {
                program.settle(&house).await;
            }
        }
        flush(&house).await;
        let violations = database.violations();
        orphans += violations.iter().filter(|text| text.contains("without its parent")).count();
        widows += violations.iter().filter(|text| text.contains("with children")).count();
        house.shutdown().await;
    }
    assert!(
        orphans > 0 && widows > 0,
        "{orphans} children before their parents, {widows} parents before their children"
    );
}

#[tokio::test(start_paused = true)]
async fn families_that_are_deleted_whole_leave_from_the_leaves_on() {
    let (buffer, database) = (MemoryBuffer::new(), Database::slow(60));
    let house = House::start(&buffer, &database, &options()).await;
    for n in 0..50 {
        house.authors.put(&Author::new(n, 0, 0)).await.unwrap();
        house.posts.put(&Post::new(n, n, 0)).await.unwrap();
        house.comments.put(&Comment::new(n, n, 0)).await.unwrap();
    }
    flush(&house).await;
    assert_eq!(database.keys("comment").len(), 50);
    // All at once, and parents first where the program does not care: the last state is what counts.
    for n in 0..50 {
        house.comments.delete(&n).await.unwrap();
        house.posts.delete(&n).await.unwrap();
        house.authors.delete(&n).await.unwrap();
    }
    // Of the grandparents alone: it waits for what holds them up.
    timeout(FOREVER, house.authors.flush()).await.expect("a flush ends").unwrap();
    assert_eq!(database.keys("author").len() + database.keys("post").len() + database.keys("comment").len(), 0);
    assert_eq!(database.violations(), [""; 0]);
    assert_eq!(house.shutdown().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_flushes_what_is_held() {
    let (buffer, database) = (MemoryBuffer::new(), Database::slow(60));
    // Nothing is flushed by itself.
    let options = options().flush_every(Duration::from_secs(3_600));
    let house = House::start(&buffer, &database, &options).await;
    house.authors.put(&Author::new(1, 0, 0)).await.unwrap();
    house.posts.put(&Post::new(1, 1, 0)).await.unwrap();
    flush(&house).await;
    house.posts.delete(&1).await.unwrap();
    house.authors.delete(&1).await.unwrap();
    let drained = house.engine.shutdown(Duration::from_secs(60)).await.unwrap();
    assert_eq!((drained.flushed, drained.remaining), (2, 0));
    assert_eq!(database.keys("author").len() + database.keys("post").len(), 0);
    assert_eq!(database.violations(), [""; 0]);
}

/// Nobody flushes the children here: the delete of the parent is counted as what it is, dirty.
#[tokio::test(start_paused = true)]
async fn a_held_delete_remains() {
    let (buffer, database) = (MemoryBuffer::new(), Database::default());
    let house = House::start(&buffer, &database, &options()).await;
    house.authors.put(&Author::new(1, 0, 0)).await.unwrap();
    house.posts.put(&Post::new(1, 1, 0)).await.unwrap();
    flush(&house).await;
    house.shutdown().await;

    // A worker for the authors, and one that has the posts' partitions and does not move.
    let stuck = Database::slow(10_000_000);
    let authors_only = async |buffer: &MemoryBuffer| {
        Engine::builder(buffer.clone())
            .lease(Duration::from_secs(600))
            .entity::<Author>(database.clone(), options())
            .entity::<Post>(stuck.clone(), options())
            .start()
            .await
            .unwrap()
    };
    let engine = authors_only(&buffer).await;
    let (authors, posts) = (engine.cache::<Author>().unwrap(), engine.cache::<Post>().unwrap());
    posts.delete(&1).await.unwrap();
    authors.delete(&1).await.unwrap();
    assert!(!authors.flush_within(Duration::from_secs(5)).await.unwrap(), "it is not in the sink");
    assert_eq!(authors.get(&1).await.unwrap(), None, "and read as deleted");
    assert_eq!(database.keys("author").len(), 1);
    let drained = engine.shutdown(Duration::from_secs(1)).await.unwrap();
    assert_eq!(drained.remaining, 2, "{drained:?}");
}

#[tokio::test(start_paused = true)]
async fn a_put_supersedes_a_held_delete() {
    let (buffer, database) = (MemoryBuffer::new(), Database::slow(60));
    let house = House::start(&buffer, &database, &options()).await;
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    house.authors.put(&Author::new(0, 0, 0)).await.unwrap();
    for round in 1..400 {
        // The same key again and again, with a child in between.
        house.posts.put(&Post::new(7, 0, round)).await.unwrap();
        house.comments.put(&Comment::new(round, 7, 0)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
        house.comments.delete(&round).await.unwrap();
        house.posts.delete(&7).await.unwrap();
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
        if round % 50 == 0 {
            timeout(FOREVER, house.posts.flush()).await.expect("a flush ends").unwrap();
            assert_eq!(database.keys("post").len(), 0, "seed {seed}");
        }
    }
    house.posts.put(&Post::new(7, 0, 0)).await.unwrap();
    flush(&house).await;
    assert_eq!(database.keys("post"), BTreeSet::from([7]));
    assert_eq!(database.keys("comment"), BTreeSet::new());
    assert_eq!(house.dead_letters(), 0);
    assert_eq!(house.shutdown().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_there_before_its_parent_waits_for_it() {
    let (buffer, database) = (MemoryBuffer::new(), Database::default());
    let house = House::start(&buffer, &database, &options()).await;
    for n in 0..20 {
        house.comments.put(&Comment::new(n, n, 0)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(!database.violations().is_empty());
    assert_eq!(house.dead_letters(), 0, "two minutes are not too long");
    for n in 0..20 {
        house.posts.put(&Post::new(n, n, 0)).await.unwrap();
        house.authors.put(&Author::new(n, 0, 0)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(database.keys("comment").len(), 20);
    assert_eq!(house.dead_letters(), 0);
    assert_eq!(house.shutdown().await, 0);
}

/// A writer flushes nothing, and waits for what others hold all the same.
#[tokio::test(start_paused = true)]
async fn a_flush_of_a_writer_waits_for_what_a_worker_holds() {
    let (buffer, database) = (MemoryBuffer::new(), Database::slow(300));
    let worker = House::with_role(&buffer, &database, &options(), Role::Worker).await;
    let writer = House::with_role(&buffer, &database, &options(), Role::Writer).await;
    for round in 0..20 {
        writer.authors.put(&Author::new(round, 0, 0)).await.unwrap();
        writer.posts.put(&Post::new(round, round, 0)).await.unwrap();
        flush(&writer).await;
        writer.posts.delete(&round).await.unwrap();
        writer.authors.delete(&round).await.unwrap();
        timeout(FOREVER, writer.authors.flush()).await.expect("a flush ends").unwrap();
        assert_eq!(database.keys("author").len(), 0);
    }
    assert_eq!(database.violations(), [""; 0]);
    writer.shutdown().await;
    assert_eq!(worker.shutdown().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_circle_is_refused_and_a_tree_is_not() {
    struct Nowhere;
    #[async_trait]
    impl<E: Entity> Sink<E> for Nowhere {
        async fn open(&self, _: &Scope) -> Result<(), SinkError> {
            Ok(())
        }

        async fn fence(&self, _: &Scope, _: u16) -> Result<Option<Fence>, SinkError> {
            Ok(None)
        }

        async fn write(&self, _: &Batch<E>) -> Result<Report, SinkError> {
            Ok(Report::written(1))
        }

        async fn load(&self, _: &[E::Key]) -> Result<Vec<E>, SinkError> {
            Ok(Vec::new())
        }
    }
    let builder = || Engine::builder(MemoryBuffer::new());
    let started = builder().entity::<Hen>(Nowhere, options()).entity::<Egg>(Nowhere, options()).start().await;
    let Err(StartError::Config(ConfigError::Circle { entities })) = started else { panic!("started") };
    assert_eq!(entities, "hen` → `egg` → `hen");

    let engine = builder().entity::<Tree>(Nowhere, options()).entity::<Hen>(Nowhere, options()).start().await.unwrap();
    let found: Vec<_> = engine.findings().iter().map(|finding| (finding.code, finding.subject.as_str())).collect();
    assert_eq!(found, [("parent-elsewhere", "entity `hen`")]);
    let trees = engine.cache::<Tree>().unwrap();
    trees.put(&Tree::new(1, 1, 0)).await.unwrap();
    trees.delete(&1).await.unwrap();
    timeout(FOREVER, trees.flush()).await.expect("nobody waits for himself").unwrap();
    assert_eq!(engine.shutdown(FOREVER).await.unwrap().remaining, 0);
}
