//! The retry policy is data, and what to do after a failure is a pure function.

use std::time::Duration;

use crate::error::ConfigError;
use crate::sink::ErrorKind;

/// How failures are retried.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct RetryPolicy {
    pub(crate) initial: Duration,
    pub(crate) multiplier: f64,
    pub(crate) cap: Duration,
    pub(crate) jitter: f64,
    pub(crate) attempts: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            multiplier: 2.0,
            cap: Duration::from_secs(30),
            jitter: 0.2,
            attempts: 5,
        }
    }
}

impl RetryPolicy {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wait before the first retry. Default: 100 ms.
    pub const fn initial(mut self, initial: Duration) -> Self {
        self.initial = initial;
        self
    }

    /// Each wait is this much longer than the one before; at least 1. Default: 2.
    pub const fn multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// No wait is longer than this. Default: 30 s.
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// Each wait is shortened or lengthened at random by up to this share, so that workers do not knock together;
    /// 0 to 1. Default: 0.2.
    pub const fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// How often a record may be refused before it becomes a dead letter; at least 1. Outages do not count. Default: 5.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |what: &'static str| Err(ConfigError::Retry { what });
        if !(self.multiplier.is_finite() && self.multiplier >= 1.0) {
            return wrong("multiplier must be at least 1");
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return wrong("jitter must be from 0 to 1");
        }
        if self.attempts == 0 {
            return wrong("attempts must be at least 1");
        }
        if self.initial.is_zero() || self.cap < self.initial {
            return wrong("initial must be above zero and at most cap");
        }
        Ok(())
    }

    /// The wait before retry `n` (the first is 0), with `chance` from 0 to 1 deciding the jitter. Closed form, so that
    /// a policy resumes at any retry.
    #[must_use]
    pub fn delay(&self, n: u32, chance: f64) -> Duration {
        let factor = self.multiplier.powf(f64::from(n.min(1_000)));
        let plain = (self.initial.as_secs_f64() * factor).min(self.cap.as_secs_f64());
        let jittered = plain * (1.0 + self.jitter * (2.0 * chance.clamp(0.0, 1.0) - 1.0));
        Duration::try_from_secs_f64(jittered).unwrap_or(self.cap).min(self.cap)
    }
}

/// What to do with a batch that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same batch again, after the policy's wait; no attempt is counted.
    Wait,
    /// As `Wait`, but a person is needed.
    WaitForPerson,
    /// Find the records that are refused; the others go on.
    Isolate,
    /// Drop the claim and give the partitions up.
    GiveUp,
}

/// Transient failures in a row after which the sink is treated as unavailable.
const TRANSIENT_AT_ONCE: u32 = 3;

/// What to do with a batch after its `failures`-th failure in a row, and how long to wait first.
pub(crate) fn verdict(kind: ErrorKind, failures: u32, policy: &RetryPolicy, chance: f64) -> (Verdict, Duration) {
    match kind {
        ErrorKind::Unavailable => (Verdict::Wait, policy.delay(failures.saturating_sub(1), chance)),
        // A deadlock's victim wins the second time: no wait, but no endless hot loop either.
        ErrorKind::Transient if failures <= TRANSIENT_AT_ONCE => (Verdict::Wait, Duration::from_millis(5)),
        ErrorKind::Transient => (Verdict::Wait, policy.delay(failures - TRANSIENT_AT_ONCE - 1, chance)),
        ErrorKind::Misconfigured => (Verdict::WaitForPerson, policy.delay(u32::MAX, chance)),
        ErrorKind::Rejected | ErrorKind::Deferred => (Verdict::Isolate, Duration::ZERO),
        ErrorKind::Fenced => (Verdict::GiveUp, Duration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap() {
        let policy = RetryPolicy::new();
        assert_eq!(policy.delay(0, 0.5), Duration::from_millis(100));
        assert_eq!(policy.delay(3, 0.5), Duration::from_millis(800));
        assert_eq!(policy.delay(20, 0.5), Duration::from_secs(30));
        assert_eq!(policy.delay(u32::MAX, 1.0), Duration::from_secs(30));
        assert_eq!(policy.delay(0, 0.0), Duration::from_millis(80));
        assert_eq!(policy.delay(0, 1.0), Duration::from_millis(120));
    }

    #[test]
    fn verdicts_by_kind() {
        let policy = RetryPolicy::new();
        let of = |kind, failures| verdict(kind, failures, &policy, 0.5);
        assert_eq!(of(ErrorKind::Unavailable, 1), (Verdict::Wait, Duration::from_millis(100)));
        assert_eq!(of(ErrorKind::Unavailable, 1_000), (Verdict::Wait, Duration::from_secs(30)));
        assert_eq!(of(ErrorKind::Transient, 1), (Verdict::Wait, Duration::from_millis(5)));
        assert_eq!(of(ErrorKind::Transient, 4), (Verdict::Wait, Duration::from_millis(100)));
        assert_eq!(of(ErrorKind::Misconfigured, 1), (Verdict::WaitForPerson, Duration::from_secs(30)));
        assert_eq!(of(ErrorKind::Rejected, 1).0, Verdict::Isolate);
        assert_eq!(of(ErrorKind::Deferred, 1).0, Verdict::Isolate);
        assert_eq!(of(ErrorKind::Fenced, 1).0, Verdict::GiveUp);
    }

    #[test]
    fn senseless_policies_are_refused() {
        for policy in [
            RetryPolicy::new().attempts(0),
            RetryPolicy::new().multiplier(0.5),
            RetryPolicy::new().multiplier(f64::NAN),
            RetryPolicy::new().jitter(1.5),
            RetryPolicy::new().initial(Duration::ZERO),
            RetryPolicy::new().cap(Duration::from_millis(1)),
        ] {
            assert!(policy.check().is_err(), "{policy:?}");
        }
        assert!(RetryPolicy::new().check().is_ok());
    }
}
