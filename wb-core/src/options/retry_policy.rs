//! The retry policy is data, and what to do after a failure is a pure function.

use std::time::Duration;

use crate::error::ConfigError;
use crate::error::sink::ErrorKind;

/// How failures are retried.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct RetryPolicy {
    pub(crate) initial: Duration,
    pub(crate) multiplier: f64,
    pub(crate) cap: Duration,
    pub(crate) jitter: f64,
    pub(crate) attempts: u32,
    pub(crate) deferrals: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            multiplier: 2.0,
            cap: Duration::from_secs(30),
            jitter: 0.2,
            attempts: 5,
            deferrals: 60,
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

    /// How often a record may be refused before it becomes a dead letter; at least 1. Between two tries it waits as the
    /// policy says, and until the next flush. Outages do not count, nor does what may be the configuration's fault while no other
    /// record lands ([`SinkError::ambiguous`](crate::SinkError::ambiguous)). Default: 5.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// How often a record may be deferred (a foreign key's parent is not there yet) before it becomes a dead letter; at
    /// least 1. Counted apart from [`attempts`](Self::attempts). The waits grow like those of other refusals, but to
    /// 5 s at most, so that a child is flushed soon after its parent; the default gives a parent some five minutes to
    /// arrive. More than 65 536 records at a time are not remembered to wait: those beyond are tried at every flush, and
    /// their deferrals are not counted meanwhile. Default: 60.
    pub const fn deferrals(mut self, deferrals: u32) -> Self {
        self.deferrals = deferrals;
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
        if self.attempts == 0 || self.deferrals == 0 {
            return wrong("attempts and deferrals must be at least 1");
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
    /// The sink is away: the circuit opens, and one batch at a time tries after the policy's wait. No attempt is counted.
    Outage,
    /// The same batch again after the wait; others go on.
    Again,
    /// Smaller parts of the batch; of a single record, others first.
    Halve,
    /// Find the records that are refused; the others go on.
    Isolate,
    /// Drop the claim and give the partitions up.
    GiveUp,
}

/// Quick transient failures in a row after which a batch is halved.
const TRANSIENT_AT_ONCE: u32 = 3;

/// Panics in a row after which a batch is taken for the reason, and not the sink as a whole.
const PANICS_OF_A_SINK: u32 = 3;

/// Whether the record is to be looked for that makes the sink panic.
pub(crate) const fn isolates(panics: u32) -> bool {
    panics >= PANICS_OF_A_SINK
}

/// A try that took this long met a limit of time: a lock that somebody holds, or more rows than pass in it.
const LATE: Duration = Duration::from_secs(1);

/// Tries of a batch that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tries {
    /// Failures in a row, the last one included: of the sink for an outage, of the batch else.
    pub(crate) failures: u32,
    /// How long the last one took.
    pub(crate) took: Duration,
    /// It is a part of a batch that failed as often as it may.
    pub(crate) part: bool,
}

/// What to do with a batch that failed, and how long to wait first.
pub(crate) fn verdict(kind: ErrorKind, tries: Tries, policy: &RetryPolicy, chance: f64) -> (Verdict, Duration) {
    match kind {
        ErrorKind::Unavailable => (Verdict::Outage, policy.delay(tries.failures.saturating_sub(1), chance)),
        ErrorKind::Transient if halves(tries) => (Verdict::Halve, Duration::ZERO),
        // A deadlock's victim wins the second time: no wait, but no endless hot loop either.
        ErrorKind::Transient => (Verdict::Again, Duration::from_millis(5)),
        ErrorKind::Misconfigured => (Verdict::Outage, policy.delay(u32::MAX, chance)),
        ErrorKind::Rejected | ErrorKind::Deferred => (Verdict::Isolate, Duration::ZERO),
        ErrorKind::Fenced => (Verdict::GiveUp, Duration::ZERO),
    }
}

/// Whether a batch that failed for a reason that may pass is not tried again as it is. What met a limit of time would meet it
/// again: it has one more try, and what else fails has three.
const fn halves(tries: Tries) -> bool {
    let at_once = if tries.took.as_millis() >= LATE.as_millis() { 1 } else { TRANSIENT_AT_ONCE };
    tries.part || tries.failures > at_once
}

