//! Changes of topology: one key, two layouts, programs of both that know nothing of each other.
//!
//! What a change of topology rests on, beside the protocol of one partition that the rest of this crate checks. In each layout
//! the key has places of its own: `open`, `flushing`, a clean copy, a dead letter. A program of a layout that is not the stored
//! one any more is stale for as long as it likes: it goes on writing, rotating, flushing, reading and filling, and only what
//! Redis itself refuses stops it. A switch goes there and back, so that stale programs become current ones again.
//!
//! Before a switch its program may *announce* it: a mark, for as long as it is renewed. While it is fresh, `open` is closed for writes in the
//! step that makes it `flushing`, so that a writer that never pauses does not hold up the switch for ever. That is taken back when the
//! program cancels; when it dies, its mark ends, and whoever looks takes it back.
//!
//! Left out: leases, fences and stamps (a layout's own protocol), a Redis that loses data (it loses its seals too, and whoever
//! comes first fixes the topology), and other entities, whose switches are in the same step.

mod steps;

use stateright::{Model, Property};

/// No acknowledged write is where nobody looks for it.
pub const P1: &str = "P1: an acknowledged write is in the sink, or in the stored layout";
/// The row never goes back.
pub const P3: &str = "P3: the sink never goes back";
/// A writer that never pauses does not hold up a change.
pub const DRAINS: &str = "what was closed for a change takes no writes before it is opened again";
/// A change that comes to nothing leaves nothing closed.
pub const OPENS: &str = "there is always somebody who opens what was closed for a change";
/// Whoever is answered is answered with what was acknowledged last.
pub const P9: &str = "P9: what is read is not older than what was acknowledged";

/// A piece of the change of topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// What waits is counted and the topology changed in one step. Without it, writes come in between.
    OneStep,
    /// Key names say their layout. Without it, both layouts have the same names, each reads the other's keys as its own, and
    /// none can be sealed.
    Names,
    /// The layout that is left is sealed. Without it, stale programs are served.
    Seal,
    /// A rotation looks whether `open` is a hash. Without it, it renames the seal away.
    RotateLooks,
    /// A layout with dead letters is not left. Without it, they stay behind.
    Letters,
    /// Load tokens are refused in a sealed layout, and so are fills. Without it, neither is.
    LoadsLook,
    /// Clean copies of a layout are forgotten before it is switched to. Without it, those of its earlier life stay.
    Forget,
    /// A rotation under the mark leaves a seal. Without it, `open` takes writes again.
    RotateSeals,
    /// A record that goes back takes the seal of a layout that is being left away. Without it, it finds no place.
    BackOpens,
    /// Whoever takes such seals away looks whether the layout is still the stored one. Without it, one that was left is opened.
    CancelLooks,
    /// A mark that is not renewed ends. Without it, that of a dead program stays fresh.
    MarkEnds,
    /// Programs of the layout look for seals without a fresh mark, and take them away. Without it, nobody does.
    LooksOpen,
}

/// What stands under `open`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Open {
    /// No such key.
    Nothing,
    /// A string: whatever wants a hash fails.
    Sealed,
    /// A string as well: the layout is being left, but is the stored one still. It is read and flushed as ever.
    Leaving,
    /// The write of this number.
    Record(u8),
}

/// The clean copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Copy {
    /// None.
    Nothing,
    /// The mark of a load under way.
    Token,
    /// A state; of a dead letter it has no TTL.
    State {
        /// The write that it comes from.
        write: u8,
        /// Whether it expires.
        mortal: bool,
    },
}

/// The key's places in one layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    open: Open,
    flushing: Option<u8>,
    copy: Copy,
    dead: Option<u8>,
    /// It was closed for a change, and nobody has opened it since.
    closed: bool,
    /// Whether a program of this layout has ever run.
    started: bool,
}

/// What the one reader is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reader {
    /// Nothing.
    Idle,
    /// Its token stands in this layout.
    Marked(Side),
    /// It has loaded this state for it.
    Loaded(Side, u8),
}

/// A layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that is stored at first.
    A,
    /// The other one.
    B,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct World {
    stored: Side,
    layouts: [Layout; 2],
    /// The write in the sink; 0: no row.
    row: u8,
    /// The last write that was acknowledged.
    acked: u8,
    reader: Reader,
    /// The copies of the other layout are forgotten since the last switch.
    forgotten: bool,
    /// Without [`Piece::OneStep`]: nothing waited when it was counted.
    counted: bool,
    /// The program that wants the other layout, and which one it wants to leave.
    announcer: Option<Side>,
    /// The mark in the stored layout is fresh.
    mark: bool,
    announcements: u8,
    writes: u8,
    refusals: u8,
    switches: u8,
    went_back: bool,
    refused: bool,
    /// A layout took a write while it was closed.
    slipped: bool,
}

