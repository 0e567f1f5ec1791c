//! The Redis keys of an entity. Everything of one partition shares one hash tag, so that every step is one slot.

use crate::buffer::Topology;
use crate::entity::key::Id;
use crate::telemetry::scope::Scope;

/// Keys of one partition, written once at start: the hot path only borrows them.
#[derive(Debug)]
pub(super) struct PartitionKeys {
    pub(super) open: String,
    pub(super) flushing: String,
    pub(super) meta: String,
    pub(super) attempts: String,
    pub(super) dead: String,
    /// Versions of records that the sink had newer versions of.
    pub(super) stale: String,
    /// Marks of what transactions have written since the last rotation, and in the epoch that is being flushed.
    pub(super) groups: String,
    pub(super) groups_flushing: String,
    /// Entries of an append-only entity, in order.
    pub(super) log: String,
    /// Those of the epoch that is being flushed.
    pub(super) closed_log: String,
    copy: String,
}

impl PartitionKeys {
    /// The hash tag says the whole layout, so that a key means the same records in the same format for ever, whatever
    /// the topology was before and will be.
    fn new(namespace: &str, entity: &str, partition: u16, topology: &Topology) -> Self {
        // As many digits as the last partition has, two at least, so that listings sort.
        let digits = topology.partitions.saturating_sub(1).max(10).to_string().len();
        let layout = topology.layout_name();
        let prefix = format!("{namespace}:{{{entity}:{partition:0digits$}/{layout}}}");
        Self {
            open: format!("{prefix}:open"),
            flushing: format!("{prefix}:flushing"),
            meta: format!("{prefix}:meta"),
            attempts: format!("{prefix}:attempts"),
            dead: format!("{prefix}:dead"),
            stale: format!("{prefix}:stale"),
            groups: format!("{prefix}:groups"),
            groups_flushing: format!("{prefix}:groups_flushing"),
            log: format!("{prefix}:log"),
            closed_log: format!("{prefix}:flushing-log"),
            copy: format!("{prefix}:r:"),
        }
    }

    /// What the records of a partition need, as the scripts that look at all of it take it; `append`: with the logs.
    pub(super) fn of_records(&self, append: bool) -> Vec<&String> {
        let hashes = [&self.open, &self.flushing, &self.meta, &self.attempts, &self.dead, &self.stale];
        let mut all = Vec::from(hashes);
        all.extend([&self.groups, &self.groups_flushing]);
        if append {
            all.extend([&self.log, &self.closed_log]);
        }
        all
    }

    /// All partitions of an entity.
    pub(super) fn all(scope: &Scope, topology: &Topology) -> Vec<Self> {
        Self::all_of(&scope.namespace, scope.entity, topology)
    }

    /// All partitions of an entity that may be another program's.
    pub(super) fn all_of(namespace: &str, entity: &str, topology: &Topology) -> Vec<Self> {
        (0..topology.partitions).map(|partition| Self::new(namespace, entity, partition, topology)).collect()
    }

    /// Key of the clean copy of an id; ids are bytes, so keys are.
    pub(super) fn copy(&self, id: &Id) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.copy.len() + id.as_bytes().len());
        key.extend_from_slice(self.copy.as_bytes());
        key.extend_from_slice(id.as_bytes());
        key
    }
}

/// Key of the hash that fixes the topology of every entity of a namespace.
pub(super) fn topology(namespace: &str) -> String {
    format!("{namespace}:topology")
}

/// Key of the hash whose fields are `<entity> <topology>`: every topology that was ever agreed on, or run with.
pub(super) fn layouts(namespace: &str) -> String {
    format!("{namespace}:layouts")
}

/// Key of the hash of the entities of a namespace that are being laid out anew.
pub(super) fn leaving(namespace: &str) -> String {
    format!("{namespace}:leaving")
}

/// Key of the sorted set of workers of a namespace: `<entity>:<lease in ms>:<worker>` by the server's time of its last
/// heartbeat, in milliseconds.
pub(super) fn workers(namespace: &str) -> String {
    format!("{namespace}:workers")
}

/// Key of the sorted set of the shapes of an entity's struct, by the server's time at which each was first seen, in
/// milliseconds.
pub(super) fn shapes(scope: &Scope) -> String {
    format!("{}:shapes:{}", scope.namespace, scope.entity)
}

/// Channel on which everybody who flushes an entity is asked to do so now.
pub(super) fn nudges(scope: &Scope) -> String {
    format!("{}:{{{}}}:nudge", scope.namespace, scope.entity)
}

