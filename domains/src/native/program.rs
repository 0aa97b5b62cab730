//! Programs started from outside: a first domain, a console, an end.

use super::image::Memory;
use super::recording::Told;
use super::records::{NAME_BYTES, NativeProgram, RunList};
use super::turn::Turn;
use super::{Around, ExecutiveError, ImageError};
use crate::console::{ConsoleFds, HostConsole, OutputEvents, OutputStream, Releaser};
use crate::kernel::bell::Bell;
use crate::kernel::objects::{FINISHED, FileIdentity, LifeState};
use crate::kernel::{Kernel, KernelError, OutputPolicy, StartKey, levels_in};
use crate::linux::{Console as _, ExitStatus, HELD_LIMIT, Input, Stream};
use crate::network::{Grants, HostNetwork};
use crate::objects::{self, InvokeError, Key, KeyType, Storage};
use crate::platform::PlatformError;
use crate::processor::{Answers, Level};
use crate::table::{RecordId, Table, TableError};
use semper_pager::Segment;
use semper_store::{PAGE_SIZE, SegmentId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// Pages of an output's segment: byte `n` of the stream lies at offset `n`.
const STREAM_PAGES: u64 = 1 << 28;
/// The quota of a program's bank, native or Linux, where there may be so many frames: more pages than a store has, so that the store is the
/// limit, and millions of objects; but no more than fit into an eighth of the frames, since the table takes frames from all others.
pub(super) fn quota(frames: u64) -> Storage {
    let records = frames / 8 * (PAGE_SIZE as u64 / u64::from(crate::kernel::objects::RECORD_BYTES));
    Storage { pages: 1 << 40, records: records.min(1 << 24) }
}

const SIGKILL: u8 = 9;
/// With so many reads of a console it is looked for those whose domains no longer wait.
const STALE_READS: usize = 256;

/// A native program to be started.
pub struct NativeSpec {
    /// Its name; made unique if it is not.
    pub name: String,
    /// The ELF file.
    pub image: Vec<u8>,
    /// Arguments, its name first.
    pub args: Vec<Vec<u8>>,
    /// Bytes of its memory.
    pub memory: u64,
    /// Keys to other domains.
    pub keys: Vec<StartKey>,
    /// What it may reach outside.
    pub network: Grants,
    /// Whether what it is told by the outside is recorded.
    pub record: bool,
    /// What it may know of the processor; none: all.
    pub cpu: Option<Level>,
}

impl NativeSpec {
    /// Whether it could be run.
    ///
    /// # Errors
    /// Why not, as a clause.
    pub fn check(&self) -> Result<(), String> {
        Memory::plan(&self.image, &self.args, self.memory).map(drop).map_err(|e| e.to_string())
    }
}

/// A native program as it is told outside.
#[derive(Debug, Clone)]
pub struct ProgramView {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The object of its first domain.
    pub domain: RecordId,
    /// Its bank.
    pub bank: RecordId,
    /// How it ended.
    pub exit: Option<ExitStatus>,
    /// CPU time of its first domain, nanoseconds; 0 once it is gone.
    pub cpu: u64,
    /// Whether its first domain is not executed.
    pub stopped: bool,
    /// Bytes of output that the host does not have yet, as of the last capture.
    pub held: u64,
    /// What it may know of the processor; none: all.
    pub cpu_level: Option<Level>,
}

/// The native programs in a table.
#[must_use]
pub fn programs(table: &Table) -> Vec<ProgramView> {
    let levels = levels_in(table);
    let view = |record: NativeProgram| {
        let domain = table.get::<objects::Domain>(record.domain());
        ProgramView {
            id: record.id,
            name: record.name(),
            domain: record.domain(),
            bank: RecordId::from_u64(record.bank),
            exit: record.exit(),
            cpu: domain.as_ref().map_or(0, |domain| domain.cpu),
            stopped: domain.is_ok_and(|domain| domain.has(objects::STOPPED)),
            held: (0..2).map(|i: usize| record.written[i].saturating_sub(record.released[i])).sum(),
            cpu_level: levels.get(&record.id).copied(),
        }
    };
    table.iter::<NativeProgram>().map(|(_, record)| view(record)).collect()
}

/// A program that has not finished.
pub(crate) struct Program {
    at: RecordId,
    record: NativeProgram,
    /// As it stands in the table.
    noted: NativeProgram,
    console: Arc<HostConsole>,
    pub(super) network: Arc<HostNetwork>,
    releaser: Option<Arc<Releaser>>,
    outputs: [Arc<Segment>; 2],
    reads: VecDeque<(RecordId, u64, u32)>,
    /// Domains that go on when their output has left.
    pub(super) waiting: Vec<RecordId>,
    /// What its domains are told by `cpuid`; none: whatever the processor says.
    pub(super) answers: Option<Arc<Answers>>,
    captured: [u64; 3],
    captured_end: bool,
    committed_end: bool,
    /// The last capture came to nothing: what it contained waits for the next.
    uncommitted: bool,
}

/// What a program has shown, and by what that leaves.
pub(crate) struct Shown {
    /// Its console's.
    pub releaser: Arc<Releaser>,
    /// Its sockets.
    pub network: Arc<HostNetwork>,
    /// Bytes of output and error.
    pub written: [u64; 2],
}

impl Program {
    pub(super) fn ended(&self) -> bool {
        self.record.exit().is_some()
    }

    /// Its first domain.
    pub(super) const fn domain(&self) -> RecordId {
        self.record.domain()
    }

    /// Its bank.
    pub(super) const fn bank(&self) -> RecordId {
        RecordId::from_u64(self.record.bank)
    }

    pub(super) fn name(&self) -> String {
        self.record.name()
    }

    /// It is live again after a replay.
    pub(super) fn goes_on(&self) {
        self.console.goes_on_at(self.record.input);
    }

    /// What it has shown by now, and by what that leaves.
    pub(super) fn shown(&self) -> Option<Shown> {
        let releaser = Arc::clone(self.releaser.as_ref()?);
        Some(Shown { releaser, network: Arc::clone(&self.network), written: self.record.written })
    }

    /// Whether there is something that no capture contains.
    pub(super) fn changed(&self) -> bool {
        let [out, err, input] = self.captured;
        self.uncommitted
            || [out, err] != self.record.written
            || input != self.record.input
            || self.ended() != self.captured_end
    }

    pub(super) fn note(&mut self, table: &mut Table) -> Result<(), TableError> {
        if let Some(releaser) = &self.releaser {
            self.record.released = releaser.released();
        }
        [self.record.console[1], self.record.console[2]] = self.console.places();
        if self.record != self.noted {
            let mut tx = table.begin();
            tx.update(self.at, &self.record)?;
            tx.commit();
            self.noted = self.record;
        }
        Ok(())
    }

    pub(super) fn captured(&mut self) {
        let [out, err] = self.record.written;
        self.captured = [out, err, self.record.input];
        self.captured_end = self.ended();
        self.uncommitted = false;
        self.network.captured();
    }

    pub(super) fn committed(&mut self) {
        let [out, err, input] = self.captured;
        if let Some(releaser) = &self.releaser {
            releaser.release([out, err]);
        }
        self.console.input_committed(input);
        self.network.committed();
        self.committed_end |= self.captured_end;
    }

    /// The capture came to nothing.
    pub(super) const fn failed(&mut self) {
        self.uncommitted = true;
    }

    /// The last output leaves, for a while.
    pub(super) fn close(&self) {
        if let Some(releaser) = &self.releaser {
            releaser.drain_for(crate::kernel::LAST_OUTPUT_PATIENCE);
            releaser.close();
        }
        self.network.drain_for(crate::kernel::LAST_OUTPUT_PATIENCE);
    }

    /// Bytes of its standard output that are held back.
    pub(super) fn held(&self) -> u64 {
        let released = self.releaser.as_ref().map_or(self.record.released, |r| r.released());
        self.record.written[0].saturating_sub(released[0])
    }

    /// Whether its end is durable and its output has left, or cannot.
    fn is_over(&self) -> bool {
        let left = self.releaser.as_ref().is_none_or(|r| r.released() == self.record.written);
        self.committed_end && (left || self.console.is_broken(Stream::Out))
    }
}

impl Turn<'_> {
    pub(super) fn console_write(&mut self, number: u64, bytes: &[u8]) -> Result<(), ExecutiveError> {
        let Some(program) = self.state.programs.get_mut(&number) else {
            self.linux_console_write(number, bytes);
            return Ok(());
        };
        program.outputs[0].write_at(program.record.written[0], bytes)?;
        program.record.written[0] += bytes.len() as u64;
        program.console.wrote(Stream::Out, program.record.written[0]);
        if program.held() > HELD_LIMIT {
            self.state.held_up = Some(number);
        }
        if self.kernel.output.console == OutputPolicy::Immediate
            && let Some(releaser) = &program.releaser
        {
            releaser.release(program.record.written);
        }
        Ok(())
    }

    pub(super) fn console_read(&mut self, number: u64, domain: RecordId, serial: u64, len: u32) {
        if let Some(program) = self.state.programs.get_mut(&number) {
            if program.reads.len() >= STALE_READS && program.reads.len().is_power_of_two() {
                let table = &self.kernel.objects().table;
                program.reads.retain(|(domain, serial, _)| objects::still_waits(table, *domain, *serial));
            }
            program.reads.push_back((domain, serial, len));
            self.kernel.native.ring();
        }
    }

    /// Whether a domain whose order was just answered goes on only when output has left: what it wrote is more than may be held.
    pub(super) fn waits_for_output(&mut self, id: RecordId) -> bool {
        let Some(number) = self.state.held_up.take() else { return false };
        // What is done again has waited before.
        !self.kernel.native.is_retelling() && self.waits_for_console(number, id)
    }

    /// `id` goes on when a console holds less. False: there is no such console.
    pub(super) fn waits_for_console(&mut self, number: u64, id: RecordId) -> bool {
        match self.state.programs.get_mut(&number) {
            Some(program) if program.waiting.contains(&id) => {}
            Some(program) => program.waiting.push(id),
            None => return self.waits_for_linux_output(number, id),
        }
        true
    }

    /// Input that came, output that left.
    pub(super) fn consoles(&mut self) -> Result<(), ExecutiveError> {
        let numbers: Vec<u64> = self.state.programs.keys().copied().collect();
        for number in numbers {
            self.read_input(number)?;
            let Some(program) = self.state.programs.get_mut(&number) else { continue };
            if !program.waiting.is_empty() && program.held() <= HELD_LIMIT / 2 {
                for id in std::mem::take(&mut program.waiting) {
                    self.execute(id)?;
                }
            }
        }
        self.linux_consoles()
    }

    fn read_input(&mut self, number: u64) -> Result<(), ExecutiveError> {
        loop {
            let Some(program) = self.state.programs.get_mut(&number) else { return Ok(()) };
            let Some((domain, serial, len)) = program.reads.front().copied() else { return Ok(()) };
            if !objects::still_waits(&self.kernel.objects().table, domain, serial) {
                program.reads.pop_front();
                continue;
            }
            let mut bytes = vec![0; (len as usize).min(crate::guest::MAX_STRING)];
            let count = match program.console.read(program.record.input, &mut bytes) {
                Input::Bytes(count) => count,
                Input::NotYet => return Ok(()),
                Input::End => 0,
            };
            program.reads.pop_front();
            bytes.truncate(count);
            self.tell((domain, serial), Told { bytes, console: Some(number), ..Told::default() })?;
        }
    }

    /// So many bytes of a console's input were given to a domain.
    pub(super) fn input_taken(&mut self, console: u64, count: u64) {
        if let Some(program) = self.state.programs.get_mut(&console) {
            program.record.input += count;
        }
    }

    /// Whether a domain is the first of a program that has not ended.
    pub(super) fn is_first(&self, domain: RecordId) -> bool {
        self.state.programs.values().any(|p| p.record.domain() == domain && !p.ended())
    }

    /// The name of the program whose first domain this is, or nothing.
    pub(super) fn name_of(&self, domain: RecordId) -> String {
        if let Some(linux) = self.state.linux.of(domain) {
            return linux.program.name.clone();
        }
        let program = self.state.programs.values().find(|p| p.record.domain() == domain);
        program.map(|p| p.record.name()).unwrap_or_default()
    }

    /// A domain that never began begins at its entry.
    pub(super) fn begin(&mut self, domain: Key) -> Result<(), ExecutiveError> {
        Ok(self.transact(|table, around, effects| objects::begin(table, around, &domain, effects))??)
    }

    /// A domain ends: its program as by SIGKILL, if it is the first of one; else it is sold back to its bank. Inside: it is gone already.
    pub(super) fn kill(&mut self, id: RecordId) -> Result<Result<(), InvokeError>, ExecutiveError> {
        if self.is_first(id) {
            return self.program_ended(id, ExitStatus::Signal(SIGKILL)).map(Ok);
        }
        self.transact(|table, around, effects| objects::sell_domain(table, around, id, effects))
    }

    /// If a domain is the first of a program, that has ended.
    pub(super) fn program_ended(&mut self, domain: RecordId, status: ExitStatus) -> Result<(), ExecutiveError> {
        let found = self.state.programs.values_mut().find(|p| p.record.domain() == domain && !p.ended());
        let Some(program) = found else { return Ok(()) };
        program.record.life = LifeState::ended(status);
        program.network.end();
        let bank = Key::to(KeyType::Bank, RecordId::from_u64(program.record.bank));
        self.kernel.surroundings.hasten();
        self.transact(|table, around, effects| objects::end_program(table, around, &bank, effects))
    }

    /// Lets go of programs whose end is durable. Returns whether there were any.
    pub(super) fn finished(&mut self) -> bool {
        let over: Vec<u64> = self.state.programs.iter().filter(|(_, p)| p.is_over()).map(|(id, _)| *id).collect();
        for id in &over {
            let Some(mut program) = self.state.programs.remove(id) else { continue };
            self.kernel.native.live().remove(id);
            if let Some(releaser) = program.releaser.take() {
                program.record.released = releaser.released();
                releaser.close();
            }
            program.network.drain_for(crate::kernel::LAST_OUTPUT_PATIENCE);
            program.record.life.state = FINISHED;
            let forgotten = self.kernel.forget_answers(*id);
            if let Err(error) = forgotten.and_then(|()| self.kernel.set_grants(*id, &Grants::default())) {
                tracing::error!(%error, program = %program.record.name(), "what it was granted cannot be taken back");
            }
            if let Err(error) = program.note(&mut self.kernel.objects().table) {
                tracing::error!(%error, program = %program.record.name(), "the end cannot be noted");
            }
            for (segment, _) in self.kernel.segments_of(*id) {
                self.kernel.remove_segment(*id, segment);
            }
        }
        !over.is_empty()
    }
}

