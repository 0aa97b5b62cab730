//! A batch: the records that one flush made durable, from the start of a page on.

use crate::bytes::{put_u32, put_u64, to_u32, u32_at, u64_at};
use crate::record::{self, HEADER, Identity, Record};
use semper_store::PAGE_SIZE;

/// Bytes of a batch's header.
pub(crate) const BATCH_HEADER: usize = 32;

/// Most bytes of a batch. One record of the largest size fits, and a flush is not long.
pub(crate) const MAX_BATCH: usize = 512 * 1024;

const MAGIC: [u8; 4] = *b"JBAT";

/// A batch's header that was checked to be possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub crc: u32,
    pub len: u32,
    pub count: u32,
    pub first: u64,
}

impl Head {
    /// What stands at the start of `page`, if it can be a header.
    pub fn read(page: &[u8]) -> Option<Self> {
        let head = page.get(..BATCH_HEADER)?;
        let (len, count) = (u32_at(head, 8), u32_at(head, 12));
        let possible = head[..4] == MAGIC
            && len as usize <= MAX_BATCH
            && count > 0
            && BATCH_HEADER as u64 + u64::from(count) * HEADER as u64 <= u64::from(len)
            && head[24..32] == [0; 8];
        possible.then(|| Self { crc: u32_at(head, 4), len, count, first: u64_at(head, 16) })
    }

    /// Bytes of the pages that it takes.
    pub const fn span(&self) -> u64 {
        (self.len as u64).next_multiple_of(PAGE_SIZE as u64)
    }

    /// The sequence number after its last.
    pub const fn end(&self) -> u64 {
        self.first.saturating_add(self.count as u64)
    }
}

/// Makes the batch of `records`, that will lie at `at`.
pub(crate) fn encode(records: &[Record], at: Identity) -> Vec<u8> {
    let mut out = vec![0; BATCH_HEADER];
    for record in records {
        let offset = at.offset + out.len() as u64;
        record::encode(&mut out, record, Identity { offset, ..at });
    }
    out[..4].copy_from_slice(&MAGIC);
    let len = to_u32(out.len());
    put_u32(&mut out, 8, len);
    put_u32(&mut out, 12, to_u32(records.len()));
    put_u64(&mut out, 16, records.first().map_or(0, |record| record.sequence));
    let sum = at.crc(&out[8..]);
    put_u32(&mut out, 4, sum);
    out
}

/// Whether `bytes`, all of a batch that lies at `at`, are what its header says.
pub(crate) fn holds(head: &Head, bytes: &[u8], at: Identity) -> bool {
    bytes.len() == head.len as usize && at.crc(&bytes[8..]) == head.crc
}
