//! One turn of the executive: what domains posted is served, what is due happens. Then it sleeps.

use super::mailbox::Mailbox;
use super::sleep::{self, Watched};
use super::{Around, Executive, ExecutiveError, State};
use crate::abi::{CAUSE_INVOKE, CAUSE_READY, POSTED};
use crate::guest::{CALL, Message, REPLY_AND_WAIT, SEND};
use crate::inputs::Entry;
use crate::kernel::{Kernel, KernelError};
use crate::linux::ExitStatus;
use crate::objects::{self, Answer, Effect, Fault, How, Invocation, InvokeError, Outcome, Phase};
use crate::platform::PlatformError;
use crate::platform::crowd::Crowd;
use crate::platform::process::{Process, cpu_time};
use crate::table::{RecordId, Table, TableError};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// How often it is looked whether domains that wait do; while nobody runs, once a second.
const WATCH: Duration = Duration::from_millis(100);
const SLOW_WATCH: Duration = Duration::from_secs(1);
/// CPU time that a stub may take from one look to the next while it waits, nanoseconds: it looks for its answer before it sleeps.
const WAITING_NS: u64 = 5_000_000;
/// How often it is told that the machine lacks something for processes.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// How often the CPU time of domains that ran is charged: a budget is overdrawn by so much at most.
const TICK: Duration = Duration::from_millis(10);
/// How long the thread looks for posts before it sleeps, where a core is free for that.
const SPIN: Duration = Duration::from_micros(50);
/// Looks before the core is offered to others.
const LOOKS: u32 = 64;
/// How long nothing is served, at most, before it is looked again whether enough could be closed.
const HOLD: Duration = Duration::from_millis(5);
const SIGKILL: u32 = 9;
const SIGSEGV: u32 = 11;
const SIGSYS: u32 = 31;

/// A turn: the kernel, and the state under its lock. The gate has been passed.
pub struct Turn<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) state: &'a mut State,
}

