//! The entity of these tests, and engines over it.

use std::time::Duration;

use write_behind::testing::ScriptedSink;
use write_behind::{Engine, Entity, EntityOptions, RedisBuffer, RetryPolicy};
pub(crate) use write_behind_tests::Player;

/// Where engines run.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) namespace: String,
    pub(crate) sink: ScriptedSink<Player>,
    pub(crate) lease: Duration,
    pub(crate) partitions: u16,
}

impl Place {
    pub(crate) async fn start(&self) -> Engine {
        let retry = RetryPolicy::new().initial(Duration::from_millis(5)).cap(Duration::from_millis(50));
        let options = EntityOptions::new()
            .partitions(self.partitions)
            .flush_every(Duration::from_millis(100))
            .cache_ttl(Duration::from_secs(60))
            .retry(retry);
        Engine::builder(RedisBuffer::connect(&self.url).await.unwrap())
            .namespace(&self.namespace)
            .lease(self.lease)
            .entity::<Player>(self.sink.clone(), options)
            .start()
            .await
            .unwrap()
    }
}

pub(crate) fn owned(engine: &Engine) -> Vec<u16> {
    engine.owned().remove(Player::NAME).unwrap()
}
