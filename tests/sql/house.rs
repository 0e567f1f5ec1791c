//! An engine over a SQL sink, impatient, and what became of its records.

use std::time::Duration;

use write_behind::{
    Cache, DeadLetters, Engine, Entity, EntityOptions, EntityStats, MemoryBuffer, RetryPolicy, SqlEntity, SqlSink,
};
use write_behind_tests::eventually;

/// Far longer than what is waited for should take.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct House<E: Entity> {
    pub(crate) engine: Engine,
    pub(crate) cache: Cache<E>,
    pub(crate) letters: DeadLetters<E>,
}

impl<E: SqlEntity + Clone> House<E> {
    pub(crate) async fn over(sink: &SqlSink) -> Self {
        let retry = RetryPolicy::new().initial(Duration::from_millis(20)).cap(Duration::from_millis(200)).attempts(3);
        let options = EntityOptions::new().flush_every(Duration::from_millis(20)).cache_ttl(Duration::ZERO);
        let builder = Engine::builder(MemoryBuffer::new()).entity::<E>(sink.clone(), options.retry(retry));
        let engine = builder.start().await.unwrap();
        let (cache, letters) = (engine.cache().unwrap(), engine.dead_letters().unwrap());
        Self { engine, cache, letters }
    }

    pub(crate) async fn put(&self, rows: impl IntoIterator<Item = E>) {
        let rows: Vec<E> = rows.into_iter().collect();
        self.cache.put_many(&rows).await.unwrap();
    }

    pub(crate) fn stats(&self) -> EntityStats {
        self.engine.stats()[E::NAME]
    }

    /// Waits until the sink was found wrong this often, for whatever the rows are, and sees that no row was blamed for it.
    pub(crate) async fn blames_the_configuration(&self, times: u64) {
        let before = self.stats().retries.misconfigured;
        eventually("the configuration is blamed", SOON, async || {
            (self.stats().retries.misconfigured >= before + times).then_some(())
        })
        .await;
        assert_eq!((self.letters.count().await.unwrap(), self.stats().refused), (0, 0));
    }

    /// Waits until everything is in the sink, and sees that nothing was refused on the way.
    pub(crate) async fn all_land(&self, rows: u64) {
        eventually("all rows land", SOON, async || {
            let stats = self.stats();
            assert_eq!(stats.dead_letters, 0);
            (stats.rows() >= rows && self.cache.scan_dirty(None, 1).await.unwrap().keys.is_empty()).then_some(())
        })
        .await;
    }

    /// Waits until there are so many letters.
    pub(crate) async fn dead(&self, letters: u64) {
        eventually("the letters", SOON, async || (self.letters.count().await.unwrap() >= letters).then_some(())).await;
    }
}
