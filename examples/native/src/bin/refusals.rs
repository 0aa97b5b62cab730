//! What is refused, and how that is told: each error of docs/objects.md that a domain can bring about, in its words.
#![no_std]
#![no_main]

use core::arch::asm;
use semper_domain::abi::{self, MAX_STRING, Message, NO_SLOT, slot};
use semper_domain::keys::{Bank, Clock, Console, Domain, Factory, Key, Meter, Quota, Start, Timer};
use semper_domain::{Call, Error, Reply, Rights, Slot, Spawn, State, Template, entry, give_up, println, serve};

entry!(main);

fn bank() -> Bank {
    Bank::at(slot::BANK)
}

fn meter() -> Meter {
    Meter::at(slot::METER)
}

/// Says why something is refused.
fn told<T>(what: &str, result: Result<T, Error>) {
    match result {
        Ok(_) => println!("{what}: was not refused"),
        Err(error) => println!("{what}: {error}"),
    }
}

/// An invocation as it is, past what this crate checks.
fn raw(message: Message) -> Result<(), Error> {
    let page = abi::MESSAGE as *mut Message;
    // SAFETY: the page is this domain's, and nothing of Rust's lies in it; the call keeps what the C convention keeps.
    let message = unsafe {
        page.write_volatile(message);
        asm!("call {invoke}", invoke = in(reg) abi::INVOKE, clobber_abi("C"));
        page.read_volatile()
    };
    if message.code == 0 { Ok(()) } else { Err(Error::from_answer(message.code, message.got_words)) }
}

fn plain(slot: u8, order: u32) -> Message {
    Message { slot, order, keys: [NO_SLOT; 4], accept: [NO_SLOT; 4], ..Message::default() }
}

fn messages() {
    let console = slot::CONSOLE;
    told("an order that there is not", Call::new(&Slot::fixed(console), 99).call());
    let long = Message { string_len: 4097, ..plain(console, 1) };
    told("a string of more than a page", raw(long));
    told("a string where none is taken", Call::new(&Slot::fixed(slot::CLOCK), 1).string(b"now").call());
    told("the most that is taken", Call::new(&Slot::fixed(slot::LOG), 1).string(&[b'x'; MAX_STRING]).call());
    told("a slot that there is not", raw(plain(17, 1)));
    told(
        "a slot that there is not, of a key",
        raw(Message { keys: [40, NO_SLOT, NO_SLOT, NO_SLOT], ..plain(console, 1) }),
    );
    told("a slot that is empty", Call::new(&Slot::fixed(14), 1).call());
    told("a word that cannot be", Console::at(console).read(MAX_STRING + 1));
}

fn keys() -> Result<(), Error> {
    let domain = bank().buy_domain()?;
    told("too few keys", Call::new(domain.slot(), 10).call());
    told("a key of another type", Call::new(domain.slot(), 10).key(0, bank().slot()).call());
    let weak = meter().weaken(Rights::READ)?;
    told("the invoked key without the right", weak.grant(1));
    let reader = bank().weaken(Rights::READ)?;
    told("another key without the right", meter().make(1, &reader));
    drop((weak, reader));
    bank().sell(&domain)?;
    told("a key to what is gone", domain.state());
    drop(domain);
    let page = bank().buy_page()?;
    bank().sell(&page)?;
    told("another key to what is gone", Domain::at(slot::SELF).map(1 << 20, &page, 0, 1));
    Ok(())
}

fn storage() -> Result<(), Error> {
    let purse = bank().buy_bank(Quota { pages: 50, records: 5 })?;
    told("more pages than the quota", purse.buy_segment(51));
    told("more pages than a segment can have", bank().buy_segment(1 << 29));
    told("more records than the quota", purse.buy_domain().and_then(|_| purse.buy_domain()));
    let page = bank().buy_page()?;
    told("what another bank sold", purse.sell(&page));
    let me = Domain::at(slot::SELF);
    me.map(1 << 20, &page, 0, 1)?;
    told("a mapping over another", me.map(1 << 20, &page, 0, 1));
    me.unmap(1 << 20)?;
    told("no mapping", me.unmap(1 << 20));
    for at in (1 << 20)..(1 << 20) + 80 {
        if let Err(error) = me.map(at, &page, 0, 1) {
            told("too many mappings", Err::<(), _>(error));
            break;
        }
    }
    for at in (1 << 20)..(1 << 20) + 80 {
        let _ = me.unmap(at);
    }
    let factory: Factory = bank().buy_factory()?;
    told("a factory that is not sealed", factory.make(&bank(), &meter(), [None, None]));
    Template::new(echoes, 0).install(&factory, &bank())?;
    factory.seal()?;
    told("a factory that is sealed", factory.seal());
    Ok(())
}

/// The server's slots: a timer, and who begins it anew.
const TIMER: u8 = 5;
const HELPER: u8 = 6;
/// The helper's: the server.
const SERVER: u8 = 5;

/// Begins the server anew.
fn helps(_: u64) {
    let server = serve(|_| {
        let [instruction, stack, argument] = Template::new(echoes, 0).entry().expect("the image has an entry");
        Domain::at(SERVER).begin(instruction, stack, argument).expect("it begins");
        Reply::done()
    });
    server.expect("a server can wait");
}

fn echoes(_: u64) {
    let server = serve(|request| match request.order {
        2 => semper_domain::end(0),
        3 => {
            let answer = Start::at(HELPER).order(1).call();
            unreachable!("it has begun anew: {answer:?}")
        }
        4 => {
            let _ = Timer::at(TIMER).wait();
            Reply::done()
        }
        _ => Reply::words(request.words),
    });
    server.expect("a server can wait");
}

fn domains() -> Result<(), Error> {
    let me = Domain::at(slot::SELF);
    let to_me: Start = me.make_start_key(0)?;
    told("a call to itself", to_me.order(1).call());
    drop(to_me);
    told("registers of one that runs", me.registers());
    let timer = bank().buy_timer()?;
    told("a send that would wait", Call::new(timer.slot(), 2).send());
    let (bank, meter) = (bank(), meter());
    let child = Spawn::new(&bank, &meter, echoes, 0).key(TIMER, &timer).begin()?.domain;
    let helper = Spawn::new(&bank, &meter, helps, 0).key(SERVER, &child).begin()?.domain;
    child.set_slot(HELPER, &helper.make_start_key(0)?)?;
    drop(helper);
    let start = child.make_start_key(0)?;
    start.order(4).send()?;
    while child.state()?.state != State::Waiting {}
    told("a timer for which another waits", timer.wait());
    timer.set(1)?;
    told("a callee that begins anew", start.order(3).call());
    child.stop()?;
    told("registers that are none", child.set_registers(&[0; 183]));
    let soon = Clock::at(slot::CLOCK).monotonic()? + 20_000_000;
    told("a deadline", start.order(1).deadline(soon).call());
    child.start()?;
    told("a callee that ends", start.order(2).call());
    Ok(())
}

fn main() -> Result<(), Error> {
    give_up(&[slot::RANDOM, slot::CHECKPOINT, slot::RESTART, slot::MEMORY, slot::DISCRIM]);
    messages();
    keys()?;
    storage()?;
    domains()?;
    println!("refusals: done");
    Ok(())
}
