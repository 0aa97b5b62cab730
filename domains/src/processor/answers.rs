//! The table of answers to `cpuid`.

use super::Level;
use std::arch::x86_64::__cpuid_count;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the instruction leaves in eax, ebx, ecx and edx.
pub type Words = [u32; 4];

/// Most answers in a table.
pub const MAX_ANSWERS: usize = 72;
/// The last leaves that are told, basic and extended; beyond them are features and the machine's own affairs.
const LAST: [u32; 2] = [0x1f, 0x8000_001e];
/// Subleaves of one leaf that are asked for: caches, levels of the topology.
const SUBLEAVES: u32 = 8;
/// The largest extended state that a processor of today can write, tile registers included. A program makes room for as much as it is told,
/// and `xsave` writes what the processor has where it goes on.
pub const EXTENDED_STATE: u32 = 11_008;

/// One answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Answer {
    /// To this eax.
    pub leaf: u32,
    /// And this ecx, where that matters.
    pub subleaf: u32,
    /// What is told.
    pub words: Words,
}

/// What a program is told by `cpuid`, for all its life. What is not in the table is told as zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    all: Vec<Answer>,
}

/// Whether the answer depends on ecx.
const fn has_subleaves(leaf: u32) -> bool {
    matches!(leaf, 4 | 7 | 0xb | 0xd | 0x1f | 0x8000_001d)
}

/// Bits of leaf 1 that are told: ecx, edx.
const fn basic(level: Level) -> [u32; 2] {
    // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT
    const V2: u32 = 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23;
    // FMA, MOVBE, XSAVE, OSXSAVE, AVX, F16C
    const V3: u32 = V2 | 1 << 12 | 1 << 22 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29;
    // What all x86-64 processors have.
    const FIRST: u32 = 0x178b_fbff;
    match level {
        Level::V2 => [V2, FIRST],
        Level::V3 => [V3, FIRST],
    }
}

/// Bits of leaf 7 that are told: ebx, edx. That `rep movsb` is fast says nothing of which instructions there are.
const fn structured(level: Level) -> [u32; 2] {
    // ERMS; FSRM
    const FAST: [u32; 2] = [1 << 9, 1 << 4];
    match level {
        Level::V2 => FAST,
        // BMI1, AVX2, BMI2
        Level::V3 => [FAST[0] | 1 << 3 | 1 << 5 | 1 << 8, FAST[1]],
    }
}

/// Bits of leaf 0x8000_0001 that are told: ecx, edx.
const fn extended(level: Level) -> [u32; 2] {
    // LAHF; how cores and caches are told of
    const V2: u32 = 1 | 1 << 1 | 1 << 22;
    // SYSCALL, NX, large pages, long mode, and what AMD says again of leaf 1
    const FIRST: u32 = 1 << 11 | 1 << 20 | 1 << 26 | 1 << 29 | 0x0183_f3ff;
    match level {
        Level::V2 => [V2, FIRST],
        // LZCNT
        Level::V3 => [V2 | 1 << 5, FIRST],
    }
}

/// What a program of `level` is told where the processor says `words`. Features are told if the level has them; what the machine is called and how it
/// is built, as it is; all else not at all.
fn told(level: Level, leaf: u32, subleaf: u32, words: Words) -> Words {
    let [a, b, c, d] = words;
    match (leaf, subleaf) {
        (0, _) => [a.min(LAST[0]), b, c, d],
        (1, _) => [a, b, c & basic(level)[0], d & basic(level)[1]],
        (7, 0) => [0, b & structured(level)[0], 0, d & structured(level)[1]],
        (0xd, 0) if level == Level::V3 => [7, EXTENDED_STATE, EXTENDED_STATE, 0],
        (0xd, 2) if level == Level::V3 => [256, 576, 0, 0],
        (0x8000_0000, _) => [a.min(LAST[1]), b, c, d],
        (0x8000_0001, _) => [a, b, c & extended(level)[0], d & extended(level)[1]],
        // That the time-stamp counter goes on evenly; how many bits addresses have, and how many cores there are.
        (0x8000_0007, _) => [0, 0, 0, d & 1 << 8],
        (0x8000_0008, _) => [a & 0xffff, 0, c, 0],
        // Caches, topology, brand.
        (2 | 4 | 0xb | 0x1f | 0x8000_0002..=0x8000_0006 | 0x8000_0019 | 0x8000_001d | 0x8000_001e, _) => words,
        _ => [0; 4],
    }
}

impl Answers {
    /// Asks this processor.
    #[must_use]
    pub fn take(level: Level) -> Self {
        Self::from(level, |leaf, subleaf| {
            let it = __cpuid_count(leaf, subleaf);
            [it.eax, it.ebx, it.ecx, it.edx]
        })
    }

    fn from(level: Level, ask: impl Fn(u32, u32) -> Words) -> Self {
        let mut all = Vec::new();
        for (first, last) in [0, 0x8000_0000].into_iter().zip(LAST) {
            for leaf in first..=ask(first, 0)[0].clamp(first, last) {
                let subleaves = if has_subleaves(leaf) { SUBLEAVES } else { 1 };
                let of = |subleaf| Answer { leaf, subleaf, words: told(level, leaf, subleaf, ask(leaf, subleaf)) };
                all.extend((0..subleaves).map(of).filter(|answer| answer.words != [0; 4]));
            }
        }
        all.truncate(MAX_ANSWERS);
        Self { all }
    }

