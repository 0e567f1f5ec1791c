//! No password of an address is ever shown, wherever it stands and whatever it is made of.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use write_behind::{
    BufferErrorKind, Engine, EntityOptions, MemoryBuffer, MongoSink, RedisBuffer, RedisOptions, SqlOptions, SqlSink,
    WriteBehind,
};
use write_behind_tests::{chain, refused};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "guest", table = "guests", collection = "guests")]
struct Guest {
    #[wb(key)]
    id: i64,
}

const SHORT: Duration = Duration::from_millis(50);
const SPECIALS: &[char] = &[
    '!', '"', '#', '$', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/', ':', ';', '<', '=', '>', '?', '@', '[',
    '\\', ']', '^', '_', '`', '{', '|', '}', '~', ' ', '\t', '\n', 'ü', '😀', '0',
];

/// Where a password stands, or where it stands by mistake; nothing listens at any of these.
const REDIS: &[&str] = &[
    "redis://:{}@127.0.0.1:1/",
    "redis://app:{}@127.0.0.1:1/0",
    "redis://app%3A{}%40127.0.0.1:1/0",
    "REDIS://app:{}@127.0.0.1:1",
    "redis://{}@127.0.0.1:1/",
    "redis://127.0.0.1:1/?password={}",
    "redis://127.0.0.1:1/?protocol={}",
    "redis://127.0.0.1:1/0#{}",
    "redis://127.0.0.1:1/{}@0",
    "rediss://app:{}@127.0.0.1:1/",
    "redis+unix:///nowhere/redis.sock?pass={}",
    "redis+unix:///nowhere/redis.sock?db={}",
    "redis+unix:///nowhere/redis.sock&pass={}",
    "unix://app:{}@/nowhere/redis.sock",
    "app:{}@127.0.0.1:6379",
    "redis:app:{}@127.0.0.1:1",
    "redis//app:{}@127.0.0.1:1",
    "{}",
];
const SQL: &[&str] = &[
    "postgres://app:{}@127.0.0.1:1/blog",
    "postgresql://:{}@127.0.0.1:1/blog",
    "postgres://app%3A{}@127.0.0.1:1/blog",
    "postgres://app%3A{}%40127.0.0.1:1/blog",
    "mysql://127.0.0.1:1/blog;password={}",
    "postgres://127.0.0.1:1/blog?user=app&password={}",
    "postgres://127.0.0.1:1/blog?pass={}",
    "postgres://127.0.0.1:1/blog?sslmode={}",
    "postgres://127.0.0.1:1/blog?port={}",
    "postgres://127.0.0.1:1/blog?statement-cache-capacity={}",
    "postgres://127.0.0.1:1/blog#{}",
    "mysql://app:{}@127.0.0.1:1/blog",
    "MySQL://app:{}@127.0.0.1:1/blog",
    "mariadb://app:{}@127.0.0.1:1/blog",
    "MariaDB://app:{}@127.0.0.1:1/blog",
    "mysql://127.0.0.1:1/blog?password={}",
    "mysql://127.0.0.1:1/blog?ssl-mode={}",
    "sqlite://app:{}@nowhere/blog.db",
    "sqlite:nowhere/blog.db?mode={}",
    "sqlite:nowhere/blog.db?password={}",
    "oracle://app:{}@127.0.0.1:1/blog",
    "app:{}@127.0.0.1:5432/blog",
    "{}",
];
const MONGO: &[&str] = &[
    "mongodb://app:{}@127.0.0.1:1/?serverSelectionTimeoutMS=50",
    "mongodb://{}@127.0.0.1:1/?serverSelectionTimeoutMS=50",
    "mongodb://app%3A{}%40127.0.0.1:1/?serverSelectionTimeoutMS=50",
    "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50&password={}",
    "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50&readPreference={}",
    "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50&authMechanismProperties=AWS_SESSION_TOKEN:{}",
    "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS={}",
    "mongodb://127.0.0.1:1/a{}b@x?serverSelectionTimeoutMS=50",
    "mongo://app:{}@127.0.0.1:1/",
    "app:{}@127.0.0.1:27017",
    "{}",
];
/// Where the host was forgotten: only what cannot be taken for a host stands there.
const WITHOUT_HOST: &[&str] = &["redis://app:{}", "postgres://app:{}", "mysql://app:{}", "mongodb://app:{}"];

/// What is written into the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn error(error: &(impl std::error::Error + 'static)) -> String {
    format!("{error}\n{}\n{error:?}\n{error:#?}", chain(error))
}

