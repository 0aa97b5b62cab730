//! Recording what programs are told, and telling it again: the tapes of programs ([`crate::inputs`]) and the journal.
//!
//! One thread takes what waits on all tapes, has the journal make it durable by one flush, and then lets leave what the programs had shown up to
//! there, if that is how output leaves. What comes meanwhile is in the next turn.

use super::domain::Domain;
use super::journal::{WorldJournal, writer};
use super::objects::DomainRecord;
use super::{Journaled, Kernel, KernelError, random};
use crate::inputs::{Limit, Position, Source, Taken, Tape, Then};
use crate::linux::{Program, Stream, Wanted};
use crate::native::{NativeInputs, Shown};
use semper_journal::{Journal, Reader, Ticket, Writer};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

/// How long what is written down may lie in memory when nobody waits for it.
const TURN: Duration = Duration::from_millis(100);

/// What becomes of what is in the journal when a world is brought back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replay {
    /// It is told again, and then the world goes on.
    #[default]
    Follow,
    /// It is left: the world goes on from its generation by itself.
    Leave,
    /// It is told again as far as that, and then the world stands.
    Only(Limit),
}

/// Wakes the thread that empties the tapes.
#[derive(Default)]
pub(crate) struct Recorder {
    state: Mutex<State>,
    poked: Condvar,
    /// Held for a turn.
    turn: Mutex<()>,
}

#[derive(Default)]
struct State {
    running: bool,
    poked: bool,
    closing: bool,
}

/// A program, or all native ones, whose inputs are on their way to the journal.
struct OnItsWay {
    whose: Whose,
    tickets: Vec<Ticket>,
    covers: bool,
    failed: Option<semper_journal::Error>,
}

/// Whose inputs, and what was shown when they were taken.
enum Whose {
    Linux(Arc<Domain>, [u64; 2]),
    Native(Vec<Shown>),
}

pub(crate) fn branch() -> u64 {
    let mut bytes = [0; 8];
    random(&mut bytes);
    // 0 names none.
    u64::from_le_bytes(bytes).max(1)
}

impl Recorder {
    /// Something waits, and somebody waits for it.
    pub fn poke(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).poked = true;
        self.poked.notify_all();
    }

    pub fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closing = true;
        self.poked.notify_all();
    }

    /// Waits for the next turn; false: there is none.
    fn wait(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |state: &mut State| !state.poked && !state.closing;
        let (mut state, _) = self.poked.wait_timeout_while(state, TURN, idle).unwrap_or_else(PoisonError::into_inner);
        state.poked = false;
        !state.closing
    }
}

impl Kernel {
    /// How the world is brought back; to be said before.
    pub fn set_replay(&self, replay: Replay) {
        let _ = self.replay.set(replay);
    }

    fn replay(&self) -> Replay {
        self.replay.get().copied().unwrap_or_default()
    }

