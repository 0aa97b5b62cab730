//! Slots are given out once, emptied and given back.

use super::fake;
use crate::abi::OWN;
use crate::slot::{FIRST_KEYS, set_taken};
use crate::{Error, Slot};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Which slots are free is one state of the whole program: tests that take slots run one after the other.
static ONE: Mutex<()> = Mutex::new(());

pub(super) fn alone() -> MutexGuard<'static, ()> {
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    set_taken(FIRST_KEYS);
    guard
}

/// A kernel for which everything succeeds.
pub(super) fn yes<R>(body: impl FnOnce() -> R) -> R {
    fake::with(|_, _| Vec::new(), body)
}

#[test]
fn the_slots_of_the_first_keys_are_not_given_out() {
    let _alone = alone();
    yes(|| {
        assert_eq!(Slot::free(), 3);
        let all: Vec<Slot> = (0..3).map(|_| Slot::take().unwrap()).collect();
        assert_eq!(all.iter().map(Slot::number).collect::<Vec<_>>(), [12, 13, 14]);
        assert_eq!(Slot::take(), Err(Error::NoFreeSlot));
        assert_eq!(Slot::free(), 0);
    });
}

#[test]
fn a_dropped_slot_is_emptied_and_free_again() {
    let _alone = alone();
    let cleared = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let seen = cleared.clone();
    fake::with(
        move |message, _| {
            assert_eq!((message.slot, message.order), (OWN, 2));
            seen.borrow_mut().push(message.words[0]);
            Vec::new()
        },
        || {
            let first = Slot::take().unwrap();
            let second = Slot::take().unwrap();
            drop(first);
            assert_eq!(Slot::take().unwrap().number(), 12);
            assert_eq!(second.number(), 13);
            drop(Slot::fixed(3));
        },
    );
    assert_eq!(*cleared.borrow(), [12, 12, 13]);
}

#[test]
fn a_key_that_is_given_up_frees_its_slot() {
    let _alone = alone();
    yes(|| {
        crate::give_up(&[7, 2]);
        assert_eq!(Slot::free(), 5);
        assert_eq!(Slot::take().unwrap().number(), 2);
    });
}

#[test]
fn a_copy_that_is_refused_takes_no_slot() {
    let _alone = alone();
    let refuse = |message: &mut crate::abi::Message, _: &[u8]| {
        if message.order == 0 {
            (message.code, message.got_words) = (0x8000_0009, [0, 77, 0, 0]);
        }
        Vec::new()
    };
    fake::with(refuse, || {
        assert_eq!(Slot::fixed(77).copy(), Err(Error::BadWord { word: 0, value: 77 }));
        assert_eq!(Slot::free(), 3);
    });
}
