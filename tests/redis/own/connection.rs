//! A connection that is bad is replaced, whatever it is bad of.

use std::time::{Duration, Instant};

use write_behind::testing::ScriptedSink;
use write_behind::{BufferErrorKind, Cache, CacheError, Engine, EntityOptions, RedisBuffer, RedisOptions, StartError};
use write_behind_tests::{OwnRedis, Wire, eventually, refused};

use crate::player::{Player, id};

const PATIENCE: Duration = Duration::from_secs(30);
const NOTHING: &[&str] = &["--save", "", "--appendonly", "no"];

struct Bench {
    sink: ScriptedSink<Player>,
    engine: Engine,
    players: Cache<Player>,
}

impl Bench {
    async fn start(url: &str, options: EntityOptions) -> Self {
        let sink = ScriptedSink::new();
        let short = Duration::from_secs(1);
        let redis = RedisOptions::new().connect_timeout(short).response_timeout(short);
        let engine = Engine::builder(RedisBuffer::connect_with(url, redis).await.unwrap())
            .lease(Duration::from_secs(2))
            .entity::<Player>(sink.clone(), options.partitions(4).flush_every(Duration::from_millis(100)))
            .start()
            .await
            .unwrap();
        let players = engine.cache().unwrap();
        Self { sink, engine, players }
    }

    async fn put(&self, id: u64, score: u64) -> Result<(), BufferErrorKind> {
        match self.players.put(&Player::new(id, score)).await {
            Ok(_) => Ok(()),
            Err(CacheError::Buffer(error)) => Err(error.kind()),
            // Nothing else belongs here; whoever looks at the kind says so.
            Err(_) => Err(BufferErrorKind::Misconfigured),
        }
    }

    /// Puts until one is acknowledged; each that is not says what is known of it.
    async fn puts_again(&self, id: u64, score: u64) {
        eventually("a put is acknowledged", PATIENCE, async || match self.put(id, score).await {
            Ok(()) => Some(()),
            Err(kind) => {
                assert!(matches!(kind, BufferErrorKind::Unavailable | BufferErrorKind::Unknown), "{kind}");
                None
            }
        })
        .await;
        // It is not luck of one request: from now on each one works.
        for score in score..score + 100 {
            assert_eq!(self.put(id, score).await, Ok(()), "{score}");
        }
    }

    async fn lands(&self, of: u64, score: u64) {
        eventually("the row", PATIENCE, async || {
            (self.sink.row(&id(of)) == Some(Player::new(of, score))).then_some(())
        })
        .await;
    }

