//! Dead letters as a program or a person works with them: list, inspect, replay, discard.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use futures::future::try_join_all;

use crate::buffer::{DeadLetter, Replay, Replayed};
use crate::entity::Entity;
use crate::entity::key::{EntityKey, Id, KeyError};
use crate::entity_runtime::EntityRuntime;
use crate::error::CacheError;
use crate::error::buffer::BufferErrorKind;
use crate::telemetry::log;

/// Letters that are read at a time when all are replayed.
const PAGE: usize = 100;

/// Most letters that are asked of the buffer in one call, whatever a page's limit.
const MOST: usize = 1_000;

/// The dead letters of entity `T`: records that the sink refuses for a reason of their own data. Cheap to clone; from
/// [`Engine::dead_letters`](crate::Engine::dead_letters).
///
/// A letter goes when a newer state of its key is flushed, when it is replayed, or when it is discarded. Until then readers
/// see its state.
///
/// ```
/// # use wb_core::{CodecError, Entity, Engine, EntityOptions, Format, MemoryBuffer, codec, testing::ScriptedSink};
/// # #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// # struct Player { id: u64 }
/// # impl Entity for Player {
/// #     type Key = u64;
/// #     const NAME: &'static str = "player";
/// #     const FORMAT: Format = Format::Json;
/// #     fn key(&self) -> u64 { self.id }
/// #     fn encode(&self) -> Result<Vec<u8>, CodecError> { codec::encode(Self::FORMAT, self) }
/// #     fn decode(payload: &[u8]) -> Result<Self, CodecError> { codec::decode(Self::FORMAT, payload) }
/// # }
/// # async fn example(engine: Engine) -> Result<(), Box<dyn std::error::Error>> {
/// let letters = engine.dead_letters::<Player>()?;
/// let mut cursor = None;
/// loop {
///     let page = letters.page(cursor, 50).await?;
///     for letter in page.letters {
///         println!("{}: {}", letter.id, letter.letter.error);
///     }
///     cursor = page.next;
///     if cursor.is_none() {
///         break;
///     }
/// }
/// letters.replay_all().await?;        // the column is wide enough now
/// # Ok(())
/// # }
/// ```
pub struct DeadLetters<T: Entity> {
    entity: Arc<EntityRuntime<T>>,
}

impl<T: Entity> Clone for DeadLetters<T> {
    fn clone(&self) -> Self {
        Self { entity: self.entity.clone() }
    }
}

impl<T: Entity> fmt::Debug for DeadLetters<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").field("entity", &T::NAME).finish_non_exhaustive()
    }
}

/// A dead letter and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Letter {
    /// The partition that the record was found in; another than its id's own when a foreign program misplaced it.
    pub partition: u16,
    /// The id of the record; not always the text of a key.
    pub id: Id,
    /// What happened to it.
    pub letter: DeadLetter,
}

impl Letter {
    /// The key of the record.
    ///
    /// # Errors
    /// [`KeyError`] when the id is no text of such a key; use the methods of [`DeadLetters`] that take partition and id.
    pub fn key<K: EntityKey>(&self) -> Result<K, KeyError> {
        self.id.parse()
    }
}

/// Some dead letters.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LetterPage {
    /// The letters. Perhaps none although there is a next page, and some perhaps twice.
    pub letters: Vec<Letter>,
    /// Where to go on; `None` at the end.
    pub next: Option<LetterCursor>,
}

/// Where a listing goes on. Its text can be handed out and read back, for paging over HTTP or a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterCursor {
    partition: u16,
    scan: u64,
}

impl fmt::Display for LetterCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.partition, self.scan)
    }
}

/// A text that is no [`LetterCursor`], or no [`DirtyCursor`](crate::DirtyCursor).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a cursor")]
#[non_exhaustive]
pub struct NotACursor {
    /// The text.
    pub text: String,
}

impl FromStr for LetterCursor {
    type Err = NotACursor;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let parse = || {
            let (partition, scan) = text.split_once('.')?;
            Some(Self { partition: partition.parse().ok()?, scan: scan.parse().ok()? })
        };
        parse().ok_or_else(|| NotACursor { text: text.to_owned() })
    }
}

impl<T: Entity> DeadLetters<T> {
    pub(crate) const fn new(entity: Arc<EntityRuntime<T>>) -> Self {
        Self { entity }
    }

    fn place(&self, key: &T::Key) -> Result<(u16, Id), CacheError> {
        let id = Id::of(key)?;
        Ok((self.entity.ctx.partition_of(&id, key)?, id))
    }

    /// How many there are.
    ///
    /// # Errors
    /// [`CacheError::Buffer`].
    pub async fn count(&self) -> Result<u64, CacheError> {
        let space = &self.entity.ctx.space;
        let all = self.entity.ctx.all_partitions();
        let statuses = try_join_all(all.into_iter().map(|partition| space.status(partition))).await?;
        Ok(statuses.into_iter().map(|status| status.dead).sum())
    }

    /// About `limit` letters (1 to 1000), from the start (`None`) or where an earlier page ended. Letters that are there all
    /// the time are listed; one that comes or goes meanwhile may be.
    ///
    /// # Errors
    /// [`CacheError::Buffer`].
    pub async fn page(&self, cursor: Option<LetterCursor>, limit: usize) -> Result<LetterPage, CacheError> {
        let limit = limit.clamp(1, MOST);
        let LetterCursor { mut partition, mut scan } = cursor.unwrap_or(LetterCursor { partition: 0, scan: 0 });
        let mut letters = Vec::new();
        while partition < self.entity.ctx.scope.partitions {
            let page = self.entity.ctx.space.letters(partition, scan, limit - letters.len()).await?;
            letters.extend(page.letters.into_iter().map(|(id, letter)| Letter { partition, id, letter }));
            scan = page.cursor;
            if scan == 0 {
                partition += 1;
            }
            if letters.len() >= limit {
                break;
            }
        }
        let next = (partition < self.entity.ctx.scope.partitions).then_some(LetterCursor { partition, scan });
        Ok(LetterPage { letters, next })
    }

