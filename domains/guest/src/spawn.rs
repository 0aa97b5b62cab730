//! Domains made of the program's own image.

use crate::abi::{self, BOOT_BYTES, BOOT_MAGIC, Boot, MAX_STRING};
use crate::keys::{Bank, Domain, Factory, Key, Meter, Segment};
use crate::start::{ChildBoot, boot};
use crate::{Error, Slot};
use alloc::vec::Vec;

const PAGE: u64 = MAX_STRING as u64;
/// Room for the heap of a child, if nothing else is said.
const HEAP: u64 = 256 << 10;
/// Room for its stack.
const STACK: u64 = 64 << 10;

const fn whole_pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE) * PAGE
}

/// The memory with which a domain of this program's image begins: the image as it was before its first instruction, a heap, a stack,
/// and what it shall do. Static variables have their first values there.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    start: fn(u64),
    argument: u64,
    heap: u64,
    stack: u64,
    taken: u32,
    shares_code: bool,
}

impl Template {
    /// A domain that calls `start` with `argument`, and ends when that returns.
    #[must_use]
    pub const fn new(start: fn(u64), argument: u64) -> Self {
        Self { start, argument, heap: HEAP, stack: STACK, taken: 0, shares_code: false }
    }

    /// With room of this many bytes for the heap.
    #[must_use]
    pub const fn heap(mut self, bytes: u64) -> Self {
        self.heap = bytes;
        self
    }

    /// With room of this many bytes for the stack.
    #[must_use]
    pub const fn stack(mut self, bytes: u64) -> Self {
        self.stack = bytes;
        self
    }

    /// With a key in this slot when it begins: [`Slot::take`] will not give it out.
    #[must_use]
    pub const fn holding(mut self, slot: u8) -> Self {
        self.taken |= 1 << slot;
        self
    }

    /// Where everything is.
    fn boot(&self) -> Result<Boot, Error> {
        let own = boot().ok_or(Error::NoKernel)?;
        let heap_start = whole_pages(own.heap_start);
        let heap_end = heap_start + whole_pages(self.heap);
        Ok(Boot {
            magic: BOOT_MAGIC,
            memory_start: own.memory_start,
            memory_end: heap_end + whole_pages(self.stack) + BOOT_BYTES,
            heap_start,
            heap_end,
            entry: own.entry,
            start: self.start as usize as u64,
            argument: self.argument,
            args_len: 0,
        })
    }

    /// How many pages of memory it needs.
    ///
    /// # Errors
    /// [`Error::NoKernel`] in a Linux program, which has no image that can be copied.
    pub fn pages(&self) -> Result<u64, Error> {
        self.boot().map(|boot| (boot.memory_end - boot.memory_start) / PAGE)
    }

    /// How many pages from the first on are mapped from the image itself.
    fn shared_pages(&self) -> Result<u64, Error> {
        if !self.shares_code {
            return Ok(0);
        }
        let boot = boot().ok_or(Error::NoKernel)?;
        let mut header = [0; MAX_STRING];
        Segment::at(abi::slot::IMAGE).read(0, &mut header)?;
        Ok(crate::elf::pages_before_data(&header, boot.memory_start).unwrap_or(0))
    }

    /// The page at which the memory is to be mapped.
    ///
    /// # Errors
    /// [`Error::NoKernel`] in a Linux program.
    pub fn first_page(&self) -> Result<u64, Error> {
        self.boot().map(|boot| boot.memory_start / PAGE)
    }

    /// Instruction pointer, stack pointer and first argument to begin with.
    ///
    /// # Errors
    /// [`Error::NoKernel`] in a Linux program.
    pub fn entry(&self) -> Result<[u64; 3], Error> {
        self.boot().map(|boot| [boot.entry, boot.memory_end - BOOT_BYTES, boot.memory_end - BOOT_BYTES])
    }

    /// Fills a segment, of zeros and at least [`Template::pages`] long. Copies the image by the key in slot
    /// [`IMAGE`](abi::slot::IMAGE).
    ///
    /// # Errors
    /// [`Error::Empty`] without that key; what the two segments refuse.
    pub fn fill(&self, memory: &Segment) -> Result<(), Error> {
        let boot = self.boot()?;
        let image = Segment::at(abi::slot::IMAGE);
        let mut page = [0; MAX_STRING];
        let shared = self.shared_pages()? * PAGE;
        for at in (shared..boot.heap_start - boot.memory_start).step_by(MAX_STRING) {
            image.read(at, &mut page)?;
            if page.iter().any(|byte| *byte != 0) {
                memory.write(at, &page)?;
            }
        }
        let block = ChildBoot { boot, taken: self.taken.into() };
        // SAFETY: a `repr(C)` structure of `u64`s: all of its bytes are initialised.
        let bytes = unsafe { core::slice::from_raw_parts((&raw const block).cast::<u8>(), size_of::<ChildBoot>()) };
        memory.write(boot.memory_end - BOOT_BYTES - boot.memory_start, bytes)
    }

    /// Makes it the image of a factory: buys a segment from `bank`, fills it and sets it. The factory keeps a key to it.
    ///
    /// # Errors
    /// As [`Template::fill`]; [`Error::Sealed`].
    pub fn install(&self, factory: &Factory, bank: &Bank) -> Result<(), Error> {
        let memory = bank.buy_segment(self.pages()?)?;
        self.fill(&memory)?;
        factory.set_image(&memory, self.first_page()?, self.entry()?)
    }
}

