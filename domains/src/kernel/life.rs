//! The life of a domain: it begins, is brought back, revived in a new process, ended.

use super::bell::Bell;
use super::clock::DomainClock;
use super::domain::{Domain, Parts};
use super::journal::{ProgramJournal, writer};
use super::memory::ViewMemory;
use super::objects::{ALIVE, DomainRecord, FINISHED, FileIdentity, HELD, LifeState};
use super::segments::DomainSegments;
use super::server;
use super::{Kernel, KernelError, LAST_OUTPUT_PATIENCE, OutputPolicy};
use crate::abi::{CONTROL_PAGES, LINUX_CONTROL_PAGES, POSTED, QUICK, QUICK_BUT_TIME, WINDOW_END, WINDOW_START};
use crate::console::{ConsoleFds, HostConsole, OutputEvents, Releaser};
use crate::inputs::{Tape, taped};
use crate::linux::{self, ExitStatus, Host, Program, Stream};
use crate::native::{Life, ProgramKeys};
use crate::network::{Grants, HostNetwork};
use crate::platform::PlatformError;
use crate::platform::control::Control;
use crate::platform::frame::Frame;
use crate::platform::process::Process;
use crate::platform::zygote::{MapRequest, SpawnPlan};
use crate::processor::Answers;
use semper_pager::Segment;
use semper_store::{PageRange, SegmentId};
use std::fs::File;
use std::io::Read;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Pages of a program's state segment: room for some 60,000 records.
pub(super) const STATE_PAGES: u64 = 8192;
/// Pages of a memory segment: the window; page index = address / 4096.
pub(super) const MEMORY_PAGES: u64 = WINDOW_END >> 12;

pub(crate) fn random(out: &mut [u8]) {
    // getrandom does not fail for these sizes; should it, the device answers.
    // SAFETY: `out` is a valid buffer of that length.
    let got = unsafe { nix::libc::getrandom(out.as_mut_ptr().cast(), out.len(), 0) };
    if usize::try_from(got).ok() != Some(out.len())
        && let Ok(mut device) = File::open("/dev/urandom")
    {
        let _ = device.read_exact(out);
    }
}

/// Whether user programs may use rdfsbase (AT_HWCAP2 bit 1).
pub(crate) fn fsgsbase() -> bool {
    // SAFETY: getauxval only reads the auxiliary vector.
    (unsafe { nix::libc::getauxval(nix::libc::AT_HWCAP2) }) & 2 != 0
}

/// Makes the frame fit in which a program stands that may come from another processor. One that there is none of is told when it is to go on.
fn fit(control: &Control) -> Result<(), PlatformError> {
    Frame::find(control).map_or(Ok(()), |mut frame| frame.fit())
}

impl Kernel {
    /// `started`: when the program was, nanoseconds since 1970.
    pub(super) fn host(
        self: &Arc<Self>,
        (id, started): (u64, u64),
        name: &str,
        (console, network): (&Arc<HostConsole>, &Arc<HostNetwork>),
        clock: &Arc<DomainClock>,
        answers: Option<Arc<Answers>>,
    ) -> Host {
        Host {
            answers,
            journal: ProgramJournal::new(&self.journal, writer(id, started)),
            restart: Arc::new({
                let restart = self.restart();
                move || restart
            }),
            segments: Arc::new(DomainSegments { kernel: Arc::downgrade(self), domain: id, asked: Mutex::default() }),
            console: Arc::clone(console) as Arc<dyn crate::linux::Console>,
            network: Arc::clone(network) as Arc<dyn crate::linux::Network>,
            clock: Arc::clone(clock) as Arc<dyn crate::linux::Clock>,
            random: Arc::new(random),
            keys: Arc::new(ProgramKeys { kernel: Arc::downgrade(self), program: id }),
            name: name.to_owned(),
        }
    }

    pub(super) fn restart(&self) -> linux::Restart {
        let Life { restarts, id, generation, began } = self.life;
        linux::Restart { restarts, id, generation, began }
    }

    pub(crate) fn connect(
        &self,
        console: &Arc<HostConsole>,
        fds: ConsoleFds,
        known: [FileIdentity; 3],
        positions: [u64; 3],
    ) -> Result<[FileIdentity; 3], KernelError> {
        let mut identities = console
            .connect(fds, known, positions)
            .map_err(|source| KernelError::File { path: "the console's descriptors".into(), source })?;
        let mut sharing = Vec::new();
        let mut consoles = self.consoles.lock().unwrap_or_else(PoisonError::into_inner);
        consoles.retain(|other| other.strong_count() > 0);
        for other in consoles.iter().filter_map(Weak::upgrade) {
            if !Arc::ptr_eq(&other, console) && console.shares_a_file_with(&other) {
                other.share_files();
                console.share_files();
                identities[1..].fill(FileIdentity::default());
                sharing.push(other.domain());
            }
        }
        consoles.push(Arc::downgrade(console));
        drop(consoles);
        self.forget_places(&sharing)?;
        Ok(identities)
    }

