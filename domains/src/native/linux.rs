//! Linux programs among the domains: their objects, and how they invoke keys.
//!
//! **Promise.** A Linux program's invocation is the same transaction as a native domain's, with the same effects. Its own server
//! thread runs it, inside the gate and under the executive's lock; the message lies in the program's control pages, where the
//! object layer looks for it while it waits.
//!
//! **Locks.** Whoever invokes holds the lock of its program and then takes the executive's. So nobody who holds the executive's
//! may take a program's: what is written to the console of a Linux program by key is put aside, and [`Kernel::write_by_key`]
//! writes it before the gate is left.

use super::birth::quota;
use super::mailbox::Mailbox;
use super::program::explain;
use super::records::LinuxObject;
use super::turn::Turn;
use super::{ExecutiveError, State};
use crate::guest::{MAX_STRING, Message};
use crate::kernel::domain::Domain as Program;
use crate::kernel::{Kernel, KernelError};
use crate::linux::{CAME_BACK, Errno, HELD_LIMIT, Invoked, Keys, MESSAGE_BYTES, Received};
use crate::objects::{self, KeyType, LinuxDomain, NewLinuxDomain, Phase, SLOTS};
use crate::table::RecordId;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};

/// A live Linux program, as a domain.
pub(super) struct Linux {
    /// Its record that says so.
    at: RecordId,
    /// Its objects.
    pub object: LinuxDomain,
    /// The program.
    pub program: Arc<Program>,
    /// Domains that go on when its console holds less.
    pub waiting: Vec<RecordId>,
}

impl Linux {
    /// Bytes of its standard output that are held back.
    fn held(&self) -> u64 {
        let released = self.program.releaser().map_or(0, |releaser| releaser.released()[0]);
        self.program.console.written()[0].saturating_sub(released)
    }
}

/// All live Linux programs.
#[derive(Default)]
pub(super) struct LinuxDomains {
    /// By the index of the domain's record.
    pub by_index: BTreeMap<u32, Linux>,
    /// That index, by the number of the program.
    numbers: BTreeMap<u64, u32>,
    /// What was written to their consoles by key, and has to go there before the gate is left.
    written: Vec<(u64, Vec<u8>)>,
}

impl LinuxDomains {
    fn of_number(&mut self, number: u64) -> Option<&mut Linux> {
        self.by_index.get_mut(self.numbers.get(&number)?)
    }

    fn with_number(&self, number: u64) -> Option<&Linux> {
        self.by_index.get(self.numbers.get(&number)?)
    }

    /// Domains that go on when the console of a Linux program holds less.
    pub fn waiting(&self) -> impl Iterator<Item = u64> {
        self.by_index.values().flat_map(|linux| &linux.waiting).map(|id| id.as_u64())
    }

    /// Whether something has to go to a console.
    pub fn has_written(&self) -> bool {
        !self.written.is_empty()
    }

    /// The program whose domain this is.
    pub fn of(&self, domain: RecordId) -> Option<&Linux> {
        self.by_index.get(&domain.index()).filter(|linux| linux.object.domain == domain)
    }
}

impl Kernel {
    /// Gives a Linux program a domain among the objects, if it has none yet, and tells it. The gate was passed, or nothing runs.
    ///
    /// # Errors
    /// When segment 0 is damaged or full.
    pub(crate) fn join_linux(&self, program: &Arc<Program>) -> Result<RecordId, KernelError> {
        let genesis = self.genesis()?;
        let mut state = self.native.state();
        let known = {
            let objects = self.objects();
            objects.table.iter::<LinuxObject>().find(|(_, record)| record.id == program.id)
        };
        let (at, object) = match known {
            Some((at, record)) => (at, record.domain()),
            None => {
                self.native.tape.cut("a Linux program was started");
                let mut turn = Turn { kernel: self, state: &mut state };
                let (bank, meter) = (genesis.bank, genesis.meter);
                let (limit, console) = (quota(self.surroundings.frames()), program.id);
                let new = NewLinuxDomain { bank, meter, limit, program: program.record, console };
                let made = turn.transact(|table, around, effects| objects::make_linux(table, around, &new, effects));
                let object = made.and_then(|made| Ok(made?)).map_err(explain)?;
                let (domain, bank) = (object.domain.as_u64(), object.bank.as_u64());
                let mut objects = self.objects();
                let mut tx = objects.table.begin();
                let at = tx.insert(&LinuxObject { id: program.id, domain, bank })?;
                tx.commit();
                (at, object)
            }
        };
        let linux = Linux { at, object, program: Arc::clone(program), waiting: Vec::new() };
        state.linux.numbers.insert(program.id, object.domain.index());
        state.linux.by_index.insert(object.domain.index(), linux);
        Ok(object.domain)
    }

