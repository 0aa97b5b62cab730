//! Domains, messages to them, their CPU time, and factories of them.

use super::order;
use super::storage::with_keeper;
use super::{Bank, Done, Key, Segment, keys};
use crate::{Answer, Call, Error, Registers, Rights, Slot, State};
use alloc::vec::Vec;

keys! {
    /// A domain: all of it.
    Domain: weaken;
    /// The right to send messages to a domain. [`crate::interface!`] makes typed ones.
    Start;
    /// The right to answer one call, once.
    Resume;
    /// A budget of CPU time, in nanoseconds.
    Meter: weaken;
    /// A maker of domains that can be shown to be confined.
    Factory: weaken;
}

/// What a domain is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DomainState {
    /// What.
    pub state: State,
    /// Whether it was stopped.
    pub stopped: bool,
    /// CPU time that it used, in nanoseconds.
    pub cpu: u64,
    /// How many mappings it has.
    pub mappings: u64,
}

impl Domain {
    fn call(&self, order: u32) -> Call<'_> {
        Call::new(self.slot(), order)
    }

    /// What it is doing.
    ///
    /// # Errors
    /// [`Error::Void`], [`Error::NoRight`] without READ.
    pub fn state(&self) -> Result<DomainState, Error> {
        let [state, stopped, cpu, mappings] = self.call(order::Domain::STATE).got()?;
        Ok(DomainState { state: State::from_word(state), stopped: stopped != 0, cpu, mappings })
    }

    /// It begins, or begins anew, with fresh registers; it needs a meter. Those who wait for it get [`Error::CalleeRestarted`].
    ///
    /// # Errors
    /// [`Error::WrongKey`] without a meter, [`Error::SelfCall`].
    pub fn begin(&self, instruction: u64, stack: u64, argument: u64) -> Result<(), Error> {
        self.call(order::Domain::BEGIN).words([instruction, stack, argument]).done()
    }

    /// It is not executed any more. Messages to it queue.
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE.
    pub fn stop(&self) -> Result<(), Error> {
        self.call(order::Domain::STOP).done()
    }

    /// It goes on: after [`Domain::stop`], or at the instruction whose fault no keeper took.
    ///
    /// # Errors
    /// [`Error::WrongPhase`] if it never began.
    pub fn start(&self) -> Result<(), Error> {
        self.call(order::Domain::START).done()
    }

    /// Its registers.
    ///
    /// # Errors
    /// [`Error::WrongPhase`] while it runs.
    pub fn registers(&self) -> Result<Vec<u8>, Error> {
        self.call(order::Domain::GET_REGISTERS).call().map(|answer| answer.string)
    }

    /// Sets its registers, all that [`Domain::registers`] gave or the general ones alone ([`Registers::as_bytes`]).
    ///
    /// # Errors
    /// [`Error::WrongPhase`] while it runs.
    pub fn set_registers(&self, registers: &[u8]) -> Result<(), Error> {
        self.call(order::Domain::SET_REGISTERS).string(registers).done()
    }

    /// Its general registers.
    ///
    /// # Errors
    /// [`Error::WrongPhase`] while it runs.
    pub fn general_registers(&self) -> Result<Registers, Error> {
        Ok(Registers::from_bytes(&self.registers()?))
    }

    /// A copy of the key in one of its slots. An empty one gives [`Error::MissingKey`].
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE, [`Error::NoFreeSlot`].
    pub fn get_slot<K: Key>(&self, slot: u8) -> Result<K, Error> {
        self.call(order::Domain::GET_SLOT).words([slot.into()]).gives().map(K::from)
    }

    /// Puts a key into one of its slots.
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE.
    pub fn set_slot(&self, slot: u8, key: &impl Key) -> Result<(), Error> {
        self.call(order::Domain::SET_SLOT).words([slot.into()]).key(0, key.slot()).done()
    }

    /// Empties one of its slots.
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE.
    pub fn clear_slot(&self, slot: u8) -> Result<(), Error> {
        self.call(order::Domain::SET_SLOT).words([slot.into()]).done()
    }

    /// Who is called by its faults; `None`: nobody.
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE.
    pub fn set_keeper(&self, keeper: Option<&Start>) -> Result<(), Error> {
        with_keeper(self.slot(), order::Domain::SET_KEEPER, keeper)
    }

    /// What its CPU time is charged to.
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE.
    pub fn set_meter(&self, meter: &Meter) -> Result<(), Error> {
        self.call(order::Domain::SET_METER).key(0, meter.slot()).done()
    }

    /// A start key to it. The badge is told to it with each message.
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE, [`Error::NoFreeSlot`].
    pub fn make_start_key(&self, badge: u64) -> Result<Start, Error> {
        self.call(order::Domain::MAKE_START_KEY).words([badge]).gives().map(Start)
    }

    /// Voids every start key to it.
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE.
    pub fn revoke_start_keys(&self) -> Result<(), Error> {
        self.call(order::Domain::REVOKE_START_KEYS).done()
    }

    /// Maps `pages` pages of a page or segment, from its page `from` on, at page `at` of its memory, with the rights of the key.
    ///
    /// # Errors
    /// [`Error::Overlap`], [`Error::BadWord`] outside of the object or of the memory, [`Error::NoRight`] without READ of the object.
    pub fn map(&self, at: u64, object: &impl Key, from: u64, pages: u64) -> Result<(), Error> {
        self.call(order::Domain::MAP).words([at, from, pages]).key(0, object.slot()).done()
    }

    /// Takes back the mapping that begins at page `at`.
    ///
    /// # Errors
    /// [`Error::NotMapped`].
    pub fn unmap(&self, at: u64) -> Result<(), Error> {
        self.call(order::Domain::UNMAP).words([at]).done()
    }
}

