//! Several records written together.

use super::Engine;
use crate::api::transaction::{self, Transaction, TransactionError};

impl Engine {
    /// Writes several records of one entity together: all of them are in the buffer at one instant or none is, every reader
    /// of [`Cache::get_many`](crate::Cache::get_many) sees all or none, and they reach the sink in one of its transactions. When the sink refuses one
    /// of them it gets none, and all become dead letters when the retries are used up.
    ///
    /// `fill` says what to write, and is not asked again. An error of it is the transaction's: nothing is stored. At most 200
    /// records; of one record the last write counts. A `put` of a value with a `#[wb(version)]` that is not above the one
    /// that stands is a [`CacheError::Conflict`](crate::CacheError::Conflict), and nothing is stored.
    ///
    /// Records of one partition can always be written together; records of several when the entity's options
    /// [say so](crate::EntityOptions::transactions). Transactions that write a record in common within one flush are
    /// flushed together, however many there are, and share their fate: also above `max_batch`. Dead letters of a
    /// unit are replayed together.
    ///
    /// A unique value may move from one record to another: the sink finds the order. Two that exchange theirs are refused, unless the
    /// database checks the constraint at the end of its transaction.
    ///
    /// To wait for the sink, ask [`Cache::receipt`](crate::Cache::receipt) for one of the records.
    ///
    /// ```
    /// # use wb_core::{CodecError, Engine, Entity, EntityOptions, Format, MemoryBuffer, codec, testing::ScriptedSink};
    /// # #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// # struct Player { id: u64, gold: i64 }
    /// # impl Entity for Player {
    /// #     type Key = u64;
    /// #     const NAME: &'static str = "player";
    /// #     const FORMAT: Format = Format::Json;
    /// #     fn key(&self) -> u64 { self.id }
    /// #     fn encode(&self) -> Result<Vec<u8>, CodecError> { codec::encode(Self::FORMAT, self) }
    /// #     fn decode(payload: &[u8]) -> Result<Self, CodecError> { codec::decode(Self::FORMAT, payload) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sink = ScriptedSink::<Player>::new();
    /// let engine = Engine::builder(MemoryBuffer::new())
    ///     .entity::<Player>(sink, EntityOptions::new().transactions(true))
    ///     .start()
    ///     .await?;
    /// let (mut buyer, mut seller) = (Player { id: 1, gold: 50 }, Player { id: 2, gold: 10 });
    /// buyer.gold -= 30;
    /// seller.gold += 30;
    /// engine
    ///     .transaction(|tx| {
    ///         tx.put(&buyer)?;
    ///         tx.put(&seller)?;
    ///         tx.delete::<Player>(&3)?;
    ///         Ok(())
    ///     })
    ///     .await?;
    /// # engine.shutdown(std::time::Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TransactionError`]. After a [`BufferErrorKind::Unknown`](crate::BufferErrorKind::Unknown) all of it may be stored, or
    /// nothing; repeating it is safe. (Where versions count, a repetition of what was stored is a conflict with itself.)
    pub async fn transaction<R>(
        &self,
        fill: impl FnOnce(&mut Transaction<'_>) -> Result<R, TransactionError>,
    ) -> Result<R, TransactionError> {
        transaction::run(&self.entities, fill).await
    }
}
