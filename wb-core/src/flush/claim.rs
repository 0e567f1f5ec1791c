//! claim: pages of closed epochs, gathered over partitions into batches. Batches do not shrink as partitions grow.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::try_join_all;

use crate::buffer::Space;
use crate::buffer::record::Record;
use crate::entity::key::Id;
use crate::error::buffer::BufferError;
use crate::fault::failpoint;
use crate::flush::rotate::Epoch;
use crate::flush::units::Number;

/// A record of a closed epoch.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) epoch: Epoch,
    pub(crate) id: Id,
    pub(crate) record: Record,
    /// The unit that it belongs to; `None` when it stands alone.
    pub(crate) unit: Option<Number>,
}

impl Claimed {
    pub(crate) fn place(&self) -> Place {
        (self.epoch.partition, self.id.clone())
    }

    fn bytes(&self) -> usize {
        self.id.as_bytes().len() + self.record.len()
    }
}

/// A record's place: an id stands in two partitions when a foreign program has misplaced one.
pub(crate) type Place = (u16, Id);

/// Records that are read and not settled yet. A scan may name a record twice, while its first claim is still on its way:
/// concurrent batches have disjoint keys all the same, and every record is settled once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flying(Arc<Mutex<Sky>>);

#[derive(Debug, Default)]
struct Sky {
    places: HashSet<Place>,
    /// Landed since the page was asked for that is being read. It may name them: they were there when it was read.
    landed: HashSet<Place>,
    reading: bool,
}

impl Flying {
    fn sky(&self) -> MutexGuard<'_, Sky> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are settled, or left to the next cycle.
    pub(crate) fn landed(&self, places: &[Place]) {
        let mut sky = self.sky();
        for place in places {
            let known = sky.places.take(place);
            if sky.reading {
                sky.landed.extend(known);
            }
        }
    }

    /// Pages are asked for from here on.
    fn reading(&self) {
        let mut sky = self.sky();
        sky.reading = true;
        sky.landed.clear();
    }

    /// The pages are there: which of these records are new?
    fn read(&self, records: Vec<Claimed>) -> Vec<Claimed> {
        let mut sky = self.sky();
        let Sky { places, landed, reading } = &mut *sky;
        *reading = false;
        // A repetition has the same value, because a closed epoch does not change.
        let fresh = |claimed: &Claimed| !landed.contains(&claimed.place()) && places.insert(claimed.place());
        let fresh = records.into_iter().filter(fresh).collect();
        landed.clear();
        fresh
    }
}

/// Reads epochs page by page.
pub(crate) struct Claim {
    space: Arc<dyn Space>,
    /// Epochs that are not read to their end, and where to go on.
    cursors: Vec<(Epoch, u64)>,
    epochs: HashMap<u16, Epoch>,
    ready: VecDeque<Claimed>,
    flying: Flying,
    /// Records that belong together, and are not read yet; claimed by name, before the others.
    units: VecDeque<Vec<Place>>,
    /// All places of units.
    tied: HashSet<Place>,
    numbers: Number,
    ready_bytes: usize,
    max_rows: usize,
    max_bytes: usize,
    seen: Average,
}

/// Size of a record, guessed high until some were seen, so that the first page does not fill the memory.
#[derive(Clone, Copy, Default)]
pub(crate) struct Average {
    bytes: usize,
    records: usize,
}

impl Average {
    const GUESS: usize = 16 << 10;

    /// One more record, of so many bytes.
    pub(crate) const fn add(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes;
    }

    pub(crate) fn get(&self) -> usize {
        self.bytes.checked_div(self.records).map_or(Self::GUESS, |bytes| bytes.max(1))
    }
}

/// Epochs whose first pages are read together before the size of any record is known.
const FIRST_PAGES: usize = 4;

impl Claim {
    pub(crate) fn new(
        space: Arc<dyn Space>,
        epochs: Vec<Epoch>,
        units: Vec<Vec<Place>>,
        max_rows: usize,
        max_bytes: usize,
    ) -> Self {
        let by_partition = epochs.iter().map(|&epoch| (epoch.partition, epoch)).collect();
        let cursors = epochs.into_iter().map(|epoch| (epoch, 0)).collect();
        Self {
            space,
            cursors,
            ready: VecDeque::new(),
            flying: Flying::default(),
            tied: units.iter().flatten().cloned().collect(),
            units: units.into(),
            numbers: 0,
            epochs: by_partition,
            ready_bytes: 0,
            max_rows,
            max_bytes,
            seen: Average::default(),
        }
    }

