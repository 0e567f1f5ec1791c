//! Everything that there is at one instant.

/// A program: which struct it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    /// It knows `a`.
    V1,
    /// It knows `a` and `note`.
    V2,
}

/// How much may happen; anything else any number of times.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Changes and puts.
    pub writes: u8,
    /// Full puts of v2, each with a note of its own.
    pub notes: u8,
    /// Full puts of v1.
    pub old_puts: u8,
    /// Times that the old process is replaced.
    pub restarts: u8,
    /// Times that Redis is emptied.
    pub losses: u8,
}

/// A payload: it may lack the note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// Counts up with every write.
    pub a: u8,
    /// 0 for none, which is NULL in the sink.
    pub note: Option<u8>,
}

/// What stands at `r:<id>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Copy {
    /// Nothing.
    #[default]
    Absent,
    /// Somebody loads.
    Token(Program),
    /// A state that was written and flushed, or looks like one.
    Written(Record),
    /// A state that this program has loaded.
    Loaded(Program, Record),
}

/// Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Redis {
    /// `open`
    pub open: Option<Record>,
    /// `flushing`
    pub flushing: Option<Record>,
    /// The clean copy.
    pub copy: Copy,
    /// Whether v1 is on the list of shapes, and v2.
    pub list: (bool, bool),
    /// The list was begun a moment ago.
    pub young: bool,
}

impl Redis {
    /// The note of the latest state that has one.
    pub(super) fn note(&self) -> Option<u8> {
        let note = |record: Option<Record>| record.and_then(|record| record.note);
        note(self.open).or_else(|| note(self.flushing))
    }

    pub(super) fn lists(&mut self, program: Program) -> &mut bool {
        match program {
            Program::V1 => &mut self.list.0,
            Program::V2 => &mut self.list.1,
        }
    }
}

/// The row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The old column.
    pub a: u8,
    /// The new one.
    pub note: u8,
}

/// Where a client stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// Nothing is under way.
    #[default]
    Idle,
    /// Its token stands, or did.
    Marked,
    /// It has asked the sink.
    Loaded(Record),
    /// It has a state, which was dirty, or stands as this copy; whether this round has loaded it.
    Found(Record, Copy, bool),
    /// It may build on it.
    Ready(Record, Copy),
}

/// What the old process remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Old {
    /// It has seen v2 on the list.
    pub knows_v2: bool,
    /// It has seen a list that was not young.
    pub seen_ripe: bool,
}

/// The one flush that is under way. (Whose it is, is what leases and fences are for.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cycle {
    /// None.
    #[default]
    Idle,
    /// The epoch is closed.
    Rotated(Program),
    /// The record is on its way.
    Claimed(Program),
    /// The sink has it.
    Committed,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Left {
    pub(super) writes: u8,
    pub(super) notes: u8,
    pub(super) old_puts: u8,
    pub(super) restarts: u8,
    pub(super) losses: u8,
}

/// A state of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// Redis.
    pub redis: Redis,
    /// The database.
    pub row: Row,
    /// Whether v2 runs; v1 always does.
    pub runs_v2: bool,
    /// What the old process remembers.
    pub old: Old,
    /// The client of v1.
    pub client_v1: Client,
    /// The client of v2.
    pub client_v2: Client,
    /// The flush.
    pub cycle: Cycle,
    /// What v2 wrote last, unless v1 has replaced it since.
    pub written: Option<u8>,
    pub(super) left: Left,
}

impl State {
    /// v1 runs, and has been for some time.
    pub(super) fn first(bounds: &Bounds) -> Self {
        let Bounds { writes, notes, old_puts, restarts, losses } = *bounds;
        Self {
            redis: Redis { list: (true, false), ..Redis::default() },
            row: Row::default(),
            runs_v2: false,
            old: Old { knows_v2: false, seen_ripe: true },
            client_v1: Client::Idle,
            client_v2: Client::Idle,
            cycle: Cycle::Idle,
            written: None,
            left: Left { writes, notes, old_puts, restarts, losses },
        }
    }

    pub(super) fn client(&mut self, program: Program) -> &mut Client {
        match program {
            Program::V1 => &mut self.client_v1,
            Program::V2 => &mut self.client_v2,
        }
    }
}
