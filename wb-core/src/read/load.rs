//! load: what is in no buffer comes from the sink, and is filled in where nothing newer can have been.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::future::{join_all, try_join_all};

use crate::buffer::record::Record;
use crate::buffer::{Stored, Token};
use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::buffer::BufferErrorKind;
use crate::error::sink::ErrorKind;
use crate::error::{CacheError, codec};
use crate::read::Reader;
use crate::read::single_flight::Loaded;
use crate::telemetry::log;

/// How much longer a load token lives than a load may take: what is loaded is filled in only while it stands.
const TOKEN_MARGIN: Duration = Duration::from_secs(5);

/// What was loaded.
#[derive(Default)]
pub(crate) struct LoadedMany {
    pub(crate) records: HashMap<Id, Record>,
    /// Of these nothing was flushed meanwhile: every ack removes the token.
    pub(crate) untouched: HashSet<Id>,
    /// What was said of rows that are no value of this struct.
    pub(crate) failed: HashMap<Id, CacheError>,
}

impl<E: Entity> Reader<E> {
    /// Life of a load token.
    pub(crate) fn token_ttl(&self) -> Duration {
        self.ctx.options.load_timeout.saturating_add(TOKEN_MARGIN)
    }

    /// Says that this process loads `id`, in place of a copy that it cannot use if need be. With clean copies switched off the token is left all the same: it is what
    /// concurrent readers join on.
    pub(crate) async fn leave_token(
        &self,
        partition: u16,
        id: &Id,
        token: &Token,
        over: Option<&Stored>,
    ) -> Result<bool, CacheError> {
        match self.ctx.space.token(partition, id, token, over, self.token_ttl()).await {
            // A buffer without room takes no writes; reads go on without its help.
            Err(error) if error.kind() == BufferErrorKind::Full => Ok(false),
            left => Ok(left?),
        }
    }

    /// Loads one key; the tombstone says "no such row". Owns what it needs, because readers share it.
    pub(crate) fn load_one(&self, id: Id, key: E::Key) -> impl Future<Output = Loaded> + Send + use<E> {
        let (sink, loading) = (self.ctx.sink.clone(), self.load_gate.clone());
        async move {
            let keys = [key];
            let rows = loading.ask(async { sink.load(&keys).await }).await?;
            for row in rows {
                // A sink whose collation folds case answers with another key's row.
                if Id::of(&row.key())? == id {
                    return Ok(Record::from_bytes(row.encode().map_err(|source| codec(&id, source))?));
                }
            }
            Ok(Record::tombstone())
        }
    }

    /// Loads many keys at once; keys without a row come back as tombstones. Nothing of them was flushed during the load where this
    /// process's own token stood from before it until after. `over`: copies that stand, and cannot be used.
    pub(crate) async fn load_many(
        &self,
        missing: HashMap<&Id, &E::Key>,
        over: &HashMap<Id, Stored>,
    ) -> Result<LoadedMany, CacheError> {
        if missing.is_empty() {
            return Ok(LoadedMany::default());
        }
        self.load_gate.open()?;
        // Tokens first: what goes to the sink after this is not overwritten by what is loaded.
        let tokens = try_join_all(missing.iter().map(|(&id, &key)| async move {
            let token = Token::fresh();
            let partition = self.ctx.partition_of(id, key)?;
            let mine = self.leave_token(partition, id, &token, over.get(id)).await?;
            Ok::<_, CacheError>((partition, id.clone(), mine.then_some(token)))
        }))
        .await?;
        let keys: Vec<E::Key> = missing.values().map(|&key| key.clone()).collect();
        let (rows, mut failed) = self.load_apart(keys).await?;
        let mut loaded: HashMap<Id, Record> = missing.keys().map(|&id| (id.clone(), Record::tombstone())).collect();
        for row in rows {
            let id = Id::of(&row.key())?;
            if let Some(record) = loaded.get_mut(&id) {
                match row.encode() {
                    Ok(payload) => *record = Record::from_bytes(payload),
                    Err(source) => _ = failed.insert(id.clone(), codec(&id, source)),
                }
            }
        }
        loaded.retain(|id, _| !failed.contains_key(id));
        let fills = tokens.iter().filter_map(|(partition, id, token)| {
            let (token, record) = (token.as_ref()?, loaded.get(id)?);
            Some(async move { self.fill(*partition, id, token, record).await.then(|| id.clone()) })
        });
        let untouched = join_all(fills).await.into_iter().flatten().collect();
        Ok(LoadedMany { records: loaded, untouched, failed })
    }

    /// Loads keys. What the sink says no to, because a row is no value of this struct, is loaded in halves until the row is found.
    async fn load_apart(&self, keys: Vec<E::Key>) -> Result<(Vec<E>, HashMap<Id, CacheError>), CacheError> {
        let (mut rows, mut failed, mut left) = (Vec::new(), HashMap::new(), vec![keys]);
        while let Some(mut keys) = left.pop() {
            match self.load_gate.ask(async { self.ctx.sink.load(&keys).await }).await {
                Ok(more) => rows.extend(more),
                Err(error) if !is_a_rows(&error) => return Err(error),
                Err(error) => match keys.as_slice() {
                    [key] => _ = failed.insert(Id::of(key)?, error),
                    _ => {
                        let other = keys.split_off(keys.len() / 2);
                        left.extend([other, keys].into_iter().filter(|half| !half.is_empty()));
                    }
                },
            }
        }
        Ok((rows, failed))
    }

    /// Fills a loaded state in; whether the token still stood. A failure costs the next reader a load, nothing else.
    pub(crate) async fn fill(&self, partition: u16, id: &Id, token: &Token, record: &Record) -> bool {
        let options = &self.ctx.options;
        let ttl = match record.is_tombstone() {
            _ if options.cache_ttl.is_zero() => Duration::ZERO,
            true => options.negative_ttl,
            false => options.cache_ttl,
        };
        let loaded = self.ctx.shapes.loaded(record.clone());
        self.ctx.space.fill(partition, id, token, &loaded, ttl).await.unwrap_or_else(|error| {
            log::fill_failed(&self.ctx.scope, &error);
            false
        })
    }
}

/// Whether it is said of a row, not of the sink.
fn is_a_rows(error: &CacheError) -> bool {
    matches!(error, CacheError::Sink { source } if source.kind() == ErrorKind::Rejected)
}
