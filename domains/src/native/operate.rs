//! What an operator does to domains: stop, start, kill.

use super::inspect::find_object;
use super::program::explain;
use crate::kernel::domain::Domain as LinuxDomain;
use crate::kernel::{Kernel, KernelError};
use crate::objects::{self, InvokeError};
use crate::table::RecordId;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the end of a killed program is waited for.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A program ends as by SIGKILL; another domain is sold back to its bank.
    Kill,
    /// Not executed any more.
    Stop,
    /// Goes on; also at the instruction whose fault no keeper took.
    Start,
}

impl Kernel {
    /// Does something to the domain `INDEX.VERSION`, or to a program by its name. It is durable when this returns. False: there is no such domain.
    ///
    /// # Errors
    /// When it cannot be done to that domain, or nothing can be committed.
    pub fn operate(self: &Arc<Self>, domain: &str, act: Act) -> Result<bool, KernelError> {
        let Some(id) = find_object(&self.objects().table, domain) else { return Ok(false) };
        match self.linux_of(id) {
            Some(linux) => self.operate_linux(&linux, act)?,
            None => self.operate_native(id, act)?,
        }
        self.surroundings.commit_now().map_err(KernelError::Refused)?;
        Ok(true)
    }

    fn operate_native(&self, id: RecordId, act: Act) -> Result<(), KernelError> {
        let found = self.objects().table.get::<objects::Domain>(id);
        let found =
            found.map_err(|_| KernelError::Refused(format!("{id:?} is no domain; semper inspect tells what it is")))?;
        if !found.is_native() {
            return Err(KernelError::Refused(format!("{id:?} is of a Linux program that has ended")));
        }
        let done = self.interfere("an operator stopped, started or killed a domain", |turn| match act {
            Act::Kill => turn.kill(id),
            Act::Start => turn.transact(|table, around, effects| objects::start_domain(table, around, id, effects)),
            Act::Stop => {
                let done = turn.transact(|table, around, effects| objects::stop_domain(table, around, id, effects))?;
                if done.is_ok() {
                    turn.charge(id)?;
                }
                Ok(done)
            }
        });
        done?.map_err(explain)?.map_err(|error| refused(id, &error))
    }

    fn operate_linux(&self, domain: &Arc<LinuxDomain>, act: Act) -> Result<(), KernelError> {
        match act {
            Act::Kill => {
                domain.kill();
                let begun = Instant::now();
                while domain.ended().is_none() {
                    if begun.elapsed() > END_PATIENCE || self.is_closing() {
                        return Err(KernelError::Refused(format!("{} does not end", domain.name)));
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            }
            Act::Stop | Act::Start => {
                let _pass = self.gate.enter();
                self.hold(domain, act == Act::Stop)
            }
        }
    }
}

fn refused(id: RecordId, error: &InvokeError) -> KernelError {
    let told = match error {
        InvokeError::Void { .. } => "it is gone, or being taken apart".into(),
        InvokeError::WrongPhase { phase } => format!("it is {phase}; it has to be begun by who holds its key"),
        InvokeError::WrongKey { .. } => "it has no meter, so its time can be charged to nobody".into(),
        other => other.to_string(),
    };
    KernelError::Refused(format!("domain {id:?}: {told}"))
}
