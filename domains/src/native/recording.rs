//! Recording what native domains are told and in which order they are served, and having them do it again.
//!
//! **Promise.** All native domains of a recorded world are one: between two entries of the kernel each gives the same for the same registers and
//! memory, and the kernel's entries are recorded: which came next, and what the outside answered in it. In a replay an entry is made when it is its
//! turn; a domain that has posted before its turn waits.
//!
//! **What is no part of it.** Where a domain is stopped, put away and let go on again without an entry, for a checkpoint or since others want its
//! process, is not seen by it. What it could see, and what cannot be repeated, ends the record ([`Tape::cut`]): memory that domains share, a domain that is
//! stopped or killed while it runs, a meter that is used up, an operator's and a debugger's hand, a Linux program's invocation.

use super::network::connection_key;
use super::records::NativeInputs;
use super::sharing::{SHARED, Sharing};
use super::turn::Turn;
use super::{Executive, ExecutiveError, Shown};
use crate::inputs::{Advance, Entry, Question, Taken, Tape};
use crate::kernel::{Journaled, Kernel, KernelError, branch};
use crate::objects::{self, Answer, FIRST_SEGMENT, InvokeError, Key, Phase, Text};
use crate::table::{RecordId, Table, TableError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// Domains whose successors are known, at most.
const MOST_KNOWN: usize = 4096;
/// How long entries are made again before the gate is opened for a moment.
const PIECE: Duration = Duration::from_millis(5);
/// Entries between two looks at the time.
const LOOK: u32 = 64;

/// Which domain is served after which, most of the time.
#[derive(Default)]
struct Order {
    after: HashMap<u64, u64>,
    last: Option<u64>,
}

impl Order {
    fn usual(&self) -> Option<Entry> {
        self.after.get(&self.last?).map(|number| Entry::Posted(*number))
    }

    fn note(&mut self, entry: Entry) {
        let Entry::Posted(number) = entry else { return };
        let Some(last) = self.last.replace(number) else { return };
        if self.after.len() >= MOST_KNOWN && !self.after.contains_key(&last) {
            self.after.clear();
        }
        self.after.insert(last, number);
    }
}

/// What the executive knows for it.
#[derive(Default)]
pub(super) struct Recording {
    order: Order,
    /// Domains by what entries call them.
    numbers: BTreeMap<u64, RecordId>,
    /// The entry that is to be made again next, and the domain that it waits for.
    next: Option<Entry>,
    pub awaited: Option<RecordId>,
    /// Processor time that is not charged yet, by domain.
    pub owed: BTreeMap<u64, u64>,
    /// Whose post is served, and whose was served last.
    pub serving: Option<RecordId>,
    last: Option<RecordId>,
    pub sharing: Sharing,
    /// It was found to differ: nothing is served any more.
    differs: bool,
}

impl Recording {
    /// A domain has control pages in this segment.
    pub fn note_number(&mut self, control: u64, id: RecordId) {
        self.numbers.insert(number_of(control), id);
    }

    /// What a load of the world would not know.
    fn forget(&mut self) {
        self.order = Order::default();
        self.owed.clear();
    }
}

/// What entries call a domain by, whose control pages lie in this segment.
const fn number_of(control: u64) -> u64 {
    control.wrapping_sub(FIRST_SEGMENT)
}

/// What came for a domain that waits for the outside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    pub code: u32,
    pub words: [u64; 4],
    pub bytes: Vec<u8>,
    /// A connection: the program whose it is, and its number.
    pub connection: Option<(u32, u64)>,
    /// The console that the bytes were read from.
    pub console: Option<u64>,
}

impl From<InvokeError> for Told {
    fn from(error: InvokeError) -> Self {
        Self { code: error.code(), words: error.words(), ..Self::default() }
    }
}

impl Executive {
    /// Whether what native domains did is to be done again, or they stand at its end.
    pub(crate) fn is_retelling(&self) -> bool {
        self.tape.is_on() && !self.tape.is_live()
    }
}

