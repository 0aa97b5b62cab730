//! A program is added as a domain: what it is given, and its first records.

use super::bell::Bell;
use super::clock::DomainClock;
use super::domain::{Domain, Parts};
use super::journal::writer;
use super::life::{MEMORY_PAGES, STATE_PAGES, fsgsbase};
use super::memory::ViewMemory;
use super::objects::{DomainRecord, FileIdentity, LifeState, NAME_BYTES};
use super::{Kernel, KernelError};
use crate::abi::{LINUX_CONTROL_PAGES, POSTED};
use crate::console::{ConsoleFds, HostConsole, OutputEvents};
use crate::inputs::{Tape, taped};
use crate::linux::{Program, ProgramSpec};
use crate::network::Grants;
use crate::platform::control::Control;
use crate::platform::frame::Frame;
use crate::processor::Level;
use semper_store::PageRange;
use std::io::Read;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, PoisonError};

/// A file that is brought into the store for a program.
pub struct ImportFile {
    /// Where the program finds it.
    pub guest: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Its content.
    pub content: Box<dyn Read + Send>,
}

/// A start key that a program is given when it is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartKey {
    /// The slot, which must be empty otherwise.
    pub slot: u8,
    /// The domain that it leads to: `INDEX.VERSION`, or the name of a program.
    pub domain: String,
    /// What that domain is told with each message.
    pub badge: u64,
}

/// A program to be added as a domain.
pub struct NewProgram {
    /// Its name; made unique if it is not.
    pub name: String,
    /// Path under which it sees itself.
    pub path: Vec<u8>,
    /// The ELF file.
    pub image: Vec<u8>,
    /// The ELF file of its interpreter, if it asks for one.
    pub interpreter: Option<Vec<u8>>,
    /// Arguments, its name first.
    pub args: Vec<Vec<u8>>,
    /// Environment.
    pub env: Vec<Vec<u8>>,
    /// Files.
    pub files: Vec<ImportFile>,
    /// Keys to other domains.
    pub keys: Vec<StartKey>,
    /// What it may reach.
    pub network: Grants,
    /// Whether what it is told by the outside is recorded.
    pub record: bool,
    /// What it may know of the processor; none: all.
    pub cpu: Option<Level>,
}

impl Kernel {
    /// Adds a program, stopped before its first instruction, and commits that; it runs from then on.
    ///
    /// # Errors
    /// When it cannot be loaded, or there is no room; nothing of it is left then.
    pub fn add(self: &Arc<Self>, new: NewProgram, fds: ConsoleFds) -> Result<u64, KernelError> {
        self.start_executive()?;
        let domain = {
            let _pass = self.gate.enter();
            let id = self.new_domain_id()?;
            match self.build(id, new, fds) {
                Ok(domain) => {
                    // Before the gate opens: no capture may see its records without its control pages.
                    self.domains.lock().unwrap_or_else(PoisonError::into_inner).insert(domain.id, Arc::clone(&domain));
                    domain
                }
                Err(error) => {
                    for (segment, _) in self.segments_of(id) {
                        self.remove_segment(id, segment);
                    }
                    self.forget_answers(id)?;
                    return Err(error);
                }
            }
        };
        let id = domain.id;
        self.begin(domain, true)?;
        Ok(id)
    }

    pub(crate) fn new_domain_id(&self) -> Result<u64, KernelError> {
        let mut objects = self.objects();
        let (at, mut world) = objects.world;
        let id = world.next_domain;
        world.next_domain += 1;
        let mut tx = objects.table.begin();
        tx.update(at, &world)?;
        tx.commit();
        objects.world.1 = world;
        Ok(id)
    }

