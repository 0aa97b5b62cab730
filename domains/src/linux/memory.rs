//! The memory calls: brk, mmap, munmap, mprotect, mremap, madvise and their kin.

use super::mm::page_up;
use super::user::{CHUNK, page_of};
use super::vma::{Attributes, EXEC, Kind, PAGE, Source, Vma, WRITE, window_range};
use super::{Answer, Call, Errno, Program};
use crate::abi::{QUICK_BYTES, WINDOW_END};
use crate::cpu::Cpu;
use semper_pager::Segment;

const MAP_SHARED: u64 = 1;
const MAP_PRIVATE: u64 = 2;
const MAP_SHARED_VALIDATE: u64 = 3;
const MAP_TYPE: u64 = 0xf;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_NORESERVE: u64 = 0x4000;
const MAP_HUGETLB: u64 = 0x4_0000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
/// READ, WRITE, EXEC, and PROT_SEM, which means nothing here.
const PROT_KNOWN: u64 = 0xf;

const MREMAP_MAYMOVE: u64 = 1;
const MREMAP_FIXED: u64 = 2;

const MADV_DONTNEED: u64 = 4;
const MADV_FREE: u64 = 8;
const MADV_REMOVE: u64 = 9;
const MADV_POPULATE_READ: u64 = 22;
const MADV_POPULATE_WRITE: u64 = 23;

/// The served calls.
pub const CALLS: &[Call] = &[
    Call {
        number: 9,
        name: "mmap",
        handler: mmap,
        note: "files are mapped as private copies; a writable shared mapping of a file is ENODEV, and one to read is such a copy too, which does not follow later writes; huge pages are ENOMEM, growing downwards is ignored; a program that often maps up to 64 KiB is granted 1 MiB ahead, where memory does not fault",
    },
    Call {
        number: 10,
        name: "mprotect",
        handler: mprotect,
        note: "nothing is changed if part of the range is not mapped",
    },
    Call { number: 11, name: "munmap", handler: munmap, note: "" },
    Call {
        number: 12,
        name: "brk",
        handler: brk,
        note: "mapped ahead by 1 MiB or an eighth of the heap, so memory just above the break does not fault",
    },
    Call { number: 25, name: "mremap", handler: mremap, note: "without MREMAP_DONTUNMAP" },
    Call { number: 26, name: "msync", handler: msync, note: "memory is durable by checkpoints" },
    Call {
        number: 28,
        name: "madvise",
        handler: madvise,
        note: "MADV_DONTNEED gives zeros; on what came from a file (a mapping, the program's image) it keeps the content, and is EINVAL if the program may have changed it; MADV_FREE beyond 64 KiB gives zeros, less than that stays; other advice is accepted",
    },
    Call { number: 149, name: "mlock", handler: lock, note: "accepted" },
    Call { number: 150, name: "munlock", handler: lock, note: "accepted" },
    Call { number: 151, name: "mlockall", handler: lock, note: "accepted" },
    Call { number: 152, name: "munlockall", handler: lock, note: "accepted" },
    Call { number: 325, name: "mlock2", handler: lock, note: "accepted" },
];

/// The protection bits of a call's argument.
fn protection(bits: u64) -> Result<u32, Errno> {
    if bits & !PROT_KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    u32::try_from(bits & 7).map_err(|_| Errno::EINVAL)
}

/// A range given to a call that answers `ENOMEM` for what cannot be mapped.
fn range(start: u64, length: u64) -> Result<(u64, u64), Errno> {
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    window_range(start, length).ok_or(Errno::ENOMEM)
}

fn brk(p: &mut Program, _: &mut Cpu<'_>, [wanted, ..]: [u64; 6]) -> Result<Answer, Errno> {
    p.set_brk(wanted).map(Answer::Value)
}