impl Kernel {
    /// As [`Self::in_turn`], where it cannot be repeated: `why`. Refused while what was recorded is done again.
    pub(super) fn interfere<T>(&self, why: &str, act: impl FnOnce(&mut Turn<'_>) -> T) -> Result<T, KernelError> {
        self.in_turn(|turn| {
            if turn.kernel.native.is_retelling() {
                return Err(KernelError::Refused(
                    "the native programs are being told again what they were told; wait until that is over".into(),
                ));
            }
            turn.kernel.native.tape.cut(why);
            Ok(act(turn))
        })
    }

    /// Does something to the native domains from outside: between two turns, and inside the gate.
    pub(super) fn in_turn<T>(&self, act: impl FnOnce(&mut Turn<'_>) -> T) -> T {
        let _pass = self.gate.enter();
        let mut state = self.native.state();
        let result = act(&mut Turn { kernel: self, state: &mut state });
        drop(state);
        self.write_by_key();
        self.native.ring();
        result
    }
}

impl Executive {
    /// Serves until the runtime ends.
    pub(crate) fn run(&self, kernel: &Arc<Kernel>) {
        semper_pager::run_soon();
        while !kernel.is_closing() {
            let rung = sleep::look(&self.bell);
            if self.tape.has_much() {
                kernel.recorder.poke();
                self.tape.wait_for_room();
            }
            let finished = {
                let _pass = kernel.gate.enter();
                if kernel.is_closing() {
                    return;
                }
                let mut state = self.state();
                let mut turn = Turn { kernel, state: &mut state };
                if let Err(error) = turn.run() {
                    tracing::error!(%error, "a turn of the native domains failed");
                }
                let finished = turn.finished();
                let wrote = state.linux.has_written();
                drop(state);
                if wrote {
                    kernel.write_by_key();
                }
                finished
            };
            if finished {
                kernel.programs_finished();
            }
            self.sleep(kernel, rung);
        }
    }

    /// Sleeps until something is to be done.
    fn sleep(&self, kernel: &Kernel, rung: u32) {
        let (running, tick, alarm, work): (Vec<Arc<Process>>, _, _, _) = {
            let state = self.state();
            // In a replay the others wait for their turn.
            let retells = self.is_retelling();
            let awaited = |n: &&super::Native| !retells || state.awaited() == Some(n.id);
            let running = state.active().filter(|n| n.executing).filter(awaited);
            let running: Vec<_> = running.filter_map(|n| n.process.clone()).take(sleep::MOST - 1).collect();
            if state.held {
                drop(state);
                self.sleep_on(&[Watched { word: &self.bell, seen: rung, shared: false }], Some(HOLD));
                return;
            }
            let tick = if !running.is_empty() || !state.short.0.is_empty() || !state.ready.is_empty() {
                Some(TICK)
            } else {
                state.natives.values().any(|native| native.process.is_some()).then_some(SLOW_WATCH)
            };
            (running, tick, state.alarm, state.work && !retells)
        };
        let posted = || running.iter().any(|p| p.is_stopped() || p.is_dead()) || sleep::look(&self.bell) != rung;
        if kernel.native_spins() > 0 && !running.is_empty() && self.crowd.take() == 0 {
            let begun = Instant::now();
            while begun.elapsed() < SPIN {
                for _ in 0..LOOKS {
                    if posted() {
                        return;
                    }
                    std::hint::spin_loop();
                }
                // Who is waited for may need this very core.
                if Crowd::offer_core() && !posted() {
                    self.crowd.note();
                    break;
                }
            }
        }
        running.iter().for_each(|p| p.set_kernel_sleeps(true));
        let mut words = vec![Watched { word: &self.bell, seen: rung, shared: false }];
        words.extend(running.iter().map(|p| Watched { word: p.state(), seen: sleep::look(p.state()), shared: true }));
        if !words.iter().skip(1).any(|w| w.seen == POSTED) {
            self.sleep_on(&words, due(kernel, tick, alarm, work));
        }
        running.iter().for_each(|p| p.set_kernel_sleeps(false));
    }

    fn sleep_on(&self, words: &[Watched<'_>], timeout: Option<Duration>) {
        self.sleeps.store(true, SeqCst);
        sleep::wait(words, timeout);
        self.sleeps.store(false, SeqCst);
    }
}

/// How long the thread may sleep: until the next tick, if there is one, and until the next alarm.
fn due(kernel: &Kernel, tick: Option<Duration>, alarm: Option<u64>, work: bool) -> Option<Duration> {
    if work {
        return Some(Duration::ZERO);
    }
    let left = |at: u64| Duration::from_nanos(at.saturating_sub(kernel.clock.reading().0)) + Duration::from_micros(1);
    [tick, alarm.map(left)].into_iter().flatten().min()
}

impl State {
    /// Who does not run any more is not looked at.
    fn note_active(&mut self) {
        let natives = &self.natives;
        self.active.retain(|index| natives.get(index).is_some_and(|n| n.executing));
    }

    /// The domains that ran when their processes died.
    fn dead(&self) -> Vec<RecordId> {
        let dead = |n: &&super::Native| n.executing && n.process.as_ref().is_some_and(|p| p.is_dead());
        self.active().filter(dead).map(|n| n.id).collect()
    }

    /// In a replay: the domain that is waited for.
    fn awaited(&self) -> Option<RecordId> {
        self.recording.awaited
    }
}

impl Turn<'_> {
    fn run(&mut self) -> Result<(), ExecutiveError> {
        self.state.turn += 1;
        if self.kernel.native.is_retelling() {
            return self.turn_of_replay();
        }
        self.state.held = self.is_held();
        if self.state.held {
            return self.durable();
        }
        self.state.note_active();
        let posted: Vec<RecordId> = self.state.active().filter(|n| n.has_posted()).map(|n| n.id).collect();
        let (posts, begun) = (posted.len(), self.state.timing.begin(self.state.turn, posted.len()));
        for id in posted {
            self.enter_post(id)?;
        }
        self.state.timing.end(begun, posts);
        for id in self.state.dead() {
            self.lost(id)?;
        }
        self.consoles()?;
        self.frames()?;
        self.durable()?;
        self.journal()?;
        self.network()?;
        if self.state.work {
            self.enter(Entry::Worked, Turn::work)?;
        }
        if self.state.tick.elapsed() >= TICK {
            self.state.tick = Instant::now();
            let ran: Vec<RecordId> = self.state.natives.values().filter(|n| n.ran).map(|n| n.id).collect();
            for id in ran {
                self.charge(id)?;
            }
            self.charge_owed()?;
            self.preempt()?;
            self.trim()?;
        }
        if self.state.watched.elapsed() >= WATCH {
            self.state.watched = Instant::now();
            self.watch_waiting()?;
        }
        loop {
            self.state.alarm = objects::next_alarm(&self.kernel.objects().table)?;
            if self.state.alarm.is_none_or(|at| at > self.kernel.clock.reading().0) {
                return self.dispatch();
            }
            self.enter(Entry::Expired, |turn| turn.transact(objects::expire))?;
        }
    }

    /// In a replay: nothing happens but what happened, and who is to go on does.
    fn turn_of_replay(&mut self) -> Result<(), ExecutiveError> {
        self.state.held = false;
        self.state.alarm = None;
        self.state.note_active();
        for id in self.state.dead() {
            self.lost(id)?;
        }
        self.retell()?;
        if self.state.tick.elapsed() >= TICK {
            self.state.tick = Instant::now();
            self.preempt()?;
            self.trim_processes()?;
        }
        self.dispatch()
    }

    /// One piece of what is to be taken apart.
    pub(super) fn work(&mut self) -> Result<(), ExecutiveError> {
        self.state.work = self.transact(objects::work)?;
        Ok(())
    }

    /// One transaction of the object layer, and its effects.
    pub fn transact<T>(
        &mut self,
        act: impl FnOnce(&mut Table, &dyn objects::Surroundings, &mut Vec<Effect>) -> Result<T, TableError>,
    ) -> Result<T, ExecutiveError> {
        let mut effects = Vec::new();
        let result = {
            let mut objects = self.kernel.objects();
            act(&mut objects.table, &Around(self.kernel), &mut effects)?
        };
        self.perform(&effects, &[])?;
        Ok(result)
    }

    /// What a domain waited for outside the table has come: its answer, with a key and the bytes of its string. Returns whether it still waited.
    pub fn complete(
        &mut self,
        wait: (RecordId, u64),
        answer: Answer,
        key: objects::Key,
        given: &[u8],
    ) -> Result<bool, ExecutiveError> {
        let mut effects = Vec::new();
        let waited = {
            let mut objects = self.kernel.objects();
            objects::complete_with(&mut objects.table, &Around(self.kernel), wait, answer, key, &mut effects)?
        };
        self.perform(&effects, given)?;
        Ok(waited)
    }

    /// What a domain posted.
    pub(super) fn serve(&mut self, id: RecordId) -> Result<(), ExecutiveError> {
        // What was served just before may have ended it, or have served it.
        let Some(native) = self.loaded(id).filter(|native| native.has_posted()) else { return Ok(()) };
        native.executing = false;
        native.touched = true;
        native.posts += 1;
        let cause = native.control.cause();
        if native.unserved().is_none() {
            return self.execute(id);
        }
        // From here on it is served, whatever happens.
        native.control.set_cause(CAUSE_READY);
        self.state.recording.serving = Some(id);
        if cause == SIGSEGV && self.asks_processor(id)? {
            return self.execute(id);
        }
        if matches!(cause, 4 | 5 | 7 | 8 | 11) && self.debugged(id, cause)? {
            return Ok(());
        }
        let Some(native) = self.loaded(id) else { return Ok(()) };
        match cause {
            CAUSE_INVOKE => {
                let message = Mailbox(&native.control).message();
                self.note_call(id, &message)?;
                self.invoke(id, &message)
            }
            4 | 5 | 7 | 8 | 11 | SIGSYS => {
                let registers = native.general();
                let fault = registers.map_or(Fault { cause, ..Fault::default() }, |r| native.fault(cause, &r));
                self.note_fault(&fault);
                if cause == SIGSEGV && self.reads_counter(id)? {
                    return self.execute(id);
                }
                self.fault(id, &fault)
            }
            _ => self.fault(id, &Fault { cause: 11, ..Fault::default() }),
        }
    }

    /// A domain invokes a key. What comes back at once is put before it, and it goes on.
    pub(super) fn invoke(&mut self, id: RecordId, message: &Message) -> Result<(), ExecutiveError> {
        let how = match message.how {
            SEND => How::Send,
            REPLY_AND_WAIT => How::ReplyAndWait,
            // Any other value would be an error of the caller's; there is none for it, so it waits for its answer.
            CALL.. => How::Call,
        };
        let invocation = Invocation {
            invoker: id,
            slot: message.slot,
            how,
            order: message.order,
            words: message.words,
            string_len: message.string_len,
            keys: message.keys,
            accept: message.accept,
            deadline: message.deadline,
        };
        (self.state.held_up, self.state.wrote, self.state.refused) = (None, false, None);
        match self.transact(|table, around, effects| objects::invoke(table, around, &invocation, effects))? {
            Outcome::Answered(answer) => {
                let refused = self.state.refused.take();
                self.answer_or_refuse(id, &refused.map_or(answer, Answer::from), &[])
            }
            Outcome::Waits => Ok(()),
        }
    }

    /// A domain gets an answer and goes on; if the store cannot give the answer's string, it is told that.
    pub fn answer_or_refuse(&mut self, id: RecordId, answer: &Answer, given: &[u8]) -> Result<(), ExecutiveError> {
        match self.answer(id, answer, given) {
            Err(ExecutiveError::Pager(error)) => {
                tracing::error!(%error, domain = %id, "what a domain asks for cannot be read");
                self.answer(id, &InvokeError::Unusable.into(), &[])
            }
            other => other,
        }
    }

    /// A domain gets an answer and goes on.
    fn answer(&mut self, id: RecordId, answer: &Answer, given: &[u8]) -> Result<(), ExecutiveError> {
        if !self.kernel.objects().table.contains(id) {
            // It was sold by its own order.
            return Ok(());
        }
        let len = self.give(id, &answer.text, given)?;
        self.mailbox(id)?.put_answer(answer, len);
        self.mail_came(id);
        if self.waits_for_output(id) || self.waits_for_frames(id) { Ok(()) } else { self.execute(id) }
    }

    /// Whether a domain whose order was just answered goes on only when there are fewer frames: it wrote, and there are as many as commits
    /// have room for. A write asks nobody before, so there may be some more than that; an eighth is kept free for it.
    fn waits_for_frames(&mut self, id: RecordId) -> bool {
        let retells = self.kernel.native.is_retelling();
        if !std::mem::take(&mut self.state.wrote) || retells || !self.kernel.surroundings.is_short() {
            return false;
        }
        self.state.short.0.push(id);
        self.kernel.surroundings.hasten();
        true
    }

    /// Those who wait for fewer frames go on if there are; each commit makes some clean, and the next lets them go.
    fn frames(&mut self) -> Result<(), ExecutiveError> {
        if self.state.short.0.is_empty() {
            return Ok(());
        }
        if self.kernel.surroundings.is_short() {
            let generation = self.kernel.native.generation.load(SeqCst);
            if std::mem::replace(&mut self.state.short.1, generation) != generation {
                self.kernel.surroundings.hasten();
            }
            return Ok(());
        }
        for id in std::mem::take(&mut self.state.short.0) {
            self.execute(id)?;
        }
        Ok(())
    }

    /// A domain cannot go on; its keeper is asked.
    pub fn fault(&mut self, id: RecordId, fault: &Fault) -> Result<(), ExecutiveError> {
        self.transact(|table, around, effects| objects::fault(table, around, id, fault, effects))?;
        let phase = self.kernel.objects().table.get::<objects::Domain>(id)?.phase();
        if phase == Phase::Faulted {
            let Fault { cause, address, instruction, detail, .. } = *fault;
            let what = if cause == SIGKILL { "its process was killed while it ran" } else { "it faulted" };
            tracing::warn!(
                domain = %id, cause, detail, address = format!("{address:#x}"), instruction = format!("{instruction:#x}"),
                "{what} and has no keeper; it stands"
            );
            let status = ExitStatus::Signal(u8::try_from(cause).unwrap_or(11));
            self.program_ended(id, status)?;
        }
        Ok(())
    }

    /// A process died while its domain ran: its memory is ahead of its registers, and only a keeper can know what to make of it.
    pub fn lost(&mut self, id: RecordId) -> Result<(), ExecutiveError> {
        let Some(native) = self.loaded(id) else { return Ok(()) };
        native.mapped.clear();
        if let Some(process) = native.process.take() {
            process.end();
        }
        if native.control.state().load(SeqCst) == POSTED {
            // It had posted before it died.
            return Ok(());
        }
        native.executing = false;
        native.stands(CAUSE_READY);
        if self.kernel.native.is_retelling() {
            self.died_in_replay(id);
            return Ok(());
        }
        self.kernel.native.tape.cut("the process of a domain was killed while it ran");
        self.fault(id, &Fault { cause: SIGKILL, ..Fault::default() })
    }

    /// Whether the table says that a domain may execute.
    pub fn is_runnable(&self, id: RecordId) -> bool {
        self.kernel.objects().table.get::<objects::Domain>(id).is_ok_and(|domain| domain.is_runnable())
    }

    /// Lets a domain go on, if the table says that it may; at once if it has a process, else when it gets one.
    pub fn execute(&mut self, id: RecordId) -> Result<(), ExecutiveError> {
        if !self.is_runnable(id) {
            return Ok(());
        }
        if self.wake_linux(id) {
            return Ok(());
        }
        if self.kernel.native.tape.is_on() && !self.state.recording.sharing.knows(id) {
            self.note_memory(id)?;
        }
        let native = self.native(id)?;
        (native.touched, native.ran) = (true, true);
        if std::mem::take(&mut native.overdrawn) {
            self.transact(|table, around, effects| objects::charge(table, around, id, 0, effects))?;
            if !self.is_runnable(id) {
                return Ok(());
            }
        }
        let native = self.native(id)?;
        if native.unserved().is_some() {
            // What it posted before it was stopped is served first.
            native.executing = true;
            native.control.state().store(POSTED, SeqCst);
            self.state.active.insert(id.index());
            self.kernel.native.ring();
            return Ok(());
        }
        if native.live_process().is_some() {
            return self.go(id);
        }
        self.state.ready.push(id);
        Ok(())
    }

    /// A domain that may execute does, in a process that is made if there is none; if the machine lacks something for that now, it waits for
    /// its turn again.
    pub fn go(&mut self, id: RecordId) -> Result<(), ExecutiveError> {
        let tick = self.state.tick;
        let native = self.native(id)?;
        (native.executing, native.touched, native.ran, native.since) = (true, true, true, tick);
        let process = match native.live_process().cloned() {
            Some(process) => process,
            None => match self.spawn(id) {
                Ok(process) => process,
                Err(ExecutiveError::Table(error)) => return Err(error.into()),
                Err(ExecutiveError::Platform(error)) if error.may_pass() => {
                    if self.state.lack_told.is_none_or(|told| told.elapsed() > TELL_AGAIN) {
                        self.state.lack_told = Some(Instant::now());
                        tracing::warn!(%error, domain = %id, "no process can be made for a native domain; it is tried again");
                    }
                    self.native(id)?.executing = false;
                    self.state.lacking = true;
                    self.state.ready.push(id);
                    return Ok(());
                }
                Err(error) => {
                    tracing::error!(%error, domain = %id, "no process can be made for a native domain");
                    self.native(id)?.executing = false;
                    self.kernel.native.tape.cut("no process could be made for a domain");
                    // A frame that it spoilt is its own fault, pages that cannot be read are a bus error.
                    let spoilt = matches!(error, ExecutiveError::Platform(PlatformError::BadFrame(_)));
                    return self.fault(id, &Fault { cause: if spoilt { 11 } else { 7 }, ..Fault::default() });
                }
            },
        };
        self.state.active.insert(id.index());
        process.go(&[]);
        Ok(())
    }

    /// The process of a domain that waits is put away if it runs all the same: a program can say that it has posted, and go on. What it
    /// used is charged.
    fn watch_waiting(&mut self) -> Result<(), ExecutiveError> {
        let waiting = self.state.natives.values_mut().filter(|native| !native.executing);
        let mut running = Vec::new();
        for native in waiting {
            let Some(used) = native.process.as_ref().and_then(|process| cpu_time(process.pid)) else { continue };
            let (posts, before) = std::mem::replace(&mut native.found_waiting, (native.posts, used));
            if posts == native.posts && used.saturating_sub(before) > WAITING_NS {
                running.push(native.id);
            }
        }
        for id in running {
            tracing::warn!(domain = %id, "it runs while it waits for an answer; its process is ended");
            self.put_away_soon(id)?;
        }
        Ok(())
    }

    /// Charges the CPU time that a domain's process used since the last time.
    pub fn charge(&mut self, id: RecordId) -> Result<(), ExecutiveError> {
        let Some(native) = self.loaded(id) else { return Ok(()) };
        native.ran = native.executing;
        let Some(process) = native.process.clone() else { return Ok(()) };
        let used = cpu_time(process.pid).unwrap_or(native.charged);
        let more = used.saturating_sub(native.charged);
        native.charged = used;
        // Effects come after the transaction: the domain may be gone from the table already.
        if more == 0 || !self.kernel.objects().table.contains(id) {
            return Ok(());
        }
        let tape = &self.kernel.native.tape;
        if tape.is_on() {
            // In an entry of its own; what was done before was charged before.
            if tape.is_live() {
                *self.state.recording.owed.entry(id.as_u64()).or_default() += more;
            }
            return Ok(());
        }
        self.charge_now(id, more)
    }

    /// Charges a domain.
    pub(super) fn charge_now(&mut self, id: RecordId, more: u64) -> Result<(), ExecutiveError> {
        let ran = self.is_runnable(id);
        let overdrawn = self.transact(|table, around, effects| objects::charge(table, around, id, more, effects))?;
        if let Some(native) = self.loaded(id) {
            native.overdrawn = overdrawn;
        }
        if overdrawn || ran && !self.is_runnable(id) {
            self.kernel.native.tape.cut("a meter was used up");
        }
        let core = self.kernel.objects().table.get::<objects::Domain>(id);
        if ran && core.is_ok_and(|core| core.phase() == Phase::Faulted) {
            tracing::warn!(domain = %id, "its meter is used up or gone, and has no keeper; it stands until it is granted more and started");
        }
        Ok(())
    }
}

impl From<InvokeError> for ExecutiveError {
    fn from(error: InvokeError) -> Self {
        PlatformError::System { what: "an order of the kernel's own", source: std::io::Error::other(error.to_string()) }
            .into()
    }
}
