//! What each step does.

use super::{Change, Copy, Layout, Open, Piece, Reader, Side, Step, World};

impl Change {
    fn has(self, piece: Piece) -> bool {
        self.without != Some(piece)
    }

    pub(super) fn step(self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Put(l) => {
                world.writes = world.writes.checked_sub(1)?;
                if world.at(l).is_sealed() {
                    world.refused = true;
                } else {
                    world.acked += 1;
                    world.slipped |= world.at(l).closed;
                    world.at_mut(l).open = Open::Record(world.acked);
                }
            }
            Step::Rotate(l) => {
                let leaving = world.mark && world.stored == l;
                let layout = world.at_mut(l);
                match layout.open {
                    Open::Record(write) if layout.flushing.is_none() => layout.flushing = Some(write),
                    Open::Sealed if !self.has(Piece::RotateLooks) => {}
                    _ => return None,
                }
                layout.closed = leaving;
                layout.open = if leaving && self.has(Piece::RotateSeals) { Open::Leaving } else { Open::Nothing };
            }
            Step::Flush(l) => {
                let layout = world.at_mut(l);
                let write = layout.flushing.take()?;
                (layout.copy, layout.dead) = (Copy::State { write, mortal: true }, None);
                world.went_back |= write < world.row;
                world.row = write;
            }
            Step::Back(l) => {
                world.refusals = world.refusals.checked_sub(1)?;
                let layout = world.at_mut(l);
                let write = layout.flushing.take()?;
                layout.copy = Copy::State { write, mortal: false };
                if self.has(Piece::BackOpens) {
                    layout.reopen();
                }
                if layout.open == Open::Nothing {
                    layout.open = Open::Record(write);
                }
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
            Step::Announce | Step::Cancel | Step::Die | Step::MarkEnds | Step::Look(_) => {
                return self.leave(world, step);
            }
        }
        Some(())
    }

    /// What is said about the stored layout before it is switched from.
    fn leave(self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Announce if world.announcer != Some(world.stored) || !world.mark => {
                world.announcements = world.announcements.checked_sub(1)?;
                (world.announcer, world.mark) = (Some(world.stored), true);
                let layout = world.at_mut(world.stored);
                if layout.open == Open::Nothing {
                    (layout.open, layout.closed) = (Open::Leaving, true);
                }
            }
            Step::Cancel => {
                let l = world.announcer.take()?;
                if l == world.stored || !self.has(Piece::CancelLooks) {
                    world.mark = false;
                    world.at_mut(l).reopen();
                }
            }
            Step::Die => _ = world.announcer.take()?,
            Step::MarkEnds if world.mark && self.has(Piece::MarkEnds) => world.mark = false,
            Step::Look(l) if l == world.stored && Self::is_forsaken(world) && self.has(Piece::LooksOpen) => {
                world.at_mut(l).reopen();
            }
            _ => return None,
        }
        Some(())
    }

    fn is_forsaken(world: &World) -> bool {
        !world.mark && world.at(world.stored).open == Open::Leaving
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
        world.at_mut(new).reopen();
        world.at_mut(new).started = true;
        (world.stored, world.forgotten, world.counted, world.mark) = (new, false, false, false);
        Some(())
    }

    /// Whether programs that are current flush what is in this layout.
    pub(super) fn is_read(self, world: &World, layout: Side) -> bool {
        layout == world.stored || !self.has(Piece::Names)
    }
}