/// Whether the probe of a sink that is away is to be a smaller batch: a server that is silent until the sink gives it up
/// may be at work on it. One that is down says so sooner.
pub(crate) const fn probes_with_less(kind: ErrorKind, tries: Tries) -> bool {
    matches!(kind, ErrorKind::Unavailable)
        && tries.took.as_millis() >= LATE.as_millis()
        && (tries.part || tries.failures > 1)
}

/// How long the sink is left alone after it refused all that it was given, for what may be the records' fault or the
/// configuration's, and whether the entity is paused then. One bad record must not keep others from showing that it is to blame, so
/// the first waits are short; once others had their chance, a person is told.
pub(crate) fn doubt(failures: u32, policy: &RetryPolicy, chance: f64) -> (Duration, bool) {
    (policy.delay(failures.saturating_sub(1), chance), failures > 1)
}

/// Whether a load that failed says that others would fail alike: the sink did not answer, or met a limit of time. What else it
/// says is an answer, for this load alone.
pub(crate) const fn stops_loads(kind: ErrorKind, took: Duration) -> bool {
    match kind {
        ErrorKind::Unavailable => true,
        ErrorKind::Transient => took.as_millis() >= LATE.as_millis(),
        ErrorKind::Rejected | ErrorKind::Deferred | ErrorKind::Misconfigured | ErrorKind::Fenced => false,
    }
}

/// How long no load is sent after so many failures in a row. Somebody waits for each, so not for long.
pub(crate) fn load_probe(failures: u32, policy: &RetryPolicy, chance: f64) -> Duration {
    policy.delay(failures.saturating_sub(1), chance).min(GENTLE)
}

/// How long a sink is left alone that was away at start, after so many looks.
pub(crate) fn look_again(looks: u32, policy: &RetryPolicy, chance: f64) -> Duration {
    policy.delay(looks, chance).min(GENTLE)
}

/// How long a record waits that failed by itself for a reason that may pass, for the `asides`-th time in a row; the first is
/// 0. Never counted as a refusal.
pub(crate) fn aside(asides: u32, policy: &RetryPolicy, chance: f64) -> Duration {
    policy.delay(asides, chance)
}

/// Whether an entry that failed by itself so often is left behind by those that were added after it. Before that all wait for
/// it: the whole table may be locked.
pub(crate) const fn is_left_behind(asides: u32) -> bool {
    asides >= 3
}

/// How long records wait that were in a part which failed, or that were not tried.
pub(crate) fn untried(policy: &RetryPolicy, chance: f64) -> Duration {
    policy.delay(u32::MAX, chance).min(GENTLE)
}

/// Longest wait of what is not to blame: a record whose refusal is not its own fault, a load, a start.
const GENTLE: Duration = Duration::from_secs(5);

/// What to do with one record that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Back to `open`, and not to the sink before this time is over.
    Again(Duration),
    /// A dead letter.
    Dead,
}

/// What is counted of refusals of one payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) attempts: u32,
    pub(crate) deferrals: u32,
}

/// What to do with a record that was refused for a reason of this kind, after so many refusals before: the counts with
/// this one, and its fate.
pub(crate) fn judge(kind: ErrorKind, before: Counts, policy: &RetryPolicy, chance: f64) -> (Counts, Fate) {
    let Counts { attempts, deferrals } = before;
    match kind {
        ErrorKind::Rejected => {
            let attempts = attempts.saturating_add(1);
            let dead = attempts >= policy.attempts;
            let wait = policy.delay(attempts - 1, chance);
            (Counts { attempts, deferrals }, if dead { Fate::Dead } else { Fate::Again(wait) })
        }
        ErrorKind::Deferred => {
            let deferrals = deferrals.saturating_add(1);
            let dead = deferrals >= policy.deferrals;
            let wait = policy.delay(deferrals - 1, chance).min(GENTLE);
            (Counts { attempts, deferrals }, if dead { Fate::Dead } else { Fate::Again(wait) })
        }
        // Nothing that the record itself can help: never counted, however long it lasts.
        ErrorKind::Unavailable | ErrorKind::Transient | ErrorKind::Misconfigured | ErrorKind::Fenced => {
            (before, Fate::Again(untried(policy, chance)))
        }
    }
}

