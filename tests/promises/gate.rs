//! A gate before and after the sink: a test holds a worker at a step, makes the sink fail, and sees what it was given.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use write_behind::{Batch, ErrorKind, Fence, Finding, Report, Scope, Sink, SinkError};

use crate::account::Account;
use crate::violation::{Violation, within};

/// Where a worker can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It has claimed a batch, checked its right, and nothing has reached the sink.
    BeforeWrite,
    /// The sink has committed, and the worker does not know yet.
    AfterWrite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Open,
    /// The write waits; the worker's other tasks go on.
    Wait,
    /// The thread stops, and with it everything of an engine that lives on it.
    Freeze,
}

/// What goes wrong with a write, once.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Fail(ErrorKind),
    Panic,
}

/// A write that the sink was given: states by key, `None` for a delete.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) records: BTreeMap<i64, Option<i64>>,
    pub(crate) outcome: Result<(), ErrorKind>,
}

struct Bar {
    hold: watch::Sender<Hold>,
    waiting: watch::Sender<usize>,
}

impl Bar {
    fn new() -> Self {
        Self { hold: watch::Sender::new(Hold::Open), waiting: watch::Sender::new(0) }
    }

    async fn pass(&self) {
        struct Waiting<'a>(&'a watch::Sender<usize>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|waiting| *waiting -= 1);
            }
        }
        let mut hold = self.hold.subscribe();
        if *hold.borrow() == Hold::Open {
            return;
        }
        self.waiting.send_modify(|waiting| *waiting += 1);
        let _waiting = Waiting(&self.waiting);
        while *hold.borrow() == Hold::Freeze {
            // Not an await: this is what a stopped process looks like to the rest of its tasks.
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = hold.wait_for(|hold| *hold == Hold::Open).await;
    }
}

struct Inner {
    before: Bar,
    after: Bar,
    faults: Mutex<VecDeque<Fault>>,
    outage: Mutex<Option<ErrorKind>>,
    log: Mutex<Vec<Entry>>,
}

/// The handle; clones are the same gate.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    pub(crate) fn open() -> Self {
        let (faults, outage, log) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { before: Bar::new(), after: Bar::new(), faults, outage, log }))
    }

    /// A gate that holds whoever comes to `place`.
    pub(crate) fn holding(place: Place) -> Self {
        let gate = Self::open();
        gate.hold(place);
        gate
    }

    /// A gate that stops the thread of whoever comes to `place`.
    pub(crate) fn freezing(place: Place) -> Self {
        let gate = Self::open();
        gate.bar(place).hold.send_replace(Hold::Freeze);
        gate
    }

    fn bar(&self, place: Place) -> &Bar {
        match place {
            Place::BeforeWrite => &self.0.before,
            Place::AfterWrite => &self.0.after,
        }
    }

    pub(crate) fn hold(&self, place: Place) {
        self.bar(place).hold.send_replace(Hold::Wait);
    }

    pub(crate) fn release(&self) {
        self.0.before.hold.send_replace(Hold::Open);
        self.0.after.hold.send_replace(Hold::Open);
    }

    /// Lets those go on that have not written yet.
    pub(crate) fn release_before(&self) {
        self.0.before.hold.send_replace(Hold::Open);
    }

    /// Returns once somebody is held at `place`.
    pub(crate) async fn reached(&self, place: Place) -> Result<(), Violation> {
        let mut waiting = self.bar(place).waiting.subscribe();
        // The sender lives as long as `self`.
        within("a worker comes to the sink", async { _ = waiting.wait_for(|waiting| *waiting > 0).await }).await
    }

    /// The next write goes wrong like this.
    pub(crate) fn next(&self, fault: Fault) {
        lock(&self.0.faults).push_back(fault);
    }

    /// Every write fails like this until there is `None`.
    pub(crate) fn outage(&self, kind: Option<ErrorKind>) {
        *lock(&self.0.outage) = kind;
    }

    /// What the sink was given, and what it said.
    pub(crate) fn log(&self) -> Vec<Entry> {
        lock(&self.0.log).clone()
    }

    /// Writes that ended with this kind.
    pub(crate) fn failures(&self, kind: ErrorKind) -> usize {
        lock(&self.0.log).iter().filter(|entry| entry.outcome == Err(kind)).count()
    }

    /// A sink behind this gate.
    pub(crate) fn before(&self, sink: Arc<dyn Sink<Account>>) -> Gated {
        Gated { gate: self.clone(), sink }
    }
}

pub(crate) struct Gated {
    gate: Gate,
    sink: Arc<dyn Sink<Account>>,
}

impl Gated {
    #[expect(clippy::panic, reason = "a sink that panics is what this is for")]
    async fn attempt(&self, batch: &Batch<Account>) -> Result<Report, SinkError> {
        let fault = lock(&self.gate.0.faults).pop_front();
        let fault = fault.or_else(|| lock(&self.gate.0.outage).map(Fault::Fail));
        match fault {
            Some(Fault::Panic) => panic!("a sink with a mistake"),
            Some(Fault::Fail(kind)) => Err(SinkError::new(kind, "as the test wants it")),
            None => self.sink.write(batch).await,
        }
    }
}

#[async_trait]
impl Sink<Account> for Gated {
    async fn open(&self, scope: &Scope) -> Result<(), SinkError> {
        self.sink.open(scope).await
    }

    async fn prepare(&self, scope: &Scope) -> Result<(), SinkError> {
        self.sink.prepare(scope).await
    }

    async fn fence(&self, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        self.sink.fence(scope, partition).await
    }

    async fn write(&self, batch: &Batch<Account>) -> Result<Report, SinkError> {
        self.gate.0.before.pass().await;
        let result = self.attempt(batch).await;
        let upserts = batch.upserts.iter().map(|upsert| (upsert.value.id, Some(upsert.value.state)));
        let records = upserts.chain(batch.deletes.iter().map(|delete| (delete.key, None))).collect();
        let outcome = result.as_ref().map(|_| ()).map_err(SinkError::kind);
        lock(&self.gate.0.log).push(Entry { records, outcome });
        self.gate.0.after.pass().await;
        result
    }

    async fn load(&self, keys: &[i64]) -> Result<Vec<Account>, SinkError> {
        self.sink.load(keys).await
    }

    async fn examine(&self, scope: &Scope) -> Result<Vec<Finding>, SinkError> {
        self.sink.examine(scope).await
    }

    async fn close(&self) {
        self.sink.close().await;
    }
}
