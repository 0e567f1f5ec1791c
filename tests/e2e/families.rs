//! 100 000 posts and comments in random order, comments before their posts too, with a foreign key in the database, two
//! workers, and one that is dropped in between; then all of them deleted in random order. Nothing becomes a dead letter.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use write_behind::sql::sea_orm::{ConnectionTrait, Statement};
use write_behind::{
    Cache, CacheError, Engine, EntityOptions, EntityStats, RedisBuffer, SqlOptions, SqlSink, WriteBehind, create_table,
    drop_table,
};
use write_behind_tests::{server, unique};

const POSTS: i64 = 30_000;
const COMMENTS: i64 = 70_000;

/// Generous, for a machine that does other things too.
const LONGEST: Duration = Duration::from_secs(240);

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "post", table = "families_posts")]
struct Post {
    #[wb(key)]
    id: i64,
    title: String,
}

#[derive(Clone, Serialize, Deserialize, WriteBehind)]
#[wb(name = "comment", table = "families_comments")]
struct Comment {
    #[wb(key)]
    id: i64,
    #[wb(belongs_to = "Post")]
    post_id: i64,
    text: String,
}

#[derive(Clone, Copy)]
enum Write {
    Post(i64),
    Comment(i64),
}

struct House {
    engine: Engine,
    posts: Cache<Post>,
    comments: Cache<Comment>,
}

impl House {
    async fn start(redis: &str, sink: &SqlSink, namespace: &str) -> Self {
        let options = || EntityOptions::new().flush_every(Duration::from_millis(300));
        let engine = Engine::builder(RedisBuffer::connect(redis).await.unwrap())
            .namespace(namespace)
            .lease(Duration::from_secs(2))
            .entity::<Comment>(sink.clone(), options())
            .entity::<Post>(sink.clone(), options())
            .start()
            .await
            .unwrap();
        let (posts, comments) = (engine.cache().unwrap(), engine.cache().unwrap());
        Self { engine, posts, comments }
    }

    async fn write(&self, write: Write, delete: bool) -> Result<(), CacheError> {
        match (write, delete) {
            (Write::Post(id), false) => self.posts.put(&Post { id, title: format!("post {id}") }).await.map(drop),
            (Write::Comment(id), false) => {
                let comment = Comment { id, post_id: id % POSTS, text: format!("comment {id}") };
                self.comments.put(&comment).await.map(drop)
            }
            (Write::Post(id), true) => self.posts.delete(&id).await.map(drop),
            (Write::Comment(id), true) => self.comments.delete(&id).await.map(drop),
        }
    }

    fn figures(&self) -> [EntityStats; 2] {
        let stats = self.engine.stats();
        ["post", "comment"].map(|entity| stats.get(entity).copied().unwrap_or_default())
    }
}

/// What all engines have done, those that are gone too.
#[derive(Default)]
struct Sum {
    refused: u64,
    dead: u64,
    statements: u64,
}

impl Sum {
    fn add(&mut self, house: &House) {
        for stats in house.figures() {
            self.refused += stats.refused;
            self.dead += stats.dead_letters;
            self.statements += stats.statements;
        }
    }
}

async fn count(sink: &SqlSink, table: &str) -> i64 {
    let text = format!("SELECT COUNT(*) AS n FROM {table}");
    let row = sink.db().query_one_raw(Statement::from_string(sink.db().get_database_backend(), text)).await.unwrap();
    row.unwrap().try_get("", "n").unwrap()
}

/// Everything at once, from 64 tasks, in this order; in the middle one of the two workers is dropped and replaced.
async fn all(writes: &[Write], delete: bool, houses: &mut [House; 2], start: impl AsyncFn() -> House, sum: &mut Sum) {
    for (half, writes) in writes.chunks(writes.len().div_ceil(2)).enumerate() {
        let [one, two] = &*houses;
        let writing = stream::iter(writes.iter().enumerate()).map(Ok::<_, CacheError>);
        let put = async |(n, write): (usize, &Write)| {
            let house = if n % 2 == 0 { one } else { two };
            house.write(*write, delete).await
        };
        writing.map_ok(put).try_buffer_unordered(64).try_collect::<Vec<()>>().await.unwrap();
        if half == 0 {
            sum.add(&houses[1]);
            // In the middle of whatever it does; its leases run out by themselves.
            houses[1] = start().await;
        }
    }
}

async fn families(variable: &str) {
    let (Some(redis), Some(url)) = (server("WB_REDIS_URL"), server(variable)) else { return };
    let seed: u64 = std::env::var("WB_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("WB_SEED={seed}");
    let sink = SqlSink::connect_with(&url, SqlOptions::new().max_connections(12)).await.unwrap();
    drop_table::<Comment>(sink.db()).await.unwrap();
    drop_table::<Post>(sink.db()).await.unwrap();
    create_table::<Post>(sink.db()).await.unwrap();
    let table = "CREATE TABLE families_comments (id BIGINT NOT NULL PRIMARY KEY, post_id BIGINT NOT NULL, \
                 text VARCHAR(255) NOT NULL, FOREIGN KEY (post_id) REFERENCES families_posts (id))";
    sink.db().execute_unprepared(table).await.unwrap();
    // Databases look for the children of a row that is deleted; MariaDB makes this index itself.
    sink.db().execute_unprepared("CREATE INDEX families_of ON families_comments (post_id)").await.unwrap();

    let namespace = unique("families");
    let start = async || House::start(&redis, &sink, &namespace).await;
    let mut houses = [start().await, start().await];
    let mut writes: Vec<Write> = (0..POSTS).map(Write::Post).chain((0..COMMENTS).map(Write::Comment)).collect();
    let mut random = StdRng::seed_from_u64(seed);
    for delete in [false, true] {
        writes.shuffle(&mut random);
        let (mut before, mut sum) = (Sum::default(), Sum::default());
        houses.iter().for_each(|house| before.add(house));
        let begun = Instant::now();
        all(&writes, delete, &mut houses, &start, &mut sum).await;
        let acknowledged = begun.elapsed();
        let wanted = if delete { (0, 0) } else { (POSTS, COMMENTS) };
        loop {
            let rows = (count(&sink, "families_posts").await, count(&sink, "families_comments").await);
            if rows == wanted {
                break;
            }
            assert!(begun.elapsed() < LONGEST, "{rows:?} of {wanted:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let took = begun.elapsed();
        houses.iter().for_each(|house| sum.add(house));
        println!(
            "{} on {variable}: acknowledged in {acknowledged:.1?}, in the database in {took:.1?} ({:.0} rows/s); {} records \
             refused for a foreign key, {} statements",
            if delete { "deletes" } else { "writes" },
            100_000.0 / took.as_secs_f64(),
            sum.refused - before.refused,
            sum.statements - before.statements,
        );
        assert_eq!(sum.dead, 0, "dead letters");
    }
    for house in houses {
        assert_eq!(house.engine.shutdown(Duration::from_secs(60)).await.unwrap().remaining, 0);
    }
    drop_table::<Comment>(sink.db()).await.unwrap();
    drop_table::<Post>(sink.db()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn families_in_random_order_on_postgres() {
    families("WB_POSTGRES_URL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn families_in_random_order_on_mariadb() {
    families("WB_MYSQL_URL").await;
}