/// Channel on which the ids that were written are told.
pub(super) fn written(scope: &Scope) -> String {
    format!("{}:{{{}}}:written", scope.namespace, scope.entity)
}

/// Key of the counter of an entity's ids, whatever its partitions.
pub(super) fn ids(scope: &Scope) -> String {
    format!("{}:{{{}}}:ids", scope.namespace, scope.entity)
}

/// Key of what is noted beside that counter: the run of the server that has it, and the largest block.
pub(super) fn ids_notes(scope: &Scope) -> String {
    format!("{}:{{{}}}:ids-notes", scope.namespace, scope.entity)
}

/// Key of the hash that says whose data an entity's are, whatever its partitions.
pub(super) fn lineage(scope: &Scope) -> String {
    format!("{}:{{{}}}:lineage", scope.namespace, scope.entity)
}

/// Pattern of all clean copies of an entity, of one layout or of all, for `SCAN`: it lets some other keys through.
pub(super) fn copies_pattern(scope: &Scope, layout: Option<&str>) -> String {
    // Namespace and entity are checked words; none of their characters, or of a layout's, is special in a pattern.
    format!("{}:{{{}:*/{}}}:r:*", scope.namespace, scope.entity, layout.unwrap_or("*"))
}

/// Whether this is the key of a clean copy of the entity, in whatever partition, of this layout or of whatever layout.
pub(super) fn is_copy(scope: &Scope, layout: Option<&str>, key: &[u8]) -> bool {
    let rest = key.strip_prefix(format!("{}:{{{}:", scope.namespace, scope.entity).as_bytes());
    let Some(rest) = rest else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = rest.get(digits..).and_then(|rest| rest.strip_prefix(b"/"));
    let (1.., Some(rest)) = (digits, rest) else { return false };
    let tag = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'+').count();
    let (tag, rest) = rest.split_at(tag);
    rest.starts_with(b"}:r:") && layout.map_or(!tag.is_empty(), |layout| layout.as_bytes() == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(partitions: u16) -> Topology {
        let text = format!("layout=2 partitions={partitions} format=json");
        Topology::parse(&text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn copies_are_told_from_other_keys() -> Result<(), crate::entity::key::KeyError> {
        let scope = Scope::new("blog", "post", 16);
        let keys = PartitionKeys::new(&scope.namespace, scope.entity, 7, &layout(16));
        for id in ["42", "}:r:", ":open", "*"] {
            let key = keys.copy(&Id::of(&id.to_owned())?);
            assert!(is_copy(&scope, None, &key), "{id}");
            assert!(is_copy(&scope, Some("16"), &key), "{id}");
            assert!(!is_copy(&scope, Some("8"), &key) && !is_copy(&scope, Some("16+tx"), &key), "{id}");
        }
        for key in [
            keys.open.as_str(),
            &keys.dead,
            "blog:{post:x/16}:r:1",
            "blog:{post:07}:r:1",
            "blog:{post:07/}:r:1",
            "blog:{posts:07/16}:r:1",
            "a:blog:{post:07/16}:r:1",
        ] {
            assert!(!is_copy(&scope, None, key.as_bytes()), "{key}");
        }
        Ok(())
    }

    #[test]
    fn keys_are_as_documented() -> Result<(), crate::entity::key::KeyError> {
        let scope = Scope::new("blog", "post", 16);
        let keys = PartitionKeys::new(&scope.namespace, scope.entity, 7, &layout(16));
        assert_eq!(keys.open, "blog:{post:07/16}:open");
        assert_eq!(keys.copy(&Id::of(&42_u64)?), b"blog:{post:07/16}:r:42");
        assert_eq!(PartitionKeys::new(&scope.namespace, scope.entity, 7, &layout(8)).meta, "blog:{post:07/8}:meta");
        assert_eq!(ids(&scope), "blog:{post}:ids");
        assert_eq!(
            PartitionKeys::new(&scope.namespace, scope.entity, 7, &layout(101)).open,
            "blog:{post:007/101}:open"
        );
        let all = Topology { format: "msgpack".to_owned(), transactions: true, append: true, ..layout(16) };
        assert_eq!(
            PartitionKeys::new(&scope.namespace, scope.entity, 7, &all).log,
            "blog:{post:07/16+msgpack+tx+append}:log"
        );
        Ok(())
    }
}
