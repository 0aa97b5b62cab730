//! The gate: transactions pass it one by one a domain; a freeze closes it when the last one inside has ended.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Open while domains are served, closed during a freeze.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    closed: bool,
    count: usize,
}

/// Being inside the gate; dropping it leaves.
#[derive(Debug)]
pub struct Pass<'a>(&'a Gate);

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the gate is open and passes it.
    pub fn enter(&self) -> Pass<'_> {
        let mut state = self.lock();
        while state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.count += 1;
        Pass(self)
    }

    /// Closes the gate and waits until nobody is inside.
    pub fn close(&self) {
        let mut state = self.lock();
        while state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.closed = true;
        while state.count > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Opens it again.
    pub fn open(&self) {
        self.lock().closed = false;
        self.changed.notify_all();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.count -= 1;
        if state.count == 0 && state.closed {
            self.0.changed.notify_all();
        }
    }
}
