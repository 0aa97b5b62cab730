//! The loop that answers messages.

use super::fake;
use super::slots::alone;
use crate::abi::{Message, NO_SLOT, OWN, REPLY_AND_WAIT, RESUME_SLOT, SEND};
use crate::{Error, Fault, Reply, Request, Server, Slot, serve};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// What a server sent: messages and their strings.
type Sent = Vec<(Message, Vec<u8>)>;

/// Answers each wait with the next of `messages`; returns what the server sent.
fn play(
    messages: impl IntoIterator<Item = Message>,
    server: impl FnOnce() -> Result<(), Error>,
) -> (Result<(), Error>, Sent) {
    let coming: RefCell<VecDeque<Message>> = RefCell::new(messages.into_iter().collect());
    let sent = Rc::new(RefCell::new(Vec::new()));
    let log = sent.clone();
    let result = fake::with(
        move |message, string| {
            log.borrow_mut().push((*message, string.to_vec()));
            if message.slot == OWN || message.how == SEND {
                return Vec::new();
            }
            let next = coming.borrow_mut().pop_front().expect("the server waits once too often");
            let Message { code, got_words, got_keys, answerable, badge, .. } = next;
            *message = Message { code, got_words, got_keys, answerable, badge, ..*message };
            b"hello".to_vec()
        },
        server,
    );
    (result, sent.take())
}

fn call(order: u32, word: u64) -> Message {
    Message { code: order, got_words: [word, 0, 0, 0], answerable: 1, badge: 42, ..Message::default() }
}

fn double(request: &mut Request<'_>) -> Reply {
    assert_eq!((request.badge, request.string), (42, &b"hello"[..]));
    let reply = Reply::words([request.words[0] * 2]);
    if request.order == 9 { reply.and_end() } else { reply }
}

#[test]
fn a_server_answers_until_it_ends() {
    let (result, sent) = play([call(1, 5), call(1, 6), call(9, 7)], || serve(double));
    assert_eq!(result, Ok(()));
    let seen: Vec<_> = sent.iter().map(|(m, _)| (m.slot, m.how, m.words[0])).collect();
    let slot = RESUME_SLOT;
    assert_eq!(
        seen,
        [(slot, REPLY_AND_WAIT, 0), (slot, REPLY_AND_WAIT, 10), (slot, REPLY_AND_WAIT, 12), (slot, SEND, 14)]
    );
}

#[test]
fn a_caller_that_is_gone_is_passed_over() {
    let void = Message { code: 0x8000_0006, got_words: [255, 0, 0, 0], ..Message::default() };
    let (result, sent) = play([call(1, 5), void, call(9, 7)], || serve(double));
    assert_eq!(result, Ok(()));
    let seen: Vec<_> = sent.iter().map(|(m, _)| (m.slot, m.order)).collect();
    // The void key is dropped (own slots, clear) before the server waits again.
    assert_eq!(seen[1..4], [(RESUME_SLOT, 0), (OWN, 2), (RESUME_SLOT, 0)]);
    assert_eq!(sent[2].0.words[0], u64::from(RESUME_SLOT));
}

#[test]
fn an_order_that_looks_like_a_refusal_is_an_order() {
    let (_, sent) = play([call(0x8000_0006, 5), call(9, 7)], || serve(double));
    assert_eq!(sent[1].0.words[0], 10);
}

#[test]
fn nobody_is_answered_who_does_not_wait() {
    let sent_only = Message { answerable: 0, ..call(1, 5) };
    let (_, sent) = play([sent_only, call(9, 7)], || serve(double));
    assert_eq!(sent[1].0.words[0], 0);
}

#[test]
fn keys_come_in_slots_and_those_that_are_not_taken_make_room() {
    let _alone = alone();
    let with_key = Message { got_keys: 1, ..call(1, 0) };
    let mut kept = None;
    let (_, sent) = play([with_key, with_key, call(9, 0)], || {
        Server::new().accepting(1).run(|request| {
            kept = kept.take().or_else(|| request.keys[0].take());
            if request.order == 9 { Reply::done().and_end() } else { Reply::done() }
        })
    });
    assert_eq!(kept.as_ref().map(Slot::number), Some(12));
    let waits: Vec<u8> = sent.iter().filter(|(m, _)| m.how == REPLY_AND_WAIT).map(|(m, _)| m.accept[0]).collect();
    assert_eq!(waits, [12, 13, 13]);
    assert!(sent.iter().all(|(m, _)| m.accept[1] == NO_SLOT || m.slot == OWN));
    std::mem::forget(kept);
}

#[test]
fn faults_are_told_apart() {
    let mut request = Request {
        order: 1,
        words: [4, 0, 0, 0x1234],
        string: &[],
        keys: [None, None, None, None],
        badge: 1,
        answerable: true,
    };
    let fault = Fault::from_request(&mut request).unwrap();
    assert!(matches!(fault, Fault::Domain { signal: Fault::ILLEGAL, instruction: 0x1234, domain: None, .. }));
    let registers = crate::Registers { rdi: 0x5000, rsi: 17, ..Default::default() };
    assert_eq!(fault.panic_text(&registers), Some((0x5000, 17)));
    assert_eq!(fault.panic_text(&crate::Registers { rsi: 1 << 40, ..registers }), None);
    request.order = 2;
    let fault = Fault::from_request(&mut request).unwrap();
    assert!(matches!(fault, Fault::Segment { page: 4, .. }));
    assert_eq!(fault.panic_text(&registers), None);
    request.order = 17;
    assert!(Fault::from_request(&mut request).is_none());
}
