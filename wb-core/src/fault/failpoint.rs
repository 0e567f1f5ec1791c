//! Points of the flow at which a test can kill or stop the whole process. Without the feature `testing` there are none.
//!
//! `WB_FAILPOINT=after_commit:3` kills the process with SIGKILL when it passes `after_commit` for the third time;
//! `before_write:1:stop` stops it with SIGSTOP, and it goes on from there after a SIGCONT. Several are separated by commas.

/// Passes a point. Dies or stops here when a test asked for it.
#[cfg(feature = "testing")]
pub(crate) fn pass(point: &'static str) {
    armed::pass(point);
}

/// Passes a point.
#[cfg(not(feature = "testing"))]
#[inline]
pub(crate) const fn pass(_point: &'static str) {}

#[cfg(feature = "testing")]
mod armed {
    use std::process::Command;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A point at which something is to happen.
    #[derive(Debug)]
    struct Failpoint {
        name: String,
        at: u32,
        stops: bool,
        passed: AtomicU32,
    }

    const KILL: &str = "kill -KILL $0";
    /// Ends when we are stopped: until every thread is, this one could run on.
    const STOP: &str =
        "kill -STOP $0; while test -r /proc/$0/status && ! grep -q '^State:.T' /proc/$0/status; do :; done";

    static ARMED: LazyLock<Vec<Failpoint>> =
        LazyLock::new(|| std::env::var("WB_FAILPOINT").map_or_else(|_| Vec::new(), |text| parse(&text)));

    /// What is not understood arms nothing; the test that waits for it will say so.
    fn parse(text: &str) -> Vec<Failpoint> {
        text.split(',').filter_map(failpoint).collect()
    }

    fn failpoint(text: &str) -> Option<Failpoint> {
        let mut words = text.split(':');
        let name = words.next().filter(|name| !name.is_empty())?.to_owned();
        let at = words.next().map_or(Some(1), |at| at.parse().ok())?;
        let stops = match words.next() {
            None => false,
            Some("stop") => true,
            Some(_) => return None,
        };
        Some(Failpoint { name, at, stops, passed: AtomicU32::new(0) })
    }

    pub(crate) fn pass(point: &str) {
        for failpoint in ARMED.iter().filter(|failpoint| failpoint.name == point) {
            if failpoint.passed.fetch_add(1, Ordering::Relaxed) + 1 == failpoint.at {
                if failpoint.stops {
                    run(STOP);
                    return;
                }
                run(KILL);
                loop {
                    // The signal is on its way: nothing after the point may happen any more.
                    std::thread::park();
                }
            }
        }
    }

    /// Runs a script on this process: the shell's own `kill` is everywhere, and needs no unsafe code.
    fn run(script: &str) {
        let pid = std::process::id().to_string();
        // A test that waits for the signal sees that it did not come.
        let _ = Command::new("sh").args(["-c", script, &pid]).status();
    }

    #[cfg(test)]
    mod tests {
        use super::parse;

        #[test]
        fn points_are_read() {
            let armed = parse("after_ack:3,before_write:1:stop,after_claim");
            let read: Vec<_> = armed.iter().map(|point| (point.name.as_str(), point.at, point.stops)).collect();
            assert_eq!(read, [("after_ack", 3, false), ("before_write", 1, true), ("after_claim", 1, false)]);
            assert!(parse("").is_empty() && parse("a:b").is_empty() && parse("a:1:sleep").is_empty());
        }
    }
}
