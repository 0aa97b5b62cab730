//! How many pages to bring for one fault.

use semper_store::{PageIndex, PageRange};

/// Sequential streams remembered per mapping: a program merging files reads a handful at once.
const STREAMS: usize = 8;
/// First and largest window of a stream.
const FIRST_WINDOW: u64 = 16;
const LAST_WINDOW: u64 = 256;
/// Pages brought around a fault that continues no stream, while faults come in clusters.
pub(crate) const AROUND: u64 = 4;
/// Faults nearer than so many pages to a recent one are a cluster.
const NEAR: u64 = 64;
/// The score of clustering goes from 0 to this; from half of it on, neighbours are brought.
const MOST_CLUSTERED: u8 = 8;

#[derive(Clone, Copy, Default)]
struct Stream {
    /// The page that a sequential reader touches next without being served.
    next: u64,
    window: u64,
    used: u64,
}

/// The recent faults of a mapping.
pub(crate) struct Streams {
    streams: [Stream; STREAMS],
    clock: u64,
    clustered: u8,
}

impl Default for Streams {
    fn default() -> Self {
        // A program that starts touches neighbours.
        Self { streams: [Stream::default(); STREAMS], clock: 0, clustered: MOST_CLUSTERED }
    }
}

impl Streams {
    /// The pages to bring for a fault at `page`: always including it. `thrifty` when frames are scarce: then a fault that
    /// shows no pattern brings its page alone.
    pub(crate) fn advise(&mut self, page: PageIndex, thrifty: bool) -> PageRange {
        self.clock += 1;
        let at = page.0;
        // A fault a little beyond the expected page is the same stream with a hole in it.
        let goes_on = |stream: &&mut Stream| stream.window > 0 && (stream.next..stream.next + 8).contains(&at);
        if let Some(stream) = self.streams.iter_mut().find(goes_on) {
            stream.window = (stream.window * 2).clamp(FIRST_WINDOW, LAST_WINDOW);
            stream.next = at + stream.window;
            stream.used = self.clock;
            self.clustered = (self.clustered + 1).min(MOST_CLUSTERED);
            return PageRange { first: page, count: stream.window };
        }
        let near = self.streams.iter().any(|stream| stream.window > 0 && stream.next.abs_diff(at) < NEAR);
        self.clustered = if near { (self.clustered + 1).min(MOST_CLUSTERED) } else { self.clustered.saturating_sub(1) };
        let around = if thrifty || self.clustered < MOST_CLUSTERED / 2 { 1 } else { AROUND };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequential_reader_gets_growing_windows() {
        let mut streams = Streams::default();
        let mut at = 1000;
        let mut counts = Vec::new();
        for _ in 0..7 {
            let advised = streams.advise(PageIndex(at), false);
            assert!(advised.contains(PageIndex(at)));
            counts.push(advised.count);
            at = advised.end();
        }
        assert_eq!(counts, [4, 16, 32, 64, 128, 256, 256]);
    }

    #[test]
    fn a_random_reader_soon_gets_its_page_alone() {
        let mut streams = Streams::default();
        let advised: Vec<u64> = (1..20).map(|n| streams.advise(PageIndex(n * n * 10_007), false).count).collect();
        assert!(advised[10..].iter().all(|count| *count == 1), "{advised:?}");
        assert_eq!(streams.advise(PageIndex(5), true).count, 1);
    }
}