    /// Programs that share a file have no place in it that is theirs, also in a later life in which they are alone.
    fn forget_places(&self, programs: &[u64]) -> Result<(), KernelError> {
        let mut objects = self.objects();
        let records: Vec<_> =
            objects.table.iter::<DomainRecord>().filter(|(_, record)| programs.contains(&record.id)).collect();
        for (at, _) in records {
            let mut tx = objects.table.begin();
            tx.modify::<DomainRecord>(at, |record| record.console[1..].fill(FileIdentity::default()))?;
            tx.commit();
        }
        Ok(())
    }

    /// Brings back every domain that has not finished, with a console for each.
    ///
    /// # Errors
    /// When a domain's state is damaged: then nothing has run, and an older generation may be tried.
    pub fn bring_back(
        self: &Arc<Self>,
        mut console: impl FnMut(&str) -> std::io::Result<ConsoleFds>,
    ) -> Result<usize, KernelError> {
        self.check_processor()?;
        let records: Vec<_> = self.objects().table.iter::<DomainRecord>().collect();
        let mut back = Vec::new();
        for (at, record) in records {
            if record.life.state == FINISHED {
                // Only now: until its end was committed the mark said what had left.
                for kind in ["mark", "in"] {
                    self.beside.remove(&format!("{}.{kind}", record.id));
                }
                continue;
            }
            let fds = console(&record.name()).map_err(|source| KernelError::File {
                path: format!("a console for {}", record.name()).into(),
                source,
            })?;
            back.push(self.reopen(at, record, fds)?);
        }
        self.refuse_unrecorded(&back)?;
        let count = back.len() + self.bring_back_native(&mut console)?;
        for domain in back {
            self.begin(domain, false)?;
        }
        Ok(count)
    }

    fn reopen(
        self: &Arc<Self>,
        at: crate::table::RecordId,
        mut record: DomainRecord,
        fds: ConsoleFds,
    ) -> Result<Arc<Domain>, KernelError> {
        let id = record.id;
        let state = self.open_segment(id, SegmentId(record.program), None)?;
        let control_segment = self.open_segment(id, SegmentId(record.control), None)?;
        if control_segment.pages() < CONTROL_PAGES {
            return Err(KernelError::Refused(format!(
                "{} was started by an earlier version of Semper, and only that one can go on with it",
                record.name()
            )));
        }
        let memory = self.open_segment(id, SegmentId(record.memory), Some(&[]))?;
        let pages = control_segment.pages().min(LINUX_CONTROL_PAGES);
        let control = Control::new(control_segment.view(PageRange::between(0, pages))?);
        let bell = Arc::new(Bell::default());
        let clock = Arc::new(DomainClock::new(Arc::clone(&self.clock), record.cpu));
        let events: Arc<dyn OutputEvents> = Arc::clone(self) as Arc<dyn OutputEvents>;
        let console = HostConsole::new(&self.beside, id, Arc::clone(&bell), events)
            .map_err(|source| KernelError::File { path: self.beside.own().to_owned(), source })?;
        // Whatever has ended needs none.
        let grants = if record.exit().is_none() { self.grants(id) } else { Grants::default() };
        let network = self.open_network(&record.name(), &grants, &bell)?;
        let tape = Arc::new(Tape::new(self.restart()));
        let program = self.load_program(&record, &memory, &state, (&console, &network, &tape), &clock)?;
        if record.exit().is_none() {
            // Frames are what programs make of them, so none may keep the others from going on.
            if let Err(error) = fit(&control) {
                eprintln!("semper: {} stands and does not go on here: {error}", record.name());
                record.life.state = HELD;
            }
            self.resume_tape(&program, &tape, &record, false)?;
        }
        network.set_listening(&program.listening());
        self.drop_orphans(&record, &program.segments());
        let [out, err] = program.outputs();
        let positions = [program.input_position(), out.released, err.released];
        console.set_written([out.written, err.written]);
        record.console = self.connect(&console, fds, record.console, positions)?;
        program.show_terminal_modes();
        let mut objects = self.objects();
        let mut tx = objects.table.begin();
        tx.update(at, &record)?;
        tx.commit();
        drop(objects);
        let segments = [memory, control_segment];
        let record = (at, record);
        let domain = Domain::new(Parts { record, segments, control, clock, bell, console, network, tape, program });
        if domain.ended().is_none() {
            // A store of before has no object for it.
            self.join_linux(&domain)?;
            if domain.is_held() {
                self.hold_linux(id, true)?;
            }
        }
        Ok(domain)
    }

