//! P5: the last operation wins, deletes included.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use write_behind::{ErrorKind, RetryPolicy};

use crate::gate::{Fault, Gate};
use crate::house::House;
use crate::store::Rows;
use crate::violation::{Kept, Sort, Violation};

const KEYS: i64 = 12;
const OPERATIONS: i64 = 600;

/// A mix of operations on few keys, from two writers in turn, over a sink that fails now and then, with workers that die.
pub(crate) async fn p5_the_last_operation_wins(house: &House) -> Kept {
    let seed = std::env::var("WB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    mix(house, seed)
        .await
        .map_err(|Violation { sort, text }| Violation { sort, text: format!("WB_SEED={seed}: {text}") })
}

async fn mix(house: &House, seed: u64) -> Kept {
    let mut random = StdRng::seed_from_u64(seed);
    let writers = [house.writer().start().await?, house.writer().start().await?];
    let gate = Gate::open();
    let retry = RetryPolicy::new().initial(std::time::Duration::from_millis(1)).attempts(1_000_000);
    let plan = house.worker().gate(&gate).options(|o| o.retry(retry));
    let mut worker = plan.clone().start().await?;
    let mut last = Rows::new();
    for state in 0..OPERATIONS {
        let (writer, id) = (&writers[usize::try_from(state % 2)?], random.random_range(0..KEYS));
        match random.random_range(0..10) {
            0..3 => {
                writer.delete(id).await?;
                last.remove(&id);
            }
            _ => {
                writer.put(id, state).await?;
                last.insert(id, state);
            }
        }
        match random.random_range(0..40) {
            0 => gate.next(Fault::Fail(ErrorKind::Rejected)),
            1 => gate.next(Fault::Fail(ErrorKind::Transient)),
            2 => gate.next(Fault::Fail(ErrorKind::Unavailable)),
            3 => writer.accounts.flush().await?,
            _ => {}
        }
        if state % 250 == 249 {
            drop(worker);
            worker = plan.clone().start().await?;
        }
    }
    house.drained().await?;
    let expected: Vec<_> = (0..KEYS).map(|id| (id, last.get(&id).copied())).collect();
    house.holds(Sort::Lost, &expected).await
}
