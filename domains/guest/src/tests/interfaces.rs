//! Clients and servers of one definition understand each other.

use super::fake;
use super::slots::alone;
use crate::abi::{Message, NO_SLOT};
use crate::keys::{Key, Segment};
use crate::wire::{DoesNotFit, Incoming, Malformed, Outgoing, Put, Take};
use crate::{CallError, Caller, Error, Reply, Request, Slot, Unexpected, failures, interface};
use std::cell::RefCell;
use std::rc::Rc;

failures! {
    /// Why not.
    enum Refusal {
        /// There is no such thing.
        Missing = 1, "there is no such thing";
    }
}

interface! {
    /// All kinds of arguments.
    trait Things, client ThingsClient, fails Refusal {
        /// Many numbers: the last ones travel in the string.
        1 => fn sum(a: u64, b: u32, c: i64, d: u8, e: u64, f: bool) -> i64;
        /// Texts, bytes and what is not there.
        2 => fn join(text: &str, bytes: &[u8], more: Option<&str>) -> String;
        /// Nothing and nothing.
        3 => fn touch();
        /// Fails.
        4 => fn fail() -> u64;
        /// A key there, and a key back.
        5 => fn exchange(key: Segment) -> (u64, Segment);
        /// More than fits.
        6 => fn flood() -> Vec<u8>;
        /// Ends the server.
        7 => fn end();
    }
}

#[derive(Default)]
struct Shelf {
    touched: u32,
}

impl Things for Shelf {
    fn sum(&mut self, _: &mut Caller, a: u64, b: u32, c: i64, d: u8, e: u64, f: bool) -> Result<i64, Refusal> {
        Ok(i64::try_from(a + u64::from(b) + u64::from(d) + e).unwrap() + c + i64::from(f))
    }

    fn join(&mut self, _: &mut Caller, text: &str, bytes: &[u8], more: Option<&str>) -> Result<String, Refusal> {
        Ok(format!("{text}/{bytes:?}/{more:?}"))
    }

    fn touch(&mut self, caller: &mut Caller) -> Result<(), Refusal> {
        assert_eq!(caller.badge, 5);
        self.touched += 1;
        Ok(())
    }

    fn fail(&mut self, _: &mut Caller) -> Result<u64, Refusal> {
        Err(Refusal::Missing)
    }

    fn exchange(&mut self, _: &mut Caller, key: Segment) -> Result<(u64, Segment), Refusal> {
        Ok((key.slot().number().into(), key))
    }

    fn flood(&mut self, _: &mut Caller) -> Result<Vec<u8>, Refusal> {
        Ok(vec![1; 4095])
    }

    fn end(&mut self, caller: &mut Caller) -> Result<(), Refusal> {
        caller.end = true;
        Ok(())
    }
}

/// A client whose calls go to `server` at once.
fn connected<R>(server: Rc<RefCell<Shelf>>, body: impl FnOnce(&ThingsClient) -> R) -> R {
    let kernel = move |message: &mut Message, string: &[u8]| {
        if message.slot != 12 {
            return Vec::new();
        }
        // A key arrives in slot 3 of the server, and comes back where the client wants it.
        let keys = message.keys.map(|slot| (slot != NO_SLOT).then(|| Slot::fixed(3)));
        let mut request =
            Request { order: message.order, words: message.words, string, keys, badge: 5, answerable: true };
        let reply: Reply = server.borrow_mut().answer(&mut request);
        (message.code, message.got_words) = (reply.code, reply.words);
        message.got_keys = u8::from(reply.keys[0].is_some() && message.accept[0] != NO_SLOT);
        reply.string
    };
    fake::with(kernel, || body(&ThingsClient::at(12)))
}

