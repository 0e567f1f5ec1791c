//! One entity's share of a buffer: the verbs of the flow, a trait for each role.

mod coordination;
mod dead_letters;
mod epochs;
mod leases;
mod reads;
mod settlement;
mod writes;

pub use coordination::Coordination;
pub use dead_letters::DeadLetterStore;
pub use epochs::Epochs;
pub use leases::LeaseStore;
pub use reads::Reads;
pub use settlement::Settlement;
pub use writes::Writes;

/// One entity's share of a buffer: a method for each verb of the flow.
///
/// # Contract
/// - Every method is one atomic step per partition. A method may be repeated when its outcome is unknown.
/// - Worker verbs ([`rotate`](Epochs::rotate), [`ack`](Settlement::ack), [`back`](Settlement::back), [`bury`](Settlement::bury)) do
///   nothing for a worker that does not hold the partition's lease, and say so.
/// - What is dirty (in `open` or `flushing`) has no TTL and is never evicted.
pub trait Space: Writes + Reads + Epochs + Settlement + DeadLetterStore + LeaseStore + Coordination {}

impl<T: Writes + Reads + Epochs + Settlement + DeadLetterStore + LeaseStore + Coordination + ?Sized> Space for T {}