/// Whether a refusal is counted. What nobody can remember to let wait is tried at every flush: it would use its deferrals up
/// long before its parent comes, so that only the first one counts. So it is while a parent is `held` back itself, by a lock or
/// for a newer program: for how long that is says nothing about the child.
pub(crate) const fn counts(kind: ErrorKind, before: Counts, remembered: bool, held: bool) -> bool {
    (remembered && !held) || !matches!(kind, ErrorKind::Deferred) || before.deferrals == 0
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
        let quick = |failures| Tries { failures, took: Duration::from_millis(20), part: false };
        let of = |kind, failures| verdict(kind, quick(failures), &policy, 0.5);
        let millis = Duration::from_millis;
        for (kind, failures, expected) in [
            (ErrorKind::Unavailable, 1, (Verdict::Outage, millis(100))),
            (ErrorKind::Unavailable, 2, (Verdict::Outage, millis(200))),
            (ErrorKind::Unavailable, 9, (Verdict::Outage, millis(25_600))),
            (ErrorKind::Unavailable, 10, (Verdict::Outage, millis(30_000))),
            (ErrorKind::Unavailable, u32::MAX, (Verdict::Outage, millis(30_000))),
            // Deadlocks and serialization failures repeat at once, but not for ever.
            (ErrorKind::Transient, 1, (Verdict::Again, millis(5))),
            (ErrorKind::Transient, 3, (Verdict::Again, millis(5))),
            (ErrorKind::Transient, 4, (Verdict::Halve, Duration::ZERO)),
            (ErrorKind::Transient, u32::MAX, (Verdict::Halve, Duration::ZERO)),
            (ErrorKind::Misconfigured, 1, (Verdict::Outage, millis(30_000))),
            (ErrorKind::Misconfigured, 1_000, (Verdict::Outage, millis(30_000))),
            (ErrorKind::Rejected, 1, (Verdict::Isolate, Duration::ZERO)),
            (ErrorKind::Deferred, 1, (Verdict::Isolate, Duration::ZERO)),
            (ErrorKind::Fenced, 1, (Verdict::GiveUp, Duration::ZERO)),
        ] {
            assert_eq!(of(kind, failures), expected, "{kind}, failure {failures}");
        }
        // Panics are taken for an outage, until they look like the batch's own.
        for (panics, expected) in [(1, false), (2, false), (3, true), (9, true)] {
            assert_eq!(isolates(panics), expected, "panic {panics}");
        }
    }

    #[test]
    fn what_meets_a_limit_of_time_is_halved_soon() {
        let policy = RetryPolicy::new();
        let seconds = Duration::from_secs;
        for (took, failures, part, expected) in [
            (seconds(0), 3, false, Verdict::Again),
            (seconds(0), 4, false, Verdict::Halve),
            (seconds(2), 1, false, Verdict::Again),
            (seconds(2), 2, false, Verdict::Halve),
            (seconds(1), 2, false, Verdict::Halve),
            // A part of what was halved is not tried twice.
            (seconds(0), 1, true, Verdict::Halve),
            (seconds(30), 1, true, Verdict::Halve),
        ] {
            let tries = Tries { failures, took, part };
            assert_eq!(verdict(ErrorKind::Transient, tries, &policy, 0.5).0, expected, "{tries:?}");
        }
        for (kind, took, failures, expected) in [
            (ErrorKind::Unavailable, seconds(0), 9, false),
            (ErrorKind::Unavailable, seconds(30), 1, false),
            (ErrorKind::Unavailable, seconds(30), 2, true),
            (ErrorKind::Misconfigured, seconds(30), 9, false),
            (ErrorKind::Transient, seconds(30), 9, false),
        ] {
            let tries = Tries { failures, took, part: false };
            assert_eq!(probes_with_less(kind, tries), expected, "{kind}: {tries:?}");
        }
    }

    #[test]
    fn a_doubt_waits_longer_each_time_and_pauses_the_second_time() {
        let policy = RetryPolicy::new();
        for (failures, expected) in
            [(1, (100, false)), (2, (200, true)), (3, (400, true)), (10, (30_000, true)), (u32::MAX, (30_000, true))]
        {
            let (millis, paused) = expected;
            assert_eq!(doubt(failures, &policy, 0.5), (Duration::from_millis(millis), paused), "failure {failures}");
        }
    }

    #[test]
    fn loads_stop_for_what_concerns_all_of_them() {
        let (soon, late) = (Duration::from_millis(20), Duration::from_secs(5));
        for (kind, took, expected) in [
            (ErrorKind::Unavailable, soon, true),
            (ErrorKind::Unavailable, late, true),
            (ErrorKind::Transient, soon, false),
            (ErrorKind::Transient, late, true),
            (ErrorKind::Rejected, late, false),
            (ErrorKind::Misconfigured, soon, false),
        ] {
            assert_eq!(stops_loads(kind, took), expected, "{kind} after {took:?}");
        }
        let policy = RetryPolicy::new();
        for (failures, expected) in [(1, 100), (2, 200), (6, 3_200), (7, 5_000), (u32::MAX, 5_000)] {
            assert_eq!(load_probe(failures, &policy, 0.5), Duration::from_millis(expected), "failure {failures}");
        }
    }

    #[test]
    fn fates_of_refused_records() {
        let policy = RetryPolicy::new().attempts(3).deferrals(10);
        let millis = |millis| Fate::Again(Duration::from_millis(millis));
        for (kind, before, expected, fate) in [
            // (attempts, deferrals) before and after
            (ErrorKind::Rejected, (0, 0), (1, 0), millis(100)),
            (ErrorKind::Rejected, (1, 0), (2, 0), millis(200)),
            (ErrorKind::Rejected, (2, 0), (3, 0), Fate::Dead),
            (ErrorKind::Rejected, (9, 0), (10, 0), Fate::Dead),
            (ErrorKind::Rejected, (u32::MAX, 0), (u32::MAX, 0), Fate::Dead),
            // Two budgets: waiting for a parent uses up no attempt, and the other way round.
            (ErrorKind::Rejected, (0, 9), (1, 9), millis(100)),
            (ErrorKind::Deferred, (2, 0), (2, 1), millis(100)),
            (ErrorKind::Deferred, (0, 5), (0, 6), millis(3_200)),
            (ErrorKind::Deferred, (0, 6), (0, 7), millis(5_000)),
            (ErrorKind::Deferred, (0, 8), (0, 9), millis(5_000)),
            (ErrorKind::Deferred, (0, 9), (0, 10), Fate::Dead),
            // What is not the record's fault is never counted.
            (ErrorKind::Unavailable, (2, 9), (2, 9), millis(5_000)),
            (ErrorKind::Transient, (2, 9), (2, 9), millis(5_000)),
            (ErrorKind::Misconfigured, (2, 9), (2, 9), millis(5_000)),
            (ErrorKind::Fenced, (2, 9), (2, 9), millis(5_000)),
        ] {
            let counts = |(attempts, deferrals)| Counts { attempts, deferrals };
            let judged = judge(kind, counts(before), &policy, 0.5);
            assert_eq!(judged, (counts(expected), fate), "{kind} after {before:?}");
        }
        // No policy lets a record try again past its own cap.
        let hasty = RetryPolicy::new().cap(Duration::from_millis(150));
        assert_eq!(judge(ErrorKind::Deferred, Counts { attempts: 0, deferrals: 7 }, &hasty, 0.5).1, millis(150));
    }

    #[test]
    fn a_deferral_that_does_not_wait_is_not_counted() {
        let before = |deferrals| Counts { attempts: 0, deferrals };
        for deferrals in [0, 1, 59] {
            assert!(counts(ErrorKind::Deferred, before(deferrals), true, false));
            for (remembered, held) in [(false, false), (true, true), (false, true)] {
                let own = counts(ErrorKind::Rejected, before(deferrals), remembered, held);
                assert!(own, "its own fault, however often it is tried");
                // The first one: what was refused is told from what is held.
                assert_eq!(counts(ErrorKind::Deferred, before(deferrals), remembered, held), deferrals == 0);
            }
        }
    }

    #[test]
    fn senseless_policies_are_refused() {
        for policy in [
            RetryPolicy::new().attempts(0),
            RetryPolicy::new().deferrals(0),
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
