//! The buffer in Redis keeps the contract of buffers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ids;

use write_behind::RedisBuffer;
use write_behind::testing::buffer as suite;
use write_behind_tests::redis_url;

#[tokio::test]
async fn passes_the_suite() {
    let Some(url) = redis_url() else { return };
    suite::all(&RedisBuffer::connect(&url).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_on_threads() {
    let Some(url) = redis_url() else { return };
    suite::all(&RedisBuffer::connect(&url).await.unwrap()).await;
}
