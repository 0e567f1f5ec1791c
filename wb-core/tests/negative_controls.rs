//! Random histories find what is wrong: with a mechanism of the buffer switched off, one of them breaks a promise. The
//! same histories hold with all mechanisms in `flow_properties.rs`.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use wb_core::buffer::Registration;
use wb_core::testing::history::flow;
use wb_core::{Buffer, BufferError, Mechanism, MemoryBuffer, Sabotage, Space};

/// A buffer without a mechanism.
struct Without(MemoryBuffer, Mechanism);

#[async_trait]
impl Buffer for Without {
    async fn space(&self, mut registration: Registration) -> Result<Arc<dyn Space>, BufferError> {
        registration.sabotage = Sabotage::none().without(self.1);
        self.0.space(registration).await
    }

    async fn agree(&self, registrations: &[Registration]) -> Result<(), BufferError> {
        self.0.agree(registrations).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

/// A history that breaks, found within as many as the properties play.
fn breaks(mechanism: Mechanism) -> String {
    let given = std::env::var("WB_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
    eprintln!("WB_SEED={seed}");
    let config =
        Config { cases: 2_000, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&(vec(any::<(u8, u8)>(), 0..120), any::<bool>()), |(bytes, cache)| {
        let buffer = Without(MemoryBuffer::new(), mechanism);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(flow::play(&buffer, &flow::steps(&bytes), cache));
        Ok(())
    });
    match result {
        Err(TestError::Fail(reason, (bytes, _))) => {
            eprintln!("without {mechanism:?}: {reason}: {:?}", flow::steps(&bytes));
            reason.message().to_owned()
        }
        other => panic!("no history breaks without {mechanism:?}: {other:?}"),
    }
}

#[test]
fn negative_control_p4_writes_into_the_closed_epoch_in_memory() {
    // The state that the flush took with it is what a reader or the sink has not.
    let broken = breaks(Mechanism::ClosedEpochs);
    assert!(broken.contains("acknowledged") || broken.contains("reads wrong"), "{broken}");
}

#[test]
fn negative_control_p1_an_ack_of_anybody_in_memory() {
    let broken = breaks(Mechanism::AckCheck);
    assert!(broken.contains("a stale worker moves something"), "{broken}");
}

#[test]
fn negative_control_p3_back_overwrites_in_memory() {
    let broken = breaks(Mechanism::BackIfAbsent);
    assert!(broken.contains("reads wrong") || broken.contains("the sink goes back"), "{broken}");
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "a trim takes off what was read")]
async fn negative_control_p1_a_trim_of_anything_in_memory() {
    let buffer = Without(MemoryBuffer::new(), Mechanism::AckCheck);
    wb_core::testing::buffer::p1_a_trim_takes_off_what_was_read(&buffer).await;
}