    /// A Linux program has ended: its domain dies, and all that it bought goes. The gate was passed.
    pub(crate) fn leave_linux(&self, number: u64) {
        let mut state = self.native.state();
        let Some(index) = state.linux.numbers.remove(&number) else { return };
        let Some(linux) = state.linux.by_index.remove(&index) else { return };
        self.native.tape.cut("a Linux program ended");
        let mut turn = Turn { kernel: self, state: &mut state };
        let done = turn.end_linux(linux);
        drop(state);
        if let Err(error) = done {
            tracing::error!(%error, program = number, "the domain of a Linux program cannot be taken apart");
        }
        self.native.ring();
    }

    /// Writes what was written to Linux programs' consoles by key. Inside the gate, and without the lock of a program or the executive's.
    pub(crate) fn write_by_key(&self) {
        let written = std::mem::take(&mut self.native.state().linux.written);
        for (number, bytes) in written {
            let Some(program) = self.domain(number).filter(|program| program.ended().is_none()) else { continue };
            program.touched.store(true, SeqCst);
            program.tape.cut("another domain wrote to its console");
            program.program().write_by_key(&bytes);
        }
    }

    /// The live Linux program whose domain this is.
    pub(super) fn linux_of(&self, domain: RecordId) -> Option<Arc<Program>> {
        self.native.state().linux.of(domain).map(|linux| Arc::clone(&linux.program))
    }

    /// Console output of a Linux program has left: who waits for that goes on.
    pub(crate) fn linux_released(&self, number: u64) {
        let waits = self.native.state().linux.of_number(number).is_some_and(|linux| !linux.waiting.is_empty());
        if waits {
            self.native.ring();
        }
    }

    /// An operator stops a Linux program or lets it go on: its callers queue meanwhile. The gate was passed.
    ///
    /// # Errors
    /// When segment 0 is damaged.
    pub(crate) fn hold_linux(&self, number: u64, held: bool) -> Result<(), KernelError> {
        let mut state = self.native.state();
        let Some(id) = state.linux.of_number(number).map(|linux| linux.object.domain) else { return Ok(()) };
        self.native.tape.cut("an operator stopped or started a Linux program");
        let act = if held { objects::stop_domain } else { objects::start_domain };
        let mut turn = Turn { kernel: self, state: &mut state };
        let done = turn.transact(|table, around, effects| act(table, around, id, effects)).map_err(explain)?;
        drop(state);
        self.native.ring();
        done.map_err(|error| KernelError::Refused(format!("domain {id:?}: {error}")))
    }
}

