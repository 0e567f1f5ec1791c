//! Random histories on a real server: nothing is lost, nothing goes back, every read is right.
//!
//! A failure prints the shortest history that fails and the seed; `WB_SEED=<seed>` plays the same cases again.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking")]

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use write_behind::RedisBuffer;
use write_behind::testing::history::{engine, flow};
use write_behind_tests::{Player, redis_url};

/// A runner whose cases come from `WB_SEED`, or from a new seed that is printed.
fn runner(cases: u32) -> TestRunner {
    let given = std::env::var("WB_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
    eprintln!("WB_SEED={seed}");
    let shrinking = 200;
    let seeded = Config { cases, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
    TestRunner::new(Config { max_shrink_iters: shrinking, ..seeded })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn p1_p3_p5_p9_histories_of_the_flow() {
    let Some(url) = redis_url() else { return };
    let runtime = runtime();
    let buffer = runtime.block_on(RedisBuffer::connect(&url)).unwrap();
    let result = runner(64).run(&(vec(any::<(u8, u8)>(), 0..120), any::<bool>()), |(bytes, cache)| {
        runtime.block_on(flow::play(&buffer, &flow::steps(&bytes), cache));
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn p1_p5_p9_histories_of_engines() {
    let Some(url) = redis_url() else { return };
    let runtime = runtime();
    let result = runner(32).run(&(vec(any::<(u8, u8)>(), 0..60), any::<bool>()), |(bytes, cache)| {
        let connect = async || RedisBuffer::connect(&url).await.unwrap();
        runtime.block_on(engine::play::<_, Player>(connect, &engine::steps(&bytes), cache));
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