impl Start {
    /// A call, to be put together: words, string, keys.
    pub fn order(&self, order: u32) -> Call<'_> {
        Call::new(self.slot(), order)
    }

    /// The same key without CALL: its holder can only send.
    ///
    /// # Errors
    /// [`Error::NoFreeSlot`].
    pub fn no_call(&self) -> Result<Self, Error> {
        let copy = self.copy()?;
        copy.slot().weaken(Rights::SEND)?;
        Ok(copy)
    }
}

impl Resume {
    /// Answers the call. `code` 0 is success by convention; it must be below [`crate::abi::FIRST_ERROR`]. To be put together and
    /// sent: `resume.answer(0).words([1]).send()`.
    pub fn answer(&self, code: u32) -> Call<'_> {
        Call::new(self.slot(), code)
    }

    /// Answers, and waits for the next call of the domain that is answered, as coroutines do.
    ///
    /// # Errors
    /// [`Error::Void`] if the call is answered already, or its caller is gone.
    pub fn answer_and_call(&self, code: u32, words: [u64; 4]) -> Result<Answer, Error> {
        Call::new(self.slot(), code).words(words).call()
    }
}

impl Meter {
    /// No limit, as what is left of a budget.
    pub const UNLIMITED: u64 = u64::MAX;

    /// What is left and what was used.
    ///
    /// # Errors
    /// [`Error::NoRight`] without READ.
    pub fn read(&self) -> Result<(u64, u64), Error> {
        Call::new(self.slot(), order::Meter::READ).got().map(|words| (words[0], words[1]))
    }

    /// Adds to the budget.
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE.
    pub fn grant(&self, nanoseconds: u64) -> Result<(), Error> {
        Call::new(self.slot(), order::Meter::GRANT).words([nanoseconds]).done()
    }

    /// Sets what is left.
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE.
    pub fn set(&self, nanoseconds: u64) -> Result<(), Error> {
        Call::new(self.slot(), order::Meter::SET).words([nanoseconds]).done()
    }

    /// A meter below this one, bought from the bank.
    ///
    /// # Errors
    /// [`Error::Limit`], [`Error::NoRight`] without MANAGE here or WRITE of the bank, [`Error::NoFreeSlot`].
    pub fn make(&self, nanoseconds: u64, bank: &Bank) -> Result<Self, Error> {
        Call::new(self.slot(), order::Meter::MAKE).words([nanoseconds]).key(0, bank.slot()).gives().map(Self)
    }

    /// Who is called when the budget is used up; `None`: nobody.
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE.
    pub fn set_keeper(&self, keeper: Option<&Start>) -> Result<(), Error> {
        with_keeper(self.slot(), order::Meter::SET_KEEPER, keeper)
    }
}

impl Factory {
    /// Slots of a product that hold what the requestor gives.
    pub const REQUESTOR: [u8; 2] = [14, 15];

    /// What its products will hold in a slot, 0 to 13.
    ///
    /// # Errors
    /// [`Error::Sealed`], [`Error::NoRight`] without MANAGE.
    pub fn install(&self, slot: u8, key: &impl Key) -> Result<(), Error> {
        Call::new(self.slot(), order::Factory::INSTALL).words([slot.into()]).key(0, key.slot()).done()
    }

    /// What its products begin with: a copy of the segment, mapped from page `at` on, and the registers. See [`crate::Template`].
    ///
    /// # Errors
    /// [`Error::Sealed`], [`Error::NoRight`] without MANAGE.
    pub fn set_image(&self, image: &Segment, at: u64, entry: [u64; 3]) -> Result<(), Error> {
        let [instruction, stack, argument] = entry;
        let words = [at, instruction, stack, argument];
        Call::new(self.slot(), order::Factory::SET_IMAGE).words(words).key(0, image.slot()).done()
    }

    /// From now on it makes domains, and cannot be changed any more.
    ///
    /// # Errors
    /// [`Error::Sealed`], [`Error::MissingKey`] without an image.
    pub fn seal(&self) -> Result<(), Error> {
        Call::new(self.slot(), order::Factory::SEAL).done()
    }

    /// Makes a domain from what the bank sells, charged to the meter, with two keys of the requestor's in its slots
    /// [`Factory::REQUESTOR`], and lets it begin.
    ///
    /// # Errors
    /// [`Error::NotSealed`], [`Error::Limit`], [`Error::NoFreeSlot`].
    pub fn make(&self, bank: &Bank, meter: &Meter, keys: [Option<&Slot>; 2]) -> Result<Start, Error> {
        let mut call = Call::new(self.slot(), order::Factory::MAKE).key(0, bank.slot()).key(1, meter.slot());
        for (n, key) in keys.into_iter().enumerate() {
            if let Some(key) = key {
                call = call.key(2 + n, key);
            }
        }
        call.gives().map(Start)
    }

    /// The components by which a product could send something outward that the requestor did not give, and whether the factory
    /// is sealed. None and sealed: what it makes is confined.
    ///
    /// # Errors
    /// [`Error::NoRight`] without READ.
    pub fn holes(&self) -> Result<(u64, bool), Error> {
        Call::new(self.slot(), order::Factory::HOLES).got().map(|words| (words[0], words[1] != 0))
    }

    /// Whether this factory, and no imitation, made the domain of a start or domain key.
    ///
    /// # Errors
    /// [`Error::Void`], [`Error::WrongKey`].
    pub fn certify(&self, domain: &impl Key) -> Result<bool, Error> {
        Call::new(self.slot(), order::Factory::CERTIFY).key(0, domain.slot()).got().map(|words| words[0] != 0)
    }
}
