//! Support for the integration tests.

mod wire;

use std::env;

pub use wire::Wire;

/// The Redis that the tests may use, from `WB_REDIS_URL`. Without one the caller has nothing to test: that is said, and
/// is an error where servers are required (`WB_REQUIRE_SERVERS=1` or `CI=true`).
///
/// # Panics
/// When servers are required and this one is missing.
#[must_use]
pub fn redis_url() -> Option<String> {
    server("WB_REDIS_URL")
}

#[expect(clippy::print_stderr, reason = "a test without its server fails, or says that it proves nothing")]
fn server(variable: &str) -> Option<String> {
    if let Some(url) = env::var(variable).ok().filter(|url| !url.is_empty()) {
        return Some(url);
    }
    let required = env::var("WB_REQUIRE_SERVERS").is_ok_and(|v| v == "1") || env::var("CI").is_ok_and(|v| v == "true");
    assert!(!required, "{variable} is not set, and servers are required");
    eprintln!("skipped: {variable} is not set");
    None
}

/// A namespace that was never used before.
#[must_use]
pub fn unique() -> String {
    format!("test-{}", uuid::Uuid::new_v4().simple())
}