/// One step; the number is the layout of the program that does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A write; acknowledged unless it is refused.
    Put(Side),
    /// Closes `open`.
    Rotate(Side),
    /// Writes the row, acknowledges, leaves the copy.
    Flush(Side),
    /// The sink refuses the record for now: back to `open`.
    Back(Side),
    /// The sink refuses the record for good.
    Bury(Side),
    /// The dead letter becomes dirty again.
    Replay(Side),
    /// A reader that finds nothing leaves its token.
    Mark(Side),
    /// It looks into the sink.
    Load,
    /// It fills in what it has loaded.
    Fill,
    /// A copy with a TTL goes.
    Expire(Side),
    /// A program of the other layout forgets that layout's copies,
    Forget,
    /// counts what waits,
    Count,
    /// and switches to it.
    Switch,
    /// A program says that it wants to leave the stored layout, or says it again.
    Announce,
    /// It gives up, and opens what it has closed.
    Cancel,
    /// It dies.
    Die,
    /// Its mark is as old as marks may be.
    MarkEnds,
    /// A program looks whether its layout is closed with no mark.
    Look(Side),
}

/// The change of topology, or what is left of it.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// What is taken away.
    pub without: Option<Piece>,
}

impl Layout {
    const fn new(started: bool) -> Self {
        Self { open: Open::Nothing, flushing: None, copy: Copy::Nothing, dead: None, closed: false, started }
    }

    fn is_dirty(&self) -> bool {
        matches!(self.open, Open::Record(_)) || self.flushing.is_some()
    }

    /// What a reader of this layout is answered; `None`: an error.
    fn visible(&self, row: u8) -> Option<u8> {
        match (self.open, self.flushing, self.copy) {
            (Open::Sealed, ..) => None,
            (Open::Record(write), ..) | (Open::Nothing | Open::Leaving, Some(write), _) => Some(write),
            (Open::Nothing | Open::Leaving, None, Copy::State { write, .. }) => Some(write),
            (Open::Nothing | Open::Leaving, None, Copy::Nothing | Copy::Token) => Some(row),
        }
    }

    const fn is_sealed(&self) -> bool {
        matches!(self.open, Open::Sealed | Open::Leaving)
    }

    /// Takes a seal away.
    fn reopen(&mut self) {
        if self.is_sealed() {
            self.open = Open::Nothing;
        }
        self.closed = false;
    }

    fn holds(&self, write: u8) -> bool {
        self.open == Open::Record(write) || self.flushing == Some(write) || self.dead == Some(write)
    }
}

impl World {
    const fn at(&self, side: Side) -> &Layout {
        let [a, b] = &self.layouts;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    const fn at_mut(&mut self, side: Side) -> &mut Layout {
        let [a, b] = &mut self.layouts;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }
}

impl Model for Change {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            stored: Side::A,
            layouts: [Layout::new(true), Layout::new(false)],
            row: 0,
            acked: 0,
            reader: Reader::Idle,
            forgotten: false,
            counted: false,
            announcer: None,
            mark: false,
            announcements: 2,
            writes: 3,
            refusals: 1,
            switches: 2,
            went_back: false,
            refused: false,
            slipped: false,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let each = [
            Step::Put,
            Step::Rotate,
            Step::Flush,
            Step::Back,
            Step::Bury,
            Step::Replay,
            Step::Mark,
            Step::Expire,
            Step::Look,
        ];
        for l in [Side::A, Side::B].into_iter().filter(|&l| world.at(l).started) {
            steps.extend(each.iter().map(|step| step(l)));
        }
        steps.extend([Step::Load, Step::Fill, Step::Forget, Step::Count, Step::Switch]);
        steps.extend([Step::Announce, Step::Cancel, Step::Die, Step::MarkEnds]);
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = *before;
        self.step(&mut world, step)?;
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(P1, |change: &Self, world: &World| {
                let held = |l: Side| change.is_read(world, l) && world.at(l).holds(world.acked);
                world.acked == world.row || held(Side::A) || held(Side::B)
            }),
            Property::always(P3, |_: &Self, world: &World| !world.went_back),
            Property::always(P9, |_: &Self, world: &World| {
                let running = world.layouts.iter().filter(|layout| layout.started);
                running.filter_map(|layout| layout.visible(world.row)).all(|write| write >= world.acked)
            }),
            Property::always(DRAINS, |_: &Self, world: &World| !world.slipped),
            Property::always(OPENS, |change: &Self, world: &World| {
                let can = |step| change.step(&mut world.clone(), step).is_some();
                let opens = [Step::Cancel, Step::MarkEnds, Step::Look(world.stored)].into_iter().any(can);
                world.at(world.stored).open != Open::Leaving || opens
            }),
            Property::sometimes("a change that was announced came to nothing", |_: &Self, world: &World| {
                world.announcer.is_none() && world.announcements < 2 && world.switches == 2 && world.acked == world.row
            }),
            Property::sometimes("a stale write is refused", |_: &Self, world: &World| world.refused),
            Property::sometimes("there and back, all flushed", |_: &Self, world: &World| {
                world.switches == 0 && world.acked > 1 && world.row == world.acked
            }),
            Property::sometimes("a dead letter waits", |_: &Self, world: &World| {
                world.layouts.iter().any(|layout| layout.dead.is_some())
            }),
        ]
    }
}
