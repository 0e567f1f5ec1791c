//! Ids in blocks, from a counter in Redis.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use write_behind::testing::ScriptedSink;
use write_behind::{Engine, EntityOptions, Id, RedisBuffer};
use write_behind_tests::{Player, redis_url, unique};

async fn engine(url: &str, namespace: &str, sink: &ScriptedSink<Player>) -> Engine {
    let buffer = RedisBuffer::connect(url).await.unwrap();
    let options = EntityOptions::new().flush_every(Duration::from_millis(50));
    Engine::builder(buffer).namespace(namespace).entity::<Player>(sink.clone(), options).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_two_engines_are_unique_and_a_lost_counter_goes_on_above_the_sink() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("ids");
    let sink = ScriptedSink::<Player>::new();
    let engines = [engine(&url, &namespace, &sink).await, engine(&url, &namespace, &sink).await];
    let made = async |count: usize| {
        let tasks = engines.iter().flat_map(|engine| {
            let ids = engine.ids::<Player>(16).unwrap();
            (0..8).map(move |_| {
                let ids = ids.clone();
                tokio::spawn(async move {
                    let mut made = Vec::new();
                    for _ in 0..count {
                        made.push(ids.next().await.unwrap());
                    }
                    made
                })
            })
        });
        join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect::<Vec<i64>>()
    };
    let first = made(200).await;
    let unique: HashSet<i64> = first.iter().copied().collect();
    assert_eq!(unique.len(), 16 * 200);
    let highest = first.iter().copied().max().unwrap();

    let id = u64::try_from(highest + 50_000).unwrap();
    sink.set_row(Id::of(&id).unwrap(), Player { id, score: 1 });
    let mut redis = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let removed: u64 =
        redis::cmd("DEL").arg(format!("{namespace}:{{player}}:ids")).query_async(&mut redis).await.unwrap();
    assert_eq!(removed, 1, "the key is where the documents say");
    // New allocators, as new processes have them.
    let second = made(20).await;
    assert!(second.iter().all(|made| *made > highest + 50_000), "above the sink's highest key");
    assert_eq!(second.iter().collect::<HashSet<_>>().len(), second.len());
    for engine in engines {
        engine.shutdown(Duration::from_secs(10)).await.unwrap();
    }
}
