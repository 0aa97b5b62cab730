//! The extended state in a signal frame, made fit for the processor where its domain goes on.
//!
//! Linux writes into a frame what its processor has: x87, SSE, AVX, and what came after them, in places that differ from one processor to the other.
//! Where a frame says more bytes than Linux has there it takes x87 and SSE from it and clears the rest. So a frame from elsewhere is cut down to what
//! has the same place everywhere; if more than that is in use, there is no way to go on.

use std::sync::OnceLock;
use thiserror::Error;

/// `sw_reserved` in the legacy area: a magic number, bytes with the one at the end, components, bytes without.
const MAGIC1_AT: usize = 464;
const WHOLE_AT: usize = 468;
const FEATURES_AT: usize = 472;
const BYTES_AT: usize = 480;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// The header, which begins with the components that are in use.
const HEADER: std::ops::Range<usize> = 512..576;
/// Where AVX state ends, on all processors.
const AVX_END: usize = 832;
/// x87, SSE, and AVX.
const COMMON: u64 = 7;
const AVX: u64 = 1 << 2;
/// Protection keys, which no program has: Linux sets them anew. They are always in use, and stand last but for what nobody can have here.
const PROTECTION_KEYS: u64 = 1 << 9;
const PROTECTION_KEYS_BYTES: usize = 8;
/// State that Linux gives only to who asks for it, which nobody can here.
const TILES: u64 = 1 << 18;

/// Components that this processor cannot take up from a frame.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("registers are in use that cannot be taken up on this processor: {0}")]
pub struct Lacking(pub String);

/// What a processor has in its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The components.
    features: u64,
    /// Where each of them ends.
    ends: [usize; 64],
}

impl Layout {
    /// Of this processor.
    #[must_use]
    pub fn here() -> &'static Self {
        static HERE: OnceLock<Layout> = OnceLock::new();
        HERE.get_or_init(Self::ask)
    }

    fn ask() -> Self {
        use std::arch::x86_64::{__cpuid_count, _xgetbv};
        const OSXSAVE: u32 = 1 << 27;
        let mut ends = [HEADER.end; 64];
        if __cpuid_count(1, 0).ecx & OSXSAVE == 0 {
            return Self { features: 3, ends };
        }
        #[target_feature(enable = "xsave")]
        fn components() -> u64 {
            // SAFETY: register 0 is there wherever the instruction is.
            unsafe { _xgetbv(0) }
        }
        // SAFETY: the processor says that the system lets programs use it.
        let features = unsafe { components() } & !TILES;
        for (component, end) in (0..).zip(&mut ends).skip(2).filter(|(component, _)| features >> component & 1 == 1) {
            let place = __cpuid_count(0xd, component);
            *end = usize::try_from(place.ebx.saturating_add(place.eax)).unwrap_or(usize::MAX);
        }
        Self { features, ends }
    }

    /// Bytes of a frame's area with these components, without the magic number at its end.
    fn bytes(&self, features: u64) -> usize {
        let of = |component: &usize| features >> component & 1 == 1;
        (0..64).filter(of).map(|component| self.ends[component]).max().unwrap_or(0).max(HEADER.end)
    }

    /// Makes an area fit: false if it was.
    ///
    /// # Errors
    /// [`Lacking`]; nothing is changed then.
    pub fn fit(&self, area: &mut Vec<u8>) -> Result<bool, Lacking> {
        if area.len() < HEADER.end || word(area, MAGIC1_AT) != MAGIC1 {
            return Ok(false);
        }
        let features = long(area, FEATURES_AT);
        let bytes = usize::try_from(word(area, BYTES_AT)).unwrap_or(usize::MAX);
        let is_as_here = |features: u64, bytes: usize| features & !self.features == 0 && self.bytes(features) == bytes;
        if is_as_here(features, bytes) {
            return Ok(false);
        }
        let (rest, end) = (features & !PROTECTION_KEYS, bytes.wrapping_sub(PROTECTION_KEYS_BYTES));
        let kept = if rest != features && is_as_here(rest, end) {
            cut_at(area, rest, end)?;
            rest
        } else {
            let kept = features & self.features & COMMON;
            cut(area, kept)?;
            kept
        };
        let bytes = area.len();
        let narrow = |n: usize| u32::try_from(n).unwrap_or(0).to_le_bytes();
        area[WHOLE_AT..FEATURES_AT].copy_from_slice(&narrow(bytes + 4));
        area[FEATURES_AT..BYTES_AT].copy_from_slice(&kept.to_le_bytes());
        area[BYTES_AT..BYTES_AT + 4].copy_from_slice(&narrow(bytes));
        area.extend_from_slice(&MAGIC2.to_le_bytes());
        Ok(true)
    }
}

/// Cuts an area down to the components in `kept`, some of x87, SSE and AVX.
///
/// # Errors
/// [`Lacking`] if others are in use; nothing is changed then.
pub fn cut(area: &mut Vec<u8>, kept: u64) -> Result<(), Lacking> {
    cut_at(area, kept, if kept & AVX != 0 { AVX_END } else { HEADER.end })
}

/// The same of any components, which end at `end`.
fn cut_at(area: &mut Vec<u8>, kept: u64, end: usize) -> Result<(), Lacking> {
    let used = if area.len() < HEADER.end { 0 } else { long(area, HEADER.start) };
    let lost = used & !kept & !PROTECTION_KEYS;
    if lost != 0 {
        return Err(Lacking(names(lost)));
    }
    area.resize(end, 0);
    area[HEADER].fill(0);
    area[HEADER.start..HEADER.start + 8].copy_from_slice(&(used & kept).to_le_bytes());
    Ok(())
}

