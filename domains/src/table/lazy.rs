//! A segment as the memory of a large table: mapped piece by piece, as the pieces are touched.

use super::TableMemory;
use semper_pager::{Segment, View};
use semper_store::{PAGE_SIZE, PageRange};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// Pages of a piece: 1 MiB. Reading one from the store takes about a millisecond; ten million records have 2442 of them.
const PIECE_PAGES: u64 = 256;
const PIECE_BYTES: u64 = PIECE_PAGES * PAGE_SIZE as u64;

/// A segment's pages, of which only those near what was touched are in memory. They stay there while this lives.
///
/// A piece that cannot be mapped (its pages cannot be read from the store) reads as zeros, which no record is, takes no writes,
/// and makes [`TableMemory::is_whole`] false: a table on it gives typed errors and fails its check.
pub struct LazyMemory {
    segment: Arc<Segment>,
    pieces: Vec<OnceLock<Option<View>>>,
    failed: AtomicBool,
}

impl LazyMemory {
    /// The pages of `segment`. Reads and maps nothing yet.
    #[must_use]
    pub fn new(segment: Arc<Segment>) -> Self {
        let pieces = (0..segment.pages().div_ceil(PIECE_PAGES)).map(|_| OnceLock::new()).collect();
        Self { segment, pieces, failed: AtomicBool::new(false) }
    }

    fn piece(&self, piece: u64) -> Option<&View> {
        let place = self.pieces.get(usize::try_from(piece).ok()?)?;
        let map = || {
            let first = piece * PIECE_PAGES;
            let range = PageRange::between(first, (first + PIECE_PAGES).min(self.segment.pages()));
            let view = self.segment.view(range);
            view.inspect_err(|error| {
                tracing::error!(%error, ?range, "pages of a table cannot be read");
                self.failed.store(true, Relaxed);
            })
            .ok()
        };
        place.get_or_init(map).as_ref()
    }

    /// Calls `access` for the parts of a run of bytes that lie in one piece: the piece, the offset in it, and the part.
    fn parts(&self, offset: u64, len: usize, mut access: impl FnMut(Option<&View>, usize, std::ops::Range<usize>)) {
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let within = usize::try_from(at % PIECE_BYTES).expect("less than a piece");
            let room = usize::try_from(PIECE_BYTES).expect("a piece") - within;
            let end = len.min(done + room);
            access(self.piece(at / PIECE_BYTES), within, done..end);
            done = end;
        }
    }
}

impl TableMemory for LazyMemory {
    fn len_bytes(&self) -> u64 {
        self.segment.pages() * PAGE_SIZE as u64
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        self.parts(offset, out.len(), |view, at, part| match view {
            Some(view) => view.read_bytes(at, &mut out[part]),
            None => out[part].fill(0),
        });
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.parts(offset, data.len(), |view, at, part| {
            if let Some(view) = view {
                view.write_bytes(at, &data[part]);
            }
        });
    }

    fn is_whole(&self) -> bool {
        !self.failed.load(Relaxed)
    }
}