    /// What is claimed and not settled; the flush takes out of it what has landed.
    pub(crate) fn flying(&self) -> Flying {
        self.flying.clone()
    }

    /// The next batch: at most `max_rows` records and `max_bytes` bytes, but one record or unit at least. No id occurs twice, in
    /// this batch or in another one that is on its way.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Claimed>>, BufferError> {
        while self.ready.len() < self.max_rows && self.ready_bytes < self.max_bytes && !self.units.is_empty() {
            self.pick().await?;
        }
        // By bytes too: a batch of large records must not read thousands of them ahead.
        while self.ready.len() < self.max_rows && self.ready_bytes < self.max_bytes && !self.cursors.is_empty() {
            self.read().await?;
        }
        let batch = self.gather();
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// A batch of what was read.
    fn gather(&mut self) -> Vec<Claimed> {
        let mut batch = Vec::with_capacity(self.ready.len().min(self.max_rows));
        let mut bytes = 0;
        while let Some(next) = self.ready.front() {
            // A unit is read as a whole, and stands in one piece.
            let unit = next.unit;
            let together = self.ready.iter().take_while(|one| one.unit == unit).take(unit.map_or(1, |_| usize::MAX));
            let (records, size) = together.fold((0, 0), |(records, size), one| (records + 1, size + one.bytes()));
            if !batch.is_empty() && (batch.len() + records > self.max_rows || bytes + size > self.max_bytes) {
                break;
            }
            self.ready_bytes -= size;
            bytes += size;
            batch.extend(self.ready.drain(..records));
        }
        batch
    }

    /// About a batch of units. Records that are gone are left out: they are in the sink, or somebody has taken them.
    async fn pick(&mut self) -> Result<(), BufferError> {
        let (mut picked, mut wanted) = (Vec::new(), 0);
        // The first one alone: nobody knows how large its records are, and a unit is read as a whole.
        let rows = if self.seen.records == 0 { 1 } else { self.rows() };
        while wanted < rows
            && let Some(unit) = self.units.pop_front()
        {
            wanted += unit.len();
            picked.push(unit);
        }
        let mut by_partition: HashMap<u16, Vec<Id>> = HashMap::new();
        for (partition, id) in picked.iter().flatten() {
            by_partition.entry(*partition).or_default().push(id.clone());
        }
        let space = &self.space;
        let found = try_join_all(by_partition.into_iter().map(|(partition, ids)| async move {
            let records = space.pick(partition, &ids).await?;
            failpoint::pass("after_claim");
            let places = ids.into_iter().map(move |id| (partition, id));
            Ok::<_, BufferError>(places.zip(records).collect::<Vec<_>>())
        }))
        .await?;
        let mut records: HashMap<Place, Record> =
            found.into_iter().flatten().filter_map(|(place, record)| Some((place, record?))).collect();
        for unit in picked {
            let mut members = Vec::with_capacity(unit.len());
            for place in unit {
                let epoch = self.epochs.get(&place.0).copied();
                if let (Some(epoch), Some(record)) = (epoch, records.remove(&place)) {
                    members.push(Claimed { epoch, id: place.1, record, unit: Some(self.numbers) });
                }
            }
            if let [alone] = members.as_mut_slice() {
                alone.unit = None;
            }
            self.numbers += 1;
            self.ready(members);
        }
        Ok(())
    }

    fn ready(&mut self, records: Vec<Claimed>) {
        for claimed in records {
            self.seen.records += 1;
            self.seen.bytes += claimed.bytes();
            self.ready_bytes += claimed.bytes();
            self.ready.push_back(claimed);
        }
    }

    /// Records of the size that was seen so far that a batch has room for.
    fn rows(&self) -> usize {
        (self.max_bytes / self.seen.get()).clamp(1, self.max_rows)
    }