    /// The letter of a key.
    ///
    /// # Errors
    /// [`CacheError::Key`]; [`CacheError::Buffer`], also when the letter cannot be read.
    pub async fn get(&self, key: &T::Key) -> Result<Option<DeadLetter>, CacheError> {
        let (partition, id) = self.place(key)?;
        self.get_at(partition, &id).await
    }

    /// The letter of an id in a partition, as [`page`](Self::page) names them.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub async fn get_at(&self, partition: u16, id: &Id) -> Result<Option<DeadLetter>, CacheError> {
        Ok(self.entity.ctx.space.letter(partition, id).await?)
    }

    /// Makes the letter's payload dirty again, as it was refused, with all its attempts before it; the letter goes. Where a
    /// newer state of the key is dirty nothing happens, because that decides: see [`Replay::Superseded`]. So an older
    /// state never overwrites a newer one. A replay passes [`max_dirty`](crate::EntityOptions::max_dirty): letters take room
    /// in the buffer already, and a person asks for it; new keys are refused meanwhile.
    ///
    /// A letter that belongs [together](DeadLetter::together) with others, because transactions wrote their records, brings all
    /// of them back, in one step, and they reach the sink in one transaction, or become letters again. One of which a newer
    /// state is dirty is left out, as ever; the others come back without it.
    ///
    /// # Errors
    /// [`CacheError::Key`]; [`CacheError::Buffer`], after which repeating is safe; [`CacheError::Closed`] after shutdown.
    pub async fn replay(&self, key: &T::Key) -> Result<Replay, CacheError> {
        let (partition, id) = self.place(key)?;
        self.replay_at(partition, &id).await
    }

    /// [`replay`](Self::replay) of an id in a partition, as [`page`](Self::page) names them.
    ///
    /// # Errors
    /// As for [`replay`](Self::replay).
    pub async fn replay_at(&self, partition: u16, id: &Id) -> Result<Replay, CacheError> {
        let (replayed, _) = self.replay_some(partition, std::slice::from_ref(id)).await?;
        Ok(replayed.outcomes.into_iter().next().unwrap_or(Replay::Absent))
    }

    /// Replays all letters that are there now and not superseded; returns how many. What the sink refuses again becomes a
    /// letter again. Letters that cannot be read are left out.
    ///
    /// # Errors
    /// As for [`replay`](Self::replay); those before the failure are replayed, and when it is one partition that cannot be used,
    /// those of all others.
    pub async fn replay_all(&self) -> Result<u64, CacheError> {
        let (mut replayed, mut broken) = (0, None);
        for partition in self.entity.ctx.all_partitions() {
            match self.replay_partition(partition).await {
                Ok(more) => replayed += more,
                Err(CacheError::Buffer(error)) if error.kind() == BufferErrorKind::Misconfigured => {
                    broken.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        broken.map_or(Ok(replayed), |error| Err(error.into()))
    }

    async fn replay_partition(&self, partition: u16) -> Result<u64, CacheError> {
        let (mut replayed, mut scan) = (0, 0);
        loop {
            let page = self.entity.ctx.space.letters(partition, scan, PAGE).await?;
            let readable = page.letters.into_iter().filter(|(_, letter)| letter.kind != DeadLetter::CORRUPT);
            let mut ids: Vec<Id> = readable.map(|(id, _)| id).collect();
            ids.sort_unstable();
            ids.dedup();
            replayed += self.replay_some(partition, &ids).await?.1;
            scan = page.cursor;
            if scan == 0 {
                return Ok(replayed);
            }
        }
    }

    /// What became of these, and how many letters came back.
    async fn replay_some(&self, partition: u16, ids: &[Id]) -> Result<(Replayed, u64), CacheError> {
        // A replay makes keys dirty, like a write: shutdown waits for it, or refuses it.
        let _place = self.entity.ctx.intake.enter()?;
        let _near = self.entity.ctx.near.writing(ids);
        let replayed = self.entity.ctx.space.replay(partition, ids).await?;
        let again = replayed.outcomes.iter().filter(|replay| **replay == Replay::Again).count() as u64;
        let again = again + replayed.others;
        if again > 0 {
            self.entity.ctx.counters.replayed.add(again);
            log::replayed(&self.entity.ctx.scope, partition, again);
        }
        Ok((replayed, again))
    }

    /// Removes a letter for good: its state never reaches the sink, and readers see the sink's row again, unless a newer
    /// state is dirty. Returns whether there was one. Letters that belong together with it stay, and a replay of them brings
    /// the rest of their transaction back without it.
    ///
    /// # Errors
    /// [`CacheError::Key`]; [`CacheError::Buffer`], after which repeating is safe.
    pub async fn discard(&self, key: &T::Key) -> Result<bool, CacheError> {
        let (partition, id) = self.place(key)?;
        self.discard_at(partition, &id).await
    }

    /// [`discard`](Self::discard) of an id in a partition, as [`page`](Self::page) names them.
    ///
    /// # Errors
    /// As for [`discard`](Self::discard).
    pub async fn discard_at(&self, partition: u16, id: &Id) -> Result<bool, CacheError> {
        let _near = self.entity.ctx.near.writing([id]);
        let discarded = self.entity.ctx.space.discard(partition, std::slice::from_ref(id)).await? > 0;
        if discarded {
            log::discarded(&self.entity.ctx.scope, id);
        }
        Ok(discarded)
    }
}
