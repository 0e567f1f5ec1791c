//! What each step does.

use super::state::{Client, Copy, Cycle, Old, Program, Record, Redis, State};
use super::{Action, Mechanism, Shapes};

/// The step was possible, and is done.
struct Done;

fn only_if(possible: bool) -> Option<Done> {
    possible.then_some(Done)
}

impl Shapes {
    fn has(&self, mechanism: Mechanism) -> bool {
        self.without != Some(mechanism)
    }

    /// Does a step, if it is possible now.
    pub(super) fn step(&self, state: &mut State, action: Action) -> Option<()> {
        if let Action::Put(program)
        | Action::Find(program)
        | Action::Look(program)
        | Action::Rotate(program)
        | Action::Claim(program) = action
            && program == Program::V2
            && !state.runs_v2
        {
            return None;
        }
        let Done = match action {
            Action::Start => self.start(state),
            Action::Stop => Self::stop(state),
            Action::Restart => self.restart(state),
            Action::Put(program) => Self::put(state, program),
            Action::Find(program) => Self::find(state, program),
            Action::Load(program) => Self::load(state, program),
            Action::Fill(program) => self.fill(state, program),
            Action::Judge(program) => self.judge(state, program),
            Action::Swap(program) => Self::swap(state, program),
            Action::GiveUp(program) => only_if(std::mem::take(state.client(program)) != Client::Idle),
            Action::Look(program) => {
                self.look(state, program);
                Some(Done)
            }
            Action::Rotate(program) => Self::rotate(state, program),
            Action::Claim(program) => self.claim(state, program),
            Action::Commit => Self::commit(state),
            Action::Ack => Self::ack(state),
            Action::Expire => only_if(std::mem::take(&mut state.redis.copy) != Copy::Absent),
            Action::Lose => Self::lose(state),
            Action::Ripen => Self::ripen(state),
        }?;
        Some(())
    }

    /// Its own shape, and what it has seen before, are on the list; it sees who else is.
    fn look(&self, state: &mut State, program: Program) {
        *state.redis.lists(program) = true;
        if program == Program::V1 {
            if state.old.knows_v2 && self.has(Mechanism::Memory) {
                state.redis.list.1 = true;
            }
            // What was seen stays known.
            state.old.knows_v2 |= state.redis.list.1;
            state.old.seen_ripe |= !state.redis.young;
        }
    }

    fn start(&self, state: &mut State) -> Option<Done> {
        if std::mem::replace(&mut state.runs_v2, true) {
            return None;
        }
        if self.has(Mechanism::RegisterFirst) {
            self.look(state, Program::V2);
        }
        Some(Done)
    }

    fn stop(state: &mut State) -> Option<Done> {
        if !state.redis.list.1 {
            return None;
        }
        state.client_v2 = Client::Idle;
        Self::leave(state, Program::V2);
        only_if(std::mem::take(&mut state.runs_v2))
    }

    fn restart(&self, state: &mut State) -> Option<Done> {
        if !(state.redis.list.0 || state.runs_v2) {
            return None;
        }
        state.left.restarts = state.left.restarts.checked_sub(1)?;
        state.client_v1 = Client::Idle;
        Self::leave(state, Program::V1);
        state.old = Old::default();
        self.look(state, Program::V1);
        Some(Done)
    }

    /// What a program has under way as a worker is over; another one finds the closed epoch.
    fn leave(state: &mut State, program: Program) {
        if matches!(state.cycle, Cycle::Rotated(by) | Cycle::Claimed(by) if by == program) {
            state.cycle = Cycle::Idle;
        }
    }

    /// A state that the buffer has taken.
    fn next(state: &mut State, note: Option<u8>) -> Option<Record> {
        let latest = state.redis.open.or(state.redis.flushing).map_or(state.row.a, |record| record.a);
        state.left.writes = state.left.writes.checked_sub(1)?;
        let record = Record { a: latest + 1, note };
        state.redis.open = Some(record);
        Some(record)
    }

    fn put(state: &mut State, program: Program) -> Option<Done> {
        match program {
            Program::V1 => {
                state.left.old_puts = state.left.old_puts.checked_sub(1)?;
                Self::next(state, None)?;
                // It replaces the record: nothing is promised of what it replaces.
                state.written = None;
            }
            Program::V2 => {
                state.left.notes = state.left.notes.checked_sub(1)?;
                let note = 1 + state.row.note.max(state.written.unwrap_or(0)).max(state.redis.note().unwrap_or(0));
                Self::next(state, Some(note))?;
                state.written = Some(note);
            }
        }
        Some(Done)
    }

    /// What a client finds: in `open`, else in `flushing`, else the clean copy if its loader knew all that this program knows.
    fn find(state: &mut State, program: Program) -> Option<Done> {
        if *state.client(program) != Client::Idle {
            return None;
        }
        let Redis { open, flushing, copy, .. } = state.redis;
        let found = match (open.or(flushing), copy) {
            (Some(dirty), _) => Client::Found(dirty, Copy::Absent, false),
            (None, Copy::Written(record)) => Client::Found(record, copy, false),
            (None, Copy::Loaded(loader, record)) if loader >= program => Client::Found(record, copy, false),
            (None, Copy::Loaded(..) | Copy::Absent | Copy::Token(_)) => {
                state.redis.copy = Copy::Token(program);
                Client::Marked
            }
        };
        *state.client(program) = found;
        Some(Done)
    }

