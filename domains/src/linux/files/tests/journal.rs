//! The journal and the restart device.

use super::machine::{BUFFER, Machine};
use crate::linux::{Appending, Errno, Journal, JournalRecord, JournalTrouble, Outcome};
use std::sync::Mutex;

/// A journal in memory: an append is durable when its work is done.
#[derive(Default)]
pub struct TestJournal {
    records: Mutex<Vec<JournalRecord>>,
    waiting: Mutex<Option<JournalRecord>>,
    done: Mutex<Option<u64>>,
    pub broken: Mutex<Option<JournalTrouble>>,
}

impl Journal for TestJournal {
    fn append(&self, number: u64, bytes: &[u8]) -> Result<Appending, JournalTrouble> {
        if let Some(trouble) = *self.broken.lock().unwrap() {
            return Err(trouble);
        }
        if self.done.lock().unwrap().take() == Some(number) {
            return Ok(Appending::Written);
        }
        if self.find(number).unwrap().is_some() {
            return Ok(Appending::There);
        }
        let sequence = self.records.lock().unwrap().len() as u64 * 10 + 5;
        let record = JournalRecord { sequence, time: 2_000_000_003, number, bytes: bytes.to_vec() };
        *self.waiting.lock().unwrap() = Some(record);
        Err(JournalTrouble::Wait)
    }

    fn find(&self, number: u64) -> Result<Option<JournalRecord>, JournalTrouble> {
        Ok(self.records.lock().unwrap().iter().find(|record| record.number == number).cloned())
    }

    fn last(&self, number: u64) -> Result<Option<JournalRecord>, JournalTrouble> {
        let records = self.records.lock().unwrap();
        Ok(records.iter().filter(|record| record.number <= number).max_by_key(|record| record.number).cloned())
    }

    fn next(&self, from: u64) -> Result<Option<JournalRecord>, JournalTrouble> {
        Ok(self.records.lock().unwrap().iter().find(|record| record.sequence >= from).cloned())
    }

    fn end(&self) -> Result<u64, JournalTrouble> {
        Ok(self.records.lock().unwrap().last().map_or(1, |record| record.sequence + 1))
    }

    fn work(&self) {
        if let Some(record) = self.waiting.lock().unwrap().take() {
            *self.done.lock().unwrap() = Some(record.number);
            self.records.lock().unwrap().push(record);
        }
    }
}

const O_RDWR: u64 = 2;
const PREAD: u64 = 17;
const PWRITE: u64 = 18;
const LSEEK: u64 = 8;
const IOCTL: u64 = 16;
const LAST: u64 = 0xc008_6a01;

/// A call that waits for the journal, and is given again when that has done its work.
fn durably(m: &mut Machine, number: u64, arguments: &[u64]) -> Result<u64, Errno> {
    if let Outcome::Wait(wait) = m.step(number, arguments) {
        assert!(wait.journal);
        m.host().journal.work();
        assert_eq!(m.again(), Outcome::Resume);
    }
    m.result()
}

fn pwrite(m: &mut Machine, fd: u64, bytes: &[u8], number: u64) -> Result<u64, Errno> {
    m.poke(BUFFER, bytes);
    durably(m, PWRITE, &[fd, BUFFER, bytes.len() as u64, number])
}

#[test]
fn a_write_is_a_record_and_a_number_is_written_once() {
    let mut m = Machine::new();
    let fd = m.open("/dev/semper/journal", O_RDWR).unwrap();
    m.poke(BUFFER, b"7 pay five");
    assert_eq!(durably(&mut m, 1, &[fd, BUFFER, 10]), Ok(10));
    m.poke(BUFFER, b"7 pay five");
    assert_eq!(durably(&mut m, 1, &[fd, BUFFER, 10]), Err(Errno::EEXIST));
    assert_eq!(pwrite(&mut m, fd, b"other", 7), Err(Errno::EEXIST));
    assert_eq!(pwrite(&mut m, fd, b"\x00 binary", 9), Ok(8));
    let read = m.call(PREAD, &[fd, BUFFER, 100, 7]).unwrap();
    assert_eq!(m.peek(BUFFER, read), b"pay five");
    assert_eq!(m.call(PREAD, &[fd, BUFFER, 100, 8]), Err(Errno::ENODATA));
    assert_eq!(m.call(PREAD, &[fd, BUFFER, 3, 7]), Err(Errno::EMSGSIZE));
    assert_eq!(m.write(fd, b"no number"), Err(Errno::EINVAL));
}

