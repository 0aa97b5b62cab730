//! What the process of a domain may ask Linux for. A prisoner makes every system call, first from its own code, then from inside the stub, where alone
//! some are allowed; its keeper, the first domain, sees what became of each. A call that is refused is signal 31 with its number; one
//! that is allowed comes back and meets an illegal instruction, signal 4, with its result in a register. With `wait` it then waits for
//! input, to be looked at from outside.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use semper_domain::abi::{CONTROL, slot};
use semper_domain::keys::{Bank, Console, Domain, Key, Meter};
use semper_domain::{Error, Fault, Reply, Request, Server, Spawn, args, entry, give_up, println};

const PAGE: u64 = 4096;
/// A page of the prisoner's, where memory calls may point.
const WINDOW: u64 = 0x1_0000_0000;
/// The badge of the key by which the kernel calls the keeper.
const KERNEL: u64 = 1;
/// System calls beyond the last one that Linux has.
const NUMBERS: u64 = 480;
/// Where the stub's image lies, and how many pages of code follow its first page, which is none.
const STUB: u64 = 0x7000_0000_0000;
const STUB_PAGES: u64 = 2;

const SIGILL: u64 = 4;
const SIGSEGV: u64 = 11;
const SIGSYS: u64 = 31;
/// The result of a call that there is not.
const NO_SUCH_CALL: i64 = -38;
/// What Linux refuses to nobody and filters for nobody: the return points of its own probes. Where there is no probe they fail.
const PROBE_CALLS: [u64; 2] = [335, 336];
/// What a call meets that is refused, or comes back.
const CALLS: &[u64] = &[SIGSYS, SIGILL];
/// A process that died.
const SIGKILL: u64 = 9;

const RT_SIGRETURN: u64 = 15;
const SCHED_YIELD: u64 = 24;
const MADVISE: u64 = 28;
const ARCH_PRCTL: u64 = 158;
const FUTEX: u64 = 202;
const EXIT_GROUP: u64 = 231;
/// The bit of system calls of the x32 interface.
const X32: u64 = 1 << 30;
const FUTEX_WAKE: u64 = 1;
const DONT_NEED: u64 = 4;
const FREE: u64 = 8;
const ARCH_GET_FS: u64 = 0x1003;

entry!(main);

/// A system call, and whether it is allowed inside the stub.
struct Probe {
    what: &'static str,
    number: u64,
    args: [u64; 3],
    allowed: bool,
}

const fn probe(what: &'static str, number: u64, args: [u64; 3], allowed: bool) -> Probe {
    Probe { what, number, args, allowed }
}

/// Each rule of the policy, both ways.
const PROBES: &[Probe] = &[
    probe("sched_yield", SCHED_YIELD, [0; 3], true),
    probe("arch_prctl", ARCH_PRCTL, [ARCH_GET_FS, WINDOW, 0], true),
    probe("arch_prctl(ARCH_MAP_VDSO_64)", ARCH_PRCTL, [0x2003, 0x5000_0000, 0], false),
    probe("arch_prctl(ARCH_CET_STATUS)", ARCH_PRCTL, [0x3001, WINDOW, 0], false),
    probe("arch_prctl of less than ARCH_SET_GS", ARCH_PRCTL, [0x1000, WINDOW, 0], false),
    // Beside the words that the kernel may be waiting on: it would be woken, and told in the result.
    probe("futex on the control pages", FUTEX, [CONTROL + PAGE / 2, FUTEX_WAKE, 0], true),
    probe("futex elsewhere", FUTEX, [WINDOW, FUTEX_WAKE, 0], false),
    probe("madvise(DONTNEED) in the window", MADVISE, [WINDOW, PAGE, DONT_NEED], true),
    probe("madvise(FREE) in the window", MADVISE, [WINDOW, PAGE, FREE], false),
    probe("madvise(DONTNEED) of the control pages", MADVISE, [CONTROL, PAGE, DONT_NEED], false),
    probe("madvise(DONTNEED) of the stub", MADVISE, [STUB, PAGE, DONT_NEED], false),
    probe("sched_yield by the x32 interface", SCHED_YIELD | X32, [0; 3], false),
];

/// Calls that the sweep inside the stub leaves out: they are among the probes, or end what makes them.
const fn is_ruled(number: u64) -> bool {
    matches!(number, RT_SIGRETURN | SCHED_YIELD | MADVISE | ARCH_PRCTL | FUTEX | EXIT_GROUP)
}

// A system call of the program's own, then an illegal instruction.
global_asm!(".globl own_call", "own_call: syscall", "ud2");

unsafe extern "C" {
    static own_call: u8;
}

/// Makes a system call by the instruction at `at`. Both ways it faults; the keeper lets it go on at the address in `r15` with the
/// stack pointer in `r14`.
fn call_at(at: u64, number: u64, args: [u64; 3]) {
    // SAFETY: the keeper sets instruction and stack pointer back, and what else a call changes is named.
    unsafe {
        asm!("lea r15, [rip + 2f]", "mov r14, rsp", "jmp {at}", "2:", at = in(reg) at, inout("rax") number => _,
             in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") 0, in("r8") 0, in("r9") 0,
             out("rcx") _, out("r11") _, out("r14") _, out("r15") _);
    }
}

