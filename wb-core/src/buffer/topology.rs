//! How an entity is laid out, and what an engine tells the buffer about it.

use std::fmt;
use std::sync::Arc;

use super::Ear;
use crate::buffer::flush_trigger::Pressure;
use crate::entity::codec::Format;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::fault::mechanism::Sabotage;
use crate::telemetry::scope::Scope;

/// What an engine tells the buffer about an entity.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registration {
    /// Namespace, entity, partitions.
    pub scope: Arc<Scope>,
    /// Format of the payloads.
    pub format: Format,
    /// Counts keys that become dirty through this engine.
    pub pressure: Arc<Pressure>,
    /// Most keys that may be dirty at once; `None`: as many as fit.
    pub max_dirty: Option<u64>,
    /// What this engine listens for.
    pub ear: Ear,
    /// Whether transactions write over partitions, so that all of them are closed at one instant.
    pub transactions: bool,
    /// Whether records are added to a log instead of replacing each other.
    pub append: bool,
    /// What a test has switched off.
    pub sabotage: Sabotage,
}

impl Registration {
    /// A registration; for tests of buffers.
    #[must_use]
    pub fn new(scope: Arc<Scope>, format: Format) -> Self {
        Self {
            scope,
            format,
            pressure: Arc::new(Pressure::new(u64::MAX)),
            max_dirty: None,
            ear: Ear::default(),
            transactions: false,
            append: false,
            sabotage: Sabotage::none(),
        }
    }

    /// The topology as the buffer records it.
    #[must_use]
    pub fn topology(&self) -> Topology {
        Topology {
            layout: LAYOUT,
            partitions: self.scope.partitions,
            format: self.format.name().to_owned(),
            transactions: self.transactions,
            append: self.append,
        }
    }
}

/// Version of the Redis data model.
pub const LAYOUT: u32 = 2;

/// How an entity's records are laid out: fixed while anything is dirty.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Topology {
    /// Version of the data model.
    pub layout: u32,
    /// Number of partitions.
    pub partitions: u16,
    /// Name of the payload format.
    pub format: String,
    /// Whether all partitions are closed at one instant; not written when they are not.
    pub transactions: bool,
    /// Whether records are added to a log.
    pub append: bool,
}

impl Topology {
    /// As it stands in the names of keys: the number of partitions, then what is not the default, in this order: `+` and the
    /// format, `+tx`, `+append`.
    #[must_use]
    pub fn layout_name(&self) -> String {
        let mut name = self.partitions.to_string();
        let format = (self.format != Format::Json.name()).then_some(self.format.as_str());
        let words = [format, self.transactions.then_some("tx"), self.append.then_some("append")];
        for word in words.into_iter().flatten() {
            name.push('+');
            name.push_str(word);
        }
        name
    }

    /// Reads what [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (mut layout, mut partitions, mut format) = (None, None, None);
        let (mut transactions, mut append) = (false, false);
        for word in text.split(' ') {
            match word.split_once('=')? {
                ("layout", v) => layout = v.parse().ok(),
                ("partitions", v) => partitions = v.parse().ok(),
                ("format", v) => format = Some(v.to_owned()),
                ("transactions", v) => transactions = v == "yes",
                ("mode", v) => append = v == "append",
                _ => {}
            }
        }
        Some(Self { layout: layout?, partitions: partitions?, format: format?, transactions, append })
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layout={} partitions={} format={}", self.layout, self.partitions, self.format)?;
        if self.transactions {
            f.write_str(" transactions=yes")?;
        }
        if self.append { f.write_str(" mode=append") } else { Ok(()) }
    }
}

/// What keeps a topology from being changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Records that are not flushed yet, and dead letters, in the layout that is to be left.
    pub(super) dirty: u64,
    pub(super) letters: u64,
    /// The same in the layout that is asked for: of an earlier life.
    pub(super) dirty_there: u64,
    pub(super) letters_there: u64,
}

/// What an agreement would change of an entity's layout, and what stands in its way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopologyChange {
    /// The topology that is stored.
    pub stored: Topology,
    /// Records of it that are not flushed yet.
    pub dirty: u64,
    /// Its dead letters.
    pub letters: u64,
    /// Records and dead letters of an earlier life of the topology that is asked for.
    pub left_over: u64,
}

impl TopologyChange {
    pub(super) const fn new(stored: Topology, waiting: Waiting) -> Self {
        let Waiting { dirty, letters, dirty_there, letters_there } = waiting;
        Self { stored, dirty, letters, left_over: dirty_there + letters_there }
    }
}

impl Waiting {
    pub(super) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

pub(super) fn topology_mismatch(scope: &Scope, stored: &str, asked: &Topology, waiting: Waiting) -> BufferError {
    let Waiting { dirty, letters, dirty_there, letters_there } = waiting;
    let mut reasons = Vec::new();
    if dirty > 0 {
        reasons.push(format!(
            "{dirty} records are not flushed yet: run a worker with the stored topology until nothing is dirty"
        ));
    }
    if letters > 0 {
        reasons.push(format!("{letters} dead letters wait: replay or discard them with the stored topology"));
    }
    if dirty_there + letters_there > 0 {
        reasons.push(format!(
            "of an earlier life of the topology asked for {dirty_there} records and {letters_there} dead letters are left: stop \
             all programs, take the entry out of the topology hash, and let a worker with that topology flush them"
        ));
    }
    BufferError::new(
        BufferErrorKind::Topology,
        format!(
            "entity `{}` in namespace `{}` is stored with `{stored}`, this program asks for `{asked}`, and it cannot change now: {}",
            scope.entity,
            scope.namespace,
            reasons.join("; "),
        ),
    )
}

pub(super) fn topology_changed(scope: &Scope, stored: &str, own: &Topology) -> BufferError {
    BufferError::new(
        BufferErrorKind::Topology,
        format!(
            "entity `{}` in namespace `{}` is stored with `{stored}` now, this program runs with `{own}`: it reads and writes \
             nothing until that is the stored one again",
            scope.entity, scope.namespace,
        ),
    )
}

pub(super) fn topology_leaving(scope: &Scope, to: &str, own: &Topology) -> BufferError {
    BufferError::new(
        BufferErrorKind::Topology,
        format!(
            "entity `{}` in namespace `{}` is being laid out anew, from `{own}` to `{to}`: what is dirty is flushed, and nothing more is \
             written until that is done or given up",
            scope.entity, scope.namespace,
        ),
    )
}

pub(super) fn no_logs(scope: &Scope) -> BufferError {
    BufferError::new(
        BufferErrorKind::Misconfigured,
        format!("entity `{}` in namespace `{}` is not append-only", scope.entity, scope.namespace),
    )
}
