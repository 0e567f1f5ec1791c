//! The embedded buffer keeps the contract of buffers.

use std::sync::Arc;

use wb_core::testing::buffer as suite;
use wb_core::{Buffer, MemoryBuffer};

#[tokio::test(start_paused = true)]
async fn passes_the_suite() {
    suite::all(&MemoryBuffer::new()).await;
}

#[tokio::test]
async fn passes_the_suite_on_a_running_clock_behind_a_trait_object() {
    let buffer: Arc<dyn Buffer> = Arc::new(MemoryBuffer::new());
    suite::all(&*buffer).await;
}
