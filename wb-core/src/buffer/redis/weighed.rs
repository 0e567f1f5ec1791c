//! Reads in bulk that end by weight: what one answer brings is bounded by bytes that are known before it is asked for, however
//! large the records are. A single larger one still comes alone.

use bytes::Bytes;
use redis::{Pipeline, RedisResult};

use super::space::{LARGE, RedisSpace, fitting};
use crate::entity::key::Id;
use crate::error::buffer::BufferError;

/// Bytes that one answer brings at most, of values that are asked for by name.
const ANSWER_BYTES: usize = 4 << 20;

/// Bytes that one call of a script carries at most.
pub(super) const CALL_BYTES: usize = 1 << 20;

/// A page of a hash: the next cursor, fields and values.
pub(super) type Fields = (u64, Vec<(Bytes, Bytes)>);

/// How many of these sizes, from the first one on, are within `most` together; one at least.
pub(super) fn within(most: usize, sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0_usize;
    let fits = |size: &usize| {
        bytes = bytes.saturating_add(*size);
        bytes <= most
    };
    sizes.take_while(fits).count().max(1)
}

impl RedisSpace {
    /// Bytes of a record of this hash on average, by some of them.
    pub(super) async fn weigh(&self, hash: &str) -> Result<u64, BufferError> {
        let mut call = self.scripts.weigh.prepare_invoke();
        call.key(hash);
        self.run("cannot weigh records", &call).await
    }

    /// A page of a hash that may change meanwhile: of `limit` fields of [`LARGE`] bytes, and fewer of larger ones.
    pub(super) async fn light_page(
        &self,
        doing: &str,
        hash: &str,
        cursor: u64,
        limit: usize,
    ) -> Result<Fields, BufferError> {
        // What is asked for in one answer is bounded too, whatever the limit of a page is.
        let limit = limit.clamp(1, ANSWER_BYTES / LARGE);
        let count = if limit > 1 { fitting(limit, self.weigh(hash).await?) } else { limit };
        let mut command = redis::cmd("HSCAN");
        command.arg(hash).arg(cursor).arg("COUNT").arg(count);
        let reply: RedisResult<Fields> = command.query_async(&mut self.bulk(doing).await?).await;
        self.judged(doing, reply).await
    }

    /// The values of these fields of a hash, in as many answers as their bytes need.
    pub(super) async fn large_values(
        &self,
        doing: &str,
        hash: &str,
        ids: &[Id],
    ) -> Result<Vec<Option<Bytes>>, BufferError> {
        if ids.len() < 2 {
            return self.values(doing, hash, ids).await;
        }
        let mut pipeline = Pipeline::with_capacity(ids.len());
        for id in ids {
            pipeline.cmd("HSTRLEN").arg(hash).arg(id.as_bytes());
        }
        let sizes: Vec<usize> = self.query(doing, &pipeline).await?;
        let (mut values, mut ids, mut sizes) = (Vec::with_capacity(ids.len()), ids, sizes.as_slice());
        while !ids.is_empty() {
            let (now, later) = ids.split_at(within(ANSWER_BYTES, sizes.iter().copied()).min(ids.len()));
            values.extend(self.values(doing, hash, now).await?);
            sizes = sizes.get(now.len()..).unwrap_or_default();
            ids = later;
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn an_answer_is_as_large_as_allowed_or_one_value() {
        for (sizes, expected) in
            [(&[][..], 1), (&[4, 4, 4], 2), (&[10], 1), (&[11, 1], 1), (&[0; 5], 5), (&[1, usize::MAX], 1)]
        {
            assert_eq!(within(10, sizes.iter().copied()), expected, "{sizes:?}");
        }
    }
}