impl Executive {
    /// Between two entries: what is to be written to the journal, and what was shown by then that leaves with it.
    pub(crate) fn take_inputs(&self, journaled: Journaled) -> (Vec<Shown>, Taken) {
        let state = self.state();
        let shown: Vec<Shown> = state.programs.values().filter_map(super::program::Program::shown).collect();
        let shows = shown.iter().fold(false, |waits, one| {
            let sends = journaled.network && one.network.note();
            sends || journaled.console && one.keeps_back() || waits
        });
        (shown, self.tape.take(shows))
    }

    /// What was shown may leave.
    pub(crate) fn release(&self, shown: &[Shown], journaled: Journaled) {
        for one in shown {
            if journaled.console {
                one.releaser.release(one.written);
            }
            if journaled.network && one.network.noted() {
                self.network_came();
            }
        }
    }

    /// The names of the programs that have not finished.
    pub(crate) fn names(&self) -> String {
        self.state().names()
    }
}

impl Shown {
    fn keeps_back(&self) -> bool {
        self.releaser.keeps_back(self.written)
    }

    /// Whether something of it has not left.
    pub(crate) fn waits(&self, journaled: Journaled) -> bool {
        journaled.network && self.network.held() > 0 || journaled.console && self.keeps_back()
    }
}

impl Turn<'_> {
    /// What entries call a domain by; none: it is no native one.
    fn number(&self, id: RecordId) -> Result<Option<u64>, ExecutiveError> {
        let core: objects::Domain = self.kernel.objects().table.get(id)?;
        Ok(core.is_native().then(|| number_of(core.control)))
    }

    /// The domain that entries call so.
    fn numbered(&mut self, number: u64) -> Option<RecordId> {
        let objects = self.kernel.objects();
        let table = &objects.table;
        let known = self.state.recording.numbers.get(&number).copied().filter(|id| table.contains(*id));
        let is_it = |(_, core): &(RecordId, objects::Domain)| core.is_native() && number_of(core.control) == number;
        let scan = || (0..table.high_water()).filter_map(|index| table.at(index).ok()).find(is_it).map(|(id, _)| id);
        let found = known.or_else(scan)?;
        self.state.recording.numbers.insert(number, found);
        Some(found)
    }

    /// One entry of the kernel, which is recorded, or which was and is made again.
    pub(super) fn enter<T>(
        &mut self,
        entry: Entry,
        act: impl FnOnce(&mut Self) -> Result<T, ExecutiveError>,
    ) -> Result<T, ExecutiveError> {
        let tape = Arc::clone(&self.kernel.native.tape);
        if !tape.is_on() {
            return act(self);
        }
        tape.enters(entry, self.state.recording.order.usual());
        self.state.recording.order.note(entry);
        let done = act(self);
        let served = self.state.recording.serving.take();
        self.state.recording.last = served.or(self.state.recording.last);
        if let Err(why) = tape.stepped() {
            let domain = match entry {
                Entry::Posted(n) | Entry::Told(n) | Entry::Charged(n) | Entry::Begins(n) => self.numbered(n),
                Entry::Expired | Entry::Worked => None,
            };
            self.differs(&why, domain);
        }
        done
    }

    /// A domain that posted is served.
    pub(super) fn enter_post(&mut self, id: RecordId) -> Result<(), ExecutiveError> {
        let Some(native) = self.loaded(id) else { return Ok(()) };
        if native.unserved().is_none() {
            // It stood for a capture.
            return self.serve(id);
        }
        let number = number_of(native.segment.id().0);
        self.enter(Entry::Posted(number), |turn| turn.serve(id))
    }

    /// The first domain of a program begins.
    pub(super) fn enter_begin(&mut self, domain: Key) -> Result<(), ExecutiveError> {
        let number = self.number(domain.id())?.unwrap_or_default();
        self.enter(Entry::Begins(number), |turn| turn.begin(domain))
    }

    /// What a domain waits for outside the table has come. Returns whether it still waited.
    pub(super) fn tell(&mut self, wait: (RecordId, u64), told: Told) -> Result<bool, ExecutiveError> {
        if !objects::still_waits(&self.kernel.objects().table, wait.0, wait.1) {
            return Ok(false);
        }
        let tape = Arc::clone(&self.kernel.native.tape);
        match if tape.is_on() { self.number(wait.0)? } else { None } {
            Some(number) => self.enter(Entry::Told(number), |turn| {
                let told = tape.ask(Question::Told, None, || told);
                turn.told(wait, told)
            }),
            None => self.told(wait, told),
        }
    }

    fn told(&mut self, wait: (RecordId, u64), told: Told) -> Result<bool, ExecutiveError> {
        let Told { code, words, bytes, connection, console } = told;
        let len = u32::try_from(bytes.len().min(crate::guest::MAX_STRING)).unwrap_or(0);
        let text = if len > 0 { Text::Given { len } } else { Text::Empty };
        let key = connection
            .map_or(Key::NULL, |(program, number)| connection_key(program, self.kernel.native.short_life(), number));
        let waited = self.complete(wait, Answer { code, words, text, keys: 0 }, key, &bytes)?;
        if waited && let Some(console) = console {
            self.input_taken(console, bytes.len() as u64);
        }
        Ok(waited)
    }

    /// Charges what domains owe.
    pub(super) fn charge_owed(&mut self) -> Result<(), ExecutiveError> {
        for (id, nanoseconds) in std::mem::take(&mut self.state.recording.owed) {
            let id = RecordId::from_u64(id);
            if !self.kernel.objects().table.contains(id) {
                continue;
            }
            let Some(number) = self.number(id)? else { continue };
            let tape = Arc::clone(&self.kernel.native.tape);
            self.enter(Entry::Charged(number), |turn| {
                let nanoseconds = tape.ask(Question::Cpu, None, || nanoseconds);
                turn.charge_now(id, nanoseconds)
            })?;
        }
        Ok(())
    }

    /// Whether a domain runs, or is to as soon as the machine lets it.
    pub(super) fn was_let_go(&self, id: RecordId) -> bool {
        let runs = self.state.natives.get(&id.index()).is_some_and(|native| native.id == id && native.executing);
        let waits = || self.state.programs.values().any(|program| program.waiting.contains(&id));
        runs || self.state.ready.has(id) || self.state.short.0.contains(&id) || waits()
    }

    /// The domains do something else than they did: nothing of it is kept.
    fn differs(&mut self, why: &str, domain: Option<RecordId>) {
        self.kernel.native.tape.fails(why);
        if std::mem::replace(&mut self.state.recording.differs, true) {
            return;
        }
        let name = self.state.names();
        let of = domain.map_or(String::new(), |id| format!(", domain {id:?}"));
        self.kernel.surroundings.differs(&format!("{name} does not do again what it did: {why}{of}"));
    }

    /// A turn in which what was recorded is done again.
    pub(super) fn retell(&mut self) -> Result<(), ExecutiveError> {
        self.state.recording.awaited = None;
        if self.state.recording.differs {
            return Ok(());
        }
        let begun = Instant::now();
        for n in 1.. {
            let Some(entry) = self.next_entry()? else { break };
            if !self.may_enter(entry)? {
                break;
            }
            self.state.recording.next = None;
            self.enter_again(entry)?;
            if n % LOOK == 0 && begun.elapsed() > PIECE {
                self.kernel.native.ring();
                break;
            }
        }
        Ok(())
    }

    /// The entry that is next; none: there is none more.
    fn next_entry(&mut self) -> Result<Option<Entry>, ExecutiveError> {
        if self.state.recording.next.is_some() || self.state.recording.differs {
            return Ok(self.state.recording.next.filter(|_| !self.state.recording.differs));
        }
        match self.kernel.native.tape.advance(branch) {
            Advance::Goes { forgets } => {
                if forgets {
                    self.forget();
                }
            }
            Advance::Live => {
                self.goes_live()?;
                return Ok(None);
            }
            Advance::Stands => {
                self.kernel.program_stands();
                return Ok(None);
            }
        }
        match self.kernel.native.tape.entry(self.state.recording.order.usual()) {
            Ok(entry) => self.state.recording.next = Some(entry),
            Err(why) => self.differs(&why, self.state.recording.last),
        }
        Ok(self.state.recording.next)
    }

    /// Whether an entry can be made now: a domain that has not come to it yet is waited for.
    fn may_enter(&mut self, entry: Entry) -> Result<bool, ExecutiveError> {
        let (record, step) = self.kernel.native.tape.place();
        let number = match entry {
            Entry::Posted(number) | Entry::Told(number) | Entry::Charged(number) | Entry::Begins(number) => number,
            Entry::Expired | Entry::Worked => return Ok(true),
        };
        let wrong = |what: &str| format!("record {record} of the journal has in step {step} {what}");
        let Some(id) = self.numbered(number) else {
            self.differs(&wrong("a domain that there is not"), None);
            return Ok(false);
        };
        let phase = self.kernel.objects().table.get::<objects::Domain>(id)?.phase();
        let fits = match entry {
            Entry::Told(_) if phase != Phase::Waiting => Err("an answer for a domain that waits for none"),
            Entry::Begins(_) if phase != Phase::New => Err("a domain that begins, and it has"),
            Entry::Posted(_) => {
                if self.loaded(id).is_some_and(|native| native.has_posted() && native.unserved().is_some()) {
                    Ok(true)
                } else if self.was_let_go(id) || self.is_runnable(id) {
                    Ok(false)
                } else {
                    Err("a call of a domain that makes none")
                }
            }
            _ => Ok(true),
        };
        match fits {
            Ok(true) => Ok(true),
            Ok(false) => {
                // It stands for a capture that came to nothing, or was loaded where it stood.
                if !self.state.ready.has(id)
                    && self.loaded(id).is_none_or(|native| !native.executing || native.has_posted())
                {
                    self.execute(id)?;
                }
                self.state.recording.awaited = Some(id);
                Ok(false)
            }
            Err(what) => {
                self.differs(&wrong(what), Some(id));
                Ok(false)
            }
        }
    }

    fn enter_again(&mut self, entry: Entry) -> Result<(), ExecutiveError> {
        let tape = Arc::clone(&self.kernel.native.tape);
        let domain = match entry {
            Entry::Posted(number) | Entry::Told(number) | Entry::Charged(number) | Entry::Begins(number) => {
                self.numbered(number)
            }
            Entry::Expired | Entry::Worked => None,
        };
        let id = domain.unwrap_or(RecordId::NONE);
        self.enter(entry, |turn| match entry {
            Entry::Posted(_) => turn.serve(id),
            Entry::Told(_) => {
                let serial = turn.kernel.objects().table.get::<objects::Domain>(id)?.serial;
                let told = tape.ask(Question::Told, None, Told::default);
                turn.told((id, serial), told).map(drop)
            }
            Entry::Expired => turn.transact(objects::expire).map(drop),
            Entry::Worked => turn.work(),
            Entry::Charged(_) => {
                let nanoseconds = tape.ask(Question::Cpu, None, || 0);
                turn.charge_now(id, nanoseconds)
            }
            Entry::Begins(_) => turn.begin(Key::to(objects::KeyType::Domain, id)),
        })
    }

    /// What a load of the world would not know is forgotten.
    fn forget(&mut self) {
        self.state.forget();
    }

    /// All that was recorded is done again: from here on the outside is asked.
    fn goes_live(&mut self) -> Result<(), ExecutiveError> {
        let [monotonic, _] = self.kernel.native.tape.latest();
        self.kernel.clock.at_least(monotonic);
        self.forget();
        for program in self.state.programs.values().filter(|program| !program.ended()) {
            program.goes_on();
        }
        let short = !self.state.durable[0].is_empty();
        (self.state.work, self.state.committed) = (true, true);
        self.state.network.ask_again();
        self.state.tick = Instant::now();
        if short {
            self.kernel.surroundings.hasten();
        }
        tracing::info!(step = self.kernel.native.tape.position().step, "the native domains are live");
        self.begin_new()?;
        self.kernel.native.ring();
        self.kernel.program_stands();
        Ok(())
    }

    /// Programs that were committed before their first instruction, and whose beginning was not, begin.
    pub(super) fn begin_new(&mut self) -> Result<(), ExecutiveError> {
        let alive = self.state.programs.values().filter(|p| !p.ended()).map(super::program::Program::domain);
        for id in alive.collect::<Vec<_>>() {
            let found = self.kernel.objects().table.get::<objects::Domain>(id);
            if found.is_ok_and(|core| core.phase() == Phase::New) {
                self.enter_begin(Key::to(objects::KeyType::Domain, id))?;
            }
        }
        Ok(())
    }

    /// In a replay: a process that died while its domain ran takes with it where that was.
    pub(super) fn died_in_replay(&mut self, id: RecordId) {
        self.differs("a process was killed amid it, and a resume does all of it again", Some(id));
    }
}