impl Turn<'_> {
    /// The message and string pages of a domain, native or not.
    pub(super) fn mailbox(&mut self, id: RecordId) -> Result<Mailbox<'_>, ExecutiveError> {
        if self.state.linux.of(id).is_some() {
            return Ok(Mailbox(&self.state.linux.by_index[&id.index()].program.control));
        }
        Ok(Mailbox(&self.native(id)?.control))
    }

    /// Something was put into a domain's mailbox, which the next capture has to contain whether the domain runs or not.
    pub(super) fn mail_came(&mut self, id: RecordId) {
        if let Some(linux) = self.state.linux.of(id) {
            Mailbox(&linux.program.control).mark_dirty();
            linux.program.touched.store(true, SeqCst);
            linux.program.used_keys();
        } else if let Some(native) = self.loaded(id) {
            native.touched = true;
        }
    }

    /// Lets a Linux program look whether its wait is over. False: it is none.
    pub(super) fn wake_linux(&mut self, id: RecordId) -> bool {
        let Some(linux) = self.state.linux.of(id) else { return false };
        linux.program.bell.ring();
        true
    }

    /// A write to the console of a Linux program. False: it is none's.
    pub(super) fn linux_console_write(&mut self, number: u64, bytes: &[u8]) -> bool {
        let Some(linux) = self.state.linux.of_number(number) else { return false };
        if linux.held() > HELD_LIMIT {
            self.state.held_up = Some(number);
        }
        self.state.linux.written.push((number, bytes.to_vec()));
        true
    }

    /// `id` goes on when the console of Linux program `number` holds less. False: it is none's.
    pub(super) fn waits_for_linux_output(&mut self, number: u64, id: RecordId) -> bool {
        let Some(linux) = self.state.linux.of_number(number) else { return false };
        if !linux.waiting.contains(&id) {
            linux.waiting.push(id);
        }
        true
    }

    /// Linux consoles that hold less than they did: who waits for that goes on.
    pub(super) fn linux_consoles(&mut self) -> Result<(), ExecutiveError> {
        let less = |linux: &&mut Linux| !linux.waiting.is_empty() && linux.held() <= HELD_LIMIT / 2;
        let released = self.state.linux.by_index.values_mut().filter(less);
        let waiting: Vec<RecordId> = released.flat_map(|linux| std::mem::take(&mut linux.waiting)).collect();
        waiting.into_iter().try_for_each(|id| self.execute(id))
    }

    fn end_linux(&mut self, linux: Linux) -> Result<(), ExecutiveError> {
        self.transact(|table, around, effects| objects::end_linux(table, around, &linux.object, effects))?;
        let mut objects = self.kernel.objects();
        let mut tx = objects.table.begin();
        tx.remove(linux.at)?;
        tx.commit();
        drop(objects);
        linux.waiting.into_iter().try_for_each(|id| self.execute(id))
    }

    /// The console that a key in this slot writes to, if that holds as much as it may.
    fn full_console(&self, id: RecordId, slot: u8) -> Result<Option<u64>, ExecutiveError> {
        if slot >= SLOTS {
            return Ok(None);
        }
        let number = {
            let objects = self.kernel.objects();
            let key = objects::slots_of(&objects.table, id)?[usize::from(slot)];
            if key.key_type() != KeyType::Console {
                return Ok(None);
            }
            objects.table.get::<objects::Console>(key.id()).map(|console| console.number).unwrap_or_default()
        };
        let native = self.state.programs.get(&number).map(super::Program::held);
        let held = native.or_else(|| self.state.linux.with_number(number).map(Linux::held));
        Ok(held.is_some_and(|held| held > HELD_LIMIT).then_some(number))
    }

    /// What became of the invocation of a Linux program.
    fn became(&self, id: RecordId, code: u64) -> Result<Invoked, ExecutiveError> {
        Ok(match self.kernel.objects().table.get::<objects::Domain>(id)?.phase() {
            Phase::Running => Invoked::Came,
            Phase::New => Invoked::Ended(u8::try_from(code & 0xff).unwrap_or(0)),
            _ => Invoked::Waits,
        })
    }

    fn invoke_for_linux(&mut self, id: RecordId, message: &Message, string: &[u8]) -> Result<Invoked, ExecutiveError> {
        if let Some(number) = self.full_console(id, message.slot)? {
            self.waits_for_console(number, id);
            return Ok(Invoked::Full);
        }
        self.mailbox(id)?.write_string(string);
        self.mail_came(id);
        self.invoke(id, message)?;
        self.became(id, message.words[0])
    }
}

/// The keys of the Linux program of this number.
pub(crate) struct ProgramKeys {
    /// The kernel.
    pub kernel: Weak<Kernel>,
    /// The number.
    pub program: u64,
}

impl ProgramKeys {
    /// Does something as the domain of the program, which holds its own lock and is inside the gate.
    fn act<T>(&self, act: impl FnOnce(&mut Turn<'_>, RecordId) -> Result<T, ExecutiveError>) -> Result<T, Errno> {
        let kernel = self.kernel.upgrade().ok_or(Errno::ENOSYS)?;
        let mut state = kernel.native.state();
        let id = state.linux.of_number(self.program).map(|linux| linux.object.domain).ok_or(Errno::ENOSYS)?;
        let done = act(&mut Turn { kernel: &kernel, state: &mut state }, id);
        let busy = state.concerns_the_thread(&kernel);
        drop(state);
        if busy {
            kernel.native.ring();
        }
        done.map_err(|error| {
            tracing::error!(%error, program = self.program, "an invocation of a Linux program failed");
            Errno::EIO
        })
    }
}

impl State {
    /// Whether the executive's thread has to look at something that was not there at its last turn.
    fn concerns_the_thread(&self, kernel: &Kernel) -> bool {
        let alarm = objects::next_alarm(&kernel.objects().table).unwrap_or(None);
        self.work || alarm != self.alarm || self.natives.values().any(|native| native.executing)
    }
}

impl Keys for ProgramKeys {
    fn invoke(&self, message: &Message, string: &[u8]) -> Result<Invoked, Errno> {
        self.act(|turn, id| {
            turn.kernel.native.tape.cut("a Linux program invoked a key");
            turn.invoke_for_linux(id, message, &string[..string.len().min(MAX_STRING)])
        })
    }

    fn state(&self) -> Result<Invoked, Errno> {
        self.act(|turn, id| turn.became(id, 0))
    }

    fn received(&self) -> Received {
        let received = self.act(|turn, id| Ok(turn.mailbox(id)?.received()));
        received.unwrap_or(Received { half: [0; MESSAGE_BYTES - CAME_BACK], string: Vec::new() })
    }

    fn withdraw(&self) -> bool {
        let done = self.act(|turn, id| {
            turn.kernel.native.tape.cut("a Linux program took back what it asked");
            turn.transact(|table, around, effects| objects::withdraw(table, around, id, effects))
        });
        done.unwrap_or(false)
    }
}