impl Kernel {
    /// Adds a native program, commits that, and lets it begin.
    ///
    /// # Errors
    /// When it cannot be loaded, or there is no room; nothing of it is left then.
    pub fn add_native(self: &Arc<Self>, spec: NativeSpec, fds: ConsoleFds) -> Result<u64, KernelError> {
        let memory = Memory::plan(&spec.image, &spec.args, spec.memory).map_err(|e: ImageError| match e {
            ImageError::Load(reason) => KernelError::Program(reason),
            other => KernelError::Refused(other.to_string()),
        })?;
        self.start_executive()?;
        let (id, domain) = {
            let _pass = self.gate.enter();
            let id = self.new_domain_id()?;
            let made = self.build_native(id, &spec, &memory, fds);
            if made.is_err() {
                for (segment, _) in self.segments_of(id) {
                    self.remove_segment(id, segment);
                }
                self.forget_answers(id)?;
            }
            (id, made?)
        };
        self.surroundings.commit_now().map_err(KernelError::Refused)?;
        self.in_turn(|turn| turn.enter_begin(domain)).map_err(explain)?;
        Ok(id)
    }

    fn build_native(
        self: &Arc<Self>,
        id: u64,
        spec: &NativeSpec,
        memory: &Memory<'_>,
        fds: ConsoleFds,
    ) -> Result<Key, KernelError> {
        self.may_record(spec.record)?;
        let answers = self.note_processor(id, spec.cpu)?;
        let name = self.unique_name(&spec.name)?;
        let mut text = [0u8; NAME_BYTES];
        if name.len() > NAME_BYTES {
            return Err(KernelError::Refused(format!("the name of a native program has at most {NAME_BYTES} bytes")));
        }
        text[..name.len()].copy_from_slice(name.as_bytes());
        let outputs = [self.create_segment(id, STREAM_PAGES)?, self.create_segment(id, STREAM_PAGES)?];
        let genesis = self.genesis()?;
        let mut state = self.native.state();
        self.record_from_here(id, spec.record)?;
        let mut turn = Turn { kernel: self, state: &mut state };
        let new = objects::NewProgram {
            bank: genesis.bank,
            meter: genesis.meter,
            limit: quota(self.surroundings.frames()),
            pages: memory.pages,
            base: memory.start >> 12,
            console: [id, 0],
            writer: crate::kernel::journal::writer(id, self.clock.reading().1).word(),
            network: (!spec.network.is_empty()).then(|| Key::network(id)),
            entry: memory.entry,
        };
        let made = turn.transact(|table, around, effects| objects::make_program(table, around, &new, effects));
        let made = made.and_then(|done| Ok(done?)).map_err(explain)?;
        if let Err(error) = self.give_keys(made.domain.id(), &spec.keys) {
            let gone = turn.transact(|table, around, effects| objects::end_program(table, around, &made.bank, effects));
            return Err(gone.err().map_or(error, explain));
        }
        for number in made.segments {
            memory.write(&*turn.segment(number).map_err(explain)?, answers.is_some())?;
        }
        let record = NativeProgram {
            id,
            life: LifeState::ALIVE,
            name_len: u32::try_from(name.len()).unwrap_or(0),
            domain: made.domain.id().as_u64(),
            bank: made.bank.id().as_u64(),
            outputs: [outputs[0].id().0, outputs[1].id().0],
            written: [0; 2],
            released: [0; 2],
            input: 0,
            console: [FileIdentity::default(); 3],
            name: text,
        };
        let program = self.connect_native(RecordId::NONE, record, fds, &spec.network)?;
        self.set_grants(id, &spec.network)?;
        state.programs.insert(id, program);
        self.native.live().insert(id);
        Ok(made.domain)
    }