impl super::State {
    fn forget(&mut self) {
        self.recording.forget();
        self.natives.values_mut().for_each(|native| native.overdrawn = false);
    }

    /// The names of the programs that have not finished.
    pub(super) fn names(&self) -> String {
        let names: Vec<String> = self.programs.values().map(super::program::Program::name).collect();
        names.join(" and ")
    }
}

impl Kernel {
    /// Before a program is added: whether it may be, by what is recorded of the others.
    pub(super) fn may_record(&self, record: bool) -> Result<(), KernelError> {
        let (on, alive) = (self.native.tape.is_on(), self.native.has(None));
        let refused = |why: &str| Err(KernelError::Refused(why.to_owned()));
        match (on, record) {
            _ if self.native.is_retelling() => refused(
                "the native programs of the store are being told again what they were told; wait until that is over",
            ),
            (true, false) if alive => refused(
                "the native programs of this store are recorded, all of them or none: start it with --record, or in another store",
            ),
            (false, true) if alive => refused(
                "the native programs of this store are not recorded, and all of them are or none: start it without --record, or in another \
                 store",
            ),
            _ => Ok(()),
        }
    }

    /// A native program was added, in a world at whose beginning nothing of it is recorded yet.
    pub(super) fn record_from_here(self: &Arc<Self>, id: u64, record: bool) -> Result<(), KernelError> {
        match (self.native.tape.is_on(), record) {
            (true, true) => self.native.tape.cut("a program was started"),
            (true, false) => self.native.tape.stop(),
            (false, true) => {
                self.begin_native_tape(crate::kernel::journal::writer(id, self.clock.reading().1).inputs())?
            }
            (false, false) => {}
        }
        Ok(())
    }