/// A domain that [`Spawn`] made. A keeper of many, which has no slots for two keys of each, puts one together when it is needed: from the key that
/// the fault brings, and that of [`Spawn::own_memory`].
#[derive(Debug)]
pub struct Child {
    /// It.
    pub domain: Domain,
    /// Its memory.
    pub memory: Segment,
    /// What it begins with.
    pub template: Template,
}

impl Child {
    /// Begins it anew, with fresh memory and the keys that its slots hold now. Those who wait for it get [`Error::CalleeRestarted`].
    ///
    /// # Errors
    /// As [`Spawn::begin`].
    pub fn restart(&self) -> Result<(), Error> {
        self.domain.stop()?;
        self.memory.zero(0, self.memory.pages()? * PAGE)?;
        self.template.fill(&self.memory)?;
        self.start_over()
    }

    fn start_over(&self) -> Result<(), Error> {
        let [instruction, stack, argument] = self.template.entry()?;
        self.domain.begin(instruction, stack, argument)
    }
}

/// A domain to be made of the program's own image.
#[derive(Debug)]
pub struct Spawn<'a> {
    bank: &'a Bank,
    meter: &'a Meter,
    template: Template,
    keys: Vec<(u8, &'a Slot)>,
    own_key: bool,
    own_memory: bool,
}

impl<'a> Spawn<'a> {
    /// One that calls `start` with `argument`, is bought from `bank` and charged to `meter`. It holds no keys.
    #[must_use]
    pub const fn new(bank: &'a Bank, meter: &'a Meter, start: fn(u64), argument: u64) -> Self {
        Self {
            bank,
            meter,
            template: Template::new(start, argument),
            keys: Vec::new(),
            own_key: false,
            own_memory: false,
        }
    }

    /// With room of this many bytes for the heap; 256 KiB if nothing is said.
    #[must_use]
    pub fn heap(mut self, bytes: u64) -> Self {
        self.template = self.template.heap(bytes);
        self
    }

    /// With room of this many bytes for the stack; 64 KiB if nothing is said.
    #[must_use]
    pub fn stack(mut self, bytes: u64) -> Self {
        self.template = self.template.stack(bytes);
        self
    }

    /// It executes the code of the image itself and has copies only of what can be written: many domains of one program
    /// take less room then. What it maps is the image, read-only, and beside it its memory, in which the code's place is left empty.
    #[must_use]
    pub fn share_code(mut self) -> Self {
        self.template.shares_code = true;
        self
    }

    /// With a copy of this key in its slot `slot`.
    #[must_use]
    pub fn key(mut self, slot: u8, key: &'a impl Key) -> Self {
        self.template = self.template.holding(slot);
        self.keys.push((slot, key.slot()));
        self
    }

    /// With its own domain key in slot [`SELF`](abi::slot::SELF), by which it makes start keys to itself.
    #[must_use]
    pub const fn own_key(mut self) -> Self {
        self.template = self.template.holding(abi::slot::SELF);
        self.own_key = true;
        self
    }

    /// With the key to its memory in slot [`MEMORY`](abi::slot::MEMORY), where a keeper finds it.
    #[must_use]
    pub const fn own_memory(mut self) -> Self {
        self.template = self.template.holding(abi::slot::MEMORY);
        self.own_memory = true;
        self
    }

    /// Makes it and lets it begin. Takes two slots: for its domain key and its memory.
    ///
    /// # Errors
    /// [`Error::Limit`] when the bank has not enough, [`Error::NoFreeSlot`], [`Error::Empty`] without an image key.
    pub fn begin(self) -> Result<Child, Error> {
        self.begin_after(|_| Ok(()))
    }

    /// Makes it, lets `finish` do what else it needs (more mappings, a keeper), and lets it begin.
    ///
    /// # Errors
    /// As [`Spawn::begin`], and what `finish` says.
    pub fn begin_after(self, finish: impl FnOnce(&Domain) -> Result<(), Error>) -> Result<Child, Error> {
        let child = self.prepare()?;
        finish(&child.domain)?;
        child.start_over()?;
        Ok(child)
    }

    fn prepare(self) -> Result<Child, Error> {
        let template = self.template;
        let (memory, domain) = (self.bank.buy_segment(template.pages()?)?, self.bank.buy_domain()?);
        template.fill(&memory)?;
        let (first, shared, pages) = (template.first_page()?, template.shared_pages()?, template.pages()?);
        if shared > 0 {
            domain.map(first, &Segment::at(abi::slot::IMAGE), 0, shared)?;
        }
        domain.map(first + shared, &memory, shared, pages - shared)?;
        domain.set_meter(self.meter)?;
        for (slot, key) in self.keys {
            domain.set_slot(slot, key)?;
        }
        if self.own_key {
            domain.set_slot(abi::slot::SELF, &domain)?;
        }
        if self.own_memory {
            domain.set_slot(abi::slot::MEMORY, &memory)?;
        }
        Ok(Child { domain, memory, template })
    }
}

/// Makes a domain of the program's own image that calls `start` with `argument` and holds copies of `keys`, by its slot numbers.
///
/// # Errors
/// As [`Spawn::begin`].
pub fn spawn(bank: &Bank, meter: &Meter, start: fn(u64), argument: u64, keys: &[(u8, &Slot)]) -> Result<Domain, Error> {
    let mut spawn = Spawn::new(bank, meter, start, argument);
    for (slot, key) in keys {
        spawn = spawn.key(*slot, *key);
    }
    spawn.begin().map(|child| child.domain)
}