    fn load(state: &mut State, program: Program) -> Option<Done> {
        let record = Record { a: state.row.a, note: (program == Program::V2).then_some(state.row.note) };
        let client = state.client(program);
        only_if(std::mem::replace(client, Client::Loaded(record)) == Client::Marked)
    }

    fn fill(&self, state: &mut State, program: Program) -> Option<Done> {
        let Client::Loaded(record) = *state.client(program) else { return None };
        let copy = if self.has(Mechanism::Tag) { Copy::Loaded(program, record) } else { Copy::Written(record) };
        let stands = state.redis.copy == Copy::Token(program);
        *state.client(program) = if stands { Client::Found(record, copy, true) } else { Client::Idle };
        if stands {
            state.redis.copy = copy;
        }
        Some(Done)
    }

    fn judge(&self, state: &mut State, program: Program) -> Option<Done> {
        let Client::Found(record, copy, loaded_now) = *state.client(program) else { return None };
        let lacks = match copy {
            Copy::Loaded(loader, _) => loader == Program::V1 && (loaded_now || self.has(Mechanism::OfWhatStands)),
            // Untagged: the round that has loaded it knows it all the same.
            _ => loaded_now && program == Program::V1,
        };
        let mut ready = Client::Ready(record, copy);
        if program == Program::V1 && lacks {
            if self.has(Mechanism::LookBeforeChange) {
                self.look(state, program);
            }
            if state.old.knows_v2 {
                ready = Client::Idle;
            } else if state.redis.young && !state.old.seen_ripe && self.has(Mechanism::WaitWhileYoung) {
                return None;
            }
        }
        *state.client(program) = ready;
        Some(Done)
    }

    fn swap(state: &mut State, program: Program) -> Option<Done> {
        let Client::Ready(record, copy) = std::mem::take(state.client(program)) else { return None };
        let stands = match (state.redis.open.or(state.redis.flushing), copy) {
            (Some(dirty), Copy::Absent) => dirty == record,
            (None, Copy::Written(_) | Copy::Loaded(..)) => state.redis.copy == copy,
            _ => false,
        };
        if stands {
            // A field that v1 does not know stays; one that v2 does not find has its default.
            let note = if program == Program::V2 { record.note.or(Some(0)) } else { record.note };
            Self::next(state, note)?;
        }
        Some(Done)
    }

    fn rotate(state: &mut State, program: Program) -> Option<Done> {
        if state.cycle != Cycle::Idle {
            return None;
        }
        if state.redis.flushing.is_none() {
            state.redis.flushing = Some(state.redis.open.take()?);
        }
        state.cycle = Cycle::Rotated(program);
        Some(Done)
    }

    fn claim(&self, state: &mut State, program: Program) -> Option<Done> {
        if state.cycle != Cycle::Rotated(program) {
            return None;
        }
        let record = state.redis.flushing?;
        state.cycle = Cycle::Claimed(program);
        if program == Program::V1 && record.note.is_some() {
            if self.has(Mechanism::LookAfterRotation) {
                self.look(state, program);
            }
            if state.old.knows_v2 || (state.redis.young && self.has(Mechanism::HoldWhileYoung)) {
                // Back to `open` where nothing newer is.
                state.redis.open = state.redis.open.or(state.redis.flushing.take());
                state.redis.flushing = None;
                state.redis.copy = Copy::Written(record);
                state.cycle = Cycle::Idle;
            }
        }
        Some(Done)
    }

    fn commit(state: &mut State) -> Option<Done> {
        let Cycle::Claimed(program) = state.cycle else { return None };
        let record = state.redis.flushing?;
        state.row.a = record.a;
        // A program writes the columns that it knows.
        if program == Program::V2 {
            state.row.note = record.note.unwrap_or(0);
        }
        state.cycle = Cycle::Committed;
        Some(Done)
    }

    fn ack(state: &mut State) -> Option<Done> {
        if state.cycle != Cycle::Committed {
            return None;
        }
        state.cycle = Cycle::Idle;
        state.redis.copy = Copy::Written(state.redis.flushing.take()?);
        Some(Done)
    }

    fn lose(state: &mut State) -> Option<Done> {
        if state.redis.list.1 && !state.old.knows_v2 {
            return None;
        }
        state.left.losses = state.left.losses.checked_sub(1)?;
        state.redis = Redis { young: true, ..Redis::default() };
        state.cycle = Cycle::Idle;
        // What was in Redis alone is gone; what has reached the row stays promised.
        state.written = Some(state.row.note);
        Some(Done)
    }

    fn ripen(state: &mut State) -> Option<Done> {
        let (v1, v2) = state.redis.list;
        only_if(v1 && (v2 || !state.runs_v2) && std::mem::take(&mut state.redis.young))
    }
}
