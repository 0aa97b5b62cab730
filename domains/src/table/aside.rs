//! Transactions that outlive a borrow: set aside, and taken up again.

use super::{Table, Tx};

impl Tx<'_> {
    /// Leaves the transaction open; [`Table::resume`] goes on with it, [`Table::begin`] undoes it.
    pub fn set_aside(self) {
        std::mem::forget(self);
    }
}

impl Table {
    /// Goes on with the transaction that was set aside; begins one if there is none.
    pub fn resume(&mut self) -> Tx<'_> {
        Tx::new(self)
    }
}