    fn build(self: &Arc<Self>, id: u64, new: NewProgram, fds: ConsoleFds) -> Result<Arc<Domain>, KernelError> {
        let answers = self.note_processor(id, new.cpu)?;
        let name = self.unique_name(&new.name)?;
        if let Some(wrong) = new.network.wrong() {
            return Err(KernelError::Refused(wrong));
        }
        let bell = Arc::new(Bell::default());
        let network = self.open_network(&name, &new.network, &bell)?;
        let memory = self.create_segment(id, MEMORY_PAGES)?;
        let control_segment = self.create_segment(id, LINUX_CONTROL_PAGES)?;
        let state = self.create_segment(id, STATE_PAGES)?;
        let control = Control::new(control_segment.view(PageRange::between(0, LINUX_CONTROL_PAGES))?);
        let clock = Arc::new(DomainClock::new(Arc::clone(&self.clock), 0));
        let events: Arc<dyn OutputEvents> = Arc::clone(self) as Arc<dyn OutputEvents>;
        let console = HostConsole::new(&self.beside, id, Arc::clone(&bell), events)
            .map_err(|source| KernelError::File { path: self.beside.own().to_owned(), source })?;
        let identities = self.connect(&console, fds, [FileIdentity::default(); 3], [0; 3])?;
        let (_, wall) = self.clock.reading();
        let tape = Arc::new(Tape::new(self.restart()));
        let host = taped(self.host((id, wall), &name, (&console, &network), &clock, answers), &tape);
        if new.record {
            self.begin_tape(&tape, writer(id, wall).inputs())?;
        }
        let view = state.view(PageRange::between(0, STATE_PAGES))?;
        let hwcap2 = if fsgsbase() && new.cpu.is_none() { 2 } else { 0 };
        let (path, image, interpreter) = (&new.path, &new.image, new.interpreter.as_deref());
        let spec = ProgramSpec { path, image, interpreter, args: new.args, env: new.env, hwcap2 };
        let (mut program, start) = Program::create(host, Arc::clone(&memory), Box::new(ViewMemory(view)), &spec)?;
        for mut file in new.files {
            let guest = String::from_utf8_lossy(&file.guest).into_owned();
            program
                .import(&file.guest, file.mode, &mut *file.content)
                .map_err(|e| KernelError::Refused(format!("the file {guest} cannot be brought into the store: {e}")))?;
        }
        program
            .set_program(&new.path, &new.image, start)
            .map_err(|e| KernelError::Refused(format!("the program's own file: {e}")))?;
        program.show_terminal_modes();
        Frame::initial(&control, start.rip, start.rsp)?;
        control.set_cause(crate::abi::CAUSE_READY);
        control.state().store(POSTED, SeqCst);
        control.mark_header_dirty();
        let mut text = [0u8; NAME_BYTES];
        text[..name.len()].copy_from_slice(name.as_bytes());
        let record = DomainRecord {
            id,
            life: LifeState::ALIVE,
            name_len: u32::try_from(name.len()).unwrap_or(0),
            memory: memory.id().0,
            control: control_segment.id().0,
            program: state.id().0,
            started: wall,
            cpu: 0,
            console: identities,
            name: text,
        };
        let mut objects = self.objects();
        let mut tx = objects.table.begin();
        let at = tx.insert(&record)?;
        tx.commit();
        drop(objects);
        let segments = [memory, control_segment];
        let record = (at, record);
        let domain = Domain::new(Parts { record, segments, control, clock, bell, console, network, tape, program });
        let joined = self.set_grants(id, &new.network).and_then(|()| self.join_linux(&domain));
        if let Err(error) = joined.and_then(|id| self.give_keys(id, &new.keys)) {
            self.leave_linux(id);
            if let Err(error) = self.set_grants(id, &Grants::default()) {
                tracing::error!(%error, "what the program was to reach stays noted");
            }
            let mut objects = self.objects();
            let mut tx = objects.table.begin();
            tx.remove(at)?;
            tx.commit();
            return Err(error);
        }
        Ok(domain)
    }

    pub(crate) fn unique_name(&self, wanted: &str) -> Result<String, KernelError> {
        if wanted.is_empty() || wanted.len() > NAME_BYTES - 8 || wanted.chars().any(char::is_control) {
            return Err(KernelError::Refused(format!(
                "a domain's name has 1 to {} bytes and no control characters: {wanted:?}",
                NAME_BYTES - 8
            )));
        }
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if wanted.split_once('.').is_some_and(|(index, version)| is_number(index) && is_number(version)) {
            return Err(KernelError::Refused(format!("{wanted} is how objects are named; give another with --name")));
        }
        let taken = self.names();
        let mut name = wanted.to_owned();
        let mut n = 2;
        while taken.contains(&name) {
            name = format!("{wanted}-{n}");
            n += 1;
        }
        Ok(name)
    }
}
