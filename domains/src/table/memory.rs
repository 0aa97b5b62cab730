//! The only road to the pages, and a memory for tests and for tables that need not last.

use std::cell::RefCell;

/// The pages of a table, as bytes.
///
/// The table keeps every access inside `len_bytes`, and its offsets of words are multiples of 8.
pub trait TableMemory: Send {
    /// The length in bytes. It never shrinks while a table is open.
    fn len_bytes(&self) -> u64;

    /// Copies the bytes at `offset` to `out`.
    fn read(&self, offset: u64, out: &mut [u8]);

    /// Overwrites the bytes at `offset`, and marks their pages dirty.
    ///
    /// Writes must become visible in the order of the calls to whoever maps the pages after this process was killed: on
    /// x86 ordinary stores to a shared mapping do. Within one call, any order.
    fn write(&self, offset: u64, data: &[u8]);

    /// Overwrites the aligned 8 bytes at `offset` by one store: never half. A commit is one such word.
    fn write_word(&self, offset: u64, word: u64) {
        self.write(offset, &word.to_le_bytes());
    }

    /// Whether every access so far reached the pages. A table whose memory says no fails its check.
    fn is_whole(&self) -> bool {
        true
    }
}

impl TableMemory for Box<dyn TableMemory> {
    fn len_bytes(&self) -> u64 {
        (**self).len_bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        (**self).read(offset, out);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        (**self).write(offset, data);
    }

    fn write_word(&self, offset: u64, word: u64) {
        (**self).write_word(offset, word);
    }

    fn is_whole(&self) -> bool {
        (**self).is_whole()
    }
}

/// A table's memory in a vector: for tests, benches and tables that need not last.
#[derive(Debug)]
pub struct VecMemory {
    bytes: RefCell<Vec<u8>>,
}

impl VecMemory {
    /// `pages` pages of zeros.
    #[must_use]
    pub fn zeroed(pages: usize) -> Self {
        Self { bytes: RefCell::new(vec![0; pages * semper_store::PAGE_SIZE]) }
    }
}

impl TableMemory for VecMemory {
    fn len_bytes(&self) -> u64 {
        self.bytes.borrow().len() as u64
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        let start = position(offset);
        out.copy_from_slice(&self.bytes.borrow()[start..start + out.len()]);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let start = position(offset);
        self.bytes.borrow_mut()[start..start + data.len()].copy_from_slice(data);
    }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).expect("the table stays inside len_bytes, which is a vector's length")
}
