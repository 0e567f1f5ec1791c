//! How a promise is broken.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use write_behind_tests::chain;

/// How long something may take that must happen; far more than it takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a broken promise looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// An acknowledged write is not in the sink, and nothing will bring it there.
    Lost,
    /// An older state is in the sink after a newer one.
    WentBack,
    /// A read does not see an acknowledged write.
    Unread,
    /// Dirty data may vanish by itself.
    Expires,
    /// A cut is not of one instant.
    Torn,
    /// A limit is passed, or something passes that must not.
    Passed,
    /// Something is held up, or refused, that must go on.
    Blocked,
    /// What is said is not what is.
    Untrue,
    /// It did not happen in time.
    Overdue,
    /// The test could not be carried out.
    Trouble,
}

/// A broken promise.
pub(crate) struct Violation {
    pub(crate) sort: Sort,
    pub(crate) text: String,
}

pub(crate) type Kept = Result<(), Violation>;

impl Violation {
    pub(crate) fn new(sort: Sort, text: impl Into<String>) -> Self {
        Self { sort, text: text.into() }
    }

    pub(crate) fn trouble(text: impl Into<String>) -> Self {
        Self::new(Sort::Trouble, text)
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.sort, self.text)
    }
}

impl<E: Error> From<E> for Violation {
    fn from(error: E) -> Self {
        Self::trouble(chain(&error))
    }
}

/// A violation of this sort unless `kept`.
pub(crate) fn ensure(kept: bool, sort: Sort, text: impl FnOnce() -> String) -> Kept {
    if kept { Ok(()) } else { Err(Violation::new(sort, text())) }
}

/// Looks until `look` says yes.
pub(crate) async fn until(what: &str, mut look: impl AsyncFnMut() -> Result<bool, Violation>) -> Kept {
    let end = Instant::now() + DEADLINE;
    while !look().await? {
        ensure(Instant::now() < end, Sort::Overdue, || format!("not within {DEADLINE:?}: {what}"))?;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    Ok(())
}

/// Waits for `work`, but not for ever.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> Result<T, Violation> {
    let overdue = |_| Violation::new(Sort::Overdue, format!("not within {DEADLINE:?}: {what}"));
    tokio::time::timeout(DEADLINE, work).await.map_err(overdue)
}