    /// One page of each of some epochs that are not at their end: of so many as a batch has room for. A page brings one record at
    /// least, however large, so that pages of all partitions at once could be more than comes over a slow link in time.
    async fn read(&mut self) -> Result<(), BufferError> {
        let rows = self.rows();
        let pages = if self.seen.records == 0 { FIRST_PAGES } else { rows }.clamp(1, self.cursors.len().max(1));
        let limit = rows.div_ceil(pages);
        let space = &self.space;
        self.flying.reading();
        let read = try_join_all(self.cursors.iter().take(pages).map(|&(epoch, cursor)| async move {
            let page = space.claim(epoch.partition, cursor, limit).await?;
            failpoint::pass("after_claim");
            Ok::<_, BufferError>((epoch, page))
        }))
        .await?;
        self.cursors.drain(..pages.min(self.cursors.len()));
        let mut records = Vec::new();
        for (epoch, page) in read {
            if page.cursor != 0 {
                self.cursors.push((epoch, page.cursor));
            }
            records.extend(page.records.into_iter().map(|(id, record)| Claimed { epoch, id, record, unit: None }));
        }
        if !self.tied.is_empty() {
            records.retain(|claimed| !self.tied.contains(&claimed.place()));
        }
        let records = self.flying.read(records);
        self.ready(records);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::buffer::record::Write;
    use crate::buffer::{Buffer, MemoryBuffer, Registration, Rotation, Stamp};
    use crate::entity::codec::Format;
    use crate::error::buffer::BufferErrorKind;
    use crate::ownership::Right;
    use crate::telemetry::scope::Scope;

    #[tokio::test]
    async fn large_records_are_not_read_far_ahead() -> Result<(), BufferError> {
        let scope = Arc::new(Scope::new("test", "blob", 1));
        let space = MemoryBuffer::new().space(Registration::new(scope, Format::Json)).await?;
        let ids = (0..200_u64).filter_map(|n| Id::of(&n).ok());
        let write = |id| Write { partition: 0, id, record: Record::from_bytes(vec![b'x'; 10_000]) };
        space.put(ids.map(write).collect()).await?;
        space.take(&[0], "worker", Duration::from_secs(60)).await?;
        let Rotation::Epoch(number) = space.rotate(0, "worker", Stamp::default()).await? else {
            return Err(BufferError::new(BufferErrorKind::Unknown, "nothing to claim"));
        };
        let (stamp, right) = (Stamp::default(), Right::unfenced());
        let epoch = Epoch { partition: 0, number, stamp, marked: false, right };
        let mut claim = Claim::new(space, vec![epoch], Vec::new(), 1_000, 50_000);
        let mut records = 0;
        while let Some(batch) = claim.next().await? {
            records += batch.len();
            assert!(batch.len() <= 5, "{} records in a batch", batch.len());
            assert!(claim.ready_bytes <= 100_000, "{} bytes read ahead", claim.ready_bytes);
            assert_eq!(claim.ready_bytes, claim.ready.iter().map(Claimed::bytes).sum::<usize>());
        }
        assert_eq!(records, 200);
        Ok(())
    }

    /// A scan repeats records, as `HSCAN` may while its table shrinks.
    #[test]
    fn a_record_on_its_way_is_not_claimed_again() {
        let flying = Flying::default();
        let (stamp, right) = (Stamp::default(), Right::unfenced());
        let epoch = |partition| Epoch { partition, number: 1, stamp, marked: false, right };
        let page = |places: &[(u16, u64)]| {
            let claimed = |&(partition, n)| Claimed {
                epoch: epoch(partition),
                id: id(n),
                record: Record::from_bytes("x"),
                unit: None,
            };
            places.iter().map(claimed).collect::<Vec<_>>()
        };
        let read = |places: &[(u16, u64)]| flying.read(page(places)).iter().map(Claimed::place).collect::<Vec<_>>();
        flying.reading();
        assert_eq!(read(&[(0, 1), (0, 2), (0, 1)]), [(0, id(1)), (0, id(2))], "twice in a page");
        flying.reading();
        assert_eq!(
            read(&[(0, 2), (0, 3), (1, 2)]),
            [(0, id(3)), (1, id(2))],
            "on its way; elsewhere it is another record"
        );
        flying.reading();
        flying.landed(&[(0, id(1))]);
        assert_eq!(read(&[(0, 1), (0, 4)]), [(0, id(4))], "it landed after the page was read");
        flying.landed(&[(0, id(2))]);
        flying.reading();
        assert_eq!(read(&[(0, 2)]), [(0, id(2))], "it is there again");
        assert!(flying.sky().landed.is_empty());
    }

    fn id(n: u64) -> Id {
        Id::of(&n).expect("a number is a key")
    }
}