    /// Removes segments that a call made and then, undone, left behind: the program's records do not know them.
    fn drop_orphans(&self, record: &DomainRecord, used: &[SegmentId]) {
        let own = [record.memory, record.control, record.program].map(SegmentId);
        for (segment, _) in self.segments_of(record.id) {
            if !own.contains(&segment) && !used.contains(&segment) {
                tracing::debug!(segment = segment.0, domain = %record.name(), "a segment that nobody uses is removed");
                self.remove_segment(record.id, segment);
            }
        }
    }

    pub(super) fn load_program(
        self: &Arc<Self>,
        record: &DomainRecord,
        memory: &Arc<Segment>,
        state: &Arc<Segment>,
        (console, network, tape): (&Arc<HostConsole>, &Arc<HostNetwork>, &Arc<Tape>),
        clock: &Arc<DomainClock>,
    ) -> Result<Program, KernelError> {
        let answers = self.answers(record.id)?;
        let host = self.host((record.id, record.started), &record.name(), (console, network), clock, answers);
        let host = taped(host, tape);
        let view = state.view(PageRange::between(0, STATE_PAGES))?;
        let program = Program::load(host, Arc::clone(memory), Box::new(ViewMemory(view)))?;
        // Only what the program has mapped can be in the store: everything else is fresh, and costs no fault of ours.
        self.pager.revert_segment(memory.id(), &program.mapped_ranges())?;
        Ok(program)
    }

    /// Puts a domain among the live ones and starts what serves it; a new one is committed first.
    pub(super) fn begin(self: &Arc<Self>, domain: Arc<Domain>, new: bool) -> Result<(), KernelError> {
        domain.control.set_spins(self.spins());
        self.domains.lock().unwrap_or_else(PoisonError::into_inner).insert(domain.id, Arc::clone(&domain));
        self.live.fetch_add(1, SeqCst);
        if new {
            self.surroundings.commit_now().map_err(KernelError::Refused)?;
        }
        self.start_releaser(&domain)?;
        let kernel = Arc::clone(self);
        std::thread::Builder::new()
            .name(format!("serve-{}", domain.id))
            .spawn(move || server::serve(&kernel, &domain))
            .map_err(PlatformError::system("start a thread"))?;
        Ok(())
    }

    fn start_releaser(self: &Arc<Self>, domain: &Arc<Domain>) -> Result<(), KernelError> {
        let outputs = domain.program().outputs();
        let mut streams = Vec::new();
        for stream in outputs {
            let segment = self.open_segment(domain.id, stream.segment, None)?;
            streams.push(crate::console::OutputStream { segment, released: stream.released });
        }
        let Ok(streams) = <[_; 2]>::try_from(streams) else { return Ok(()) };
        let (weak, id) = (Arc::downgrade(self), domain.id);
        let done = move |released| {
            if let Some(kernel) = weak.upgrade() {
                kernel.released(id, released);
            }
        };
        let replayed = domain.tape.is_on();
        let console = Arc::clone(&domain.console);
        let releaser = Releaser::start(console, domain.id, &self.beside, streams, replayed, done)
            .map_err(|source| KernelError::File { path: self.beside.own().to_owned(), source })?;
        // All that is in the store at this moment was committed with it.
        releaser.release([outputs[0].written, outputs[1].written]);
        *domain.releaser.lock().unwrap_or_else(PoisonError::into_inner) = Some(releaser);
        Ok(())
    }

    /// Output has left: the program's state says so from the next commit on.
    fn released(&self, id: u64, released: [u64; 2]) {
        let Some(domain) = self.domain(id) else { return };
        if self.is_closing() {
            // The world stands as it was committed last; the mark beside the store tells what has left.
            return;
        }
        {
            let _pass = self.gate.enter();
            let mut program = domain.program();
            program.note_released(Stream::Out, released[0]);
            program.note_released(Stream::Err, released[1]);
        }
        self.linux_released(id);
        domain.bell.ring();
    }