fn mmap(p: &mut Program, _: &mut Cpu<'_>, [hint, length, prot, flags, fd, offset]: [u64; 6]) -> Result<Answer, Errno> {
    let protection = protection(prot & PROT_KNOWN)?;
    if length == 0 || !offset.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if length > WINDOW_END || flags & MAP_HUGETLB != 0 {
        return Err(Errno::ENOMEM);
    }
    let length = page_up(length);
    let shared = match flags & MAP_TYPE {
        MAP_PRIVATE => false,
        MAP_SHARED | MAP_SHARED_VALIDATE => true,
        _ => return Err(Errno::EINVAL),
    };
    let source = match flags & MAP_ANONYMOUS {
        0 if shared && prot & 2 != 0 => return Err(Errno::ENODEV),
        0 => Some(p.files.mapping_source(&mut p.state, &p.host, fd)?),
        _ => None,
    };
    if source.is_some() && offset.checked_add(length).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    if prot == 3
        && hint == 0
        && flags & !MAP_NORESERVE == MAP_PRIVATE | MAP_ANONYMOUS
        && let Some(start) = p.take_from_pool(length)?
    {
        return Ok(Answer::Value(start));
    }
    let start = place(p, hint, length, flags)?;
    let end = start + length;
    p.may_map(length - p.user.vmas.bytes_within(start, end))?;
    let kind = match source {
        Some(_) if protection & WRITE != 0 => Kind::Copy,
        Some(_) => Kind::File,
        None if shared => Kind::Shared,
        None => Kind::Private,
    };
    let from = source.as_ref().map_or(Source::default(), |&(_, _, inode)| Source::at(inode, offset, start));
    p.map_fresh(start, end, Attributes { source: from, ..Attributes::new(protection, kind) });
    if let Some((segment, size, _)) = source {
        p.settle_memory()?;
        copy_file(p, &segment, size, offset, start, length)?;
        if protection & EXEC != 0 {
            p.replace_questions(start, start + size.saturating_sub(offset).min(length))?;
        }
    }
    Ok(Answer::Value(start))
}

/// Where a new mapping goes.
fn place(p: &mut Program, hint: u64, length: u64, flags: u64) -> Result<u64, Errno> {
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 {
        if !hint.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        let (start, end) = window_range(hint, length).ok_or(Errno::ENOMEM)?;
        p.ungrant(start, end)?;
        if flags & MAP_FIXED_NOREPLACE != 0 && p.user.vmas.overlapping(start, end).next().is_some() {
            return Err(Errno::EEXIST);
        }
        return Ok(start);
    }
    let hinted = window_range(hint & !(PAGE - 1), length);
    match hinted {
        Some((start, end)) if end <= p.mm.record.map_top && p.user.vmas.overlapping(start, end).next().is_none() => {
            Ok(start)
        }
        _ => p.choose_address(length),
    }
}

/// Fills a private mapping from a file; what lies beyond the file's end stays zeros.
fn copy_file(p: &mut Program, file: &Segment, size: u64, offset: u64, start: u64, length: u64) -> Result<(), Errno> {
    let wanted = size.saturating_sub(offset).min(length);
    let mut buffer = vec![0; CHUNK.min(usize::try_from(wanted).unwrap_or(CHUNK))];
    let mut done = 0;
    while done < wanted {
        let n = usize::try_from(wanted - done).unwrap_or(CHUNK).min(CHUNK);
        file.read_at(offset + done, &mut buffer[..n]).map_err(|_| Errno::EIO)?;
        p.user.put(start + done, &buffer[..n])?;
        done += n as u64;
    }
    Ok(())
}

fn munmap(p: &mut Program, _: &mut Cpu<'_>, [start, length, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let (start, end) = window_range(start, length).ok_or(Errno::EINVAL)?;
    p.ungrant(start, end)?;
    p.unmap(start, end);
    Ok(Answer::Value(0))
}

fn mprotect(p: &mut Program, _: &mut Cpu<'_>, [start, length, prot, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if length == 0 && start.is_multiple_of(PAGE) {
        return Ok(Answer::Value(0));
    }
    let protection = protection(prot)?;
    let (start, end) = range(start, length)?;
    p.ungrant(start, end)?;
    if p.user.vmas.bytes_within(start, end) < end - start {
        return Err(Errno::ENOMEM);
    }
    let becomes_code = |v: &Vma| protection & EXEC != 0 && v.attributes.protection & EXEC == 0;
    let code: Vec<Vma> = p.user.vmas.overlapping(start, end).filter(becomes_code).collect();
    p.reprotect(start, end, protection);
    for v in code {
        p.replace_questions(v.start.max(start), v.end.min(end))?;
    }
    Ok(Answer::Value(0))
}

fn mremap(
    p: &mut Program,
    _: &mut Cpu<'_>,
    [old, old_length, new_length, flags, target, _]: [u64; 6],
) -> Result<Answer, Errno> {
    let fixed = flags & MREMAP_FIXED != 0;
    if flags & !(MREMAP_MAYMOVE | MREMAP_FIXED) != 0
        || (fixed && flags & MREMAP_MAYMOVE == 0)
        || !old.is_multiple_of(PAGE)
        || new_length == 0
        || new_length > WINDOW_END
        || old_length == 0
    {
        return Err(Errno::EINVAL);
    }
    let (start, end) = window_range(old, old_length).ok_or(Errno::EFAULT)?;
    let new_length = page_up(new_length);
    p.ungrant(start, end)?;
    let area = p.user.vmas.find(start).filter(|v| v.end >= end).ok_or(Errno::EFAULT)?;
    if fixed {
        let (to, to_end) = window_range(target, new_length).ok_or(Errno::EINVAL)?;
        if to < end && start < to_end {
            return Err(Errno::EINVAL);
        }
        p.ungrant(to, to_end)?;
        p.unmap(to, to_end);
        return relocate(p, area, (start, end), to, new_length);
    }
    if new_length <= end - start {
        if new_length < end - start {
            p.unmap(start + new_length, end);
        }
        return Ok(Answer::Value(start));
    }
    p.may_map(new_length - (end - start))?;
    let wanted = start + new_length;
    if end == area.end && wanted <= p.mm.record.map_top && p.user.vmas.overlapping(end, wanted).next().is_none() {
        p.map_fresh(end, wanted, Attributes { kind: moved(area.attributes.kind), ..area.attributes });
        return Ok(Answer::Value(start));
    }
    if flags & MREMAP_MAYMOVE == 0 {
        return Err(Errno::ENOMEM);
    }
    let to = p.choose_address(new_length)?;
    relocate(p, area, (start, end), to, new_length)
}

