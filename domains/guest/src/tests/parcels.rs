//! Many connections in one hand-over: what a domain says of it, and what it is told.

use super::fake;
use crate::keys::{Arrival, Arrivals, Key, Network, Parcels, Peer};
use semper_domains::parcel::{CAME, CLOSE, END, ENDED, GONE, Head, Heads, WANT, are_of_domain};
use std::cell::Cell;

fn parcel(connection: u64, flags: u16, room: u32, bytes: &[u8]) -> Vec<u8> {
    let head = Head { connection, len: u16::try_from(bytes.len()).unwrap(), flags, room };
    [&head.to_bytes()[..], bytes].concat()
}

/// Serves once; the kernel answers with `came`, once, when it is not only to send.
fn serve(parcels: &mut Parcels, came: &[u8], arrivals: &mut Arrivals) -> Vec<(u64, Vec<u8>)> {
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let (log, came, told) = (seen.clone(), came.to_vec(), Cell::new(false));
    let kernel = move |message: &mut crate::abi::Message, string: &[u8]| {
        assert_eq!((message.slot, message.order, message.words[0]), (14, 3, 7000));
        log.borrow_mut().push((message.words[1], string.to_vec()));
        if message.words[1] == 2 || told.replace(true) { Vec::new() } else { came.clone() }
    };
    fake::with(kernel, || Network::at(14).serve(7000, parcels, arrivals)).unwrap();
    seen.take()
}

/// Two connections that came.
fn two_peers(parcels: &mut Parcels) -> [Peer; 2] {
    let mut arrivals = Arrivals::new();
    serve(parcels, &[parcel(5, CAME, 9, b""), parcel(6, CAME, 9, b"")].concat(), &mut arrivals);
    let mut peers = arrivals.iter().map(|arrival| match arrival {
        Arrival::Parcel(parcel) if parcel.is_new => parcel.peer,
        other => panic!("{other:?}"),
    });
    [peers.next().unwrap(), peers.next().unwrap()]
}

#[test]
fn what_came_is_told_by_its_kind() {
    let (mut parcels, mut arrivals) = (Parcels::new(), Arrivals::new());
    let came =
        [parcel(0, GONE, 0, b""), parcel(5, CAME, 100, b"hello"), parcel(6, ENDED, 7, b""), parcel(9, GONE, 0, b"")];
    let seen = serve(&mut parcels, &came.concat(), &mut arrivals);
    assert_eq!(seen, [(0, parcel(0, CLOSE, 0, b""))], "it begins with nobody");
    let all: Vec<Arrival<'_>> = arrivals.iter().collect();
    assert_eq!(all[0], Arrival::AllGone);
    let (Arrival::Parcel(first), Arrival::Parcel(second)) = (all[1], all[2]) else { panic!("{all:?}") };
    assert_eq!((first.bytes, first.room, first.is_new, first.is_end), (&b"hello"[..], 100, true, false));
    assert_eq!((second.bytes, second.room, second.is_new, second.is_end), (&b""[..], 7, false, true));
    assert!(matches!(all[3], Arrival::Gone(peer) if peer != first.peer && peer != second.peer));
    let seen = serve(&mut parcels, b"", &mut arrivals);
    assert_eq!(seen, [(0, Vec::new())], "that is said once");
    assert_eq!(arrivals.iter().count(), 0);
}

#[test]
fn what_does_not_fit_into_a_string_goes_in_several() {
    let mut parcels = Parcels::new();
    let [one, two] = two_peers(&mut parcels);
    let long: Vec<u8> = (0..=255).cycle().take(20_000).collect();
    parcels.send(one, &long);
    (0..200).for_each(|_| parcels.send(two, b"0123456789"));
    parcels.want_room(one);
    parcels.end(two);
    parcels.close(two);
    let seen = serve(&mut parcels, b"", &mut Arrivals::new());
    let (last, others) = seen.split_last().unwrap();
    assert!(
        last.0 == 0 && others.iter().all(|(then, _)| *then == 2),
        "the last one waits, and others are told nothing"
    );
    assert!(seen.iter().all(|(_, string)| are_of_domain(string)));
    assert!(others.iter().take(4).all(|(_, string)| string.len() == 4096), "they are filled");
    let all: Vec<u8> = seen.iter().flat_map(|(_, string)| string.clone()).collect();
    let of = |number| Heads(&all).filter(move |(head, _)| head.connection == number);
    assert_eq!(of(5).flat_map(|(_, bytes)| bytes.to_vec()).collect::<Vec<u8>>(), long);
    assert_eq!(of(6).flat_map(|(_, bytes)| bytes.to_vec()).count(), 2000);
    let flags: Vec<u16> = of(5).chain(of(6)).map(|(head, _)| head.flags).filter(|flags| *flags != 0).collect();
    assert_eq!(flags, [WANT, END, CLOSE]);
    assert_eq!(serve(&mut parcels, b"", &mut Arrivals::new()), [(0, Vec::new())], "nothing is sent twice");
}

#[test]
fn what_came_is_told_when_all_is_sent() {
    let (mut parcels, mut arrivals) = (Parcels::new(), Arrivals::new());
    let [one, _] = two_peers(&mut parcels);
    parcels.send(one, &[7; 9000]);
    let seen = serve(&mut parcels, &parcel(5, 0, 9, b"more"), &mut arrivals);
    assert_eq!(seen.iter().map(|(then, _)| *then).collect::<Vec<_>>(), [2, 2, 0]);
    assert_eq!(arrivals.iter().count(), 1);
}

#[test]
fn what_was_refused_is_not_sent_twice() {
    let mut parcels = Parcels::new();
    let [one, _] = two_peers(&mut parcels);
    parcels.send(one, &[7; 10_000]);
    let calls = Cell::new(0);
    let refuse_second = move |message: &mut crate::abi::Message, _: &[u8]| {
        calls.set(calls.get() + 1);
        message.code = if calls.get() == 2 { crate::abi::FIRST_ERROR + 0x11 } else { 0 };
        Vec::new()
    };
    let mut arrivals = Arrivals::new();
    let served = fake::with(refuse_second, || Network::at(14).serve(7000, &mut parcels, &mut arrivals));
    assert_eq!(served, Err(crate::Error::Busy));
    let seen = serve(&mut parcels, b"", &mut arrivals);
    let left: usize = seen.iter().flat_map(|(_, string)| Heads(string).map(|(_, bytes)| bytes.len())).sum();
    assert_eq!(left, 10_000 - (4096 - 16));
}
