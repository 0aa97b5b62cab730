//! What is put into a message, and what is made of an answer.

use super::slots::{alone, yes};
use super::{fake, fake::Seen};
use crate::abi::{CALL, Message, NO_SLOT, SEND};
use crate::keys::{Bank, Clock, Console, Domain, Factory, Key, Meter, Node, Quota, Segment, Start};
use crate::{Call, Error, Rights, Slot};

#[test]
fn a_call_carries_what_it_was_given() {
    let _alone = alone();
    let seen = fake::record(
        |message| (message.code, message.got_words) = (9, [4, 3, 2, 1]),
        || {
            let call = Call::new(&Slot::fixed(5), 7).words([1, 2]).string(b"text").key(1, &Slot::fixed(8));
            let answer = call.accept_in(2, Slot::fixed(3)).deadline(99).call().unwrap();
            assert_eq!((answer.code, answer.words), (9, [4, 3, 2, 1]));
            assert_eq!(answer.keys, [None, None, None, None]);
        },
    );
    let Seen { message, string } = &seen[0];
    assert_eq!((message.slot, message.how, message.order, message.deadline), (5, CALL, 7, 99));
    assert_eq!((message.words, message.string_len, &string[..]), ([1, 2, 0, 0], 4, &b"text"[..]));
    assert_eq!(message.keys, [NO_SLOT, 8, NO_SLOT, NO_SLOT]);
    assert_eq!(message.accept, [NO_SLOT, NO_SLOT, 3, NO_SLOT]);
    assert_eq!((message.zero, message.zero2), (0, 0));
}

#[test]
fn a_string_that_is_too_long_is_refused_here() {
    yes(|| {
        let long = [0; 4097];
        let refused = Call::new(&Slot::fixed(0), 1).string(&long).call().unwrap_err();
        assert_eq!(refused, Error::StringTooLong { len: 4097, limit: 4096 });
    });
}

#[test]
fn a_refusal_is_an_error_and_gives_back_the_slots() {
    let _alone = alone();
    let kernel = |message: &mut Message, _: &[u8]| {
        if message.order == 4 {
            (message.code, message.got_words) = (0x8000_0008, [2, 10, 0, 0]);
        }
        Vec::new()
    };
    fake::with(kernel, || {
        let refused = Bank::at(3).buy_node().unwrap_err();
        assert_eq!(refused.to_string(), "no more records of the quota: the limit is 10");
        assert_eq!(Slot::free(), 3);
    });
}

#[test]
fn a_key_that_did_not_come_is_told() {
    let _alone = alone();
    yes(|| {
        assert_eq!(Node::at(1).fetch::<Slot>(2).unwrap_err(), Error::MissingKey { argument: 0 });
        assert_eq!(Slot::free(), 3);
    });
}

#[test]
fn long_reads_and_writes_are_cut_into_strings() {
    let segment = Segment::at(6);
    let seen = fake::record(|_| (), || segment.write(100, &vec![7; 10_000]).unwrap());
    let pieces: Vec<(u64, usize)> = seen.iter().map(|seen| (seen.message.words[0], seen.string.len())).collect();
    assert_eq!(pieces, [(100, 4096), (4196, 4096), (8292, 1808)]);

    let kernel = |message: &mut Message, _: &[u8]| {
        let [from, bytes, ..] = message.words;
        (from..from + bytes).map(|at| u8::try_from(at % 251).unwrap()).collect()
    };
    let mut bytes = vec![0; 9000];
    fake::with(kernel, || segment.read(50, &mut bytes).unwrap());
    assert!(bytes.iter().zip(50_u64..).all(|(byte, at)| u64::from(*byte) == at % 251));
}

#[test]
fn typed_keys_send_the_orders_of_the_table() {
    let _alone = alone();
    let seen = fake::record(
        |message| message.got_keys = 1,
        || {
            let (bank, meter, domain) = (Bank::at(3), Meter::at(4), Domain::at(9));
            assert_eq!(Clock::at(1).monotonic(), Ok(0));
            Console::at(0).write(b"hello").unwrap();
            drop(bank.buy_bank(Quota { pages: 5, records: 6 }).unwrap());
            domain.map(0x400, &Segment::at(10), 1, 2).unwrap();
            drop(domain.make_start_key(77).unwrap());
            drop(meter.make(1000, &bank).unwrap());
            drop(bank.weaken(Rights::READ).unwrap());
            domain.set_keeper(None).unwrap();
            domain.set_keeper(Some(&Start::at(2))).unwrap();
            drop(Factory::at(5).make(&bank, &meter, [None, Some(&Slot::fixed(1))]).unwrap());
        },
    );
    let orders: Vec<_> = seen
        .iter()
        .filter(|seen| seen.message.slot != 255)
        .map(|Seen { message: m, .. }| (m.slot, m.order, m.words[0], m.words[1], m.keys[0], m.keys[3]))
        .collect();
    let none = NO_SLOT;
    assert_eq!(
        orders,
        [
            (1, 1, 0, 0, none, none),
            (0, 1, 0, 0, none, none),
            (3, 6, 5, 6, none, none),
            (9, 13, 0x400, 1, 10, none),
            (9, 11, 77, 0, none, none),
            (4, 4, 1000, 0, 3, none),
            (3, 0, 1, 0, none, none),
            (9, 9, 0, 0, none, none),
            (9, 9, 0, 0, 2, none),
            (5, 4, 0, 0, 3, 1),
        ]
    );
}

#[test]
fn a_send_does_not_wait() {
    let seen = fake::record(|_| (), || Start::at(12).order(3).words([1]).send().unwrap());
    assert_eq!((seen[0].message.how, seen[0].message.order), (SEND, 3));
}
