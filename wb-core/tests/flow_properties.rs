//! Random histories in memory: nothing is lost, nothing goes back, every read is right.
//!
//! A failure prints the shortest history that fails and the seed; `WB_SEED=<seed>` plays the same cases again.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking")]

mod player;

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use wb_core::MemoryBuffer;
use wb_core::testing::history::{engine, flow};

use crate::player::Player;

/// A runner whose cases come from `WB_SEED`, or from a new seed that is printed.
fn runner(cases: u32) -> TestRunner {
    let given = std::env::var("WB_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
    eprintln!("WB_SEED={seed}");
    TestRunner::new(Config { cases, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

#[test]
fn p1_p3_p5_p9_histories_of_the_flow() {
    let result = runner(2_000).run(&(vec(any::<(u8, u8)>(), 0..120), any::<bool>()), |(bytes, cache)| {
        runtime().block_on(flow::play(&MemoryBuffer::new(), &flow::steps(&bytes), cache));
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn p1_p5_p9_histories_of_engines() {
    let result = runner(400).run(&(vec(any::<(u8, u8)>(), 0..80), any::<bool>()), |(bytes, cache)| {
        let buffer = MemoryBuffer::new();
        runtime().block_on(engine::play::<_, Player>(async || buffer.clone(), &engine::steps(&bytes), cache));
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
