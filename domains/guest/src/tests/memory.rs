//! The functions that compiled code expects of a C library.

use crate::memory::{compare, copy_any, copy_forward, fill};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 7 + 3) % 256).unwrap()).collect()
}

#[test]
fn copies_are_exact_at_every_size() {
    for n in (0..200).chain([4096, 5000]) {
        let from = pattern(n);
        let mut to = vec![0xee; n + 2];
        // SAFETY: both have `n` bytes there.
        unsafe { copy_forward(to.as_mut_ptr().add(1), from.as_ptr(), n) };
        assert_eq!((to[0], &to[1..=n], to[n + 1]), (0xee, &from[..], 0xee), "{n} bytes");
    }
}

#[test]
fn copies_within_one_place_go_the_right_way() {
    for n in [0, 1, 3, 8, 31, 32, 33, 100, 1000] {
        for shift in [0, 1, 5, 16, 40] {
            let mut expected = pattern(n + 2 * shift);
            let mut bytes = expected.clone();
            expected.copy_within(shift..shift + n, 0);
            // SAFETY: `n` bytes lie in the vector from both places.
            unsafe { copy_any(bytes.as_mut_ptr(), bytes.as_ptr().add(shift), n) };
            assert_eq!(bytes, expected, "{n} bytes down by {shift}");
            expected.copy_within(0..n, 2 * shift);
            // SAFETY: as above.
            unsafe { copy_any(bytes.as_mut_ptr().add(2 * shift), bytes.as_ptr(), n) };
            assert_eq!(bytes, expected, "{n} bytes up by {}", 2 * shift);
        }
    }
}

#[test]
fn sets_and_comparisons_are_exact() {
    for n in [0, 1, 7, 8, 9, 40, 41] {
        let mut bytes = vec![1; n + 1];
        // SAFETY: `n` bytes are there.
        unsafe { fill(bytes.as_mut_ptr(), 0xa5, n) };
        assert!(bytes[..n].iter().all(|byte| *byte == 0xa5) && bytes[n] == 1);
        let same = pattern(n);
        // SAFETY: both have `n` bytes.
        let order = |a: &[u8], b: &[u8]| unsafe { compare(a.as_ptr(), b.as_ptr(), n) };
        assert_eq!(order(&same, &same.clone()), 0);
        for at in 0..n {
            let mut other = same.clone();
            other[at] = other[at].wrapping_add(1);
            assert_eq!(order(&same, &other).signum(), same.cmp(&other) as i32, "{n} bytes, other at {at}");
        }
    }
}