#[test]
fn arguments_and_results_arrive() {
    let shelf = Rc::new(RefCell::new(Shelf::default()));
    connected(shelf.clone(), |client| {
        assert_eq!(client.sum(1, 2, -30, 4, 1 << 40, true), Ok((1 << 40) - 22));
        assert_eq!(client.join("ä", &[0, 255], None).unwrap(), "ä/[0, 255]/None");
        assert_eq!(client.join("", &[], Some("x")).unwrap(), "/[]/Some(\"x\")");
        client.touch().unwrap();
    });
    assert_eq!(shelf.borrow().touched, 1);
}

#[test]
fn keys_are_given_and_come_back() {
    let _alone = alone();
    connected(Rc::default(), |client| {
        let (number, key) = client.exchange(Segment::at(10)).unwrap();
        assert_eq!((number, key.slot().number()), (3, 13 - 1));
    });
}

#[test]
fn failures_are_typed() {
    connected(Rc::default(), |client| {
        let failed = client.fail().unwrap_err();
        assert_eq!(failed, CallError::Refused(Refusal::Missing));
        assert_eq!(failed.to_string(), "there is no such thing");
    });
    fake::with(
        |message, _| {
            message.code = 0x8000_000d;
            Vec::new()
        },
        || assert_eq!(ThingsClient::at(12).touch(), Err(CallError::Kernel(Error::CalleeDied))),
    );
}

#[test]
fn what_does_not_fit_or_means_nothing_is_told() {
    connected(Rc::default(), |client| {
        assert_eq!(client.flood(), Err(CallError::Unexpected(Unexpected::ResultTooLarge)));
        let large = client.join("x", &[0; 4096], None);
        assert_eq!(large, Err(CallError::Unexpected(Unexpected::ArgumentsTooLarge)));
    });
    let mut shelf = Shelf::default();
    let mut ask = |order, words, string| {
        let mut request = Request { order, words, string, keys: [None, None, None, None], badge: 5, answerable: true };
        shelf.answer(&mut request).code
    };
    let not_understood = 0x7fff_ffff;
    assert_eq!(ask(99, [0; 4], &[]), not_understood);
    assert_eq!(ask(1, [0, 1 << 32, 0, 0], &[0; 16]), not_understood); // a u32 that is none
    assert_eq!(ask(1, [0; 4], &[0; 15]), not_understood); // numbers cut off
    assert_eq!(ask(2, [0; 4], &[2, 0, 0xff, 0xff, 0, 0]), not_understood); // no UTF-8
    assert_eq!(ask(2, [0; 4], &[200, 0, 1]), not_understood); // a length beyond the end
    assert_eq!(ask(2, [2, 0, 0, 0], &[0, 0, 0, 0]), not_understood); // neither there nor not
    assert_eq!(ask(5, [0; 4], &[]), not_understood); // no key
    assert_eq!(ask(2, [0; 4], &[0, 0, 0, 0]), 0);
}

#[test]
fn a_method_can_end_the_server() {
    let mut request =
        Request { order: 7, words: [0; 4], string: &[], keys: [None, None, None, None], badge: 5, answerable: true };
    assert!(Shelf::default().answer(&mut request).last);
}

#[test]
fn whatever_is_put_is_taken() {
    let mut out = Outgoing::new();
    (7_u64, "text", Some(-1_i64), vec![1_u8, 2]).put(&mut out).unwrap();
    (true, None::<u32>, 300_u16).put(&mut out).unwrap();
    let (words, string) = (out.words(), out.string().to_vec());
    let mut keys = [None, None, None, None];
    let mut incoming = Incoming::new(words, &string, &mut keys);
    let first = <(u64, &str, Option<i64>, &[u8])>::take(&mut incoming).unwrap();
    assert_eq!(first, (7, "text", Some(-1), &[1, 2][..]));
    assert_eq!(<(bool, Option<u32>, u16)>::take(&mut incoming), Ok((true, None, 300)));
    assert_eq!(u64::take(&mut incoming), Err(Malformed));
    let mut full = Outgoing::new();
    assert_eq!("x".repeat(4095).as_str().put(&mut full), Err(DoesNotFit));
}
