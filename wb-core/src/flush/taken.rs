//! taken: records whose unique value another record has are tried once more when all others of the cycle are settled. The
//! one that has it may be in another batch.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::sink::SinkError;
use crate::flush::Flusher;
use crate::flush::claim::{Claimed, Place};
use crate::flush::cycle::{Ended, Interrupted};
use crate::flush::relation_order::Children;
use crate::flush::units::Number;
use crate::flush::write_batch::Flushed;
use crate::sink_gate::Lot;

/// How often what is left is tried again, while some of it lands.
const ROUNDS: usize = 8;

/// Records that are tried together, whatever a batch's limit is: the sink finds an order only for what it sees at once, and a chain of
/// moves that goes through all batches of a flush lands as one.
const TOGETHER: usize = 4_096;

/// Of so many batches' bytes.
const BATCHES: usize = 4;

/// Records that were refused for a unique value, and are not settled yet.
#[derive(Default)]
pub(crate) struct Taken(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    claimed: Vec<Claimed>,
    places: HashSet<Place>,
    /// Why; of a unit for one of its records.
    errors: Vec<(Id, SinkError)>,
    /// Parts of a batch were tried apart from each other.
    divided: bool,
}

impl Taken {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this record is tried once more.
    pub(crate) fn has(&self, place: &Place) -> bool {
        self.kept().places.contains(place)
    }

    /// Takes out of what became of a batch what is to be tried once more. `due`: its rows; units stay whole. `divided`: its parts
    /// were tried apart from each other.
    pub(crate) fn keep<'a>(&self, due: impl Iterator<Item = &'a Claimed>, flushed: &mut Flushed, divided: bool) {
        self.kept().divided |= divided;
        if !flushed.refused.iter().any(|(_, error)| error.is_taken()) {
            return;
        }
        let errors: HashMap<Id, SinkError> = flushed.refused.extract_if(.., |(_, error)| error.is_taken()).collect();
        let due: Vec<&Claimed> = due.collect();
        let refused = due.iter().filter(|claimed| errors.contains_key(&claimed.id));
        let units: HashSet<Number> = refused.filter_map(|claimed| claimed.unit).collect();
        let mut kept = self.kept();
        for claimed in due {
            if errors.contains_key(&claimed.id) || claimed.unit.is_some_and(|unit| units.contains(&unit)) {
                kept.places.insert(claimed.place());
                kept.claimed.push(claimed.clone());
            }
        }
        kept.errors.extend(errors);
    }

    fn take(&self) -> Kept {
        std::mem::take(&mut *self.kept())
    }
}

impl Kept {
    /// In parts of so many records and bytes at most, units whole.
    fn lots(self, max_rows: usize, max_bytes: usize) -> Vec<Vec<Claimed>> {
        let mut lots: Vec<Vec<Claimed>> = Vec::new();
        let mut bytes = 0_usize;
        let mut claimed = self.claimed;
        // Those of a unit were together in one batch already.
        claimed.sort_by_key(|claimed| claimed.unit);
        for claimed in claimed {
            bytes = bytes.saturating_add(claimed.record.as_bytes().len());
            match lots.last_mut() {
                Some(lot) if (lot.len() < max_rows && bytes <= max_bytes) || belong(lot.last(), &claimed) => {
                    lot.push(claimed);
                }
                _ => {
                    bytes = claimed.record.as_bytes().len();
                    lots.push(vec![claimed]);
                }
            }
        }
        lots
    }
}

fn belong(one: Option<&Claimed>, other: &Claimed) -> bool {
    other.unit.is_some() && one.is_some_and(|one| one.unit == other.unit)
}

impl<E: Entity> Flusher<E> {
    /// Tries what was kept, while some of it lands, and settles the rest as refused. Where there was one batch, written as one,
    /// nothing else can have given a value up.
    pub(crate) async fn flush_taken(
        &self,
        taken: &Taken,
        batches: usize,
        children: &Children,
    ) -> Result<Ended, Interrupted> {
        let mut ended = Ended::default();
        let mut kept = taken.take();
        let mut alone = batches < 2 && !kept.divided;
        for _ in 0..ROUNDS {
            if kept.claimed.is_empty() || alone {
                break;
            }
            let (again, before) = (Taken::default(), kept.claimed.len());
            let max_rows =
                self.ctx.options.rate_limit.map_or(TOGETHER.max(self.ctx.options.max_batch), |_| self.max_rows());
            for lot in kept.lots(max_rows, self.ctx.options.max_batch_bytes.saturating_mul(BATCHES)) {
                ended.add(self.flush_lot(lot, Vec::new(), Lot::Ordinary, children, &again).await?);
                if ended.is_given_up() || self.sink_gate.is_over() {
                    return Ok(ended);
                }
            }
            kept = again.take();
            alone = kept.claimed.len() == before;
        }
        if !kept.claimed.is_empty() {
            let Kept { claimed, errors, .. } = kept;
            let refused = Flushed { refused: errors, ..Flushed::default() };
            ended.add(self.settle(&claimed, refused, Vec::new(), Vec::new()).await?);
        }
        Ok(ended)
    }
}
