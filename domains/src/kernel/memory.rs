//! A segment's mapped pages as the memory of a record table.

use crate::table::TableMemory;
use semper_pager::View;

/// The pages of a state segment or of segment 0.
pub struct ViewMemory(pub View);

impl TableMemory for ViewMemory {
    fn len_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        self.0.read_bytes(usize::try_from(offset).unwrap_or(usize::MAX), out);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.0.write_bytes(usize::try_from(offset).unwrap_or(usize::MAX), data);
    }
}
