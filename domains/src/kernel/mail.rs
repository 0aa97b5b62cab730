//! The mail of a process: from its control pages and into them. What lies there may have been written by the program: it is read once and checked.

use crate::abi::{
    INBOX, INBOX_BYTES, INBOX_BYTES_AT, Inbox, LINUX_CONTROL_PAGES, Letter as RawLetter, MAX_LETTERS, MAX_PARCELS,
    NO_DESCRIPTOR, OUTBOX, OUTBOX_BYTES, OUTBOX_BYTES_AT, Outbox, Parcel as RawParcel,
};
use crate::linux::{Letter, Mail, Parcel};
use crate::platform::control::Control;
use semper_store::{PAGE_SIZE, PageRange};
use std::mem::{offset_of, size_of};
use std::sync::atomic::{Ordering::Acquire, fence};

/// Whether the control pages have room for mail: those of a program that an earlier version started have not.
pub(super) fn has_pages(control: &Control) -> bool {
    control.view().len() as u64 >= LINUX_CONTROL_PAGES * PAGE_SIZE as u64
}

/// The lower and the upper half of the word at `offset`.
fn halves(control: &Control, offset: u64) -> [u32; 2] {
    let word = control.word_at(offset);
    [word & 0xffff_ffff, word >> 32].map(|half| u32::try_from(half).unwrap_or(0))
}

/// Where the two words of the life lie.
const LIFE_AT: [u64; 2] = {
    let at = INBOX + offset_of!(Inbox, life) as u64;
    [at, at + 8]
};

