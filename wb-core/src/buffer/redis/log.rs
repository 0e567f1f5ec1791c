//! The logs of append-only entities: read and trimmed.

use bytes::Bytes;

use super::scripts::MAX_RECORDS;
use super::space::{LARGE, NOTHING, RedisSpace};
use crate::buffer::record::Record;
use crate::buffer::{Done, LogPage, Moved, Settled, Step};
use crate::error::buffer::{BufferError, BufferErrorKind};

pub(super) async fn read(space: &RedisSpace, partition: u16, skip: u64, limit: usize) -> Result<LogPage, BufferError> {
    let keys = space.shelf.keys(partition)?;
    let limit = limit.max(1);
    let mut call = space.scripts.read_log.prepare_invoke();
    call.key(&keys.meta).key(&keys.closed_log).arg(skip).arg(limit).arg(limit.saturating_mul(LARGE));
    let doing = "cannot read a log";
    let read = call.invoke_async(&mut space.bulk(doing).await?).await;
    let (trimmed, entries, left): (Option<u64>, Vec<Bytes>, u64) = space.judged(doing, read).await?;
    let entries = entries.into_iter().map(Record::from_bytes).collect();
    Ok(LogPage { number: trimmed.unwrap_or(0).saturating_add(skip), entries, left })
}

pub(super) async fn trim(
    space: &RedisSpace,
    step: &Step<'_>,
    number: u64,
    settled: &[Settled],
) -> Result<Moved, BufferError> {
    let keys = space.shelf.keys(step.partition)?;
    let (mut moved, mut number) = (NOTHING, number);
    for settled in settled.chunks(MAX_RECORDS) {
        let mut call = space.finish(&space.scripts.trim, step, |keys| &keys.open)?;
        call.key(&keys.dead).key(&keys.closed_log).arg(number).arg(settled.len());
        for entry in settled {
            call.arg(entry.id().as_bytes());
        }
        for (place, entry) in (1_usize..).zip(settled) {
            match entry {
                Settled::Written(_) => {}
                Settled::Again(_, attempts) => {
                    call.arg(place).arg("again").arg(attempts.to_string());
                }
                Settled::Dead(_, letter) => {
                    let text = serde_json::to_string(letter).map_err(|source| {
                        BufferError::new(BufferErrorKind::Misconfigured, "cannot write a dead letter")
                            .with_source(source)
                    })?;
                    call.arg(place).arg("dead").arg(text);
                }
            }
        }
        if space.step("cannot trim a log", &call, &mut moved).await? == Done::NotOwner {
            break;
        }
        number = number.saturating_add(settled.len() as u64);
    }
    Ok(moved)
}
