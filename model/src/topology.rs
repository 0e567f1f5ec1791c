//! Changes of topology: one key, two layouts, programs of both that know nothing of each other.
//!
//! What a change of topology rests on, beside the protocol of one partition that the rest of this crate checks. In each layout
//! the key has places of its own: `open`, `flushing`, a clean copy, a dead letter. A program of a layout that is not the stored
//! one any more is stale for as long as it likes: it goes on writing, rotating, flushing, reading and filling, and only what
//! Redis itself refuses stops it. A switch goes there and back, so that stale programs become current ones again.
//!
//! Left out: leases, fences and stamps (a layout's own protocol), a Redis that loses data (it loses its seals too, and whoever
//! comes first fixes the topology), and other entities, whose switches are in the same step.

use stateright::{Model, Property};

/// No acknowledged write is where nobody looks for it.
pub const P1: &str = "P1: an acknowledged write is in the sink, or in the stored layout";
/// The row never goes back.
pub const P3: &str = "P3: the sink never goes back";
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
}

/// What stands under `open`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Open {
    /// No such key.
    Nothing,
    /// A string: whatever wants a hash fails.
    Sealed,
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
    writes: u8,
    refusals: u8,
    switches: u8,
    went_back: bool,
    refused: bool,
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
}

/// The change of topology, or what is left of it.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// What is taken away.
    pub without: Option<Piece>,
}

impl Layout {
    const fn new(started: bool) -> Self {
        Self { open: Open::Nothing, flushing: None, copy: Copy::Nothing, dead: None, started }
    }

    fn is_dirty(&self) -> bool {
        matches!(self.open, Open::Record(_)) || self.flushing.is_some()
    }

    /// What a reader of this layout is answered; `None`: an error.
    fn visible(&self, row: u8) -> Option<u8> {
        match (self.open, self.flushing, self.copy) {
            (Open::Sealed, ..) => None,
            (Open::Record(write), ..) | (Open::Nothing, Some(write), _) => Some(write),
            (Open::Nothing, None, Copy::State { write, .. }) => Some(write),
            (Open::Nothing, None, Copy::Nothing | Copy::Token) => Some(row),
        }
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

impl Change {
    fn has(self, piece: Piece) -> bool {
        self.without != Some(piece)
    }

    fn step(self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Put(l) => {
                world.writes = world.writes.checked_sub(1)?;
                if world.at(l).open == Open::Sealed {
                    world.refused = true;
                } else {
                    world.acked += 1;
                    world.at_mut(l).open = Open::Record(world.acked);
                }
            }
            Step::Rotate(l) => {
                let layout = world.at_mut(l);
                match layout.open {
                    Open::Record(write) if layout.flushing.is_none() => layout.flushing = Some(write),
                    Open::Sealed if !self.has(Piece::RotateLooks) => {}
                    _ => return None,
                }
                layout.open = Open::Nothing;
            }
            Step::Flush(l) => {
                let layout = world.at_mut(l);
                let write = layout.flushing.take()?;
                (layout.copy, layout.dead) = (Copy::State { write, mortal: true }, None);
                world.went_back |= write < world.row;
                world.row = write;
            }
            Step::Bury(l) => {
                world.refusals = world.refusals.checked_sub(1)?;
                let layout = world.at_mut(l);
                let write = layout.flushing.take()?;
                (layout.copy, layout.dead) = (Copy::State { write, mortal: false }, Some(write));
            }
            Step::Replay(l) => {
                let layout = world.at_mut(l);
                if layout.open != Open::Nothing || layout.flushing.is_some() {
                    return None;
                }
                layout.open = Open::Record(layout.dead.take()?);
            }
            Step::Mark(l) => {
                let busy = world.reader != Reader::Idle;
                let layout = world.at_mut(l);
                let refused = layout.open == Open::Sealed && self.has(Piece::LoadsLook);
                if busy || layout.is_dirty() || layout.copy != Copy::Nothing || refused {
                    return None;
                }
                layout.copy = Copy::Token;
                world.reader = Reader::Marked(l);
            }
            Step::Load => {
                let Reader::Marked(l) = world.reader else { return None };
                world.reader = Reader::Loaded(l, world.row);
            }
            Step::Fill => {
                let Reader::Loaded(l, write) = world.reader else { return None };
                let layout = world.at_mut(l);
                let refused = layout.open == Open::Sealed && self.has(Piece::LoadsLook);
                if layout.copy == Copy::Token && !refused {
                    layout.copy = Copy::State { write, mortal: true };
                }
                world.reader = Reader::Idle;
            }
            Step::Expire(l) => {
                let copy = &mut world.at_mut(l).copy;
                if matches!(copy, Copy::Nothing | Copy::State { mortal: false, .. }) {
                    return None;
                }
                *copy = Copy::Nothing;
            }
            Step::Forget => {
                if std::mem::replace(&mut world.forgotten, true) || world.switches == 0 {
                    return None;
                }
                world.at_mut(world.stored.other()).copy = Copy::Nothing;
            }
            Step::Count => {
                let clean = self.nothing_waits(world);
                if self.has(Piece::OneStep) || !clean || std::mem::replace(&mut world.counted, true) {
                    return None;
                }
            }
            Step::Switch => return self.switch(world),
        }
        Some(())
    }

    fn nothing_waits(self, world: &World) -> bool {
        let letters = self.has(Piece::Letters) && world.layouts.iter().any(|layout| layout.dead.is_some());
        !letters && !world.layouts.iter().any(Layout::is_dirty)
    }

    fn switch(self, world: &mut World) -> Option<()> {
        world.switches = world.switches.checked_sub(1)?;
        let clean = if self.has(Piece::OneStep) { self.nothing_waits(world) } else { world.counted };
        if !clean || (self.has(Piece::Forget) && !world.forgotten) {
            return None;
        }
        let (old, new) = (world.stored, world.stored.other());
        if self.has(Piece::Seal) && self.has(Piece::Names) {
            world.at_mut(old).open = Open::Sealed;
        }
        if world.at(new).open == Open::Sealed {
            world.at_mut(new).open = Open::Nothing;
        }
        world.at_mut(new).started = true;
        (world.stored, world.forgotten, world.counted) = (new, false, false);
        Some(())
    }

    /// Whether programs that are current flush what is in this layout.
    fn is_read(self, world: &World, layout: Side) -> bool {
        layout == world.stored || !self.has(Piece::Names)
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
            writes: 3,
            refusals: 1,
            switches: 2,
            went_back: false,
            refused: false,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let each = [Step::Put, Step::Rotate, Step::Flush, Step::Bury, Step::Replay, Step::Mark, Step::Expire];
        for l in [Side::A, Side::B].into_iter().filter(|&l| world.at(l).started) {
            steps.extend(each.iter().map(|step| step(l)));
        }
        steps.extend([Step::Load, Step::Fill, Step::Forget, Step::Count, Step::Switch]);
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
