//! Looking at objects without changing them: for the platform and for inspection.

use super::{Domain, HALF, Key, Mapping, NO_LINK, Slots};
use crate::table::{RecordId, Table, TableError};

/// The keys in a domain's slots 0 to 15.
///
/// # Errors
/// When `domain` is none, or segment 0 is damaged.
pub fn slots_of(table: &Table, domain: RecordId) -> Result<[Key; 2 * HALF], TableError> {
    let core: Domain = table.get(domain)?;
    let mut all = [Key::NULL; 2 * HALF];
    for half in 0..2 {
        let slots: Slots = table.get(core.slots_id(half))?;
        all[half * HALF..][..HALF].copy_from_slice(&slots.keys);
    }
    Ok(all)
}

/// A domain's mappings whose objects still exist, the newest first.
///
/// # Errors
/// When `domain` is none, or segment 0 is damaged.
pub fn mappings(table: &Table, domain: RecordId) -> Result<Vec<Mapping>, TableError> {
    let mut next = table.get::<Domain>(domain)?.mappings;
    let mut all = Vec::new();
    while next != NO_LINK {
        let (_, mapping) = table.at::<Mapping>(next)?;
        next = mapping.next;
        if table.contains(mapping.object.id()) {
            all.push(mapping);
        }
    }
    Ok(all)
}
