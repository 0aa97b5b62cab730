//! Faults: calls that the kernel makes for a domain that cannot go on.

use super::context::{At, Ctx};
use super::deliver::Letter;
use super::error::Stop;
use super::records::IN_FAULT;
use super::service::Fault;
use super::{Effect, Key, KeyType, Mapping, Meter, NO_LINK, PendingKind, Phase, Rights, Segment, Which};
use crate::table::RecordId;

/// Order codes of the messages that keepers get.
pub(super) mod orders {
    /// A domain faulted: words cause, address, detail, instruction pointer; key 0: the domain.
    pub(in super::super) const DOMAIN: u32 = 1;
    /// A fault in a mapping of a segment: words page of the segment, address, detail, instruction pointer; key 0: the
    /// segment, without the right to call its keeper.
    pub(in super::super) const SEGMENT: u32 = 2;
    /// A meter is used up: words nanoseconds used; key 0: the meter.
    pub(in super::super) const METER: u32 = 3;
}

impl Ctx<'_, '_> {
    /// A domain faults: the keeper of the segment that it faulted in is called, or its own, or it stands.
    pub(super) fn raise(&mut self, at: At, fault: &Fault) -> Result<(), Stop> {
        let detail = [fault.address, fault.detail, fault.instruction];
        if let Some((segment, page)) = self.faulted_segment(at, fault)? {
            let (_, record) = self.object::<Segment>(&segment, Which::Invoked)?;
            let words = [page, detail[0], detail[1], detail[2]];
            let about = segment.weaker(Rights::READ.or(Rights::WRITE).or(Rights::MANAGE));
            if self.call_keeper(at, &record.keeper, orders::SEGMENT, words, about)? {
                return Ok(());
            }
        }
        let words = [fault.cause.into(), detail[0], detail[1], detail[2]];
        let about = Key::to(KeyType::Domain, self.id(at));
        let keeper = self.domain(at).keeper;
        if !self.call_keeper(at, &keeper, orders::DOMAIN, words, about)? {
            self.stand(at);
        }
        Ok(())
    }

    /// A domain's meter is used up.
    pub(super) fn raise_meter(&mut self, at: At, id: RecordId, meter: &Meter) -> Result<(), Stop> {
        let about = Key::to(KeyType::Meter, id);
        if !self.call_keeper(at, &meter.keeper, orders::METER, [meter.used, 0, 0, 0], about)? {
            self.stand(at);
        }
        Ok(())
    }

    /// A domain stands where it is: nobody repairs it.
    pub(super) fn stand(&mut self, at: At) {
        self.domain_mut(at).phase = Phase::Faulted as u8;
        let domain = self.id(at);
        self.tell(Effect::Halt { domain });
    }

    /// Calls a keeper for a domain. Returns false if there is none that can be called.
    fn call_keeper(&mut self, at: At, keeper: &Key, order: u32, words: [u64; 4], about: Key) -> Result<bool, Stop> {
        if keeper.key_type() != KeyType::Start || !keeper.rights().contains(Rights::CALL.or(Rights::SEND)) {
            return Ok(false);
        }
        let callee = match self.start_target(keeper) {
            Ok(callee) if callee != at => callee,
            Ok(_) | Err(Stop::Guest(_)) => return Ok(false),
            Err(stop) => return Err(stop),
        };
        let keys = [about, Key::NULL, Key::NULL, Key::NULL];
        let letter = Letter { kind: PendingKind::Fault, badge: keeper.badge(), order, string_len: 0, words, keys };
        self.domain_mut(at).flags |= IN_FAULT;
        self.domain_mut(at).accept = [super::NO_SLOT; 4];
        self.send(at, callee, &letter, 0)?;
        // Even if the keeper took it at once, the domain stands until the answer.
        let domain = self.id(at);
        self.tell(Effect::Halt { domain });
        Ok(true)
    }

    /// The key by which the page that a domain faulted at is mapped, if it is a segment whose keeper the key may call, and
    /// the page's number there.
    fn faulted_segment(&mut self, at: At, fault: &Fault) -> Result<Option<(Key, u64)>, Stop> {
        if !fault.in_memory {
            return Ok(None);
        }
        let page = fault.address / semper_store::PAGE_SIZE as u64;
        let mut next = self.domain(at).mappings;
        while next != NO_LINK {
            let (_, mapping) = self.tx.at::<Mapping>(next)?;
            if (mapping.at..mapping.at + mapping.pages).contains(&page) {
                let key = mapping.object;
                let may = key.key_type() == KeyType::Segment && key.rights().contains(Rights::CALL);
                let live = may && self.tx.contains(key.id());
                return Ok(live.then_some((key, mapping.offset + page - mapping.at)));
            }
            next = mapping.next;
        }
        Ok(None)
    }
}