    /// Those that were kept; none if no processor could have given them, or they tell of what the level does not have.
    #[must_use]
    pub fn kept(level: Level, mut all: Vec<Answer>) -> Option<Self> {
        all.sort_unstable_by_key(|answer| (answer.leaf, answer.subleaf));
        let told_twice = |pair: &[Answer]| (pair[0].leaf, pair[0].subleaf) == (pair[1].leaf, pair[1].subleaf);
        let fits = |answer: &Answer| told(level, answer.leaf, answer.subleaf, answer.words) == answer.words;
        let first = all.first().is_some_and(|answer| answer.leaf == 0);
        let sound = first && all.len() <= MAX_ANSWERS && !all.windows(2).any(told_twice) && all.iter().all(fits);
        sound.then_some(Self { all })
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Answer] {
        &self.all
    }

    /// The answer to eax and ecx.
    #[must_use]
    pub fn to(&self, leaf: u32, subleaf: u32) -> Words {
        let subleaf = if has_subleaves(leaf) { subleaf } else { 0 };
        let found = self.all.iter().find(|answer| (answer.leaf, answer.subleaf) == (leaf, subleaf));
        found.map_or([0; 4], |answer| answer.words)
    }

    /// The same, in the registers of whoever executed the instruction, which is two bytes long.
    pub fn give(&self, regs: &mut crate::cpu::Registers) {
        #[allow(clippy::cast_possible_truncation)] // The instruction reads the lower halves.
        let (leaf, subleaf) = (regs.rax as u32, regs.rcx as u32);
        [regs.rax, regs.rbx, regs.rcx, regs.rdx] = self.to(leaf, subleaf).map(u64::from);
        regs.rip = regs.rip.wrapping_add(2);
    }

    /// `AT_HWCAP`.
    #[must_use]
    pub fn hwcap(&self) -> u64 {
        self.to(1, 0)[3].into()
    }

    /// Whether this processor writes no more extended state than its program was told.
    #[must_use]
    pub fn has_room_here(&self) -> bool {
        self.to(0xd, 0)[1] == 0 || __cpuid_count(0xd, 0).ebx <= EXTENDED_STATE
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cpu::Registers;

    /// A processor that has everything and says something to every question.
    fn everything(leaf: u32, _: u32) -> Words {
        match leaf {
            0 => [0x24, 1, 2, 3],
            0x8000_0000 => [0x8000_0026, 1, 2, 3],
            _ => [u32::MAX; 4],
        }
    }

    #[test]
    fn nothing_beyond_the_level_is_told() {
        let v2 = Answers::from(Level::V2, everything);
        assert_eq!(v2.to(0, 7), [0x1f, 1, 2, 3]);
        let [_, _, ecx, edx] = v2.to(1, 0);
        assert_eq!((ecx, edx), (0x0098_2201, 0x178b_fbff));
        assert_eq!(v2.to(7, 0), [0, 1 << 9, 0, 1 << 4]);
        for (leaf, subleaf) in [(7, 1), (7, 2), (0xd, 0), (0xd, 1), (0x14, 0), (0x19, 0), (0x24, 0), (0x4000_0000, 0)] {
            assert_eq!(v2.to(leaf, subleaf), [0; 4], "{leaf:#x}.{subleaf}");
        }
        let v3 = Answers::from(Level::V3, everything);
        assert_eq!(v3.to(1, 0)[2], 0x3cd8_3201);
        assert_eq!(v3.to(7, 0)[1], 1 << 3 | 1 << 5 | 1 << 8 | 1 << 9);
        assert_eq!(v3.to(0xd, 0), [7, EXTENDED_STATE, EXTENDED_STATE, 0]);
        assert_eq!(v3.to(0xd, 1), [0; 4], "neither xsavec nor xsaveopt");
        assert_eq!(v3.to(0x8000_0001, 0)[2] & 1 << 5, 1 << 5);
        assert_eq!(v2.to(0x8000_0001, 0)[2] & 1 << 5, 0);
    }

    #[test]
    fn this_processor_fits_into_a_table_and_comes_back_from_it() {
        for level in Level::ALL {
            let taken = Answers::take(level);
            assert!(taken.all().len() < MAX_ANSWERS, "{}", taken.all().len());
            let kept = Answers::kept(level, taken.all().to_vec()).unwrap();
            assert_eq!(kept, taken);
        }
    }

    #[test]
    fn answers_that_tell_too_much_are_refused() {
        let taken = Answers::take(Level::V2);
        let spoil = |change: &dyn Fn(&mut Vec<Answer>)| {
            let mut all = taken.all().to_vec();
            change(&mut all);
            Answers::kept(Level::V2, all)
        };
        assert!(spoil(&|_| ()).is_some());
        assert!(spoil(&|all| all.iter_mut().find(|a| a.leaf == 1).unwrap().words[2] |= 1 << 28).is_none(), "AVX");
        assert!(spoil(&|all| all.push(Answer { leaf: 7, subleaf: 1, words: [16, 0, 0, 0] })).is_none());
        assert!(spoil(&|all| all.push(all[1])).is_none(), "twice the same");
        assert!(spoil(&Vec::clear).is_none());
        let many =
            |all: &mut Vec<Answer>| all.extend((8..90).map(|subleaf| Answer { leaf: 4, subleaf, words: [1; 4] }));
        assert!(spoil(&many).is_none());
    }

    #[test]
    fn whoever_executed_it_has_the_answer_in_its_registers() {
        let answers = Answers::from(Level::V2, everything);
        let mut regs =
            Registers { rax: 0xffff_0000_0000_0007, rcx: 0xffff_0000_0000_0000, rip: 100, ..Registers::default() };
        answers.give(&mut regs);
        assert_eq!([regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rip], [0, 1 << 9, 0, 1 << 4, 102]);
    }
}