    /// Whether a program is being told again what it was told: its state is not one that a generation may have, unless there is no room.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        let linux = || self.domains().iter().any(|domain| domain.ended().is_none() && domain.tape.is_replaying());
        self.native.tape.is_replaying() || linux()
    }

    /// Whether the world is only to be told again what it was told, and then to stand.
    pub(crate) fn only_replays(&self) -> bool {
        matches!(self.replay(), Replay::Only(_))
    }

    /// Waits until every program that is told again what it was told stands, or has ended. False: the world ended before that.
    #[must_use]
    pub fn wait_replayed(&self) -> bool {
        let bell = &self.replayed;
        loop {
            let rings = bell.rings();
            // One that an operator stopped stands where it is.
            let left = self.domains().iter().any(|d| d.ended().is_none() && !d.is_held() && !d.tape.is_standing());
            let left = left || self.native.tape.is_on() && !self.native.tape.is_standing();
            if !left || self.is_closing() {
                return !self.is_closing();
            }
            bell.wait(rings, Some(std::time::Instant::now() + TURN));
        }
    }

    /// Of each program that is or was told again: its name, how many steps, and whether it came to its end.
    #[must_use]
    pub fn replayed_steps(&self) -> Vec<(String, u64, bool)> {
        let told = |d: &Arc<Domain>| (d.name.clone(), d.tape.steps_told(), d.ended().is_some());
        let replayed = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        let native = self.native.tape.is_on().then(|| (self.native.names(), self.native.tape.steps_told()));
        let native = native.map(|(names, steps)| (names, steps, !self.native.has(None)));
        replayed.iter().map(told).chain(native).collect()
    }

    /// Before a world that only replays is brought back: all that lives in it has to be recorded.
    pub(super) fn refuse_unrecorded(&self, domains: &[Arc<Domain>]) -> Result<(), KernelError> {
        if !self.only_replays() {
            return Ok(());
        }
        let native = if self.follows_native() { Vec::new() } else { self.native_programs() };
        let native = native.into_iter().filter(|program| program.exit.is_none()).map(|program| program.name);
        let linux = domains.iter().filter(|d| d.ended().is_none() && !d.tape.is_on()).map(|d| d.name.clone());
        if let Some(name) = linux.chain(native).next() {
            return Err(KernelError::Refused(format!(
                "{name} was not started with --record, so nothing of it can be told again, and the world it is in cannot be rolled forward"
            )));
        }
        *self.replays.lock().unwrap_or_else(PoisonError::into_inner) = domains.to_vec();
        Ok(())
    }

    /// Begins to record a program that has not begun to run.
    pub(super) fn begin_tape(self: &Arc<Self>, tape: &Tape, of: Writer) -> Result<(), KernelError> {
        let journal = self.inputs_journal()?;
        tape.begin(branch(), self.journal.store_id(), next_number(&journal, of).map_err(unusable)?);
        self.start_recorder()
    }

    /// Goes on with a program that is recorded: what it was told after its state was committed is told again. `alone`: it goes back within this
    /// life, whose own way is the one that counts.
    pub(super) fn resume_tape(
        self: &Arc<Self>,
        program: &Program,
        tape: &Tape,
        record: &DomainRecord,
        alone: bool,
    ) -> Result<(), KernelError> {
        let replay = if alone && self.replay() == Replay::Leave { Replay::Follow } else { self.replay() };
        let Some(position) = program.position().filter(|position| position.branch != 0) else { return Ok(()) };
        let of = writer(record.id, record.started).inputs();
        self.follow(tape, position, of, &record.name(), replay)
    }

    /// Begins to record the native domains of a world in which none has begun.
    pub(crate) fn begin_native_tape(self: &Arc<Self>, of: Writer) -> Result<(), KernelError> {
        self.native.inputs.store(of.word(), SeqCst);
        self.begin_tape(&self.native.tape, of)
    }

    /// Where the native domains stand among their inputs, if those are recorded.
    fn native_inputs(&self) -> Option<NativeInputs> {
        let known = self.objects().table.first::<NativeInputs>();
        known.map(|(_, known)| known).filter(|known| known.position.branch != 0)
    }

    /// Whether native domains go on by what was recorded.
    pub(crate) fn follows_native(&self) -> bool {
        self.native_inputs().is_some()
    }

    /// Whether what native programs are told is recorded.
    #[must_use]
    pub fn records_native(&self) -> bool {
        self.native.tape.is_on()
    }

    /// Goes on with native domains that are recorded, as with a program.
    pub(crate) fn resume_native_tape(self: &Arc<Self>) -> Result<(), KernelError> {
        let Some(NativeInputs { position, writer }) = self.native_inputs() else { return Ok(()) };
        self.native.inputs.store(writer, SeqCst);
        self.follow(&self.native.tape, position, Writer::from_word(writer), &self.native.names(), self.replay())
    }

    /// Finds what `of` was told after `position`, and has `tape` tell it.
    fn follow(
        self: &Arc<Self>,
        tape: &Tape,
        position: Position,
        of: Writer,
        name: &str,
        replay: Replay,
    ) -> Result<(), KernelError> {
        let generation = self.generation();
        let told = |error: &dyn std::fmt::Display| {
            KernelError::Refused(format!(
                "what {name} was told after generation {generation} cannot be told again: {error}; to go on without it: semper resume {} \
                 --generation {generation}",
                self.beside.own().parent().unwrap_or(self.beside.own()).display()
            ))
        };
        if position.store == self.journal.store_id() && replay != Replay::Leave && !self.journal.exists() {
            return Err(told(&"the journal of this store is gone"));
        }
        let journal = match self.inputs_journal() {
            Ok(journal) => journal,
            Err(error) if replay == Replay::Leave => {
                tracing::warn!(%error, program = %name, "it is not recorded any more");
                return Ok(());
            }
            Err(error) => return Err(told(&error)),
        };
        let store = self.journal.store_id();
        // In a copy of the journal, or another one, the places of records say nothing.
        let from = if position.store == store { position.from } else { 0 };
        let (limit, then, heeded) = match replay {
            Replay::Follow => (Limit::default(), Then::Goes, Some(generation)),
            Replay::Leave => (Limit { sequence: Some(0), time: None }, Then::Parts, None),
            Replay::Only(limit) => (limit, Then::Stands, None),
        };
        let world = Arc::clone(&self.journal);
        let source = Source::find(move |from| world.reader(from), of, &Position { from, ..position }, heeded, limit)
            .map_err(|error| told(&error))?;
        if let Some(why) = source.ends().filter(|_| then == Then::Stands) {
            eprintln!("semper: {name}: no replay goes on where {why}");
        }
        let next = next_number(&journal, of).map_err(unusable)?;
        tape.replay(position, source, (store, next), then);
        self.start_recorder()
    }

    /// The generation from which this life goes on, or the newest that it committed.
    fn generation(&self) -> u64 {
        self.newest.load(SeqCst)
    }

    fn inputs_journal(&self) -> Result<Arc<Journal>, KernelError> {
        self.journal.open(Wanted::ToWrite).map_err(unusable)?;
        match self.journal.to_write() {
            Ok(journal) => match journal.trouble() {
                None => Ok(journal),
                Some(error) => Err(unusable(error)),
            },
            Err(error) => Err(unusable(error)),
        }
    }

    fn start_recorder(self: &Arc<Self>) -> Result<(), KernelError> {
        let mut state = self.recorder.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut state.running, true) {
            return Ok(());
        }
        let weak = Arc::downgrade(self);
        let recorder = Arc::clone(&self.recorder);
        let run = move || {
            while recorder.wait() {
                let Some(kernel) = Weak::upgrade(&weak) else { return };
                kernel.empty_tapes();
            }
        };
        std::thread::Builder::new()
            .name("inputs".into())
            .spawn(run)
            .map_err(crate::platform::PlatformError::system("start a thread"))?;
        Ok(())
    }

    /// One turn: all that is on tapes becomes durable, and what that covers may leave.
    pub(crate) fn empty_tapes(&self) {
        let _turn = self.recorder.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let journaled = self.output.journaled();
        let mut all = Vec::new();
        for domain in self.domains().into_iter().filter(|domain| domain.tape.is_on()) {
            let (outputs, taken) = {
                // Between two steps.
                let _program = domain.program();
                let outputs = domain.console.written();
                let sends = journaled.network && domain.network.note();
                let shows = journaled.console && domain.shows_more_than(outputs);
                (outputs, domain.tape.take(sends || shows))
            };
            let of = domain.inputs;
            all.push(self.send_off(Whose::Linux(domain, outputs), of, taken));
        }
        if self.native.tape.is_on() {
            let (shown, taken) = self.native.take_inputs(journaled);
            let of = Writer::from_word(self.native.inputs.load(SeqCst));
            all.push(self.send_off(Whose::Native(shown), of, taken));
        }
        for mut one in all {
            for ticket in one.tickets.drain(..) {
                if let Err(error) = ticket.wait() {
                    one.failed = Some(error);
                }
            }
            self.recorded(one, journaled);
        }
    }

    /// Hands records to the journal.
    fn send_off(&self, whose: Whose, of: Writer, taken: Taken) -> OnItsWay {
        let mut one = OnItsWay { whose, tickets: Vec::new(), covers: taken.covers, failed: None };
        for (number, bytes) in taken.records {
            match self.submit(of, number, &bytes) {
                Ok(ticket) => one.tickets.push(ticket),
                Err(error) => one.failed = Some(error),
            }
        }
        one
    }

    fn submit(&self, of: Writer, number: u64, bytes: &[u8]) -> Result<Ticket, semper_journal::Error> {
        use semper_journal::Submitted;
        match self.journal.to_write()?.submit(of, number, bytes)? {
            Submitted::New(ticket) => Ok(ticket),
            Submitted::Same(_) | Submitted::There(_) => Err(semper_journal::Error::BadState(format!(
                "record {number} of what was {of} is there before it was written"
            ))),
        }
    }

    /// What was on a program's tape is durable, or could not be made so.
    fn recorded(&self, one: OnItsWay, journaled: Journaled) {
        let OnItsWay { whose, covers, failed, .. } = one;
        let (tape, unrecorded) = match &whose {
            Whose::Linux(domain, _) => (&domain.tape, &domain.unrecorded),
            Whose::Native(_) => (&self.native.tape, &self.native.unrecorded),
        };
        if let Some(error) = failed {
            if !unrecorded.swap(true, SeqCst) {
                let name = match &whose {
                    Whose::Linux(domain, _) => domain.name.clone(),
                    Whose::Native(_) => self.native.names(),
                };
                eprintln!(
                    "semper: what {name} is told cannot be recorded ({error}); what it shows waits for checkpoints"
                );
            }
            tape.cut("the journal could not be written");
            self.surroundings.hasten();
            return;
        }
        unrecorded.store(false, SeqCst);
        let waits = match &whose {
            Whose::Linux(domain, outputs) if covers => {
                if let Some(releaser) = domain.releaser().filter(|_| journaled.console) {
                    releaser.release(*outputs);
                }
                if journaled.network && domain.network.noted() {
                    domain.bell.ring();
                }
                false
            }
            Whose::Linux(domain, outputs) => {
                journaled.network && domain.network.held() > 0 || journaled.console && domain.shows_more_than(*outputs)
            }
            Whose::Native(shown) if covers => {
                self.native.release(shown, journaled);
                false
            }
            Whose::Native(shown) => shown.iter().any(|one| one.waits(journaled)),
        };
        if waits {
            self.surroundings.hasten();
        }
    }

    /// A recorded program is live again after a replay: the outside is as its state says.
    pub(super) fn goes_live(&self, domain: &Domain) {
        let [monotonic, cpu] = domain.tape.latest();
        self.clock.at_least(monotonic);
        domain.clock.at_least(cpu);
        let mut program = domain.program();
        program.forget();
        if let Some(releaser) = domain.releaser() {
            let [out, err] = releaser.released();
            program.note_released(Stream::Out, out);
            program.note_released(Stream::Err, err);
        }
        program.show_terminal_modes();
        domain.console.goes_on_at(program.input_position());
        domain.network.set_listening(&program.listening());
        tracing::info!(domain = %domain.name, step = domain.tape.position().step, "it is live");
    }

    /// Before a capture, while a program stands: its state says how far its inputs go.
    pub(super) fn capture_tape(&self, domain: &Domain, program: &mut Program) {
        if domain.tape.is_live() {
            program.forget();
        }
        let position = match domain.tape.capture(self.journal.end_now(), branch) {
            // It is not recorded any more: what was recorded of it does not follow its state.
            None => program.position().filter(|known| known.branch != 0).map(|_| Position::default()),
            position => position,
        };
        if let Some(position) = position
            && let Err(errno) = program.note_position(&position)
        {
            tracing::error!(errno = errno.0, domain = %domain.name, "its inputs cannot be told apart; they are not recorded");
            domain.tape.cut("its state is full");
        }
    }

    /// A program that is told again what it was told stands.
    pub(crate) fn program_stands(&self) {
        self.replayed.ring();
    }

    /// Whether a program that takes a step next is live, and what else it may be.
    pub(super) fn advance(&self, domain: &Domain) -> crate::inputs::Advance {
        domain.tape.advance(branch)
    }
}

fn next_number(journal: &Journal, of: Writer) -> Result<u64, semper_journal::Error> {
    Ok(journal.last(of, u64::MAX)?.map_or(1, |record| record.number + 1))
}

fn unusable(error: semper_journal::Error) -> KernelError {
    KernelError::Refused(format!("inputs cannot be recorded: {error}"))
}

impl WorldJournal {
    /// Whether there is one, whatever its state.
    fn exists(&self) -> bool {
        semper_journal::exists(&*self.folder).unwrap_or(true)
    }

    /// Reads it from a record on.
    pub(super) fn reader(&self, from: u64) -> Result<Reader, semper_journal::Error> {
        Reader::open(Arc::clone(&self.folder), self.store, from)
    }
}
