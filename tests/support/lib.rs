//! Support for the integration tests: servers, names of their own, and waiting without sleeping for luck.
#![expect(
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says what it skips"
)]

mod own_redis;
mod player;
mod wire;

use std::time::Duration;

use tokio::time::Instant;

pub use own_redis::OwnRedis;
pub use player::Player;
pub use wire::Wire;

/// URL of a server from the environment, as `cargo xtask test` sets it. `None` skips the test with a line that says so;
/// where servers are required (CI, `WB_REQUIRE_SERVERS=1`) a missing one is a failure.
#[must_use]
pub fn server(variable: &str) -> Option<String> {
    if let Some(url) = std::env::var(variable).ok().filter(|url| !url.is_empty()) {
        return Some(url);
    }
    assert!(!required(), "{variable} is not set, and servers are required");
    eprintln!("skipped: {variable} is not set; `cargo xtask test` starts the servers");
    None
}

/// Whether a missing server is a failure, as it is in CI.
fn required() -> bool {
    let says = |name| std::env::var(name).is_ok_and(|value| value == "1" || value == "true");
    says("WB_REQUIRE_SERVERS") || says("CI")
}

/// The Redis that the tests may use; see [`server`].
#[must_use]
pub fn redis_url() -> Option<String> {
    server("WB_REDIS_URL")
}

/// A name that no other test and no other run has.
#[must_use]
pub fn unique(name: &str) -> String {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{name}_{}_{}", std::process::id(), nanos % 1_000_000_000)
}

/// Looks until `look` finds something.
///
/// # Panics
/// When it has not after `limit`.
pub async fn eventually<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The error of a result that must be one.
///
/// # Panics
/// When it is not.
pub fn refused<T, E>(result: Result<T, E>) -> E {
    match result {
        Ok(_) => panic!("was not refused"),
        Err(error) => error,
    }
}

/// An error and its sources in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