    /// Connects the console of a program; `at`: its record, or none yet.
    fn connect_native(
        self: &Arc<Self>,
        at: RecordId,
        mut record: NativeProgram,
        fds: ConsoleFds,
        grants: &Grants,
    ) -> Result<Program, KernelError> {
        let id = record.id;
        let file = |source| KernelError::File { path: self.beside.own().to_owned(), source };
        let events: Arc<dyn OutputEvents> = Arc::clone(self) as Arc<dyn OutputEvents>;
        let bell = Arc::new(Bell::default());
        let weak = Arc::downgrade(self);
        bell.also(move || {
            if let Some(kernel) = weak.upgrade() {
                kernel.native.ring();
            }
        });
        let answers = self.answers(id)?;
        let network = self.open_native_network(&record.name(), grants)?;
        let console = HostConsole::new(&self.beside, id, bell, events).map_err(file)?;
        console.set_written(record.written);
        let positions = [record.input, record.released[0], record.released[1]];
        record.console = self.connect(&console, fds, record.console, positions)?;
        let outputs = [
            self.open_segment(id, SegmentId(record.outputs[0]), None)?,
            self.open_segment(id, SegmentId(record.outputs[1]), None)?,
        ];
        let streams =
            [0, 1].map(|i: usize| OutputStream { segment: Arc::clone(&outputs[i]), released: record.released[i] });
        let replayed = at != RecordId::NONE && self.follows_native();
        let weak = Arc::downgrade(self);
        let left = move |_| {
            if let Some(kernel) = weak.upgrade() {
                kernel.native.ring();
            }
        };
        let releaser =
            Releaser::start(Arc::clone(&console), id, &self.beside, streams, replayed, left).map_err(file)?;
        releaser.release(record.written);
        let mut objects = self.objects();
        let mut tx = objects.table.begin();
        let at = if at == RecordId::NONE {
            tx.insert(&record)?
        } else {
            tx.update(at, &record)?;
            at
        };
        tx.commit();
        Ok(Program {
            at,
            record,
            noted: record,
            console,
            network,
            releaser: Some(releaser),
            outputs,
            reads: VecDeque::new(),
            waiting: Vec::new(),
            answers,
            captured: [record.written[0], record.written[1], record.input],
            captured_end: record.exit().is_some(),
            committed_end: record.exit().is_some(),
            uncommitted: false,
        })
    }