/// The kind of what mremap makes of an area: only the break's own calls grow the heap.
const fn moved(kind: Kind) -> Kind {
    match kind {
        Kind::Shared | Kind::File | Kind::Copy => kind,
        Kind::Image => Kind::Copy,
        Kind::Heap | Kind::Stack | Kind::Private => Kind::Private,
    }
}

/// Moves `start..end` to `to`, where `new_length` bytes are free.
fn relocate(p: &mut Program, area: Vma, (start, end): (u64, u64), to: u64, new_length: u64) -> Result<Answer, Errno> {
    let kept = (end - start).min(new_length);
    p.may_map(new_length.saturating_sub(end - start))?;
    let source = area.attributes.source.moved(start, to);
    p.map_fresh(to, to + new_length, Attributes { kind: moved(area.attributes.kind), source, ..area.attributes });
    // What is moved leaves zeros behind; only the rest has to be discarded.
    p.unmap(start + kept, end);
    p.leave(start, start + kept);
    p.settle_memory()?;
    p.user.segment.move_pages(page_of(start), page_of(to), kept / PAGE).map_err(|_| Errno::EIO)?;
    Ok(Answer::Value(to))
}

fn madvise(p: &mut Program, _: &mut Cpu<'_>, [start, length, advice, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if !start.is_multiple_of(PAGE) || (26..100).contains(&advice) || advice > 101 {
        return Err(Errno::EINVAL);
    }
    if length == 0 {
        return Ok(Answer::Value(0));
    }
    let (start, end) = range(start, length)?;
    if p.user.vmas.bytes_within(start, end) < end - start {
        return Err(Errno::ENOMEM);
    }
    match advice {
        MADV_DONTNEED | MADV_FREE => return unneeded(p, start, end, advice == MADV_FREE),
        MADV_REMOVE | MADV_POPULATE_READ | MADV_POPULATE_WRITE => return Err(Errno::EINVAL),
        _ => {}
    }
    Ok(Answer::Value(0))
}

/// The program does not need what `start..end` holds. Where that came from a file, it would have to come from there again.
fn unneeded(p: &mut Program, start: u64, end: u64, free: bool) -> Result<Answer, Errno> {
    let areas: Vec<Vma> = p.user.vmas.overlapping(start, end).collect();
    for v in &areas {
        match v.attributes.kind {
            Kind::File | Kind::Copy | Kind::Shared if free => return Err(Errno::EINVAL),
            Kind::Image if !free && v.attributes.protection & WRITE != 0 => return Err(Errno::EINVAL),
            Kind::Copy => return Err(Errno::EINVAL),
            _ => {}
        }
    }
    if free && end - start <= QUICK_BYTES {
        // Linux too may keep what is free, and here a round trip costs more than a few pages.
        p.remember_advice(start);
        return Ok(Answer::Value(0));
    }
    for v in areas.iter().filter(|v| !matches!(v.attributes.kind, Kind::Image | Kind::File)) {
        p.user.discard(v.start.max(start), v.end.min(end));
    }
    Ok(Answer::Value(0))
}

fn msync(p: &mut Program, _: &mut Cpu<'_>, [start, length, flags, ..]: [u64; 6]) -> Result<Answer, Errno> {
    if !start.is_multiple_of(PAGE) || flags & !7 != 0 || flags & 5 == 5 {
        return Err(Errno::EINVAL);
    }
    if length == 0 {
        return Ok(Answer::Value(0));
    }
    let (start, end) = range(start, length)?;
    if p.user.vmas.bytes_within(start, end) < end - start {
        return Err(Errno::ENOMEM);
    }
    Ok(Answer::Value(0))
}

fn lock(_: &mut Program, _: &mut Cpu<'_>, _: [u64; 6]) -> Result<Answer, Errno> {
    Ok(Answer::Value(0))
}
