//! How a native program is added and begins, and how those that there were are brought back.

use super::image::Memory;
use super::program::{Program, explain};
use super::records::{NAME_BYTES, NativeProgram, RunList};
use super::turn::Turn;
use super::{Around, ImageError};
use crate::console::{ConsoleFds, HostConsole, OutputEvents, OutputStream, Releaser};
use crate::kernel::bell::Bell;
use crate::kernel::objects::{FINISHED, FileIdentity, LifeState};
use crate::kernel::{Kernel, KernelError, StartKey};
use crate::network::Grants;
use crate::objects::{self, Key, Storage};
use crate::platform::PlatformError;
use crate::processor::Level;
use crate::table::RecordId;
use semper_store::{PAGE_SIZE, SegmentId};
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
        Ok(Program::new(at, record, (console, releaser, outputs), network, answers))
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
}
