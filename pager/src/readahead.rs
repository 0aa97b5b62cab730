//! How many pages to bring for one fault.

use semper_store::{PageIndex, PageRange};

/// Sequential streams remembered per mapping: a program merging files reads a handful at once.
const STREAMS: usize = 8;
/// First and largest window of a stream.
const FIRST_WINDOW: u64 = 16;
const LAST_WINDOW: u64 = 256;
/// Pages brought around a random fault.
pub(crate) const AROUND: u64 = 4;

#[derive(Clone, Copy, Default)]
struct Stream {
    /// The page that a sequential reader touches next without being served.
    next: u64,
    window: u64,
    used: u64,
}

/// The recent faults of a mapping.
#[derive(Default)]
pub(crate) struct Streams {
    streams: [Stream; STREAMS],
    clock: u64,
}

impl Streams {
    /// The pages to bring for a fault at `page`: always including it. `thrifty` when frames are scarce: then a fault that
    /// shows no pattern brings its page alone.
    pub(crate) fn advise(&mut self, page: PageIndex, thrifty: bool) -> PageRange {
        self.clock += 1;
        let at = page.0;
        // A fault a little beyond the expected page is the same stream with a hole in it.
        let found =
            self.streams.iter_mut().find(|stream| stream.window > 0 && (stream.next..stream.next + 8).contains(&at));
        if let Some(stream) = found {
            stream.window = (stream.window * 2).clamp(FIRST_WINDOW, LAST_WINDOW);
            stream.next = at + stream.window;
            stream.used = self.clock;
            return PageRange { first: page, count: stream.window };
        }
        let around = if thrifty { 1 } else { AROUND };
        let first = at - at % around;
        if let Some(stream) = self.streams.iter_mut().min_by_key(|stream| stream.used) {
            *stream = Stream { next: first + around, window: 1, used: self.clock };
        }
        PageRange { first: PageIndex(first), count: around }
    }

    /// Fewer pages were brought than advised: the stream goes on at `next`.
    pub(crate) fn served_until(&mut self, advised: PageRange, next: u64) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.next == advised.end()) {
            stream.next = next;
        }
    }
}
