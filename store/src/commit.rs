//! One commit: pages stream to free space while they are put; then the tree, a flush, the root, a flush. Or, of a small one that is asked to,
//! the root at once and one flush for all: then the root says so, and who opens the store looks whether all is there.

use crate::canary::Canary;
use crate::checksum;
use crate::crash::crash_point;
use crate::error::Error;
use crate::ids::{Generation, MAX_SEGMENT_PAGES, MAX_SEGMENTS, PAGE_SIZE, PageIndex, PageRange, SegmentId};
use crate::node::{BlockRef, Key, Node, Slot, TreeRef};
use crate::root::{ATTRIBUTES_LEN, Kept, MOST_UNFLUSHED, Root};
use crate::shared::{Map, Shared, Snapshot, Writer};
use crate::space::{DeadBlock, Purpose};
use crate::stream::Stream;
use crate::update::{NodeSink, Outcome, Puts, Removed, Update};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a commit cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The generation that it made.
    pub generation: Generation,
    /// Pages written, tree nodes not counted.
    pub pages: u64,
    /// Bytes written, tree nodes and root included.
    pub bytes: u64,
    /// From the call of [`Commit::commit`] on: making the tree and waiting for writes.
    pub write_time: Duration,
    /// The flushes, with the write of the root.
    pub flush_time: Duration,
}

/// A generation in the making. Nothing of it can be seen before [`Commit::commit`] has returned; dropping it leaves
/// everything as it was.
///
/// It holds 1 MiB of staging, up to [`crate::QUEUE_DEPTH`] more that are being written, and about 60 bytes for each page put.
pub struct Commit {
    stream: Stream,
    generation: u64,
    puts: Puts,
    removed: Removed,
    pages: u64,
    attributes: Option<[u8; ATTRIBUTES_LEN]>,
    one_flush: bool,
    /// The first failure; the commit cannot succeed any more.
    failed: Option<Error>,
    /// Dropped last: the next commit must find everything given back.
    writer: Writer,
}

impl Commit {
    pub(crate) fn new(writer: Writer) -> Self {
        let shared = Arc::clone(&writer.0);
        Self {
            generation: shared.current().root.highest + 1,
            stream: Stream::new(shared),
            puts: Puts::new(),
            removed: Removed::default(),
            pages: 0,
            attributes: None,
            one_flush: false,
            failed: None,
            writer,
        }
    }

