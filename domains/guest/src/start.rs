//! The beginning and the end of a program.

use crate::abi::{self, BOOT_MAGIC, Boot};
use crate::heap::Heap;
use crate::keys::order::Own;
use crate::slot::{own_order, set_taken};
use alloc::string::String;
use core::fmt;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Where the boot block is; null: the program was not started by [`entry!`](crate::entry!).
static BOOT: AtomicPtr<Boot> = AtomicPtr::new(core::ptr::null_mut());

/// The boot block of a child. What follows [`Boot`] is this crate's affair.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ChildBoot {
    pub(crate) boot: Boot,
    /// Bit by bit, the slots that hold keys when it begins.
    pub(crate) taken: u64,
}

/// The boot block.
pub(crate) fn boot() -> Option<&'static Boot> {
    // SAFETY: null, or what `begin` stored: a block that nobody writes to.
    unsafe { BOOT.load(Ordering::Relaxed).as_ref() }
}

/// What a `main` may give.
pub trait Outcome {
    /// The exit code.
    fn code(self) -> i32;
}

impl Outcome for () {
    fn code(self) -> i32 {
        0
    }
}

impl Outcome for i32 {
    fn code(self) -> i32 {
        self
    }
}

/// An error is printed, and is 1.
impl<E: fmt::Display> Outcome for Result<(), E> {
    fn code(self) -> i32 {
        self.map_or_else(
            |error| {
                crate::println!("error: {error}");
                1
            },
            |()| 0,
        )
    }
}

/// Begins a program or a child: what [`entry!`](crate::entry!) makes the entry of the image call.
///
/// # Safety
/// Once, as the first thing in a domain, with the address that the kernel gave.
#[doc(hidden)]
pub unsafe fn begin<R: Outcome>(at: *const Boot, heap: &'static Heap, main: fn() -> R) -> ! {
    // SAFETY: the kernel, or whoever made this domain, put the block there.
    let boot = unsafe { &*at };
    assert!(boot.magic == BOOT_MAGIC, "this is not the boot block of a domain");
    BOOT.store(at.cast_mut(), Ordering::Relaxed);
    // SAFETY: the range lies between image and stack, and is for this.
    unsafe { heap.claim(boot.heap_start, boot.heap_end) };
    if boot.start == 0 {
        end(main().code());
    }
    // SAFETY: `Template` wrote this block, of the same image: the number is the address of such a function.
    let (child, taken) = unsafe {
        let start = core::mem::transmute::<*const (), fn(u64)>(boot.start as *const ());
        (start, (*at.cast::<ChildBoot>()).taken)
    };
    set_taken(u32::try_from(taken).unwrap_or(u32::MAX));
    child(boot.argument);
    end(0)
}

/// Ends the domain; for the first domain of a program, the program with this exit code.
pub fn end(code: i32) -> ! {
    crate::console::flush();
    let word = u64::from(code.cast_unsigned());
    let result = own_order(Own::END, [word, 0, 0, 0]);
    panic!("the end was refused: {result:?}")
}

/// The arguments of the program; the first is its name. None in a child. What is not UTF-8 is replaced.
pub fn args() -> impl Iterator<Item = String> {
    let bytes = boot().filter(|boot| boot.start == 0).map_or(&[][..], |boot| {
        let room = abi::BOOT_BYTES - size_of::<Boot>() as u64;
        let len = usize::try_from(boot.args_len.min(room)).unwrap_or(0);
        // SAFETY: the arguments follow the block, in the same page.
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(boot).add(1).cast::<u8>(), len) }
    });
    let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    let some = !bytes.is_empty();
    text.split(|byte| *byte == 0).filter(move |_| some).map(|arg| String::from_utf8_lossy(arg).into_owned())
}

/// Whether the program is a domain that [`entry!`](crate::entry!) began, and no Linux program.
#[must_use]
pub fn is_native() -> bool {
    boot().is_some()
}

/// The first address of the program's memory; 0 in a Linux program.
#[must_use]
pub fn memory_start() -> u64 {
    boot().map_or(0, |boot| boot.memory_start)
}

/// The end of the program's memory; 0 in a Linux program.
#[must_use]
pub fn memory_end() -> u64 {
    boot().map_or(0, |boot| boot.memory_end)
}

/// The argument that a child was made with; 0 in a program.
#[must_use]
pub fn argument() -> u64 {
    boot().map_or(0, |boot| boot.argument)
}

/// Makes a `fn() -> R` the program: `R` is `()`, an exit code (`i32`), or a `Result<(), E>` whose error is printed.
///
/// It defines the entry of the image, the global allocator, the panic handler and `memcpy` and its kin, so it is used once, in a program
/// that is `#![no_std]` and `#![no_main]`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        // SAFETY: a domain is one thread.
        #[global_allocator]
        static HEAP: $crate::Heap = unsafe { $crate::Heap::new() };

        #[panic_handler]
        fn panic(info: &::core::panic::PanicInfo<'_>) -> ! {
            $crate::panicked(info)
        }

        $crate::__runtime_functions!();

        /// The entry of the image.
        ///
        /// # Safety
        /// Only the kernel begins here, with the address of the boot block in `rdi` and an aligned stack.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn _start() -> ! {
            ::core::arch::naked_asm!("xor ebp, ebp", "call {begin}", "ud2", begin = sym begin)
        }

        unsafe extern "C" fn begin(boot: *const $crate::abi::Boot) -> ! {
            // SAFETY: this is the first thing that runs, with what the kernel gave.
            unsafe { $crate::begin(boot, &HEAP, $main) }
        }
    };
}
