//! The first memory of a native program: its image, room for heap and stack, and the boot block at the top.

use super::ImageError;
use crate::guest::{BOOT_BYTES, BOOT_MAGIC, Boot};
use crate::linux::{Piece, fixed_image};
use crate::processor::{REPLACED, code};
use semper_pager::Segment;
use semper_store::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE as u64;
/// Room for the stack below the boot block.
const STACK_BYTES: u64 = 1 << 20;

/// What a native program's memory is made of.
pub struct Memory<'a> {
    /// The address of its first page.
    pub start: u64,
    /// Its pages.
    pub pages: u64,
    /// Instruction pointer, stack pointer, first argument.
    pub entry: [u64; 3],
    pieces: Vec<Part<'a>>,
    top: Vec<u8>,
}

/// A piece of the image.
struct Part<'a> {
    /// Where it begins in the memory.
    offset: u64,
    bytes: &'a [u8],
    is_code: bool,
}

impl<'a> Memory<'a> {
    /// Plans the memory of `bytes` bytes of the program in `image`.
    ///
    /// # Errors
    /// When it is no program that can run natively, or does not fit.
    pub fn plan(image: &'a [u8], args: &[Vec<u8>], bytes: u64) -> Result<Self, ImageError> {
        let (entry, pieces) = fixed_image(image)?;
        let first = pieces.iter().map(|piece| piece.start).min().unwrap_or(0);
        let end = pieces.iter().map(|piece| piece.start.saturating_add(piece.memory)).max().unwrap_or(0);
        let start = first / PAGE * PAGE;
        let heap_start = end.next_multiple_of(PAGE);
        let pages = bytes.div_ceil(PAGE);
        let memory_end = start.saturating_add(pages.saturating_mul(PAGE));
        let least = heap_start.saturating_add(STACK_BYTES + BOOT_BYTES + PAGE);
        if memory_end < least || memory_end > crate::abi::WINDOW_END {
            return Err(ImageError::Memory { bytes, least: least.saturating_sub(start) });
        }
        let boot = memory_end - BOOT_BYTES;
        let mut text = Vec::new();
        for arg in args {
            text.extend_from_slice(arg);
            text.push(0);
        }
        let room = BOOT_BYTES - size_of::<Boot>() as u64;
        let args_len = text.len() as u64;
        if args_len > room {
            return Err(ImageError::Arguments { bytes: args_len, limit: room });
        }
        let words = [BOOT_MAGIC, start, memory_end, heap_start, boot - STACK_BYTES, entry, 0, 0, args_len];
        let mut top: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        debug_assert_eq!(top.len(), size_of::<Boot>());
        top.extend_from_slice(&text);
        let part = |piece: Piece<'a>| Part { offset: piece.start - start, bytes: piece.bytes, is_code: piece.is_code };
        let pieces = pieces.into_iter().map(part).collect();
        Ok(Self { start, pages, entry: [entry, boot - 128, boot], pieces, top })
    }

    /// Puts it into a segment of zeros. `answered`: where it asks the processor it is to ask the kernel.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, segment: &Segment, answered: bool) -> Result<(), semper_pager::Error> {
        for Part { offset, bytes, is_code } in &self.pieces {
            segment.write_at(*offset, bytes)?;
            let questions = if answered && *is_code { code::questions(bytes) } else { Vec::new() };
            questions.into_iter().try_for_each(|at| segment.write_at(offset + at as u64, &REPLACED))?;
        }
        segment.write_at(self.pages * PAGE - BOOT_BYTES, &self.top)
    }
}
