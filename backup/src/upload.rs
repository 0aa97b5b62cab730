//! An object that is being written: in parts, of which nothing is seen before all are there.

use crate::bucket::host;
use crate::destination::NewFile;
use crate::error::Error;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Parts that S3 and Google take; Azure takes more.
const MAX_PARTS: usize = 10_000;

/// Bytes of parts that are under way at the same time. As many again are being filled.
const UNDER_WAY: usize = 32 << 20;

/// How long who gives up waits for the server to forget the parts.
const PATIENCE: Duration = Duration::from_secs(5);

/// The length of a part, when `sent` were sent: small ones go sooner, and 10,000 of the larger ones have 214 GiB.
fn part_len(sent: usize) -> usize {
    match sent {
        ..2_500 => 8 << 20,
        2_500..5_000 => 16 << 20,
        _ => 32 << 20,
    }
}

/// One object that is being written.
pub struct Upload {
    store: Arc<dyn ObjectStore>,
    runtime: Arc<Runtime>,
    object: Path,
    shown: String,
    /// What was not sent yet.
    part: Vec<u8>,
    sent: usize,
    /// Begun with the first full part.
    parts: Option<Box<dyn MultipartUpload>>,
    under_way: VecDeque<(usize, JoinHandle<object_store::Result<()>>)>,
    /// Whether something failed: nothing is tried again then.
    failed: bool,
}

impl Upload {
    pub fn new(store: Arc<dyn ObjectStore>, runtime: Arc<Runtime>, object: Path, shown: String) -> Self {
        let (part, parts, under_way) = (Vec::new(), None, VecDeque::new());
        Self { store, runtime, object, shown, part, sent: 0, parts, under_way, failed: false }
    }

    /// Sends what has been gathered.
    fn send(&mut self) -> io::Result<()> {
        if self.sent == MAX_PARTS {
            let told = "an object has 214 GiB at most; compress the backup, or write it to a directory";
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, told));
        }
        if self.parts.is_none() {
            self.parts = Some(self.runtime.block_on(self.store.put_multipart(&self.object)).map_err(host)?);
        }
        let len = self.part.len();
        self.wait_for_room(UNDER_WAY.saturating_sub(len))?;
        if let Some(parts) = &mut self.parts {
            let part = parts.put_part(PutPayload::from(std::mem::take(&mut self.part)));
            self.under_way.push_back((len, self.runtime.spawn(part)));
        }
        self.sent += 1;
        Ok(())
    }

    /// Waits until no more than so many bytes are under way.
    fn wait_for_room(&mut self, most: usize) -> io::Result<()> {
        while self.under_way.iter().map(|(len, _)| len).sum::<usize>() > most {
            let Some((_, oldest)) = self.under_way.pop_front() else { break };
            self.runtime.block_on(oldest).map_err(io::Error::other)?.map_err(host)?;
        }
        Ok(())
    }

    fn complete(&mut self) -> io::Result<()> {
        if self.parts.is_none() {
            let whole = PutPayload::from(std::mem::take(&mut self.part));
            return self.runtime.block_on(self.store.put(&self.object, whole)).map(drop).map_err(host);
        }
        if !self.part.is_empty() {
            self.send()?;
        }
        self.wait_for_room(0)?;
        if let Some(parts) = &mut self.parts {
            self.runtime.block_on(parts.complete()).map(drop).map_err(host)?;
        }
        self.parts = None;
        Ok(())
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::Error::other("the object store failed before"));
        }
        let full = part_len(self.sent);
        if self.part.capacity() == 0 {
            self.part.reserve_exact(full);
        }
        let len = bytes.len().min(full - self.part.len());
        self.part.extend_from_slice(&bytes[..len]);
        if self.part.len() == full {
            self.failed = true;
            self.send()?;
            self.failed = false;
        }
        Ok(len)
    }

    /// What was written goes when a part is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for Upload {
    fn publish(mut self: Box<Self>) -> Result<(), Error> {
        self.complete().map_err(|e| Error::io(format!("write {}", self.shown), e))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.under_way.drain(..).for_each(|(_, part)| part.abort());
        if let Some(mut parts) = self.parts.take() {
            let aborted = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, parts.abort()).await });
            if !matches!(aborted, Ok(Ok(()))) {
                tracing::warn!("parts of {} are left at the server, which shows them to nobody", self.shown);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_hold_what_is_told_and_take_little_memory() {
        let all: usize = (0..MAX_PARTS).map(part_len).sum();
        assert_eq!(all >> 30, 214);
        assert!((0..MAX_PARTS).map(part_len).max().unwrap_or(0) + UNDER_WAY <= 64 << 20);
    }
}