    /// Before a capture, while all stand: the table says how far the inputs of the native domains go.
    ///
    /// # Errors
    /// When segment 0 is damaged or full.
    pub(crate) fn capture_native_tape(&self, table: &mut Table) -> Result<(), TableError> {
        let tape: &Tape = &self.native.tape;
        let known = table.first::<NativeInputs>();
        if known.is_none() && !tape.is_on() {
            return Ok(());
        }
        let mut state = self.native.state();
        if tape.is_live() {
            state.forget();
        }
        let position = tape.capture(self.journal.end_now(), branch);
        let writer = self.native.inputs.load(SeqCst);
        let now = position.map(|position| NativeInputs { position, writer });
        let mut tx = table.begin();
        match (known, now) {
            (Some((at, _)), Some(now)) => tx.update(at, &now)?,
            (Some((at, _)), None) => tx.remove(at)?,
            (None, Some(now)) => tx.insert(&now).map(drop)?,
            (None, None) => {}
        }
        tx.commit();
        if state.recording.sharing.is_shared() {
            tape.cut(SHARED);
        }
        if !state.debugged.is_empty() {
            tape.cut(super::debug::DEBUGGED);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_after_whom_is_learnt_and_forgotten() {
        let mut order = Order::default();
        let mut missed = |numbers: &[u64]| {
            let miss = |number: &&u64| {
                let usual = order.usual();
                order.note(Entry::Posted(**number));
                usual != Some(Entry::Posted(**number))
            };
            numbers.iter().filter(miss).count()
        };
        assert_eq!(missed(&[1, 2, 1, 2, 1, 2, 1, 2]), 3);
        assert_eq!(missed(&[3, 2, 1, 3, 2, 1]), 4);
        let mut order = Order::default();
        (0..3 * MOST_KNOWN as u64).for_each(|number| order.note(Entry::Posted(number)));
        assert!(order.after.len() <= MOST_KNOWN);
        order.note(Entry::Expired);
        assert_eq!(order.last, Some(3 * MOST_KNOWN as u64 - 1));
    }
}