    /// The generation that this commit will make.
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation(self.generation)
    }

    /// Puts the pages of `data` from `first` on; a page of zeros becomes a hole. The last put of a page counts.
    ///
    /// # Errors
    /// [`Error::Full`], a failed write, or a bad argument. After [`Error::Full`] and failed writes the commit can only be
    /// dropped.
    pub fn put(&mut self, segment: SegmentId, first: PageIndex, data: &[u8]) -> Result<(), Error> {
        self.check_failed()?;
        if !data.len().is_multiple_of(PAGE_SIZE) {
            return Err(Error::BadArgument(format!("{} bytes are no whole number of pages", data.len())));
        }
        check_range(segment, first, (data.len() / PAGE_SIZE) as u64)?;
        for (page, index) in data.chunks_exact(PAGE_SIZE).zip(first.0..) {
            let result = self.put_page(Key { segment: segment.0, page: index }, page);
            self.note(result)?;
        }
        Ok(())
    }

    fn put_page(&mut self, key: Key, page: &[u8]) -> Result<(), Error> {
        let new = if checksum::is_zero(page) { None } else { Some(self.write_page(key, page)?) };
        if let Some(Some(old)) = self.puts.insert(key, new) {
            self.stream.replace(old.place);
        }
        Ok(())
    }

    fn write_page(&mut self, key: Key, page: &[u8]) -> Result<BlockRef, Error> {
        let canary = self.writer.0.canary;
        let place = self.stream.next(Purpose::Pages)?;
        let checksum = checksum::of_page(self.writer.0.id(), key.segment, key.page, self.generation, page);
        if Canary::LoseAPage.planted(canary) && self.pages % 41 == 40 {
            self.stream.append(&[0xee; PAGE_SIZE])?;
        } else {
            self.stream.append(page)?;
        }
        self.pages += 1;
        Ok(BlockRef { place, birth: self.generation, checksum })
    }

    /// Makes `range` a hole, whatever this commit or an earlier one put there. Costs what is there, not its width.
    ///
    /// # Errors
    /// A bad argument.
    pub fn remove(&mut self, segment: SegmentId, range: PageRange) -> Result<(), Error> {
        self.check_failed()?;
        check_range(segment, range.first, range.count)?;
        let start = Key::new(segment, range.first);
        self.remove_keys(start, Key { page: range.end(), ..start });
        Ok(())
    }

    /// Removes all pages of `segment`.
    ///
    /// # Errors
    /// A bad argument.
    pub fn remove_segment(&mut self, segment: SegmentId) -> Result<(), Error> {
        self.remove(segment, PageRange { first: PageIndex(0), count: MAX_SEGMENT_PAGES })
    }

    fn remove_keys(&mut self, from: Key, to: Key) {
        if from >= to {
            return;
        }
        let gone: Vec<Key> = self.puts.range(from..to).map(|(key, _)| *key).collect();
        for key in gone {
            if let Some(Some(block)) = self.puts.remove(&key) {
                self.stream.replace(block.place);
            }
        }
        if !Canary::ForgetRemoval.planted(self.writer.0.canary) {
            self.removed.add(from, to);
        }
    }

    /// Sets the attributes of the generation; without this they stay as they are.
    pub fn set_attributes(&mut self, attributes: [u8; ATTRIBUTES_LEN]) {
        self.attributes = Some(attributes);
    }

    /// Asks for one flush instead of two, if the commit stays small and the store has no mirror. After a crash that generation counts only if all
    /// that it added is found; what rots of it before the next commit, or [`crate::Store::seal`], is then not told from what
    /// never came, and the generation before stands.
    pub fn set_one_flush(&mut self) {
        self.one_flush = true;
    }

    /// Starts writing what has been put so far, instead of waiting for a full buffer.
    ///
    /// # Errors
    /// As [`Commit::put`].
    pub fn write_out(&mut self) -> Result<(), Error> {
        self.check_failed()?;
        let result = self.stream.submit();
        self.note(result)
    }

    /// Makes the generation durable and current.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Corrupt`] if the old tree cannot be read: nothing has changed. After a failed write or
    /// flush the store is poisoned; whether the generation stands shows when it is opened again.
    pub fn commit(mut self) -> Result<Committed, Error> {
        self.check_failed()?;
        let shared = Arc::clone(&self.writer.0);
        shared.check_writable()?;
        let start = Instant::now();
        let base = Arc::clone(&shared.current());
        let (tree, outcome) = self.make_tree(base.root.newest().tree)?;
        crash_point("tree-made");
        self.stream.submit()?;
        self.stream.trim();
        shared.drain()?;
        crash_point("data-written");
        let write_time = start.elapsed();

        let start = Instant::now();
        // Sides of a mirror must not differ in what a root of one of them refers to.
        let unflushed = self.stream.wrote
            && self.one_flush
            && self.stream.bytes <= MOST_UNFLUSHED * PAGE_SIZE as u64
            && shared.disk.copies().len() == 1;
        if self.stream.wrote && !unflushed && !Canary::SkipDataFlush.planted(shared.canary) {
            shared.flush()?;
        }
        crash_point("data-flushed");
        let root = Root { unflushed, ..self.make_root(&shared, tree, &outcome) };
        let slot = if Canary::OneSlotOnly.planted(shared.canary) { base.slot } else { 1 - base.slot };
        shared.write_root(&root, slot)?;
        crash_point("root-flushed");
        let flush_time = start.elapsed();

        self.settle_books(&shared, &root, slot, outcome.dead);
        crash_point("books-settled");
        shared.publish(Snapshot { root, slot });
        let bytes = self.stream.bytes + PAGE_SIZE as u64;
        Ok(Committed { generation: Generation(self.generation), pages: self.pages, bytes, write_time, flush_time })
    }

    fn make_tree(&mut self, old: TreeRef) -> Result<(TreeRef, Outcome), Error> {
        if self.puts.is_empty() && self.removed.is_empty() {
            return Ok((old, Outcome::default()));
        }
        let shared = Arc::clone(&self.writer.0);
        let mut nodes = Nodes { stream: &mut self.stream, shared: &shared, birth: self.generation };
        let reader = shared.reader(self.generation - 1);
        let made = Update::new(reader, &self.puts, &self.removed, &mut nodes).run(old);
        made.inspect_err(|e| shared.note_damage(e))
    }

    fn make_root(&self, shared: &Shared, tree: TreeRef, outcome: &Outcome) -> Root {
        let mut root = shared.current().root.next();
        let newest = root.newest();
        let kept = Kept {
            generation: self.generation,
            committed_at: now(),
            tree,
            pages: newest.pages + outcome.pages_added - outcome.pages_removed,
            nodes: newest.nodes + outcome.nodes_added - outcome.nodes_removed,
            attributes: self.attributes.unwrap_or(newest.attributes),
        };
        root.highest = self.generation;
        root.kept.insert(0, kept);
        shared.holds().drop_superseded(&mut root);
        if let Map::Known(space) = &shared.books().map {
            root.used = space.map().used();
        }
        root
    }

    /// Gives back what this commit has made free.
    fn settle_books(&mut self, shared: &Shared, root: &Root, slot: usize, dead: Vec<DeadBlock>) {
        self.stream.keep();
        let mut books = shared.books();
        if let Map::Known(space) = &mut books.map {
            let early = Canary::ReuseTooEarly.planted(shared.canary);
            space.retire(if early { 0 } else { self.generation }, dead);
            let mut listed = root.listed();
            if Canary::FreeWhatIsHeld.planted(shared.canary) {
                listed.truncate(root.keep);
            }
            space.listed(slot, listed);
        }
    }

    fn check_failed(&self) -> Result<(), Error> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn note(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        if let Err(e) = &result {
            self.failed = Some(e.clone());
        }
        result
    }
}

/// Writes tree nodes into the stream.
struct Nodes<'a> {
    stream: &'a mut Stream,
    shared: &'a Shared,
    birth: u64,
}

impl NodeSink for Nodes<'_> {
    fn emit(&mut self, level: u8, slots: &[Slot]) -> Result<BlockRef, Error> {
        let place = self.stream.next(Purpose::Nodes)?;
        let node = Node::build(self.shared.id(), place, self.birth, level, slots);
        self.stream.append(node.bytes())?;
        let block = node.block();
        self.shared.cache.put(Arc::new(node));
        Ok(block)
    }
}

/// Refuses what the format has no room for.
pub(crate) fn check_range(segment: SegmentId, first: PageIndex, count: u64) -> Result<(), Error> {
    if segment.0 >= MAX_SEGMENTS {
        return Err(Error::BadArgument(format!("{segment} is beyond the limit of {MAX_SEGMENTS}")));
    }
    if first.0.checked_add(count).is_none_or(|end| end > MAX_SEGMENT_PAGES) {
        return Err(Error::BadArgument(format!(
            "{count} pages from {first} on end beyond the limit of {MAX_SEGMENT_PAGES}"
        )));
    }
    Ok(())
}

/// Nanoseconds since 1970 by the wall clock.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
