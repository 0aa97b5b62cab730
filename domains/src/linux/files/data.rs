//! The bytes of regular files.

use super::super::state::State;
use super::flow::Flow;
use super::records::{FILE_BYTES, FILE_PAGES, Inode, kind};
use super::{Errno, Files, Host};
use semper_pager::Segment;
use semper_store::{PAGE_SIZE, PageRange, SegmentId};
use std::sync::Arc;

const PAGE: u64 = PAGE_SIZE as u64;

impl Files {
    /// The segment of a file, opened; `None` while it has none.
    pub(super) fn segment_of(&mut self, host: &Host, number: u64) -> Result<Option<Arc<Segment>>, Errno> {
        if let Some(segment) = self.segments.get(&number) {
            return Ok(Some(Arc::clone(segment)));
        }
        let id = self.inode(number)?.segment;
        if id == 0 {
            return Ok(None);
        }
        let segment = host.segments.open(SegmentId(id)).map_err(|error| {
            tracing::error!(%error, "a file's segment cannot be opened");
            Errno::EIO
        })?;
        self.segments.insert(number, Arc::clone(&segment));
        Ok(Some(segment))
    }

    /// The segment of a file, made if it has none.
    pub(super) fn segment_made(&mut self, state: &mut State, host: &Host, number: u64) -> Result<Arc<Segment>, Errno> {
        if let Some(segment) = self.segment_of(host, number)? {
            return Ok(segment);
        }
        let segment = host.segments.create(FILE_PAGES).map_err(|error| {
            tracing::warn!(%error, "no segment for a new file");
            Errno::ENOSPC
        })?;
        let id = segment.id();
        if let Err(errno) = self.inodes.update(state, number, |i| i.segment = id.0) {
            host.segments.remove(id);
            return Err(errno);
        }
        self.segments.insert(number, Arc::clone(&segment));
        Ok(segment)
    }

    /// Reads from a file; less than asked for only at its end.
    pub(super) fn read_data(&mut self, host: &Host, number: u64, at: u64, out: &mut [u8]) -> Result<usize, Errno> {
        let size = self.inode(number)?.size;
        let left = size.saturating_sub(at);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        let out = &mut out[..length];
        match self.segment_of(host, number)? {
            Some(segment) => segment.read_at(at, out).map_err(|_| Errno::EIO)?,
            None => out.fill(0),
        }
        Ok(length)
    }

    /// Writes to a file, which grows as needed.
    ///
    /// # Errors
    /// `EFBIG` at the size limit, `ENOSPC`; nothing is changed then, nor if it has to wait for room.
    pub(super) fn write_data(
        &mut self,
        state: &mut State,
        host: &Host,
        number: u64,
        at: u64,
        data: &[u8],
    ) -> Result<Flow, Errno> {
        if data.is_empty() {
            return Ok(Flow::Done(0));
        }
        let room = FILE_BYTES.saturating_sub(at);
        if room == 0 {
            return Err(Errno::EFBIG);
        }
        let data = &data[..usize::try_from(room).unwrap_or(usize::MAX).min(data.len())];
        if let Some(wait) = host.room(pages_of(data.len() as u64))? {
            return Ok(Flow::Wait(wait));
        }
        let segment = self.segment_made(state, host, number)?;
        let now = Self::now(host);
        self.inodes.update(state, number, |i| {
            i.size = i.size.max(at + data.len() as u64);
            (i.modified, i.changed) = (now, now);
        })?;
        segment.write_at(at, data).map_err(|_| Errno::EIO)?;
        Ok(Flow::Done(data.len()))
    }

    /// Gives a file another size: it is cut, or grows by a hole.
    ///
    /// # Errors
    /// `EFBIG`.
    pub(super) fn set_size(&mut self, state: &mut State, host: &Host, number: u64, size: u64) -> Result<(), Errno> {
        if size > FILE_BYTES {
            return Err(Errno::EFBIG);
        }
        let old = self.inode(number)?.size;
        let segment = if size < old { self.segment_of(host, number)? } else { None };
        let now = Self::now(host);
        self.inodes.update(state, number, |i| {
            i.size = size;
            (i.modified, i.changed) = (now, now);
        })?;
        match segment {
            Some(segment) => zero(&segment, size, old.next_multiple_of(PAGE)),
            None => Ok(()),
        }
    }

    /// Makes `start..end` of a file zeros without changing its size.
    pub(super) fn punch(
        &mut self,
        state: &mut State,
        host: &Host,
        inode: Inode,
        range: (u64, u64),
    ) -> Result<(), Errno> {
        debug_assert_eq!(inode.kind, kind::REGULAR);
        let end = range.1.min(inode.size);
        let segment = self.segment_of(host, inode.number)?;
        let now = Self::now(host);
        self.inodes.update(state, inode.number, |i| (i.modified, i.changed) = (now, now))?;
        match segment {
            Some(segment) if range.0 < end => zero(&segment, range.0, end),
            _ => Ok(()),
        }
    }
}

/// How many pages `length` bytes can touch.
pub(super) const fn pages_of(length: u64) -> u64 {
    length / PAGE + 2
}

/// Makes `start..end` of a segment zeros: whole pages are discarded.
fn zero(segment: &Segment, start: u64, end: u64) -> Result<(), Errno> {
    const ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
    let (first, last) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
    let fill = |from: u64, to: u64| {
        let length = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
        if length == 0 { Ok(()) } else { segment.write_at(from, &ZEROS[..length]).map_err(|_| Errno::EIO) }
    };
    if first > last {
        return fill(start, end);
    }
    fill(start, first)?;
    fill(last, end)?;
    if first < last {
        segment.discard(PageRange::between(first / PAGE, last / PAGE)).map_err(|_| Errno::EIO)?;
    }
    Ok(())
}
