//! Whether the sink may be asked: a state machine over values and a clock reading. After an outage has shown itself, one
//! caller at a time tries; the others wait for it.

use std::time::Duration;

use tokio::time::Instant;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The sink answers: go.
    Go,
    /// Go, and say what came of it: everybody else waits for that.
    Probe,
    /// Wait until then, and ask again; `None`: until the probe is over.
    Wait(Option<Instant>),
}

/// An outage, from its first failure on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    since: Instant,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// A person is needed.
    pub(crate) paused: bool,
    failed: Instant,
    next: Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    At(Instant),
    UnderWay,
}

impl Outage {
    pub(crate) fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// Closed while the sink answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct CircuitBreaker {
    outage: Option<Outage>,
}

impl CircuitBreaker {
    /// May the sink be asked? No wait is longer than `longest` after the last failure.
    pub(crate) fn ask(&mut self, now: Instant, longest: Option<Duration>) -> Pass {
        let Some(outage) = &mut self.outage else { return Pass::Go };
        match outage.next {
            Next::UnderWay => Pass::Wait(None),
            Next::At(at) => {
                let at = longest.and_then(|longest| outage.failed.checked_add(longest)).map_or(at, |end| end.min(at));
                if at <= now {
                    outage.next = Next::UnderWay;
                    Pass::Probe
                } else {
                    Pass::Wait(Some(at))
                }
            }
        }
    }

    /// Whether the sink failed and has not answered since.
    pub(crate) const fn is_open(&self) -> bool {
        self.outage.is_some()
    }

    /// Whether whoever asks now has to wait; it asks for nothing.
    pub(crate) fn waits(&self, now: Instant) -> bool {
        self.outage.is_some_and(|outage| match outage.next {
            Next::UnderWay => true,
            Next::At(at) => at > now,
        })
    }

    /// How long the sink has not answered.
    pub(crate) fn lasted(&self, now: Instant) -> Option<Duration> {
        self.outage.map(|outage| outage.lasted(now))
    }

    /// The sink did what a sink does: it wrote, or it refused records. Returns the outage that this ends.
    pub(crate) fn answered(&mut self) -> Option<Outage> {
        self.outage.take()
    }

    /// How often the sink has failed in a row once this failure is counted. Only the probe counts: batches that were
    /// under way when the circuit opened fail for the reason that opened it.
    pub(crate) fn counting(&self, probe: bool) -> u32 {
        self.outage.map_or(1, |outage| outage.failures.saturating_add(u32::from(probe)))
    }

    /// The sink failed; a probe is due after `wait`. Returns whether the entity is paused only now.
    pub(crate) fn failed(&mut self, now: Instant, probe: bool, wait: Duration, pause: bool) -> bool {
        let failures = self.counting(probe);
        let next = Next::At(now.checked_add(wait).unwrap_or(now));
        let fresh = Outage { since: now, failures, paused: false, failed: now, next };
        let outage = self.outage.get_or_insert(fresh);
        if probe {
            (outage.failures, outage.failed, outage.next) = (failures, now, next);
        }
        let first = pause && !outage.paused;
        outage.paused |= pause;
        first
    }

    /// The probe came to nothing, neither success nor failure: the next one is due.
    pub(crate) fn abandoned(&mut self, now: Instant) {
        if let Some(outage) = &mut self.outage {
            outage.next = Next::At(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    enum Step {
        Ask(Pass),
        Answered(Option<(u32, bool)>),
        /// probe, wait, pause → paused only now
        Failed(bool, u32, bool, bool),
        Abandoned,
    }

    use Step::{Abandoned, Answered, Ask, Failed};

    /// Plays steps at seconds since the start.
    fn play(name: &str, steps: &[(u32, Step)]) {
        let start = Instant::now();
        let mut circuit = CircuitBreaker::default();
        for (number, (at, step)) in steps.iter().enumerate() {
            let now = start + SECOND * *at;
            let place = format!("{name}: step {number}");
            match step {
                Ask(expected) => assert_eq!(circuit.ask(now, None), *expected, "{place}"),
                Answered(expected) => {
                    let ended = circuit.answered().map(|outage| (outage.failures, outage.paused));
                    assert_eq!(ended, *expected, "{place}");
                }
                Failed(probe, wait, pause, expected) => {
                    assert_eq!(circuit.failed(now, *probe, SECOND * *wait, *pause), *expected, "{place}");
                }
                Abandoned => circuit.abandoned(now),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_a_time() {
        let start = Instant::now();
        let wait = |at: u32| Ask(Pass::Wait(Some(start + SECOND * at)));
        play("healthy", &[(0, Ask(Pass::Go)), (0, Ask(Pass::Go)), (0, Answered(None)), (1, Ask(Pass::Go))]);
        play(
            "outage",
            &[
                (0, Failed(false, 2, false, false)),
                (1, wait(2)),
                (2, Ask(Pass::Probe)),
                (2, Ask(Pass::Wait(None))),
                (3, Failed(true, 4, false, false)),
                (3, wait(7)),
                (7, Ask(Pass::Probe)),
                (8, Ask(Pass::Wait(None))),
                (8, Answered(Some((2, false)))),
                (8, Ask(Pass::Go)),
            ],
        );
        play(
            "batches that were under way when it opened change nothing",
            &[
                (0, Failed(false, 2, false, false)),
                (1, Failed(false, 9, false, false)),
                (2, Ask(Pass::Probe)),
                (2, Failed(false, 9, false, false)),
                (2, Ask(Pass::Wait(None))),
                (3, Failed(true, 1, false, false)),
                (4, Ask(Pass::Probe)),
                (4, Answered(Some((2, false)))),
            ],
        );
        play(
            "a probe that is given up makes room for the next",
            &[(0, Failed(false, 2, false, false)), (2, Ask(Pass::Probe)), (3, Abandoned), (3, Ask(Pass::Probe))],
        );
        play(
            "a pause is told once, whatever comes in between",
            &[
                (0, Failed(false, 1, true, true)),
                (1, Ask(Pass::Probe)),
                (1, Failed(true, 1, true, false)),
                (2, Ask(Pass::Probe)),
                (2, Failed(true, 1, false, false)),
                (3, Ask(Pass::Probe)),
                (3, Failed(true, 1, true, false)),
                (4, Ask(Pass::Probe)),
                (4, Answered(Some((4, true)))),
                (5, Failed(false, 1, true, true)),
            ],
        );
        play(
            "an outage turns into a pause",
            &[(0, Failed(false, 1, false, false)), (1, Ask(Pass::Probe)), (1, Failed(true, 1, true, true))],
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_in_a_hurry_waits_less() {
        let start = Instant::now();
        let mut circuit = CircuitBreaker::default();
        circuit.failed(start, false, SECOND * 30, false);
        assert_eq!(circuit.ask(start, Some(SECOND)), Pass::Wait(Some(start + SECOND)));
        assert_eq!(circuit.ask(start + SECOND, None), Pass::Wait(Some(start + SECOND * 30)));
        assert_eq!(circuit.ask(start + SECOND, Some(SECOND)), Pass::Probe);
    }
}
