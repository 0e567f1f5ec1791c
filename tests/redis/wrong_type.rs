//! A foreign value under a key of the framework is an error, never a loss: what a script has done before it fails stays
//! done, so a step must not take a record out before it knows that it can put it where it goes.

use std::sync::Arc;
use std::time::Duration;

use write_behind::buffer::{Attempts, DeadLetter, Done, Lookup, Registration, Rotation, Stamp, Step};
use write_behind::{Buffer, BufferErrorKind, Format, Id, Record, RedisBuffer, Scope, Write};
use write_behind_tests::{redis_url, refused, unique};

const OWNER: &str = "worker";

#[tokio::test]
async fn p1_a_step_that_cannot_finish_takes_nothing_out() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("wrong_type");
    let scope = Arc::new(Scope::new(&namespace, "specimen", 1));
    let buffer = RedisBuffer::connect(&url).await.unwrap();
    let space = buffer.space(Registration::new(scope, Format::Json)).await.unwrap();
    let mut other = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();

    let id = Id::of(&1_u64).unwrap();
    let record = Record::from_bytes("1");
    space.put(vec![Write { partition: 0, id: id.clone(), record: record.clone() }]).await.unwrap();
    space.take(&[0], OWNER, Duration::from_secs(60)).await.unwrap();
    assert_eq!(space.rotate(0, OWNER, Stamp::default()).await.unwrap(), Rotation::Epoch(1));
    let step = Step { partition: 0, owner: OWNER, epoch: 1, stamp: Stamp::default() };
    let again = [(id.clone(), Attempts { count: 1, first_ms: 1, ..Attempts::default() })];
    let letter = [(id.clone(), DeadLetter::new(&record, "rejected", "no".into(), 1, 1, 1))];

    for hash in ["open", "attempts", "dead"] {
        let key = format!("{namespace}:{{specimen:00/1}}:{hash}");
        redis::cmd("SET").arg(&key).arg("foreign").exec_async(&mut other).await.unwrap();
        let error = match hash {
            "dead" => refused(space.bury(&step, &letter).await),
            _ => refused(space.back(&step, &again).await),
        };
        assert_eq!(error.kind(), BufferErrorKind::Misconfigured, "{hash}: {error}");
        redis::cmd("DEL").arg(&key).exec_async(&mut other).await.unwrap();
        assert_eq!(space.claim(0, 0, 10).await.unwrap().records, [(id.clone(), record.clone())], "{hash}");
    }
    assert_eq!(space.back(&step, &again).await.unwrap(), Done::Epoch);
    assert_eq!(space.get(0, &[id]).await.unwrap(), [Lookup::Dirty(record)]);
    buffer.close().await;
}
