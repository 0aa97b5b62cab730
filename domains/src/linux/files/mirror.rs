//! Records of one kind, found by key: the cache of a map that lives in the state segment.

use super::super::state::State;
use super::{Errno, damaged};
use crate::table::{Record, RecordId};
use std::collections::BTreeMap;
use std::ops::RangeBounds;

/// A record that is found by a key of its own.
pub(super) trait Keyed: Record {
    /// What it is found by.
    type Key: Ord + Copy + std::fmt::Debug;
    /// Its key.
    fn key(&self) -> Self::Key;
}

/// All records of one kind, by key.
#[derive(Clone, Debug)]
pub(super) struct Mirror<R: Keyed> {
    entries: BTreeMap<R::Key, (RecordId, R)>,
}

impl<R: Keyed> Mirror<R> {
    pub(super) const fn new() -> Self {
        Self { entries: BTreeMap::new() }
    }

    /// Reads all records of the kind.
    pub(super) fn load(state: &State) -> Result<Self, Errno> {
        let mut entries = BTreeMap::new();
        for (id, record) in state.iter::<R>() {
            if entries.insert(record.key(), (id, record)).is_some() {
                return Err(damaged(&format!("two records {} {:?}", R::NAME, record.key())));
            }
        }
        Ok(Self { entries })
    }

    pub(super) fn get(&self, key: R::Key) -> Option<&R> {
        self.entries.get(&key).map(|(_, record)| record)
    }

    pub(super) fn contains(&self, key: R::Key) -> bool {
        self.entries.contains_key(&key)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn values(&self) -> impl DoubleEndedIterator<Item = &R> {
        self.entries.values().map(|(_, record)| record)
    }

    pub(super) fn range(&self, keys: impl RangeBounds<R::Key>) -> impl DoubleEndedIterator<Item = &R> {
        self.entries.range(keys).map(|(_, (_, record))| record)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// `EEXIST` if its key is taken; what the table says if it is full.
    pub(super) fn insert(&mut self, state: &mut State, record: R) -> Result<(), Errno> {
        if self.entries.contains_key(&record.key()) {
            return Err(Errno::EEXIST);
        }
        let id = state.insert(&record)?;
        self.entries.insert(record.key(), (id, record));
        Ok(())
    }

    /// Changes a record; its key stays.
    ///
    /// # Errors
    /// `EIO` if there is none with this key; what the table says.
    pub(super) fn update(&mut self, state: &mut State, key: R::Key, change: impl FnOnce(&mut R)) -> Result<(), Errno> {
        let (id, record) = self.entries.get_mut(&key).ok_or(Errno::EIO)?;
        let mut new = *record;
        change(&mut new);
        debug_assert_eq!(new.key(), key);
        state.update(*id, &new)?;
        *record = new;
        Ok(())
    }

    /// Removes a record.
    ///
    /// # Errors
    /// `EIO` if there is none with this key; what the table says.
    pub(super) fn remove(&mut self, state: &mut State, key: R::Key) -> Result<R, Errno> {
        let &(id, record) = self.entries.get(&key).ok_or(Errno::EIO)?;
        state.remove(id)?;
        self.entries.remove(&key);
        Ok(record)
    }
}

/// The one record of its kind.
#[derive(Clone, Debug)]
pub(super) struct Single<R: Record> {
    id: RecordId,
    value: R,
}

impl<R: Record> Single<R> {
    pub(super) fn create(state: &mut State, value: R) -> Result<Self, Errno> {
        Ok(Self { id: state.insert(&value)?, value })
    }

    pub(super) fn load(state: &State) -> Result<Self, Errno> {
        let mut found = state.iter::<R>();
        match (found.next(), found.next()) {
            (Some((id, value)), None) => Ok(Self { id, value }),
            _ => Err(damaged(&format!("not exactly one record {}", R::NAME))),
        }
    }

    pub(super) const fn get(&self) -> &R {
        &self.value
    }

    pub(super) fn update(&mut self, state: &mut State, change: impl FnOnce(&mut R)) -> Result<(), Errno> {
        let mut new = self.value;
        change(&mut new);
        state.update(self.id, &new)?;
        self.value = new;
        Ok(())
    }
}
