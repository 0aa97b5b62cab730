//! A value that one user at a time may touch.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A domain is one thread, so nobody ever waits here but in a Linux program with threads. A panic while it is held finds it
/// taken: those who may run then use [`Lock::try_with`].
pub(crate) struct Lock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only by whoever has set `taken`, one at a time; Acquire and Release order their accesses.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Waits until nobody else has it.
    pub(crate) fn with<R>(&self, mut f: impl FnMut(&mut T) -> R) -> R {
        loop {
            if let Some(result) = self.try_with(&mut f) {
                return result;
            }
            core::hint::spin_loop();
        }
    }

    /// `None`: somebody has it.
    pub(crate) fn try_with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: `taken` was false and is ours until it is cleared below.
        let result = f(unsafe { &mut *self.value.get() });
        self.taken.store(false, Ordering::Release);
        Some(result)
    }
}