    async fn stop(self) {
        self.engine.shutdown(PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn a_reconnect_refused_by_a_wrong_password_is_tried_again() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let url = format!("redis://:right@127.0.0.1:{}/", server.port);
    let mut admin = server.plain().await;
    let password = async |admin: &mut redis::aio::MultiplexedConnection, word: &str| {
        redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(word).exec_async(admin).await.unwrap();
    };
    password(&mut admin, "right").await;
    let bench = Bench::start(&url, EntityOptions::new()).await;
    assert_eq!(bench.put(1, 1).await, Ok(()));
    password(&mut admin, "wrong").await;
    redis::cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("NORMAL")
        .arg("SKIPME")
        .arg("YES")
        .exec_async(&mut admin)
        .await
        .unwrap();
    // The reconnect is refused, and the caller hears that nothing was done.
    eventually("a put that never left", PATIENCE, async || {
        (bench.put(1, 2).await == Err(BufferErrorKind::Unavailable)).then_some(())
    })
    .await;
    let error = refused(bench.players.put(&Player::new(1, 3)).await);
    let text = write_behind_tests::chain(&error);
    assert!(text.contains("not sent"), "{text}");
    password(&mut admin, "right").await;
    let begun = Instant::now();
    bench.puts_again(1, 4).await;
    println!("puts again after {:?}", begun.elapsed());
    bench.lands(1, 103).await;
    bench.stop().await;
}

/// Nobody mends a password by waiting: at connect, and at a start after it, that is no outage.
#[tokio::test]
async fn a_wrong_password_is_a_misconfiguration_at_connect_and_at_start() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let mut admin = server.plain().await;
    let password = async |admin: &mut redis::aio::MultiplexedConnection, word: &str| {
        redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(word).exec_async(admin).await.unwrap();
    };
    password(&mut admin, "hunter2").await;
    let short = RedisOptions::new().connect_timeout(Duration::from_millis(500));
    let port = server.port;
    for url in [
        format!("redis://127.0.0.1:{port}/"),
        format!("redis://hunter3@127.0.0.1:{port}/"),
        format!("redis://:hunter3@127.0.0.1:{port}/"),
        format!("redis://app:hunter3@127.0.0.1:{port}/"),
        format!("redis://:hunter3@127.0.0.1:{port}/?protocol=resp3"),
    ] {
        let error = refused(RedisBuffer::connect_with(&url, short.clone()).await);
        let text = format!("{} {error:?}", write_behind_tests::chain(&error));
        assert_eq!(error.kind(), BufferErrorKind::Misconfigured, "{text}");
        assert!(text.contains(&format!("redis://127.0.0.1:{port}/")) && !text.contains("hunter"), "{text}");
    }
    // Whatever the password is: it cannot be told while nobody is let in at all.
    let url = format!("redis://:hunter2@127.0.0.1:{port}/");
    redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(1).exec_async(&mut admin).await.unwrap();
    let error = refused(RedisBuffer::connect_with(&url, short.clone()).await);
    assert_eq!(error.kind(), BufferErrorKind::Unavailable, "{}", write_behind_tests::chain(&error));
    redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(100).exec_async(&mut admin).await.unwrap();

    let buffer = RedisBuffer::connect_with(&url, short).await.unwrap();
    password(&mut admin, "hunter3").await;
    let kill = ["KILL", "TYPE", "NORMAL", "SKIPME", "YES"];
    redis::cmd("CLIENT").arg(&kill).exec_async(&mut admin).await.unwrap();
    let builder = Engine::builder(buffer).entity::<Player>(ScriptedSink::new(), EntityOptions::new());
    // A request that meets the end of the connection is told so; the next one is not let in.
    let error = match refused(builder.start().await) {
        StartError::Buffer { source, .. } => source,
        other => panic!("{other:?}"),
    };
    let text = format!("{} {error:?}", write_behind_tests::chain(&error));
    assert!(!text.contains("hunter"), "{text}");
    assert!(matches!(error.kind(), BufferErrorKind::Misconfigured | BufferErrorKind::Unknown), "{text}");
}

/// The old primary stays up and takes no writes; the address leads to the new one from some moment on.
#[tokio::test]
async fn after_a_failover_behind_one_address_writes_go_to_the_new_primary() {
    let Some(old) = OwnRedis::start(NOTHING).await else { return };
    let Some(new) = OwnRedis::start(NOTHING).await else { return };
    let wire = Wire::to(&old.url()).await.unwrap();
    let bench = Bench::start(&wire.url, EntityOptions::new()).await;
    assert_eq!(bench.put(1, 1).await, Ok(()));
    bench.lands(1, 1).await;
    old.run(&["REPLICAOF", "127.0.0.1", &new.port.to_string()]).await;
    eventually("no more writes", PATIENCE, async || bench.put(1, 2).await.err()).await;
    // Nothing but a replica behind the address: nobody is told that a write is stored.
    for score in 3..6 {
        assert_eq!(bench.put(1, score).await, Err(BufferErrorKind::Unavailable));
    }
    wire.lead_to(&new.url());
    let begun = Instant::now();
    bench.puts_again(1, 10).await;
    println!("puts again after {:?}", begun.elapsed());
    bench.lands(1, 109).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_primary_that_turns_read_only_and_back_takes_writes_again() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let bench = Bench::start(&server.url(), EntityOptions::new()).await;
    assert_eq!(bench.put(1, 1).await, Ok(()));
    // Its primary is nobody: it keeps its data, and takes no writes.
    server.run(&["REPLICAOF", "127.0.0.1", "1"]).await;
    eventually("no more writes", PATIENCE, async || bench.put(1, 2).await.err()).await;
    server.run(&["REPLICAOF", "NO", "ONE"]).await;
    bench.puts_again(1, 10).await;
    bench.lands(1, 109).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_socket_that_went_silent_is_replaced() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let wire = Wire::to(&server.url()).await.unwrap();
    let bench = Bench::start(&wire.url, EntityOptions::new()).await;
    assert_eq!(bench.put(1, 1).await, Ok(()));
    wire.silence();
    let begun = Instant::now();
    let first = bench.put(1, 2).await;
    assert!(matches!(first, Ok(()) | Err(BufferErrorKind::Unknown)), "it may have left: {first:?}");
    bench.puts_again(1, 10).await;
    println!("puts again after {:?}", begun.elapsed());
    bench.lands(1, 109).await;
    bench.stop().await;
}

/// A server that loads its data takes connections and answers everything with LOADING.
#[tokio::test]
async fn a_server_that_comes_back_is_found_whatever_it_says_meanwhile() {
    let Some(mut server) = OwnRedis::start(NOTHING).await else { return };
    let bench = Bench::start(&server.url(), EntityOptions::new()).await;
    for round in 0..3 {
        server.kill().await;
        eventually("no more writes", PATIENCE, async || bench.put(1, round).await.err()).await;
        eventually("a put that never left", PATIENCE, async || {
            (bench.put(1, round).await == Err(BufferErrorKind::Unavailable)).then_some(())
        })
        .await;
        server.restart().await;
        bench.puts_again(1, 10).await;
    }
    bench.lands(1, 109).await;
    bench.stop().await;
}

#[tokio::test]
async fn without_a_server_a_caller_waits_for_the_connect_timeout_at_most() {
    let Some(mut server) = OwnRedis::start(NOTHING).await else { return };
    let bench = Bench::start(&server.url(), EntityOptions::new()).await;
    server.kill().await;
    eventually("a put that never left", PATIENCE, async || {
        (bench.put(1, 1).await == Err(BufferErrorKind::Unavailable)).then_some(())
    })
    .await;
    let begun = Instant::now();
    assert_eq!(bench.put(1, 2).await, Err(BufferErrorKind::Unavailable));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(server);
    // What is dirty died with it: nothing to flush, and nobody to ask.
    let _ = bench.engine.shutdown(Duration::from_millis(100)).await;
}

/// What was sent on a connection that was given up, and waits in a proxy, does not arrive on top of what the next connection
/// has written.
#[tokio::test]
async fn p3_what_waits_on_a_connection_that_was_given_up_never_lands() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let wire = Wire::to(&server.url()).await.unwrap();
    let bench = Bench::start(&wire.url, EntityOptions::new()).await;
    bench.sink.hold();
    assert_eq!(bench.put(1, 1).await, Ok(()));
    wire.stall(true);
    let old = bench.put(1, 2).await;
    assert!(matches!(old, Ok(()) | Err(BufferErrorKind::Unknown)), "it may have left: {old:?}");
    bench.puts_again(1, 10).await;
    // The old bytes travel on.
    wire.stall(false);
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(bench.players.get(&1).await.unwrap(), Some(Player::new(1, 109)), "the last acknowledged write");
    }
    bench.sink.release();
    bench.lands(1, 109).await;
    bench.stop().await;
}
