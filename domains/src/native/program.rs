//! Programs started from outside: a first domain, a console, an end.

use super::ExecutiveError;
use super::recording::Told;
use super::records::NativeProgram;
use super::turn::Turn;
use crate::console::{HostConsole, Releaser};
use crate::kernel::objects::{FINISHED, LifeState};
use crate::kernel::{Kernel, KernelError, OutputPolicy, levels_in};
use crate::linux::{Console as _, ExitStatus, HELD_LIMIT, Input, Stream};
use crate::network::{Grants, HostNetwork};
use crate::objects::{self, InvokeError, Key, KeyType};
use crate::processor::{Answers, Level};
use crate::table::{RecordId, Table, TableError};
use semper_pager::Segment;
use std::collections::VecDeque;
use std::sync::Arc;

const SIGKILL: u8 = 9;
/// With so many reads of a console it is looked for those whose domains no longer wait.
const STALE_READS: usize = 256;

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
    pub(super) reads: VecDeque<(RecordId, u64, u32)>,
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
    /// As its record at `at` says. `shows`: what it is connected to, and its output.
    pub(super) fn new(
        at: RecordId,
        record: NativeProgram,
        (console, releaser, outputs): (Arc<HostConsole>, Arc<Releaser>, [Arc<Segment>; 2]),
        network: Arc<HostNetwork>,
        answers: Option<Arc<Answers>>,
    ) -> Self {
        let ended = record.exit().is_some();
        Self {
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
            captured_end: ended,
            committed_end: ended,
            uncommitted: false,
        }
    }

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
