//! Start keys that an operator gives to a program when it is started.

use super::Around;
use super::inspect::find_object;
use crate::kernel::{Kernel, KernelError, StartKey};
use crate::objects::{self, InvokeError};
use crate::table::RecordId;

impl Kernel {
    /// Puts start keys into empty slots of a domain that has not begun. The gate was passed.
    ///
    /// # Errors
    /// [`KernelError::NoDomain`]; `Refused` for a slot that there is not or that holds a key.
    pub(crate) fn give_keys(&self, id: RecordId, keys: &[StartKey]) -> Result<(), KernelError> {
        let mut objects = self.objects();
        for StartKey { slot, domain, badge } in keys {
            let callee = find_object(&objects.table, domain);
            let callee = callee.ok_or_else(|| KernelError::NoDomain(domain.clone()))?;
            if objects.table.get::<objects::Domain>(callee).is_err() {
                return Err(KernelError::Refused(format!("{domain} is no domain; semper inspect tells what it is")));
            }
            let given = objects::give_start(&mut objects.table, &Around(self), id, *slot, callee, *badge)?;
            given.map_err(|error| {
                let told = match error {
                    InvokeError::BadSlot { .. } => format!("there is no slot {slot}; a domain has slots 0 to 15"),
                    InvokeError::Busy => {
                        let held = objects::slots_of(&objects.table, id).unwrap_or_default();
                        let free = (0..)
                            .zip(&held)
                            .filter(|(_, key)| key.is_null())
                            .map(|(slot, _): (u8, _)| slot.to_string());
                        format!("slot {slot} holds a key already; free are {}", free.collect::<Vec<_>>().join(", "))
                    }
                    other => format!("no key to domain {domain} can be made: {other}"),
                };
                KernelError::Refused(told)
            })?;
        }
        Ok(())
    }
}