/// The address of a system call in the stub that is followed by an illegal instruction; 0 if there is none.
fn stub_call() -> u64 {
    let bytes = (STUB + PAGE..STUB + (1 + STUB_PAGES) * PAGE - 4).map(|at| at as *const u32);
    // SAFETY: the stub's pages can be read by the domain, that nothing in them is secret is the point.
    bytes
        .map(|at| (at as u64, unsafe { at.read_unaligned() }))
        .find(|(_, word)| *word == 0x0b0f_050f)
        .map_or(0, |found| found.0)
}

fn prisoner(_: u64) {
    let own = (&raw const own_call) as u64;
    for number in 0..NUMBERS {
        call_at(own, number, [0; 3]);
    }
    legacy();
    let stub = stub_call();
    for number in (0..NUMBERS).filter(|number| !is_ruled(*number)) {
        call_at(stub, number, [0; 3]);
    }
    for Probe { number, args, .. } in PROBES {
        call_at(stub, *number, *args);
    }
}

/// A call by the interface of 32-bit programs, then an illegal instruction.
fn legacy() {
    // SAFETY: as `call_at`.
    unsafe {
        asm!("lea r15, [rip + 2f]", "mov r14, rsp", "int 0x80", "ud2", "2:", inout("rax") 20 => _, out("r14") _, out("r15") _);
    }
}

/// Goes back to the registers of a signal frame of zeros.
fn returner(_: u64) {
    let stub = stub_call();
    // SAFETY: what comes after it is a fault.
    unsafe {
        asm!("mov rsp, {frame}", "jmp {at}", frame = in(reg) WINDOW, at = in(reg) stub, in("rax") RT_SIGRETURN, options(noreturn))
    };
}

fn leaver(_: u64) {
    call_at(stub_call(), EXIT_GROUP, [0; 3]);
}

/// Whether a call did nothing.
fn is_refused(number: u64, (signal, register): (u64, u64)) -> bool {
    let failed = PROBE_CALLS.contains(&number) && signal == SIGILL && (register as i64) < 0;
    failed || (signal, register) == (SIGSYS, number)
}

/// What became of a call: the signal, and what the register of the number and the result held. Who met one of the signals `goes_on` does.
fn next_fault(goes_on: &[u64]) -> Result<(u64, u64), Error> {
    let mut seen = (0, 0);
    let answer = |request: &mut Request<'_>| {
        let Some(Fault::Domain { signal, domain: Some(domain), .. }) =
            Fault::from_request(request).filter(|_| request.badge == KERNEL)
        else {
            return Reply::code(1).and_end();
        };
        let mut registers = domain.general_registers().unwrap_or_default();
        seen = (signal, registers.rax);
        (registers.rip, registers.rsp) = (registers.r15, registers.r14);
        let goes_on = goes_on.contains(&signal) && domain.set_registers(&registers.as_bytes()).is_ok();
        Reply::code(u32::from(!goes_on)).and_end()
    };
    Server::new().accepting(1).run(answer)?;
    Ok(seen)
}

fn imprison(start: fn(u64)) -> Result<Domain, Error> {
    let (bank, meter) = (Bank::at(slot::BANK), Meter::at(slot::METER));
    let keeper = Domain::at(slot::SELF).make_start_key(KERNEL)?;
    let page = bank.buy_page()?;
    let child = Spawn::new(&bank, &meter, start, 0).begin_after(|domain| {
        domain.map(WINDOW / PAGE, &page, 0, 1)?;
        domain.set_keeper(Some(&keeper))
    })?;
    Ok(child.domain)
}

fn main() -> Result<(), Error> {
    give_up(&[slot::RANDOM, slot::LOG, slot::CHECKPOINT, slot::RESTART, slot::DISCRIM, slot::MEMORY]);
    let _prisoner = imprison(prisoner)?;
    let mut refused = 0;
    for number in 0..NUMBERS {
        refused += u64::from(is_refused(number, next_fault(CALLS)?));
    }
    println!("from its own code: {refused} of {NUMBERS} system calls are refused");
    let legacy = match next_fault(&[SIGILL, SIGSEGV])? {
        (SIGILL, result) => result as i64 == NO_SUCH_CALL,
        // A kernel without that interface takes the instruction for a fault.
        (signal, _) => signal == SIGSEGV,
    };
    println!("by the interface of 32-bit programs: refused: {legacy}");
    let (mut refused, mut of) = (0, 0);
    for number in (0..NUMBERS).filter(|number| !is_ruled(*number)) {
        (refused, of) = (refused + u64::from(is_refused(number, next_fault(CALLS)?)), of + 1);
    }
    println!("inside the stub: {refused} of the {of} others are refused");
    for Probe { what, number, allowed, .. } in PROBES {
        let outcome = match next_fault(CALLS)? {
            (SIGSYS, found) if found == *number => "refused",
            (SIGILL, 0) => "allowed",
            (SIGILL, _) => "allowed, and fails",
            _ => "neither",
        };
        println!("inside the stub: {what}: {outcome}, as it is to be: {}", (outcome == "allowed") == *allowed);
    }
    let _returner = imprison(returner)?;
    println!("inside the stub: rt_sigreturn: allowed: {}", next_fault(&[])?.0 == SIGSEGV);
    let _leaver = imprison(leaver)?;
    println!("inside the stub: exit_group: ends the process: {}", next_fault(&[])?.0 == SIGKILL);
    println!("sandbox: done");
    if args().nth(1).is_some_and(|arg| arg == "wait") {
        Console::at(slot::CONSOLE).read(1)?;
    }
    Ok(())
}
