//! Partitions: a fixed share of an entity's keys.

use crate::entity::key::Id;

/// The partition of an id: CRC16/XMODEM of its bytes, modulo the number of partitions.
///
/// The same sum that every Redis Cluster client carries, so that any program in any language can find the hash to
/// write to. `123456789` has the sum `0x31C3` (the catalogue's check value).
///
/// ```
/// use wb_core::{Id, partition_of};
///
/// let id = Id::of(&"123456789".to_owned())?;
/// assert_eq!(partition_of(&id, 16), 0x31C3 % 16);
/// # Ok::<(), wb_core::KeyError>(())
/// ```
#[must_use]
pub fn partition_of(id: &Id, partitions: u16) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(id.as_bytes()) % partitions.max(1)
}