    /// A process for a domain that stands in its pages.
    pub(super) fn revive(&self, domain: &Arc<Domain>) -> Result<Arc<Process>, PlatformError> {
        let control = &domain.control;
        control.state().store(POSTED, SeqCst);
        control.kernel_sleeps().store(0, SeqCst);
        control.set_order_count(0);
        control.set_spins(self.spins());
        control.set_features(u32::from(fsgsbase()));
        let has_mail = super::mail::has_pages(control);
        control.set_mail(u32::from(has_mail));
        control.set_monotonic_offset(self.clock.offset());
        let (start, end) = (WINDOW_START, WINDOW_END);
        let window = MapRequest {
            memory: domain.memory.memfd(),
            address: start,
            length: end - start,
            offset: start,
            protection: 0,
        };
        let recorded = domain.tape.is_on();
        let asks = domain.program().has_answers();
        let control_pages = domain.control_segment.memfd();
        let plan = SpawnPlan { control: control_pages, mappings: &[window], native: false, recorded, asks };
        let spawned = self.zygote.spawn(&plan)?;
        let uffds = spawned.uffds.map_err(PlatformError::errno("userfaultfd"))?;
        let process = Process::new(spawned.pid, spawned.pidfd, Arc::clone(control));
        super::server::watch(&process, domain)?;
        let mut uffds = uffds.into_iter();
        if let Some(uffd) = uffds.next() {
            process.serve(&domain.memory, uffd, uffds.next(), &window)?;
        }
        let orders = {
            let mut program = domain.program();
            program.set_mail(has_mail);
            control.set_pid(linux::PID);
            control.set_parent(linux::PARENT);
            control.set_uid(linux::UID);
            control.set_gid(linux::UID);
            program.protection_orders()
        };
        // Where what it is told is recorded, it is not told the time in its own process.
        control.set_quick(if recorded { QUICK_BUT_TIME } else { QUICK });
        process.order(&orders)?;
        domain.clock.moved_to(process.pid);
        if let Some(old) = domain.set_process(Some(Arc::clone(&process))) {
            old.end();
        }
        Ok(process)
    }

    /// A domain has ended: noted in its record; the rest goes when that is committed and its output has left.
    pub(super) fn end(&self, domain: &Arc<Domain>, status: ExitStatus) {
        let cpu = u64::try_from(crate::linux::Clock::cpu(&*domain.clock).as_nanos()).unwrap_or(u64::MAX);
        let changed = self.change_domain(domain, |record| {
            record.life = LifeState::ended(status);
            record.cpu = cpu;
        });
        if let Err(error) = changed {
            tracing::error!(%error, domain = %domain.name, "the end cannot be noted");
        }
        domain.set_ended(status);
        domain.network.end();
        self.leave_linux(domain.id);
        if let Some(process) = domain.set_process(None) {
            process.end();
        }
    }

    /// A program is not executed any more, or goes on; also over restarts. The caller passed the gate.
    ///
    /// # Errors
    /// When segment 0 is damaged.
    pub(crate) fn hold(&self, domain: &Domain, held: bool) -> Result<(), KernelError> {
        if domain.ended().is_some() {
            return Err(KernelError::Refused(format!("{} has ended", domain.name)));
        }
        if !held && domain.is_held() {
            fit(&domain.control).map_err(|error| KernelError::Refused(format!("{}: {error}", domain.name)))?;
        }
        self.change_domain(domain, |record| record.life.state = if held { HELD } else { ALIVE })?;
        self.hold_linux(domain.id, held)?;
        domain.touched.store(true, SeqCst);
        domain.set_held(held);
        Ok(())
    }

    fn change_domain(&self, domain: &Domain, change: impl FnOnce(&mut DomainRecord)) -> Result<(), KernelError> {
        let mut objects = self.objects();
        let mut tx = objects.table.begin();
        tx.modify(domain.record, change)?;
        tx.commit();
        Ok(())
    }

    /// The end of a domain is committed: lets its last output leave and gives everything back but its record.
    pub(super) fn finish(&self, domain: &Arc<Domain>) {
        if let Some(releaser) = domain.releaser() {
            releaser.drain();
            releaser.close();
        }
        domain.network.drain_for(LAST_OUTPUT_PATIENCE);
        domain.console.leave_terminal();
        {
            let _pass = self.gate.enter();
            let drained = domain.releaser().is_none_or(|r| r.released() == domain.console.written());
            if drained || self.output.console == OutputPolicy::Immediate {
                for (segment, _) in self.segments_of(domain.id) {
                    self.remove_segment(domain.id, segment);
                }
                let finished = self.change_domain(domain, |record| record.life.state = FINISHED);
                let finished = finished.and_then(|()| self.forget_answers(domain.id));
                if let Err(error) = finished.and_then(|()| self.set_grants(domain.id, &Grants::default())) {
                    tracing::error!(%error, domain = %domain.name, "the end cannot be noted");
                }
            }
        }
        self.domains.lock().unwrap_or_else(PoisonError::into_inner).remove(&domain.id);
        self.live.fetch_sub(1, SeqCst);
        self.changed.notify_all();
    }
}
