//! How an entity is laid out, and what an engine tells the buffer about it.

use std::fmt;
use std::sync::Arc;

use super::{BufferError, BufferErrorKind, Ear};
use crate::codec::Format;
use crate::pressure::Pressure;
use crate::sabotage::Sabotage;
use crate::sink::Scope;

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
pub const LAYOUT: u32 = 1;

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

pub(super) fn topology_mismatch(scope: &Scope, stored: &str, asked: &Topology, dirty: u64) -> BufferError {
    BufferError::new(
        BufferErrorKind::Topology,
        format!(
            "entity `{}` in namespace `{}` is stored with `{stored}`, this program asks for `{asked}`, and {dirty} \
             records are not flushed yet; run a worker with the stored topology until nothing is dirty, then change it",
            scope.entity, scope.namespace,
        ),
    )
}

pub(super) fn topology_changed(scope: &Scope, stored: &str, own: &Topology) -> BufferError {
    BufferError::new(
        BufferErrorKind::Topology,
        format!(
            "entity `{}` in namespace `{}` is stored with `{stored}` now, this program runs with `{own}`; end it, and start it \
             with the stored topology",
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
