//! Taking apart what can be large, in steps: banks with all they sold, and domains with all who wait for them.

use super::alarm::Tree;
use super::bank::{DOMAIN, RECORD};
use super::context::{At, Ctx};
use super::error::Stop;
use super::records::{BANK_DYING, BANK_LISTED, IN_FAULT, LISTED, SEVERING, STOPPED};
use super::{Answer, Bank, Domain, Effect, InvokeError, Key, Mapping, NO_LINK, Phase, STEP, Storage};
use crate::table::{Record, RecordId, TableError};

/// The links of the work list, in whatever record.
type Links = (u32, u32);

impl Ctx<'_, '_> {
    /// A domain dies: keys to it are void, it is not executed any more; the rest is done in steps.
    pub(super) fn begin_death(&mut self, at: At) -> Result<(), Stop> {
        if self.domain(at).phase() == Phase::Dying {
            return Ok(());
        }
        self.unlink(at)?;
        if self.domain(at).deadline.at != 0 {
            self.clear_alarm(Tree::Deadlines, self.id(at).index())?;
        }
        let domain = self.id(at);
        self.tell(Effect::Gone { domain });
        self.renew_core(at)?;
        self.domain_mut(at).phase = Phase::Dying as u8;
        self.add_work(self.id(at).index())
    }

    /// A domain begins anew: those who wait for it are told first, in steps.
    pub(super) fn begin_anew(&mut self, at: At) -> Result<(), Stop> {
        self.unlink(at)?;
        if self.domain(at).deadline.at != 0 {
            self.clear_alarm(Tree::Deadlines, self.id(at).index())?;
        }
        let me = self.domain_mut(at);
        me.serial += 1;
        me.phase = Phase::Running as u8;
        me.flags &= !(STOPPED | IN_FAULT);
        me.flags |= SEVERING;
        if me.queue_head == NO_LINK && me.accepted == NO_LINK {
            me.flags &= !SEVERING;
            return self.begin(at);
        }
        let domain = self.id(at);
        self.tell(Effect::Halt { domain });
        self.add_work(domain.index())
    }

    /// A domain ends, as if it had never begun: those who wait for it are told in steps.
    pub(super) fn become_new(&mut self, at: At) -> Result<(), Stop> {
        let me = self.domain_mut(at);
        me.serial += 1;
        me.phase = Phase::New as u8;
        if me.queue_head == NO_LINK && me.accepted == NO_LINK {
            return Ok(());
        }
        me.flags |= SEVERING;
        let index = self.id(at).index();
        self.add_work(index)
    }

    /// A domain executes from its entry.
    fn begin(&mut self, at: At) -> Result<(), Stop> {
        let (domain, entry) = (self.id(at), self.domain(at).entry);
        self.tell(Effect::Begin { domain, entry });
        Ok(())
    }

    /// A bank dies: its keys are void, it sells nothing more; the rest is done in steps.
    pub(super) fn begin_bank_death(&mut self, id: RecordId, waiter: Option<(u64, u64)>) -> Result<(), Stop> {
        let id = self.tx.renew(id)?;
        self.tx.modify::<Bank>(id, |bank| {
            bank.flags |= BANK_DYING;
            (bank.waiter, bank.waiter_serial) = waiter.unwrap_or_default();
        })?;
        self.add_work(id.index())
    }

    /// One step of what is to be taken apart. Returns whether there is more.
    pub(super) fn do_work(&mut self) -> Result<bool, Stop> {
        let mut left = STEP;
        while left > 0 {
            let first = self.hub().1.work;
            if first == NO_LINK {
                return Ok(false);
            }
            let id = self.tx.id_at(first)?;
            if self.tx.kind_of(id)? == Domain::KIND {
                let at = self.core(id)?;
                self.take_domain_apart(at, &mut left)?;
            } else {
                self.take_bank_apart(id, &mut left)?;
            }
        }
        Ok(self.hub().1.work != NO_LINK)
    }

    /// Frees what a bank sold, the banks below it first. At most `left` objects.
    fn take_bank_apart(&mut self, mut id: RecordId, left: &mut u32) -> Result<(), Stop> {
        while *left > 0 {
            let bank: Bank = self.tx.get(id)?;
            if bank.sold == NO_LINK {
                *left -= 1;
                let ended_below = self.end_bank(id, &bank)?;
                match ended_below {
                    Some(above) => id = above,
                    None => return Ok(()),
                }
                continue;
            }
            let sold = self.tx.id_at(bank.sold)?;
            match self.tx.kind_of(sold)? {
                Bank::KIND => {
                    *left -= 1;
                    if self.tx.get::<Bank>(sold)?.flags & BANK_DYING == 0 {
                        let renewed = self.tx.renew(sold)?;
                        self.tx.modify::<Bank>(renewed, |bank| bank.flags |= BANK_DYING)?;
                        id = renewed;
                    } else {
                        id = sold;
                    }
                }
                Domain::KIND => {
                    let at = self.core(sold)?;
                    self.begin_death(at)?;
                    self.take_domain_apart(at, left)?;
                }
                _ => {
                    *left -= 1;
                    self.free_simple(sold)?;
                }
            }
        }
        Ok(())
    }

