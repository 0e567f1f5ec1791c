//! A Redis that is full refuses writes, and workers empty it all the same. On a server of its own, which is small.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use write_behind::buffer::{Attempts, Clean, DeadLetter, Done, Holder, Registration, Rotation, Step};
use write_behind::{Buffer, BufferErrorKind, Format, Id, Record, RedisBuffer, Scope, Write};

/// A small server, or nothing where there is no `redis-server`.
async fn small() -> Option<(Child, String)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match command.spawn() {
        Ok(server) => Some((server, format!("redis://127.0.0.1:{port}/"))),
        Err(error) => {
            // Where servers are required, this one is too.
            let required = |name| std::env::var(name).is_ok_and(|value| value == "1" || value == "true");
            assert!(!required("WB_REQUIRE_SERVERS") && !required("CI"), "redis-server does not start: {error}");
            eprintln!("skipped: redis-server does not start: {error}");
            None
        }
    }
}

async fn connect(url: &str) -> RedisBuffer {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match RedisBuffer::connect(url).await {
            Ok(buffer) => return buffer,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn p7_a_full_redis_is_emptied_by_its_workers() {
    let Some((_server, url)) = small().await else { return };
    let buffer = connect(&url).await;
    let scope = Arc::new(Scope::new("small", "specimen", 1));
    let space = buffer.space(Registration::new(scope, Format::Json)).await.unwrap();
    let id = |n: u32| Id::of(&n).unwrap();
    let write = |n: u32| Write { partition: 0, id: id(n), record: Record::from_bytes(vec![b'x'; 1_000]) };
    for n in 0..1_000 {
        space.put(vec![write(n)]).await.unwrap();
    }
    let client = redis::Client::open(url.as_str()).unwrap();
    let mut admin = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1mb").exec_async(&mut admin).await.unwrap();
    let refused = space.put(vec![write(1_001)]).await.unwrap_err();
    assert_eq!(refused.kind(), BufferErrorKind::Full, "{refused}");

    let ttl = Duration::from_secs(60);
    assert_eq!(space.take(&[0], "worker", ttl).await.unwrap(), [true]);
    assert_eq!(space.take(&[0], "worker", ttl).await.unwrap(), [true]);
    let roll = space.heartbeat("worker", ttl).await.unwrap();
    assert_eq!((roll.workers, roll.leases), (vec!["worker".to_owned()], vec![Holder::Caller]));
    space.retire("worker").await.unwrap();
    let Rotation::Epoch(epoch) = space.rotate(0, "worker").await.unwrap() else { panic!("nothing to flush") };
    let status = space.status(0).await.unwrap();
    assert_eq!((status.open_epoch, status.flushing), (epoch + 1, 1_000), "rotated whole");
    let step = Step { partition: 0, owner: "worker", epoch };
    let letter = DeadLetter::new(&Record::from_bytes("x"), "rejected", "no".to_owned(), 1, 1, 1);
    assert_eq!(space.bury(&step, &[(id(0), letter)]).await.unwrap(), Done::More);
    let attempts = Attempts { count: 1, first_ms: 1, ..Attempts::default() };
    assert_eq!(space.back(&step, &[(id(1), attempts)]).await.unwrap(), Done::More);
    let rest: Vec<Id> = (2..1_000).map(id).collect();
    let clean = Clean { ttl: Duration::from_millis(1), negative_ttl: Duration::from_millis(1) };
    assert_eq!(space.ack(&step, &rest, clean).await.unwrap(), Done::Epoch);
    // Room again: the records went with their clean copies, and the server's own share of memory is not theirs.
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("8mb").exec_async(&mut admin).await.unwrap();
    space.put(vec![write(1_001)]).await.unwrap();
}
