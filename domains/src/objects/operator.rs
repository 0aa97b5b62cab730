//! What an operator does to a domain from outside the world, without a key.

use super::context::{At, Ctx, transact};
use super::error::Stop;
use super::{Effect, InvokeError, Key, KeyType, Surroundings, Which};
use crate::table::{RecordId, Table, TableError};

/// What came of it: why it is refused, if it is.
pub type Refusable = Result<Result<(), InvokeError>, TableError>;

fn with(
    table: &mut Table,
    around: &dyn Surroundings,
    domain: RecordId,
    effects: &mut Vec<Effect>,
    act: impl FnOnce(&mut Ctx<'_, '_>, At) -> Result<(), Stop>,
) -> Refusable {
    transact(table, around, effects, |ctx| {
        let at = ctx.key_core(&Key::to(KeyType::Domain, domain), Which::Invoked)?;
        act(ctx, at)
    })
}

/// A domain is not executed any more; as order 3 of a domain key.
///
/// # Errors
/// When segment 0 is damaged. Inside: it is gone.
pub fn stop(table: &mut Table, around: &dyn Surroundings, domain: RecordId, effects: &mut Vec<Effect>) -> Refusable {
    with(table, around, domain, effects, |ctx, at| {
        ctx.stop(at);
        Ok(())
    })
}

/// A domain goes on, also at the instruction whose fault no keeper took; as order 4 of a domain key.
///
/// # Errors
/// When segment 0 is damaged. Inside: it is gone, never began, or has no meter.
pub fn start(table: &mut Table, around: &dyn Surroundings, domain: RecordId, effects: &mut Vec<Effect>) -> Refusable {
    with(table, around, domain, effects, |ctx, at| ctx.start(at))
}

/// A domain is sold back to its bank: it is gone, and those who wait for it get `CalleeDied`; [`super::work`] does it.
///
/// # Errors
/// When segment 0 is damaged. Inside: it is gone already.
pub fn sell_domain(
    table: &mut Table,
    around: &dyn Surroundings,
    domain: RecordId,
    effects: &mut Vec<Effect>,
) -> Refusable {
    with(table, around, domain, effects, |ctx, at| ctx.begin_death(at))
}
