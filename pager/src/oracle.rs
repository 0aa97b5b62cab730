//! For tests: whether captures hold what memory holds.
//!
//! What a frozen scan does not take is as it was when it was taken last. So what is copied is remembered by its hash, and with everything frozen and
//! scanned all memory of processes is read: a page that differs was written, and no scan noticed. The process ends then, since whatever it would
//! commit is wrong.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use semper_store::{PAGE_SIZE, PageIndex, PageRange, SegmentId};

use crate::capture::Scan;
use crate::error::Error;
use crate::frames::locate;
use crate::mapping::Mapping;
use crate::ranges::RangeSet;
use crate::segment::Segment;
use crate::shared::lock;

const ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// The hash of each page as it was copied last.
#[derive(Default)]
pub(crate) struct Oracle {
    seen: Mutex<HashMap<SegmentId, BTreeMap<u64, u64>>>,
}

/// A page that differs, and what is known of it.
#[derive(Debug)]
#[expect(dead_code, reason = "for who reads the message")]
struct Missed {
    page: PageIndex,
    known: bool,
    /// It was captured before.
    copied: bool,
    /// A process has it where nothing scans.
    quiet: bool,
}

fn hash(page: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    page.hash(&mut hasher);
    hasher.finish()
}

impl Oracle {
    /// Pages were copied into a capture. One that was dropped since it was taken is passed over: what it is now is not what was copied.
    pub(crate) fn copied(&self, segment: &Segment, run: PageRange, data: &[u8]) {
        let state = segment.lock();
        let mut seen = lock(&self.seen);
        let seen = seen.entry(segment.id).or_default();
        for (page, content) in (run.first.0..run.end()).zip(data.chunks(PAGE_SIZE)) {
            let (chunk, bit) = locate(PageIndex(page));
            if state.frames.chunk(chunk).is_some_and(|chunk| chunk.inflight.get(bit)) {
                seen.insert(page, hash(content));
            }
        }
    }

    /// Pages were dropped.
    pub(crate) fn dropped(&self, segment: SegmentId, range: PageRange) {
        if let Some(seen) = lock(&self.seen).get_mut(&segment) {
            seen.retain(|page, _| !range.contains(PageIndex(*page)));
        }
    }

    /// Looks at all that `scan`, of frozen processes, has left out.
    ///
    /// # Errors
    /// The kernel does not let us read a frame.
    pub(crate) fn check(&self, segments: &[Arc<Segment>], scan: &Scan) -> Result<(), Error> {
        for segment in segments {
            let found = scan.segments.iter().find(|found| found.segment.id == segment.id);
            let taken: RangeSet = found.into_iter().flat_map(|found| found.runs.iter().copied()).collect();
            if let Some(missed) = self.missed(segment, &taken)? {
                eprintln!(
                    "semper: a page of segment {} was written, and the capture lacks it: {missed:?}",
                    segment.id.0
                );
                std::process::abort();
            }
        }
        Ok(())
    }

    fn missed(&self, segment: &Segment, taken: &RangeSet) -> Result<Option<Missed>, Error> {
        let state = segment.lock();
        // What only the runtime writes it marks itself, and not always at once.
        if state.mappings.is_empty() {
            return Ok(None);
        }
        let seen = lock(&self.seen);
        let seen = seen.get(&segment.id);
        let mut rest = PageRange::between(0, segment.pages);
        let mut content = ZEROS;
        while let Some(run) = segment.memfd.next_data(rest).map_err(Error::system("reading a frame"))? {
            for page in (run.first.0..run.end()).map(PageIndex) {
                let (chunk, bit) = locate(page);
                let pinned = state.frames.chunk(chunk).is_some_and(|chunk| chunk.pinned.get(bit));
                if pinned || taken.contains(page) {
                    continue;
                }
                segment
                    .memfd
                    .read(page.0 * PAGE_SIZE as u64, &mut content)
                    .map_err(Error::system("reading a frame"))?;
                let before = seen.and_then(|seen| seen.get(&page.0));
                let known = state.frames.is_known(page);
                let same = match before {
                    Some(before) => *before == hash(&content),
                    // Brought from the store, if it is known.
                    None => known || content == ZEROS,
                };
                if !same {
                    let scanned = |mapping: &Arc<Mapping>| mapping.hot_parts().iter().any(|hot| hot.contains(page));
                    let quiet = !state.mappings.iter().all(scanned);
                    return Ok(Some(Missed { page, known, copied: before.is_some(), quiet }));
                }
            }
            rest = PageRange::between(run.end(), segment.pages);
        }
        Ok(None)
    }
}
