//! One transaction over the objects: what it reads and changes, and what it tells to do.

use super::error::Stop;
use super::{Domain, Effect, Hub, InvokeError, Key, KeyType, Rights, Surroundings, Which};
use crate::table::{Record, RecordId, Table, TableError, Tx};

/// A domain's core in use by the transaction: read once, written once.
struct Core {
    id: RecordId,
    old: Domain,
    new: Domain,
    gone: bool,
}

/// A core that the transaction holds; see [`Ctx::core`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct At(usize);

/// The transaction.
pub(super) struct Ctx<'c, 't> {
    pub(super) tx: &'c mut Tx<'t>,
    pub(super) around: &'c dyn Surroundings,
    pub(super) effects: &'c mut Vec<Effect>,
    cores: Vec<Core>,
}

/// Runs `change` as one transaction. If it ends early, nothing has changed and no effect was added.
pub(super) fn transact<T>(
    table: &mut Table,
    around: &dyn Surroundings,
    effects: &mut Vec<Effect>,
    change: impl FnOnce(&mut Ctx<'_, '_>) -> Result<T, Stop>,
) -> Result<Result<T, InvokeError>, TableError> {
    let before = effects.len();
    let mut tx = table.begin();
    let mut ctx = Ctx { tx: &mut tx, around, effects: &mut *effects, cores: Vec::with_capacity(4) };
    let result = change(&mut ctx).and_then(|value| Ok(ctx.flush().map(|()| value)?));
    match result {
        Ok(value) => {
            tx.commit();
            Ok(Ok(value))
        }
        Err(stop) => {
            effects.truncate(before);
            match stop {
                Stop::Guest(error) => Ok(Err(error)),
                Stop::Table(error) => Err(error),
            }
        }
    }
}

impl Ctx<'_, '_> {
    /// The core of the domain `id`.
    pub(super) fn core(&mut self, id: RecordId) -> Result<At, TableError> {
        if let Some(at) = self.cores.iter().position(|core| core.id == id && !core.gone) {
            return Ok(At(at));
        }
        let old = self.tx.get(id)?;
        self.cores.push(Core { id, old, new: old, gone: false });
        Ok(At(self.cores.len() - 1))
    }

    /// The core of the domain at `index`, which a link leads to.
    pub(super) fn core_at(&mut self, index: u32) -> Result<At, TableError> {
        if let Some(at) = self.cores.iter().position(|core| core.id.index() == index && !core.gone) {
            return Ok(At(at));
        }
        let (id, old) = self.tx.at(index)?;
        self.cores.push(Core { id, old, new: old, gone: false });
        Ok(At(self.cores.len() - 1))
    }

    /// What a held core is.
    pub(super) fn domain(&self, at: At) -> &Domain {
        &self.cores[at.0].new
    }

    /// What a held core becomes.
    pub(super) fn domain_mut(&mut self, at: At) -> &mut Domain {
        &mut self.cores[at.0].new
    }

    /// The id of a held core.
    pub(super) fn id(&self, at: At) -> RecordId {
        self.cores[at.0].id
    }

    /// A held core has another version from now on: keys to it are void.
    pub(super) fn renew_core(&mut self, at: At) -> Result<(), TableError> {
        self.cores[at.0].id = self.tx.renew(self.cores[at.0].id)?;
        Ok(())
    }

    /// Removes the record of a held core.
    pub(super) fn remove_core(&mut self, at: At) -> Result<(), TableError> {
        self.cores[at.0].gone = true;
        self.tx.remove(self.cores[at.0].id)
    }

    /// Writes what became of the held cores.
    fn flush(&mut self) -> Result<(), TableError> {
        for core in self.cores.iter().filter(|core| !core.gone && core.old != core.new) {
            self.tx.put(core.id, &core.old, &core.new)?;
        }
        Ok(())
    }

    /// What is one of a kind.
    ///
    /// # Panics
    /// If the table holds no objects: a bug of whoever opened it.
    pub(super) fn hub(&self) -> (RecordId, Hub) {
        self.tx.first().expect("a table of objects has a hub")
    }

    pub(super) fn set_hub(&mut self, id: RecordId, hub: &Hub) -> Result<(), TableError> {
        self.tx.update(id, hub)
    }

    /// The object of a key, if the key is not void.
    pub(super) fn object<R: Record>(&self, key: &Key, which: Which) -> Result<(RecordId, R), Stop> {
        let id = key.id();
        match self.tx.get(id) {
            Ok(record) => Ok((id, record)),
            // A record of another kind has another version too; a key that says otherwise is as good as void.
            Err(TableError::Void { .. } | TableError::WrongKind { .. }) => Err(InvokeError::Void { which }.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// The core of a key's domain, if the key is not void.
    pub(super) fn key_core(&mut self, key: &Key, which: Which) -> Result<At, Stop> {
        match self.core(key.id()) {
            Ok(at) if self.domain(at).phase() == super::Phase::Dying => Err(InvokeError::Void { which }.into()),
            Ok(at) => Ok(at),
            Err(TableError::Void { .. } | TableError::WrongKind { .. }) => Err(InvokeError::Void { which }.into()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn tell(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}

/// That a key has these rights.
pub(super) fn need(key: &Key, which: Which, rights: Rights) -> Result<(), InvokeError> {
    let missing = rights.without(key.rights());
    if missing == Rights::NONE { Ok(()) } else { Err(InvokeError::NoRight { which, missing }) }
}

/// That a key is of this type.
pub(super) fn need_type(key: &Key, which: Which, wanted: KeyType) -> Result<(), InvokeError> {
    let found = key.key_type();
    if found == wanted { Ok(()) } else { Err(InvokeError::WrongKey { which, wanted, found }) }
}