    /// The first objects of the world, made when the first program comes.
    pub(super) fn genesis(&self) -> Result<objects::Genesis, KernelError> {
        let known = self.objects().table.first::<objects::Hub>().map(|(_, hub)| hub.pool);
        let pool = match known {
            Some(pool) => pool,
            None => self.create_segment(0, super::SEGMENT_PAGES)?.id().0,
        };
        Ok(objects::create(
            &mut self.objects().table,
            &Around(self),
            pool,
            Storage { pages: 1 << 50, records: 1 << 30 },
        )?)
    }

    /// Brings back the native programs, and the domains that ran.
    pub(crate) fn bring_back_native(
        self: &Arc<Self>,
        mut console: impl FnMut(&str) -> std::io::Result<ConsoleFds>,
    ) -> Result<usize, KernelError> {
        let records: Vec<(RecordId, NativeProgram)> = self.objects().table.iter::<NativeProgram>().collect();
        let runs: Vec<(RecordId, RunList)> = self.objects().table.iter::<RunList>().collect();
        let mut count = 0;
        for (at, record) in records.into_iter().filter(|(_, record)| record.life.state != FINISHED) {
            let name = record.name();
            let fds = console(&name)
                .map_err(|source| KernelError::File { path: format!("a console for {name}").into(), source })?;
            let grants = if record.exit().is_none() { self.grants(record.id) } else { Grants::default() };
            let program = self.connect_native(at, record, fds, &grants)?;
            self.native.state().programs.insert(record.id, program);
            self.native.live().insert(record.id);
            count += 1;
        }
        if self.objects().table.first::<objects::Hub>().is_none() {
            return Ok(count);
        }
        if self.native.has(None) {
            self.resume_native_tape()?;
        }
        self.wait_outside_again()?;
        let mut state = self.native.state();
        let ran: Vec<u64> = runs.iter().flat_map(|(_, list)| list.domains).filter(|id| *id != 0).collect();
        (state.run_list, state.work) = (runs, true);
        let mut turn = Turn { kernel: self, state: &mut state };
        for id in ran.into_iter().map(RecordId::from_u64) {
            turn.execute(id).map_err(explain)?;
        }
        if !self.native.is_retelling() {
            turn.begin_new().map_err(explain)?;
        }
        drop(state);
        self.start_executive()?;
        Ok(count)
    }