#[test]
fn a_call_that_waited_over_a_restart_finds_its_record() {
    let mut m = Machine::new();
    let fd = m.open("/dev/semper/journal", O_RDWR).unwrap();
    m.poke(BUFFER, b"1 once");
    assert!(m.wait(1, &[fd, BUFFER, 6]).journal);
    // It becomes durable, and the runtime dies before the program hears of it.
    let journal = m.host().journal.clone();
    journal.work();
    let _ = journal.append(1, b"");
    m.restart();
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.result(), Err(Errno::EEXIST));
}

#[test]
fn reading_gives_one_record_after_the_other() {
    let mut m = Machine::new();
    let fd = m.open("/dev/semper/journal", O_RDWR).unwrap();
    for (number, bytes) in [(3, &b"a"[..]), (1, b"bc\n"), (2, b"")] {
        assert_eq!(pwrite(&mut m, fd, bytes, number), Ok(bytes.len() as u64));
    }
    assert_eq!(m.read(fd, 100).unwrap(), b"5 3 2.000000003 1\na\n");
    assert_eq!(m.call(0, &[fd, BUFFER, 4]), Err(Errno::EMSGSIZE));
    assert_eq!(m.read(fd, 100).unwrap(), b"15 1 2.000000003 3\nbc\n\n");
    assert_eq!(m.read(fd, 100).unwrap(), b"25 2 2.000000003 0\n\n");
    assert_eq!(m.read(fd, 100).unwrap(), b"");
    assert_eq!(m.call(LSEEK, &[fd, 6, 0]), Ok(6));
    m.restart();
    assert!(m.read(fd, 100).unwrap().starts_with(b"15 1 "));
    assert_eq!(m.call(LSEEK, &[fd, 0, 2]), Ok(26));
    m.poke(BUFFER, &u64::MAX.to_le_bytes());
    assert_eq!(m.call(IOCTL, &[fd, LAST, BUFFER]), Ok(0));
    assert_eq!(m.peek_u64(BUFFER), 3);
    m.poke(BUFFER, &0_u64.to_le_bytes());
    assert_eq!(m.call(IOCTL, &[fd, LAST, BUFFER]), Err(Errno::ENODATA));
    assert_eq!(m.call(IOCTL, &[fd, 0x5401, BUFFER]), Err(Errno::ENOTTY));
}

#[test]
fn what_opened_for_reading_is_not_written_to_and_too_much_is_refused() {
    let mut m = Machine::new();
    let fd = m.open("/dev/semper/journal", 0).unwrap();
    assert_eq!(m.write(fd, b"1 x"), Err(Errno::EBADF));
    m.close(fd);
    let fd = m.open("/dev/semper/journal", O_RDWR).unwrap();
    assert_eq!(m.call(PWRITE, &[fd, BUFFER, 1 << 20, 1]), Err(Errno::EMSGSIZE));
    assert_eq!(m.call(PWRITE, &[fd, 0x10, 8, 1]), Err(Errno::EFAULT));
}

#[test]
fn the_restart_device_tells_of_this_life() {
    let mut m = Machine::new();
    let text = m.get("/dev/semper/restart").unwrap();
    let wanted = "restarts 2\nlife 00000000000000010000000000000002\ngeneration 7\nbegan 3.000000004\n";
    assert_eq!(String::from_utf8(text).unwrap(), wanted);
}