fn names(components: u64) -> String {
    let mut all: Vec<String> = Vec::new();
    for component in (0..64).filter(|component| components >> component & 1 == 1) {
        let name = match component {
            0 => "x87".into(),
            1 => "SSE".into(),
            2 => "AVX".into(),
            3 | 4 => "MPX".into(),
            5..=7 => "AVX-512".into(),
            17 | 18 => "AMX".into(),
            19 => "APX".into(),
            other => format!("component {other}"),
        };
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all.join(", ")
}

fn word(area: &[u8], at: usize) -> u32 {
    area.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn long(area: &[u8], at: usize) -> u64 {
    u64::from(word(area, at)) | u64::from(word(area, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn layout(places: &[(usize, usize)]) -> Layout {
        let mut ends = [HEADER.end; 64];
        places.iter().for_each(|(component, end)| ends[*component] = *end);
        Layout { features: places.iter().fold(3, |all, (component, _)| all | 1 << component), ends }
    }

    /// AVX alone; with AVX-512 as Intel and as AMD have it; with protection keys.
    fn layouts() -> [Layout; 4] {
        let avx = (2, 832);
        [
            layout(&[avx]),
            layout(&[avx, (5, 1152), (6, 1664), (7, 2688), (9, 2696)]),
            layout(&[avx, (5, 896), (6, 1408), (7, 2432), (9, 2440)]),
            layout(&[avx, (9, 840)]),
        ]
    }

    /// A frame that a processor would write, with these components in use.
    fn frame(of: &Layout, used: u64) -> Vec<u8> {
        let bytes = of.bytes(of.features);
        let mut area: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect();
        area[MAGIC1_AT..WHOLE_AT].copy_from_slice(&MAGIC1.to_le_bytes());
        area[WHOLE_AT..FEATURES_AT].copy_from_slice(&u32::try_from(bytes + 4).unwrap().to_le_bytes());
        area[FEATURES_AT..BYTES_AT].copy_from_slice(&of.features.to_le_bytes());
        area[BYTES_AT..BYTES_AT + 4].copy_from_slice(&u32::try_from(bytes).unwrap().to_le_bytes());
        area[HEADER].fill(0);
        area[HEADER.start..HEADER.start + 8].copy_from_slice(&used.to_le_bytes());
        area.extend_from_slice(&MAGIC2.to_le_bytes());
        area
    }

    #[test]
    fn a_frame_from_elsewhere_is_cut_down_and_keeps_what_is_in_use() {
        for from in layouts() {
            for to in layouts() {
                for used in [0, 1, 3, 7, 7 | PROTECTION_KEYS & from.features] {
                    let before = frame(&from, used);
                    let mut area = before.clone();
                    let changed = to.fit(&mut area).unwrap();
                    let fits =
                        from.features & !to.features == 0 && to.bytes(from.features) == from.bytes(from.features);
                    assert_eq!(changed, !fits);
                    if !changed {
                        assert_eq!(area, before);
                        continue;
                    }
                    assert_eq!(area.len(), AVX_END + 4);
                    assert_eq!(area[..MAGIC1_AT], before[..MAGIC1_AT]);
                    assert_eq!(area[HEADER.end..AVX_END], before[HEADER.end..AVX_END]);
                    assert_eq!((word(&area, WHOLE_AT), word(&area, BYTES_AT)), (836, 832));
                    assert_eq!((long(&area, FEATURES_AT), long(&area, HEADER.start)), (7, used & 7));
                    assert_eq!(word(&area, AVX_END), MAGIC2);
                    assert!(!to.fit(&mut area).unwrap(), "it fits now");
                }
            }
        }
    }

    #[test]
    fn where_only_protection_keys_are_missing_all_else_stays() {
        let intel = layouts()[1];
        let without = layout(&[(2, 832), (5, 1152), (6, 1664), (7, 2688)]);
        let before = frame(&intel, 0xe7 | PROTECTION_KEYS);
        let mut area = before.clone();
        assert!(without.fit(&mut area).unwrap());
        assert_eq!((area.len(), long(&area, FEATURES_AT), long(&area, HEADER.start)), (2692, 0xe7, 0xe7));
        assert_eq!(area[HEADER.end..2688], before[HEADER.end..2688]);
        assert!(!without.fit(&mut area).unwrap() && !intel.fit(&mut area).unwrap(), "it fits both now");
    }

    #[test]
    fn registers_in_use_that_cannot_be_taken_up_are_named() {
        let [avx, intel, amd, _] = layouts();
        for (from, to) in [(intel, avx), (intel, amd), (amd, intel)] {
            let mut area = frame(&from, 0xe7);
            let before = area.clone();
            assert_eq!(to.fit(&mut area), Err(Lacking("AVX-512".into())));
            assert_eq!(area, before);
        }
        let none = layout(&[]);
        assert_eq!(none.fit(&mut frame(&avx, 7)), Err(Lacking("AVX".into())));
        let mut area = frame(&avx, 3);
        assert!(none.fit(&mut area).unwrap());
        assert_eq!(area.len(), HEADER.end + 4);
    }

    #[test]
    fn what_this_machine_writes_fits_and_nonsense_is_left_alone() {
        let here = Layout::here();
        assert!(!here.fit(&mut frame(here, here.features)).unwrap());
        for mut area in [Vec::new(), vec![0; 512], vec![0; 4000], vec![0xff; 600]] {
            let before = area.clone();
            assert!(!here.fit(&mut area).unwrap());
            assert_eq!(area, before);
        }
        let mut hostile = frame(here, 0);
        hostile[FEATURES_AT..BYTES_AT + 4].fill(0xff);
        assert!(here.fit(&mut hostile).unwrap());
    }
}
