//! What is wrong is said at start, by name, without passwords, and soon.

use std::time::{Duration, Instant};

use write_behind::testing::ScriptedSink;
use write_behind::{
    BufferErrorKind, Engine, EntityOptions, ErrorKind, MemoryBuffer, MongoSink, RedisBuffer, SqlSink, StartError,
};
use write_behind_tests::{chain, refused, server, unique};

use crate::account::Account;

/// Generous, for a machine that does other things too.
const SOON: Duration = Duration::from_secs(20);

/// A loopback port that nothing listens on.
fn dead_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn assert_says(text: &str, port: u16) {
    println!("{text}");
    assert!(text.contains(&port.to_string()), "does not name the server: {text}");
    assert!(!text.contains("secret"), "shows the password: {text}");
}

#[tokio::test]
async fn an_unreachable_redis_is_named_without_its_password() {
    let (port, begun) = (dead_port(), Instant::now());
    let error = refused(RedisBuffer::connect(&format!("redis://user:secret@127.0.0.1:{port}/")).await);
    assert_eq!(error.kind(), BufferErrorKind::Unavailable);
    assert_says(&chain(&error), port);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_unreachable_sql_database_is_named_without_its_password() {
    for scheme in ["postgres", "mysql"] {
        let (port, begun) = (dead_port(), Instant::now());
        let url = format!("{scheme}://user:secret@127.0.0.1:{port}/db");
        starts_and_says(SqlSink::connect(&url).await.unwrap(), port).await;
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn an_unreachable_mongo_is_named_without_its_password() {
    let (port, begun) = (dead_port(), Instant::now());
    let url = format!("mongodb://user:secret@127.0.0.1:{port}/");
    starts_and_says(MongoSink::connect(&url, "db").await.unwrap(), port).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

/// What is away refuses no start.
async fn starts_and_says(sink: impl write_behind::Sink<Account>, port: u16) {
    let engine = start(sink).await.unwrap();
    let finding = engine.findings().iter().find(|finding| finding.code == "sink-away").unwrap();
    assert_says(&finding.text, port);
    engine.shutdown(SOON).await.unwrap();
}

/// What is wrong does.
#[tokio::test]
async fn a_refused_password_and_an_unknown_database_refuse_the_start() {
    for (variable, login) in [("WB_MYSQL_URL", "root@"), ("WB_POSTGRES_URL", "")] {
        let Some(url) = server(variable) else { continue };
        let (base, _) = url.rsplit_once('/').unwrap();
        let mut wrong = vec![format!("{base}/nowhere_at_all")];
        if !login.is_empty() {
            wrong.push(url.replace(login, "nobody:secret@"));
        }
        for url in wrong {
            match refused(start(SqlSink::connect(&url).await.unwrap()).await) {
                StartError::Sink { source, .. } => {
                    let text = chain(&source);
                    assert_eq!(source.kind(), ErrorKind::Misconfigured, "{text}");
                    assert!(!text.contains("secret"), "{text}");
                }
                other => panic!("{other}"),
            }
        }
    }
}

async fn start(sink: impl write_behind::Sink<Account>) -> Result<Engine, StartError> {
    Engine::builder(MemoryBuffer::new()).entity::<Account>(sink, EntityOptions::new()).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topology_that_disagrees_names_both_sides() {
    let Some(redis) = server("WB_REDIS_URL") else { return };
    let namespace = unique("topology");
    let engine = async |partitions: u16, sink: &ScriptedSink<Account>, within: Duration| {
        let options = EntityOptions::new().partitions(partitions).flush_every(Duration::from_millis(50));
        Engine::builder(RedisBuffer::connect(&redis).await.unwrap())
            .namespace(&namespace)
            .topology_change_within(within)
            .entity::<Account>(sink.clone(), options)
            .start()
            .await
    };
    let sink = ScriptedSink::new();
    let first = engine(16, &sink, SOON).await.unwrap();
    sink.fail_always(ErrorKind::Unavailable);
    first.cache::<Account>().unwrap().put(&Account::state(1, 1)).await.unwrap();
    let drained = first.shutdown(Duration::from_millis(200)).await.unwrap();
    assert_eq!(drained.remaining, 1, "the sink was away");

    // One that may not wait, and one whose sink is away.
    let other = ScriptedSink::new();
    for (sink, within) in [(&other, Duration::ZERO), (&sink, SOON)] {
        let error = refused(engine(32, sink, within).await);
        let text = chain(&error);
        println!("{text}");
        assert!(text.contains("partitions=16") && text.contains("partitions=32"), "{text}");
        assert!(text.contains(&namespace) && text.contains("account"), "{text}");
    }

    // One that may flush what is there lays the entity out anew.
    let second = engine(32, &other, SOON).await.unwrap();
    assert_eq!(other.rows().len(), 1, "what was dirty");
    second.shutdown(Duration::from_secs(10)).await.unwrap();
}