const fn word(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

fn parcel_at(index: usize) -> u64 {
    INBOX + (offset_of!(Inbox, parcels) + index * size_of::<RawParcel>()) as u64
}

fn letter_at(index: usize) -> u64 {
    OUTBOX + (offset_of!(Outbox, letters) + index * size_of::<RawLetter>()) as u64
}

/// The bytes `start..end` of a part of the pages that begins at `at` and has `length` bytes; none if they do not lie in it.
fn bytes(control: &Control, (at, length): (u64, u64), start: u32, end: u32) -> Vec<u8> {
    if start > end || u64::from(end) > length {
        return Vec::new();
    }
    let mut bytes = vec![0; (end - start) as usize];
    control.read(at + u64::from(start), &mut bytes);
    bytes
}

/// Takes what lies in the pages; none: nothing does.
pub(super) fn take(control: &Control) -> Option<Mail> {
    if !has_pages(control) {
        return None;
    }
    let (parcels, letters) = (halves(control, INBOX)[0] as usize, count_of_letters(control));
    if parcels == 0 && letters == 0 {
        return None;
    }
    let life = LIFE_AT.map(|at| control.word_at(at));
    control.set_word(INBOX, 0);
    control.set_word(OUTBOX, 0);
    let parcel = |index| {
        let at = parcel_at(index);
        let [fd, start] = halves(control, at + offset_of!(RawParcel, fd) as u64);
        let [end, room] = halves(control, at + offset_of!(RawParcel, end) as u64);
        let [dry, whole] = halves(control, at + offset_of!(RawParcel, dry) as u64);
        Parcel {
            connection: control.word_at(at),
            fd: (fd != NO_DESCRIPTOR).then_some(fd),
            bytes: bytes(control, (INBOX_BYTES_AT, INBOX_BYTES), start, end),
            room,
            dry: dry != 0,
            whole: whole != 0,
            fresh: false,
        }
    };
    Some(Mail {
        life,
        parcels: (0..parcels.min(MAX_PARCELS)).map(parcel).collect(),
        letters: (0..letters).map(|index| letter(control, index)).collect(),
    })
}

fn letter(control: &Control, index: usize) -> Letter {
    let at = letter_at(index);
    let [start, end] = halves(control, at + offset_of!(RawLetter, start) as u64);
    let connection = control.word_at(at);
    Letter { connection, bytes: bytes(control, (OUTBOX_BYTES_AT, OUTBOX_BYTES), start, end) }
}

fn count_of_letters(control: &Control) -> usize {
    (halves(control, OUTBOX)[0] as usize).min(MAX_LETTERS)
}

/// What was put by since `seen` letters were, while the process runs; nothing in another life than `life`.
pub(super) fn put_by(control: &Control, seen: usize, life: [u64; 2]) -> Vec<Letter> {
    if !has_pages(control) || LIFE_AT.map(|at| control.word_at(at)) != life {
        return Vec::new();
    }
    let letters = count_of_letters(control);
    fence(Acquire);
    (seen..letters).map(|index| letter(control, index)).collect()
}

/// Puts parcels into the pages, as many as there is room for: the program gave none back that was not there.
pub(super) fn put(control: &Control, mail: &Mail) {
    let (mut count, mut start) = (0, 0_u32);
    for parcel in mail.parcels.iter().take(MAX_PARCELS) {
        let end = start + u32::try_from(parcel.bytes.len()).unwrap_or(u32::MAX - start);
        if u64::from(end) > INBOX_BYTES {
            break;
        }
        let at = parcel_at(count);
        control.write(INBOX_BYTES_AT + u64::from(start), &parcel.bytes);
        control.set_word(at, parcel.connection);
        control.set_word(at + offset_of!(RawParcel, fd) as u64, word(parcel.fd.unwrap_or(NO_DESCRIPTOR), start));
        control.set_word(at + offset_of!(RawParcel, end) as u64, word(end, parcel.room));
        control.set_word(at + offset_of!(RawParcel, dry) as u64, word(u32::from(parcel.dry), u32::from(parcel.whole)));
        (count, start) = (count + 1, end);
    }
    LIFE_AT.into_iter().zip(mail.life).for_each(|(at, word)| control.set_word(at, word));
    control.set_word(INBOX, word(u32::try_from(count).unwrap_or(0), 0));
}

/// Whether something was put by since `seen` letters were, or may be: as long as something came ahead that was not received.
pub(super) fn may_put_by(control: &Control, seen: usize) -> bool {
    if !has_pages(control) {
        return false;
    }
    let parcels = (halves(control, INBOX)[0] as usize).min(MAX_PARCELS);
    let unread = |index| {
        let at = parcel_at(index);
        let start = halves(control, at + offset_of!(RawParcel, fd) as u64)[1];
        halves(control, at + offset_of!(RawParcel, end) as u64)[0] > start
    };
    count_of_letters(control) > seen || (0..parcels).any(unread)
}

/// What the stub wrote there, and the kernel beside the tracking, belongs to the next capture.
pub(super) fn mark_dirty(control: &Control) {
    if !has_pages(control) {
        return;
    }
    let view = control.view();
    let tables = PageRange::between(INBOX >> 12, (OUTBOX >> 12) + 1);
    view.mark_dirty(tables);
    let mark =
        |at: u64, used: u64| view.mark_dirty(PageRange::between(at >> 12, (at + used).div_ceil(PAGE_SIZE as u64)));
    let parcels = (halves(control, INBOX)[0] as usize).min(MAX_PARCELS);
    let ends = (0..parcels).map(|index| halves(control, parcel_at(index) + offset_of!(RawParcel, end) as u64)[0]);
    mark(INBOX_BYTES_AT, u64::from(ends.max().unwrap_or(0)).min(INBOX_BYTES));
    mark(OUTBOX_BYTES_AT, u64::from(halves(control, OUTBOX)[1]).min(OUTBOX_BYTES));
}

#[cfg(test)]
mod tests {
    use super::*;
    use semper_pager::{Backing, BackingError, Pager, PagerConfig};
    use semper_store::sim::SimRng;
    use semper_store::{PageIndex, SegmentId};
    use std::sync::Arc;

    /// What never was committed.
    struct Nothing;

    impl Backing for Nothing {
        fn read(&self, _: SegmentId, _: PageIndex, out: &mut [u8]) -> Result<(), BackingError> {
            out.fill(0);
            Ok(())
        }
    }

    fn pages(count: u64) -> Control {
        let pager = Pager::new(PagerConfig::default(), Arc::new(Nothing)).unwrap();
        let segment = pager.create_segment(SegmentId(1), count).unwrap();
        Control::new(segment.view(PageRange::between(0, count)).unwrap())
    }

    fn parcel(connection: u64, fd: Option<u32>, bytes: &[u8]) -> Parcel {
        Parcel {
            connection,
            fd,
            bytes: bytes.to_vec(),
            room: 7,
            dry: connection.is_multiple_of(2),
            whole: connection > 2,
            fresh: false,
        }
    }

    #[test]
    fn what_is_put_is_taken_once() {
        let control = pages(LINUX_CONTROL_PAGES);
        assert_eq!(take(&control), None);
        let parcels = vec![parcel(1 << 40, Some(3), b"first"), parcel(2, None, b""), parcel(3, Some(9), &[5; 4096])];
        put(&control, &Mail { life: [77, 78], parcels: parcels.clone(), letters: Vec::new() });
        mark_dirty(&control);
        assert_eq!(take(&control), Some(Mail { life: [77, 78], parcels, letters: Vec::new() }));
        assert_eq!(take(&control), None);
        assert_eq!(take(&pages(crate::abi::CONTROL_PAGES)), None, "of an earlier version");
    }

    #[test]
    fn what_is_put_by_is_seen_once_and_in_its_own_life() {
        let control = pages(LINUX_CONTROL_PAGES);
        put(&control, &Mail { life: [77, 78], parcels: vec![parcel(1, Some(3), b"unread")], letters: Vec::new() });
        assert!(may_put_by(&control, 0) && put_by(&control, 0, [77, 78]).is_empty());
        // As the stub does.
        for (index, bytes) in [&b"one"[..], b"three"].into_iter().enumerate() {
            let start = u32::try_from(index * 3).unwrap();
            control.write(OUTBOX_BYTES_AT + u64::from(start), bytes);
            control.set_word(letter_at(index), 5);
            let ends = word(start, start + u32::try_from(bytes.len()).unwrap());
            control.set_word(letter_at(index) + offset_of!(RawLetter, start) as u64, ends);
            control.set_word(OUTBOX, word(u32::try_from(index).unwrap() + 1, 0));
        }
        let said = |seen| put_by(&control, seen, [77, 78]).into_iter().map(|letter| letter.bytes).collect::<Vec<_>>();
        assert_eq!(said(0), [&b"one"[..], b"three"]);
        assert_eq!(said(1), [b"three"]);
        assert!(said(2).is_empty() && said(3).is_empty());
        assert!(put_by(&control, 0, [77, 79]).is_empty());
        assert!(may_put_by(&control, 2), "something is unread");
        assert_eq!(take(&control).unwrap().letters.len(), 2);
        assert!(!may_put_by(&control, 0));
        // As a program may.
        control.set_word(OUTBOX, word(u32::MAX, 0));
        assert!(may_put_by(&control, MAX_LETTERS - 1) && !may_put_by(&control, MAX_LETTERS), "nobody looks for ever");
    }

    #[test]
    fn more_than_there_is_room_for_is_not_put() {
        let control = pages(LINUX_CONTROL_PAGES);
        let many = (0..100).map(|n| parcel(n, Some(1), &[1; 100])).collect();
        put(&control, &Mail { life: [1, 2], parcels: many, letters: Vec::new() });
        assert_eq!(take(&control).unwrap().parcels.len(), MAX_PARCELS);
        let large = (0..3).map(|n| parcel(n, Some(1), &[1; 16 << 10])).collect();
        put(&control, &Mail { life: [1, 2], parcels: large, letters: Vec::new() });
        assert_eq!(take(&control).unwrap().parcels.len(), 2);
    }

    #[test]
    fn nonsense_is_bounded_and_lies_in_the_pages() {
        let control = pages(LINUX_CONTROL_PAGES);
        let mut random = SimRng::new(5);
        for _ in 0..200 {
            for offset in (INBOX..INBOX_BYTES_AT).step_by(8) {
                control.set_word(offset, random.bits() >> random.below(64));
            }
            mark_dirty(&control);
            let Some(mail) = take(&control) else { continue };
            assert!(mail.parcels.len() <= MAX_PARCELS && mail.letters.len() <= MAX_LETTERS);
            assert!(mail.parcels.iter().all(|parcel| parcel.bytes.len() as u64 <= INBOX_BYTES));
            assert!(mail.letters.iter().all(|letter| letter.bytes.len() as u64 <= OUTBOX_BYTES));
        }
    }
}
