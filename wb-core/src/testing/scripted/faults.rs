//! What goes wrong, as a test says.

use tokio::sync::watch;

use super::{Failure, Refusal, ScriptedSink};
use crate::entity::key::Id;
use crate::error::finding::Finding;
use crate::error::sink::{ErrorKind, Unstorable};

impl<E> ScriptedSink<E> {
    /// The next write that has no failure yet fails with this kind, and nothing of it is applied. Calls queue up.
    pub fn fail_next(&self, kind: ErrorKind) {
        self.state().next.push_back(Failure { kind, applied: false });
    }

    /// The next write that has no failure yet is applied, but fails with this kind all the same.
    pub fn lose_next_reply(&self, kind: ErrorKind) {
        self.state().next.push_back(Failure { kind, applied: true });
    }

    /// From now on every call (`open`, `examine`, `prepare`, `fence`, `write`, `load`) fails with this kind, until
    /// [`recover`](Self::recover).
    pub fn fail_always(&self, kind: ErrorKind) {
        self.state().outage = Some(kind);
    }

    /// Ends what [`fail_always`](Self::fail_always) and [`fail_next`](Self::fail_next) began.
    pub fn recover(&self) {
        let mut state = self.state();
        state.outage = None;
        state.next.clear();
    }

    /// Records whose id is hit are refused as [`ErrorKind::Rejected`]: named in the report, the others are applied.
    pub fn refuse(&self, hits: impl Fn(&Id) -> bool + Send + 'static) {
        self.refuse_as(ErrorKind::Rejected, hits);
    }

    /// The same with another kind, for example [`ErrorKind::Deferred`].
    pub fn refuse_as(&self, kind: ErrorKind, hits: impl Fn(&Id) -> bool + Send + 'static) {
        self.state().refusals.push(Refusal { kind, named: true, ambiguous: false, hits: Box::new(hits) });
    }

    /// The same as [`ErrorKind::Rejected`], for what may be the record's fault or the configuration's
    /// ([`SinkError::ambiguous`](crate::SinkError::ambiguous)).
    pub fn refuse_ambiguously(&self, hits: impl Fn(&Id) -> bool + Send + 'static) {
        let kind = ErrorKind::Rejected;
        self.state().refusals.push(Refusal { kind, named: true, ambiguous: true, hits: Box::new(hits) });
    }

    /// The same of a sink that cannot name the record: the batch fails whole.
    pub fn refuse_whole_ambiguously(&self, hits: impl Fn(&Id) -> bool + Send + 'static) {
        let kind = ErrorKind::Rejected;
        self.state().refusals.push(Refusal { kind, named: false, ambiguous: true, hits: Box::new(hits) });
    }

    /// A batch with a record that is hit fails whole with this kind and applies nothing, as a database does that
    /// cannot name the record.
    pub fn refuse_whole(&self, kind: ErrorKind, hits: impl Fn(&Id) -> bool + Send + 'static) {
        self.state().refusals.push(Refusal { kind, named: false, ambiguous: false, hits: Box::new(hits) });
    }

    /// Rows of which `check` says what is wrong cannot be held at all: [`check`](crate::Sink::check) refuses them.
    pub fn cannot_hold(&self, check: impl Fn(&E) -> Option<Unstorable> + Send + 'static) {
        self.state().unstorable.push(Box::new(check));
    }

    /// The schema is altered: rows that [`cannot_hold`](Self::cannot_hold) refuses can be held as soon as the sink has looked again
    /// ([`refresh`](crate::Sink::refresh)).
    pub fn alter(&self) {
        self.state().altered = true;
    }

    /// How often the sink has looked at its schema again.
    #[must_use]
    pub fn refreshes(&self) -> u64 {
        self.state().refreshes
    }

    /// What [`examine`](crate::Sink::examine) finds from now on.
    pub fn find(&self, findings: Vec<Finding>) {
        self.state().findings = findings;
    }

    /// Ends all refusals.
    pub fn accept(&self) {
        let mut state = self.state();
        state.refusals.clear();
        state.unstorable.clear();
    }

    /// From now on writes wait before they do anything: a database that hangs, a worker that is paused.
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Lets the waiting writes go on, and all later ones pass.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// From now on loads of records whose id is hit wait before they look.
    pub fn hold_loads(&self, hits: impl Fn(&Id) -> bool + Send + 'static) {
        self.state().held_loads = Some(Box::new(hits));
    }

    /// Lets the waiting loads go on, and all later ones pass.
    pub fn release_loads(&self) {
        self.state().held_loads = None;
        self.shared.loads_released.notify_waiters();
    }

    /// Returns once this many writes wait.
    pub async fn waiting(&self, writes: usize) {
        // The sender lives as long as `self`.
        let _ = self.shared.waiting.subscribe().wait_for(|waiting| *waiting >= writes).await;
    }

    /// Waits while the sink is held. A caller that gives up meanwhile is no longer counted.
    pub(super) async fn pass_gate(&self) {
        struct Waiting<'a>(&'a watch::Sender<usize>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|waiting| *waiting -= 1);
            }
        }
        let mut held = self.shared.held.subscribe();
        if *held.borrow_and_update() {
            self.shared.waiting.send_modify(|waiting| *waiting += 1);
            let _waiting = Waiting(&self.shared.waiting);
            let _ = held.wait_for(|held| !held).await;
        }
    }
}
