//! The register state of a domain, as gdb's `g` packet orders it, and back.
//!
//! A state is what the order *get registers* of a domain key gives: 23 words in the order of Linux' `struct sigcontext`, the
//! bases of fs and gs, then the XSAVE area, if there is one.

use gdbstub::arch::{Arch, Registers};

/// Where in a state the general registers of gdb's order stand, in words.
const GENERAL: [usize; 16] = [13, 11, 14, 12, 9, 8, 10, 15, 0, 1, 2, 3, 4, 5, 6, 7];
const RIP: usize = 16;
const FLAGS: usize = 17;
const SELECTORS: usize = 18;
const BASES: usize = 23;
/// Where the XSAVE area begins in a state, in bytes.
const AREA: usize = 25 * 8;
/// In the area: which components are not in their initial state.
const COMPONENTS: usize = 512;
/// The least area: the legacy one and the header.
const LEAST_AREA: usize = 576;
const X87: u8 = 1;
const SSE: u8 = 2;

/// Bytes of a `g` packet: to mxcsr, and with the bases.
const PLAIN: usize = 536;
const ALL: usize = PLAIN + 16;
/// Where the groups begin in it.
const ST: usize = 164;
const X87_CONTROL: usize = 244;
const XMM: usize = 276;
const MXCSR: usize = 532;

/// x86-64 as gdb describes it by default, bases of fs and gs included.
pub enum Amd64 {}

impl Arch for Amd64 {
    type Usize = u64;
    type Registers = Packet;
    type BreakpointKind = usize;
    type RegId = ();

    fn target_description_xml() -> Option<&'static str> {
        Some(r#"<target version="1.0"><architecture>i386:x86-64</architecture></target>"#)
    }
}

/// The content of a `g` packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet(pub Vec<u8>);