    /// Removes an empty dying bank. Returns the bank above it if that is to be taken apart too.
    fn end_bank(&mut self, id: RecordId, bank: &Bank) -> Result<Option<RecordId>, Stop> {
        if bank.flags & BANK_LISTED != 0 {
            self.remove_work(id.index())?;
        }
        self.unbuy(bank.owned, RECORD)?;
        self.tx.remove(id)?;
        self.answer_wait(bank.waiter, bank.waiter_serial, Answer::default(), &[Key::NULL; 4])?;
        let above = self.tx.id_at(bank.owned.bank)?;
        Ok((self.tx.get::<Bank>(above)?.flags & BANK_DYING != 0).then_some(above))
    }

    /// Tells those who wait for a domain that it dies, ended or begins anew; then removes or begins it.
    fn take_domain_apart(&mut self, at: At, left: &mut u32) -> Result<(), Stop> {
        let dying = self.domain(at).phase() == Phase::Dying;
        let ended = self.domain(at).phase() == Phase::New;
        let why = if dying || ended { InvokeError::CalleeDied } else { InvokeError::CalleeRestarted };
        while *left > 0 {
            *left -= 1;
            let me = *self.domain(at);
            let waiter = if me.queue_head == NO_LINK { me.accepted } else { me.queue_head };
            if waiter != NO_LINK {
                let waiter = self.core_at(waiter)?;
                self.unlink(waiter)?;
                self.let_go(waiter, why.into())?;
            } else if dying && me.mappings != NO_LINK {
                self.drop_first_mapping(at)?;
            } else if dying {
                return self.end_domain(at);
            } else {
                let id = self.id(at);
                self.remove_work(id.index())?;
                self.domain_mut(at).flags &= !SEVERING;
                return if ended { Ok(()) } else { self.begin(at) };
            }
        }
        Ok(())
    }

    /// Removes a dying domain for which nobody waits.
    fn end_domain(&mut self, at: At) -> Result<(), Stop> {
        let me = *self.domain(at);
        self.remove_work(self.id(at).index())?;
        let cost = if me.control == 0 { Storage { pages: 0, ..DOMAIN } } else { DOMAIN };
        let owned = self.domain(at).owned;
        self.unbuy(owned, cost)?;
        for id in [me.slots[0], me.slots[1], me.pending] {
            self.tx.remove(RecordId::from_u64(id))?;
        }
        if me.control != 0 {
            self.tell(Effect::DropSegment { segment: me.control });
        }
        Ok(self.remove_core(at)?)
    }

    /// Forgets a domain's first mapping.
    fn drop_first_mapping(&mut self, at: At) -> Result<(), Stop> {
        let (id, mapping) = self.tx.at::<Mapping>(self.domain(at).mappings)?;
        self.tx.remove(id)?;
        let me = self.domain_mut(at);
        me.mappings = mapping.next;
        me.mapping_count = me.mapping_count.saturating_sub(1);
        let bank = me.owned.bank;
        Ok(self.uncharge_bank(bank, RECORD)?)
    }

    /// Puts a record first in the work list, if it is not in it.
    fn add_work(&mut self, index: u32) -> Result<(), Stop> {
        if self.is_listed(index, true)? {
            return Ok(());
        }
        let (id, mut hub) = self.hub();
        let head = std::mem::replace(&mut hub.work, index);
        self.set_hub(id, &hub)?;
        self.change_links(index, |_| (head, NO_LINK))?;
        if head != NO_LINK {
            self.change_links(head, |(next, _)| (next, index))?;
        }
        self.tell(Effect::Work);
        Ok(())
    }

    fn remove_work(&mut self, index: u32) -> Result<(), Stop> {
        self.is_listed(index, false)?;
        let mut links = (NO_LINK, NO_LINK);
        self.change_links(index, |found| std::mem::replace(&mut links, found))?;
        let (next, previous) = links;
        if previous == NO_LINK {
            let (id, mut hub) = self.hub();
            hub.work = next;
            self.set_hub(id, &hub)?;
        } else {
            self.change_links(previous, |(_, before)| (next, before))?;
        }
        if next != NO_LINK {
            self.change_links(next, |(after, _)| (after, previous))?;
        }
        Ok(())
    }

    /// Notes whether a record is in the work list; returns whether it was.
    fn is_listed(&mut self, index: u32, listed: bool) -> Result<bool, TableError> {
        let id = self.tx.id_at(index)?;
        if self.tx.kind_of(id)? == Domain::KIND {
            let at = self.core(id)?;
            let me = self.domain_mut(at);
            let was = me.has(LISTED);
            me.flags = if listed { me.flags | LISTED } else { me.flags & !LISTED };
            return Ok(was);
        }
        let was = self.tx.get::<Bank>(id)?.flags & BANK_LISTED != 0;
        self.tx.modify::<Bank>(id, |bank| {
            bank.flags = if listed { bank.flags | BANK_LISTED } else { bank.flags & !BANK_LISTED };
        })?;
        Ok(was)
    }

    fn change_links(&mut self, index: u32, change: impl FnOnce(Links) -> Links) -> Result<(), TableError> {
        let id = self.tx.id_at(index)?;
        if self.tx.kind_of(id)? == Domain::KIND {
            let at = self.core(id)?;
            let me = self.domain_mut(at);
            (me.work_next, me.work_previous) = change((me.work_next, me.work_previous));
        } else {
            self.tx.modify::<Bank>(id, |bank| {
                (bank.work_next, bank.work_previous) = change((bank.work_next, bank.work_previous));
            })?;
        }
        Ok(())
    }
}