/// All that can be seen of somebody who uses this address.
async fn seen(address: &str) -> String {
    let redis = RedisOptions::new().connect_timeout(SHORT);
    let buffer = match RedisBuffer::connect_with(address, redis.clone()).await {
        Ok(buffer) => format!("{buffer:?}"),
        Err(failed) => error(&failed),
    };
    let options = SqlOptions::new().connect_timeout(SHORT);
    let sql = match SqlSink::connect_with(address, options.clone()).await {
        Ok(sink) => {
            let builder = Engine::builder(MemoryBuffer::new()).entity::<Guest>(sink.clone(), EntityOptions::new());
            let shown = format!("{builder:?}");
            format!("{sink:?} {shown} {:?}", builder.doctor().await)
        }
        Err(failed) => error(&failed),
    };
    let mongo = match MongoSink::connect(address, "blog").await {
        Ok(sink) => {
            let builder = Engine::builder(MemoryBuffer::new()).entity::<Guest>(sink.clone(), EntityOptions::new());
            format!("{sink:?} {:?}", builder.doctor().await)
        }
        Err(failed) => error(&failed),
    };
    format!("{redis:?}\n{options:?}\n{buffer}\n{sql}\n{mongo}")
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn no_password_is_shown_wherever_it_stands_in_an_address() {
    let seed = std::env::var("WB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("WB_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let log = Log::default();
    let to = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || to.clone())
        .finish();
    let _heard = tracing::subscriber::set_default(subscriber);
    for _ in 0..12 {
        // In the middle of the specials stands what no message has by chance.
        let word: String = std::iter::repeat_with(|| random.random_range('a'..='z')).take(12).collect();
        let mut some = || (0..3).filter_map(|_| SPECIALS.choose(&mut random)).collect::<String>();
        let password = format!("k{}{word}{}", some(), some());
        let places = [REDIS, SQL, MONGO].concat();
        let raw = places.iter().map(|place| place.replace("{}", &password));
        let places = [&places[..], WITHOUT_HOST].concat();
        let escaped = places.iter().map(|place| place.replace("{}", &encoded(&password)));
        let addresses: Vec<String> = raw.chain(escaped).collect();
        let all = join_all(addresses.iter().map(|address| seen(address))).await;
        let logged = String::from_utf8_lossy(&std::mem::take(&mut *log.0.lock().unwrap())).into_owned();
        for (address, seen) in addresses.iter().zip(&all) {
            shows_none(&word, address, seen);
        }
        shows_none(&word, "the log", &logged);
    }
}

#[track_caller]
fn shows_none(word: &str, of: &str, text: &str) {
    let escaped = encoded(word);
    let line = text.lines().find(|line| line.contains(word) || line.to_uppercase().contains(&escaped));
    assert_eq!(line, None, "{of}");
}

/// What the places above are good for: with a password that may be shown it is found in them.
#[tokio::test]
async fn what_may_be_shown_is_shown() {
    let seen = seen("postgres://app:hunter2@127.0.0.1:1/blog").await;
    assert!(seen.contains("postgres://127.0.0.1:1/blog"), "{seen}");
    assert!(!seen.contains("hunter2"), "{seen}");
}

/// A server that does not know a command of the login quotes its arguments.
#[tokio::test]
async fn a_server_that_quotes_the_password_is_not_quoted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(read @ 1..) = socket.read(&mut bytes).await {
                    let text = String::from_utf8_lossy(bytes.get(..read).unwrap_or_default()).into_owned();
                    let commands = text.lines().filter(|line| line.starts_with('*')).count();
                    let answer = "-ERR unknown command 'HELLO', with args beginning with: 'app' 'hunter2'\r\n";
                    if socket.write_all(answer.repeat(commands).as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    for query in ["", "?protocol=resp3"] {
        let url = format!("redis://app:hunter2@127.0.0.1:{port}/{query}");
        let failed = refused(RedisBuffer::connect(&url).await);
        assert_eq!(failed.kind(), BufferErrorKind::Unavailable);
        let seen = error(&failed);
        assert!(!seen.contains("hunter2"), "{seen}");
        assert!(seen.contains(&format!("redis://127.0.0.1:{port}/")), "{seen}");
    }
}
