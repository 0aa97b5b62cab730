//! Segments on behalf of domains: numbered and owned through records of segment 0.

use super::Kernel;
use super::objects::SegmentRecord;
use crate::linux::{Room, SegmentError, Segments};
use semper_pager::Segment;
use semper_store::{PageRange, SegmentId};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What one domain may do with segments.
pub struct DomainSegments {
    /// The kernel.
    pub kernel: Weak<Kernel>,
    /// Whose segments.
    pub domain: u64,
    /// The room that a call of its waits for.
    pub asked: Mutex<Asked>,
}

/// Room that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// None.
    #[default]
    Nothing,
    /// This many pages.
    Pages(u64),
    /// Some, and it could not be made.
    InVain,
}

impl DomainSegments {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kernel(&self, what: &str) -> Result<Arc<Kernel>, SegmentError> {
        self.kernel.upgrade().ok_or_else(|| error(what, "the runtime ends"))
    }
}

fn error(what: &str, reason: impl ToString) -> SegmentError {
    SegmentError { what: what.to_owned(), reason: reason.to_string() }
}

impl Segments for DomainSegments {
    fn create(&self, pages: u64) -> Result<Arc<Segment>, SegmentError> {
        self.kernel("a new segment")?.create_segment(self.domain, pages)
    }

    fn open(&self, id: SegmentId) -> Result<Arc<Segment>, SegmentError> {
        self.kernel("open a segment")?.open_segment(self.domain, id, None)
    }

    fn remove(&self, id: SegmentId) {
        if let Some(kernel) = self.kernel.upgrade() {
            kernel.remove_segment(self.domain, id);
        }
    }

    fn room_for(&self, pages: u64) -> bool {
        self.kernel.upgrade().is_some_and(|k| k.surroundings.room_for(pages))
    }

    fn room(&self, pages: u64) -> Room {
        let mut asked = self.asked();
        let before = std::mem::take(&mut *asked);
        if self.room_for(pages) {
            return Room::Now;
        }
        if before == Asked::InVain {
            return Room::Never;
        }
        *asked = Asked::Pages(pages);
        Room::Later
    }

    fn make_room(&self) {
        let Asked::Pages(pages) = *self.asked() else { return };
        let made = self.kernel.upgrade().is_some_and(|kernel| kernel.surroundings.make_room(pages));
        *self.asked() = if made { Asked::Nothing } else { Asked::InVain };
    }
}

impl Kernel {
    /// A new segment of `domain`'s.
    pub(crate) fn create_segment(&self, domain: u64, pages: u64) -> Result<Arc<Segment>, SegmentError> {
        let what = "a new segment";
        let mut objects = self.objects();
        let (id, mut world) = objects.world;
        let record = SegmentRecord { id: world.next_segment, pages, domain };
        world.next_segment += 1;
        let mut tx = objects.table.begin();
        let at = tx.insert(&record).map_err(|e| error(what, e))?;
        tx.update(id, &world).map_err(|e| error(what, e))?;
        let segment = self.pager.create_segment(SegmentId(record.id), pages).map_err(|e| error(what, e))?;
        tx.commit();
        objects.world.1 = world;
        objects.segments.insert(record.id, (at, record));
        Ok(segment)
    }

    /// A segment of `domain`'s, from the store if it is not in memory; `stored`: where the store may hold pages of it (none: anywhere).
    pub(crate) fn open_segment(
        &self,
        domain: u64,
        id: SegmentId,
        stored: Option<&[PageRange]>,
    ) -> Result<Arc<Segment>, SegmentError> {
        let what = "open a segment";
        let record = match self.objects().segments.get(&id.0) {
            Some((_, record)) if record.domain == domain => *record,
            Some(_) => return Err(error(what, format!("{id} belongs to another domain"))),
            None => return Err(error(what, format!("there is no {id}"))),
        };
        if let Some(segment) = self.pager.segment(id) {
            return Ok(segment);
        }
        let all = [PageRange::between(0, record.pages)];
        self.pager.open_segment(id, record.pages, stored.unwrap_or(&all)).map_err(|e| error(what, e))
    }

    /// Destroys a segment of `domain`'s.
    pub(crate) fn remove_segment(&self, domain: u64, id: SegmentId) {
        let mut objects = self.objects();
        let Some((at, _)) = objects.segments.get(&id.0).filter(|(_, r)| r.domain == domain).copied() else { return };
        let mut tx = objects.table.begin();
        match tx.remove(at) {
            Ok(()) => tx.commit(),
            Err(error) => {
                tracing::error!(%error, segment = id.0, "a segment's record cannot be removed");
                return;
            }
        }
        objects.segments.remove(&id.0);
        self.pager.remove_segment(id);
    }

    /// All segments of `domain`'s.
    pub(crate) fn segments_of(&self, domain: u64) -> Vec<(SegmentId, u64)> {
        let objects = self.objects();
        objects.segments.values().filter(|(_, r)| r.domain == domain).map(|(_, r)| (SegmentId(r.id), r.pages)).collect()
    }
}