impl Registers for Packet {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        word(&self.0, 128)
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        self.0.iter().for_each(|byte| write_byte(Some(*byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        if bytes.len() < PLAIN {
            return Err(());
        }
        self.0 = bytes.to_vec();
        Ok(())
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |word| u64::from_le_bytes(std::array::from_fn(|i| word[i])))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The area of a state, if it has one.
fn area(state: &[u8]) -> Option<&[u8]> {
    state.get(AREA..).filter(|area| area.len() >= LEAST_AREA)
}

/// A state as gdb wants it.
pub fn to_packet(state: &[u8]) -> Packet {
    let mut packet = vec![0u8; ALL];
    for (to, from) in GENERAL.into_iter().chain([RIP]).enumerate() {
        packet[to * 8..][..8].copy_from_slice(&word(state, from * 8).to_le_bytes());
    }
    packet[136..140].copy_from_slice(&word(state, FLAGS * 8).to_le_bytes()[..4]);
    // cs, gs, fs, ss; gdb: cs, ss, ds, es, fs, gs.
    let selectors = word(state, SELECTORS * 8).to_le_bytes();
    for (to, from) in [(140, 0), (144, 6), (156, 4), (160, 2)] {
        packet[to..to + 2].copy_from_slice(&selectors[from..from + 2]);
    }
    packet[PLAIN..].copy_from_slice(&state[BASES * 8..AREA]);
    let (mut control, mut mxcsr) = ([0x37f, 0, 0xffff, 0, 0, 0, 0, 0u32], 0x1f80u32.to_le_bytes());
    if let Some(area) = area(state) {
        let components = area[COMPONENTS];
        mxcsr.copy_from_slice(&area[24..28]);
        if components & X87 != 0 {
            let long = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| area[at + i]));
            let tags = (0..8).filter(|i| area[4] & 1 << i == 0).fold(0, |tags, i| tags | 3 << (2 * i));
            control = [
                half(area, 0).into(),
                half(area, 2).into(),
                tags,
                long(12),
                long(8),
                long(20),
                long(16),
                half(area, 6).into(),
            ];
            for i in 0..8 {
                packet[ST + 10 * i..][..10].copy_from_slice(&area[32 + 16 * i..][..10]);
            }
        }
        if components & SSE != 0 {
            packet[XMM..MXCSR].copy_from_slice(&area[160..416]);
        }
    }
    for (i, value) in control.into_iter().enumerate() {
        packet[X87_CONTROL + 4 * i..][..4].copy_from_slice(&value.to_le_bytes());
    }
    packet[MXCSR..PLAIN].copy_from_slice(&mxcsr);
    Packet(packet)
}

/// What a state becomes when gdb sets `packet`.
pub fn to_state(before: &[u8], packet: &Packet) -> Vec<u8> {
    let old = to_packet(before);
    let (old, new) = (&old.0, &packet.0);
    let mut state = before.to_vec();
    for (from, to) in GENERAL.into_iter().chain([RIP]).enumerate() {
        state[to * 8..][..8].copy_from_slice(&new[from * 8..][..8]);
    }
    state[FLAGS * 8..][..4].copy_from_slice(&new[136..140]);
    if let Some(bases) = new.get(PLAIN..ALL) {
        state[BASES * 8..AREA].copy_from_slice(bases);
    }
    if area(before).is_none() {
        state.truncate(AREA);
        return state;
    }
    let area = &mut state[AREA..];
    if old[ST..XMM] != new[ST..XMM] {
        let control = |i: usize| u32::from_le_bytes(std::array::from_fn(|byte| new[X87_CONTROL + 4 * i + byte]));
        area[COMPONENTS] |= X87;
        for (at, i) in [(0, 0), (2, 1), (6, 7)] {
            area[at..at + 2].copy_from_slice(&control(i).to_le_bytes()[..2]);
        }
        let valid = (0..8u8).filter(|i| control(2) >> (2 * i) & 3 != 3);
        area[4] = valid.fold(0, |valid, i| valid | 1 << i);
        for (at, i) in [(12, 3), (8, 4), (20, 5), (16, 6)] {
            area[at..at + 4].copy_from_slice(&control(i).to_le_bytes());
        }
        for i in 0..8 {
            area[32 + 16 * i..][..10].copy_from_slice(&new[ST + 10 * i..][..10]);
        }
    }
    if old[XMM..PLAIN] != new[XMM..PLAIN] {
        area[COMPONENTS] |= SSE;
        area[160..416].copy_from_slice(&new[XMM..MXCSR]);
        area[24..28].copy_from_slice(&new[MXCSR..PLAIN]);
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state in which every word and byte that gdb sees is another.
    fn state() -> Vec<u8> {
        let mut state: Vec<u8> = (0u64..25).flat_map(|word| (0x0101_0101 * (word + 1)).to_le_bytes()).collect();
        state.extend((0..2048).map(|i| u8::try_from(i % 251).unwrap_or(0)));
        state[AREA + COMPONENTS] = X87 | SSE;
        state
    }

    #[test]
    fn what_gdb_sets_unchanged_changes_nothing() {
        for state in [state(), state()[..AREA].to_vec()] {
            assert_eq!(to_state(&state, &to_packet(&state)), state);
        }
    }

    #[test]
    fn every_register_that_gdb_sets_comes_back() {
        let before = state();
        let mut packet = to_packet(&before);
        assert_eq!(packet.0.len(), ALL);
        assert_eq!((packet.pc(), word(&packet.0, 0)), (0x0101_0101 * 17, 0x0101_0101 * 14));
        // All but the selectors, which a domain cannot change, and the tags, of which only "empty" is kept.
        let fixed = (140..164).chain(X87_CONTROL..XMM);
        let fixed: Vec<usize> = fixed.collect();
        for at in (0..ALL).filter(|at| !fixed.contains(at)) {
            packet.0[at] ^= 0x5a;
        }
        assert_eq!(to_packet(&to_state(&before, &packet)), packet);
    }
}
