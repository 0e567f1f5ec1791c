//! The protocol of write-behind as a model, explored exhaustively for small bounds.
//!
//! Tests of the real thing try some interleavings; this tries all. It is small enough to be read in one sitting
//! beside `wb-core/src/flow/`, `wb-core/src/lease.rs` and the scripts in `wb-core/src/buffer/redis/lua/`, and has
//! their names: whoever changes a rule there changes it here, and sees in a minute what else rests on it.
//!
//! ```text
//! cargo test -p write-behind-model -- --nocapture                 every test; with figures and counterexamples
//! cargo test -p write-behind-model --release -- --ignored --nocapture --test-threads 1
//!                                                                 larger bounds; minutes, and gigabytes of memory
//! ```
//!
//! # What a state is
//!
//! One key, in one partition ([`State`]):
//!
//! - [`Buffer`]: what Redis holds of it: `open`, `flushing`, the clean copy (a state with or without TTL, or a load
//!   token), the dead letter, the number of closed epochs, the lease;
//! - [`Sink`]: the row, the newest generation, and a transaction that may have outlived its worker;
//! - two [`Worker`]s: what each believes of its lease ([`Term`]), and where its flush cycle stands ([`Cycle`]);
//! - a [`Reader`] and an [`Updater`], each in some of the tests;
//! - [`Ghost`]: what was acknowledged, and what was done that must never be done. No step looks at it.
//!
//! A [`Record`] is the number of the write that made it; odd ones are puts, even ones are deletes. Only ghosts
//! compare numbers: the protocol compares nothing.
//!
//! # What a step is
//!
//! An [`Action`]: one thing that is atomic in reality. A Redis script or command, a look into *one* of the three
//! places where a reader looks, the check of a batch by the sink, its commit. Between two steps of anybody anything
//! may happen:
//!
//! - a worker is paused (it is simply not its turn), crashes, or loses Redis in the middle of a cycle;
//! - a lease runs out, whatever its holder believes. Nothing is assumed of clocks: a worker may go on believing in
//!   its lease for ever, and renew it under its old right after others had it;
//! - whatever has a TTL expires;
//! - the sink refuses a record, rolls a batch back, or commits it while the connection breaks: then the worker tries
//!   again beside a transaction that may still commit;
//! - somebody replays a dead letter.
//!
//! Writes and refusals are bounded ([`Bounds`]); all of the above may happen any number of times. Takeovers too:
//! states that differ only in what generations, epochs and workers are *called* are one state.
//!
//! # What is promised
//!
//! [`P1`], [`P3`], [`P3_STALE`], [`P4`], [`P5`], [`P5_UPDATE`], [`P8`], [`P9`] hold in every state. Beside them
//! stands what must be *reached* in some state (all is flushed, a refused record comes back, a worker is overtaken,
//! ...), so that a model in which nothing happens does not pass.
//!
//! Each [`Mechanism`] can be taken away, and a test shows the shortest way in which a promise then breaks. Two pieces
//! are not missed: the looks of `rotate` and of the steps at the *lease*. A run without them is a run in which the
//! lease expired a little later: a lease is only liveness. What makes a late step harmless is the number of the
//! epoch, and what makes a late write harmless is the fence.
//!
//! # What the sink must do
//!
//! The promises rest on three properties of the sink, which the tests take away one by one:
//!
//! - the check of the generation *locks* it until the transaction ends, and a new fence waits for that lock
//!   ([`Mechanism::FenceLock`]): a check that is a plain read is worth nothing;
//! - a transaction whose end the worker has not heard of keeps its rows locked until it is over
//!   ([`Mechanism::RowLock`]), so that the next try waits for it. A fence does not help here: both tries are of the
//!   same generation;
//! - after an error, nothing of a batch is still on its way that has not passed that check ([`Mechanism::Settle`]). A
//!   transaction that waits for the answer to each statement is such; a batch that is sent in one piece is not,
//!   because the whole of it may arrive after the connection was given up and after newer states were written.
//!
//! # When Redis loses data
//!
//! With [`Bounds::losses`], Redis may come back empty or as it was at any earlier moment. Writes from before the loss
//! may be lost: P1 is a promise "as long as Redis keeps its data". What is promised all the same:
//!
//! - generations do not go back, because the sink counts them, so a worker that was overtaken changes nothing
//!   ([`P3_STALE`]);
//! - the sink does not go back from a state that was written after the loss ([`P3`]).
//!
//! What is written *after* the loss is as safe as ever. Numbers of epochs would not be enough for that, because the loss
//! turns their counter back. A worker that has written a batch meanwhile, and has the lease again after another one
//! had it, takes the other one's epoch for its own, because owner and number are the same, and acknowledges what it
//! never wrote:
//!
//! ```text
//! put 1; A: take, fence, rotate (epoch 1), claim, write, commit       Redis loses all
//! put 2; B: take, fence, rotate (epoch 1)                             B's lease ends
//! A: take (its lease keeper), ack of epoch 1                          2 leaves `flushing`, and is in no sink
//! ```
//!
//! So every call of `rotate` stamps the epoch with a name that is used once, and the steps that finish it check the
//! stamp ([`Bounds::stamps`]). Then all promises hold for what is written after the loss, and the stamp makes the
//! checks of owner and number redundant.
//!
//! # Changes of topology
//!
//! [`topology`] is a model of its own, of the protocol by which an entity is to be laid out anew while programs of the old
//! topology still run.
//!
//! # What is left out
//!
//! - *Other keys.* Keys of a partition share the lease, the number of the epoch, and the moment at which `flushing`
//!   is gone. Another key that is still being flushed only puts the next rotation off. That a page of `HSCAN` may
//!   come from a later epoch than its claim says is not modelled; the number in the steps is there for it.
//! - *The worker's own look at its right before each try.* It spares the sink work, and it proves nothing: the worker
//!   may be paused right after it.
//! - *Counted attempts.* Whether a refused record goes back or becomes a dead letter is left to chance.
//! - *Commands that arrive late* at Redis, from a connection that was given up. All steps but a put are refused or
//!   repeat what was done; a put whose outcome is unknown may take effect later, as in any store.
//! - *A second reader*, and with it readers that join each other's loads.
//! - *Time.* "Flushed within so long" (P6) and "returns by the deadline" (P11) are not about states.
//! - *Sinks without fences.* They have only the lease, and so no P3 against a worker that was paused.

mod action;
mod buffer;
mod client;
mod flow;
mod mechanism;
mod promises;
mod protocol;
pub mod shapes;
mod sink;
mod state;
#[cfg(test)]
mod tests;
pub mod topology;
mod worker;

pub use action::Action;
pub use buffer::{Buffer, Copy, Loader, Record};
pub use client::{Place, Reader, Updater};
pub use mechanism::{Mechanism, Without};
pub use promises::{P1, P3, P3_STALE, P4, P5, P5_UPDATE, P8, P9};
pub use protocol::{Bounds, Protocol};
pub use sink::{Batch, Sink};
pub use state::{Breach, Ghost, State};
pub use worker::{Claim, Cycle, Term, Who, Worker};