    /// Names again who waits for input or for a generation; every wait for a generation is over.
    fn wait_outside_again(&self) -> Result<(), KernelError> {
        let mut after = None;
        loop {
            let mut effects = Vec::new();
            after = objects::waits_outside(&self.objects().table, after, &mut effects)?;
            let mut state = self.native.state();
            for effect in effects {
                match effect {
                    objects::Effect::ConsoleRead { console, domain, serial, len } => {
                        if let Some(program) = state.programs.get_mut(&console) {
                            program.reads.push_back((domain, serial, len));
                        }
                    }
                    objects::Effect::AwaitDurable { domain, serial } => {
                        state.durable[1].push((domain, serial));
                        state.committed = true;
                    }
                    objects::Effect::AskJournal { domain, serial, ask } => state.asks.push((domain, serial, ask)),
                    objects::Effect::AskNetwork { domain, serial, ask } => state.network.add(domain, serial, ask),
                    _ => {}
                }
            }
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Starts the thread, if it does not run yet.
    pub(crate) fn start_executive(self: &Arc<Self>) -> Result<(), KernelError> {
        if self.native.started.swap(true, SeqCst) {
            return Ok(());
        }
        let kernel = Arc::clone(self);
        std::thread::Builder::new()
            .name("executive".into())
            .spawn(move || kernel.native.run(&kernel))
            .map_err(PlatformError::system("start a thread"))?;
        Ok(())
    }

    /// All native programs.
    #[must_use]
    pub fn native_programs(&self) -> Vec<ProgramView> {
        let mut all = programs(&self.objects().table);
        let state = self.native.state();
        for view in &mut all {
            view.held += state.programs.get(&view.id).map_or(0, |program| program.network.held());
        }
        all
    }
}

pub(super) fn explain(error: ExecutiveError) -> KernelError {
    match error {
        ExecutiveError::Table(error) => error.into(),
        ExecutiveError::Platform(error) => error.into(),
        ExecutiveError::Pager(error) => error.into(),
    }
}
