//! ULIDs: <https://github.com/ulid/spec>.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Crockford's digits: no I, L, O, U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Random bits, behind 48 bits of milliseconds.
const RANDOM: u32 = 80;

/// The last one of this process.
static LAST: Mutex<u128> = Mutex::new(0);

/// A ULID: 26 digits and capital letters, ordered by time like their bytes. ULIDs of one process ascend, also within a
/// millisecond and when the clock goes back; those of several are ordered as well as their clocks agree.
///
/// ```
/// use wb_core::ids;
///
/// let (first, second) = (ids::ulid(), ids::ulid());
/// assert!(first < second && first.len() == 26);
/// ```
#[must_use]
pub fn ulid() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    // No code that can panic runs under the lock.
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    *last = after(*last, now, rand::random());
    text(*last)
}

/// The ULID after `last`, at a time in milliseconds.
fn after(last: u128, now: u128, random: u128) -> u128 {
    let fresh = (now << RANDOM) | (random >> (128 - RANDOM));
    if fresh >> RANDOM > last >> RANDOM { fresh } else { last.saturating_add(1) }
}

fn text(ulid: u128) -> String {
    let digit = |place: u32| DIGITS.get((ulid >> (5 * place)) as usize & 31).map_or('0', |&digit| char::from(digit));
    (0..26).rev().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ulid_is_time_and_randomness_in_crockfords_digits() {
        // The specification's own example of a time.
        assert!(text(1_469_918_176_385 << RANDOM).starts_with("01ARYZ6S41"));
        assert_eq!(text(u128::MAX), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        assert_eq!(text(0), "0".repeat(26));
    }

    #[test]
    fn ulids_ascend_whatever_the_clock_does() {
        let first = after(0, 1_000, u128::MAX);
        assert_eq!(first >> RANDOM, 1_000);
        let mut last = first;
        for now in [1_000, 999, 0, 1_000] {
            let next = after(last, now, 0);
            assert!(next > last, "{now}");
            last = next;
        }
        assert_eq!(after(last, 2_000, 0), 2_000 << RANDOM);
    }

    #[test]
    fn the_ulids_of_eight_threads_are_unique_and_ascend() {
        let made: Vec<Vec<String>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..1_000).map(|_| ulid()).collect())).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        assert!(made.iter().all(|made| made.is_sorted()));
        let all: std::collections::HashSet<_> = made.iter().flatten().collect();
        assert_eq!(all.len(), 8_000);
    }
}
