//! What the processor offers programs, and what those of a world may use already.
//!
//! A program asks the processor once, with the instruction `cpuid`, and uses what it found for ever. So the world notes what every processor offered on
//! which a program was started, and does not go on where some of that is missing. A program that was started with a
//! [`Level`] is told of that level alone; its answers are kept, and the level is all that the world notes of it.
//! With `SEMPER_PROCESSOR_WITHOUT=avx2,bmi2` in the environment a runtime takes these for missing, so that tests can try what is said then.

use super::objects::DomainRecord;
use super::{Kernel, KernelError};
use crate::native::NativeProgram;
use crate::processor::{Answer, Answers, Level};
use crate::table::{Record, RecordId, Table, TableError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What programs that are alive may use: bit `n` is feature `n` of [`FEATURES`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ProcessorRecord {
    features: u64,
}

impl Record for ProcessorRecord {
    const KIND: u16 = 9;
    const NAME: &'static str = "processor";
}

/// Answers in one record.
const ANSWERS: usize = 9;

/// Some of what a program with a level is told by `cpuid`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct AnswersRecord {
    /// The number of the program, Linux or native.
    program: u64,
    /// The number of its [`Level`].
    level: u32,
    /// How many answers follow.
    count: u32,
    /// The rest is zeros.
    answers: [Answer; ANSWERS],
}

impl Record for AnswersRecord {
    const KIND: u16 = 11;
    const NAME: &'static str = "answers of the processor";
}

const _: () = assert!(size_of::<AnswersRecord>() <= 240, "it fits a record of segment 0");

impl AnswersRecord {
    fn new(program: u64, level: Level, answers: &[Answer]) -> Self {
        let mut all = [Answer::default(); ANSWERS];
        all[..answers.len()].copy_from_slice(answers);
        Self { program, level: level.code(), count: u32::try_from(answers.len()).unwrap_or(0), answers: all }
    }
}

fn records_in(table: &Table, program: u64) -> Vec<(RecordId, AnswersRecord)> {
    table.iter::<AnswersRecord>().filter(|(_, record)| record.program == program).collect()
}

/// What a program is told; none: whatever the processor says.
fn answers_in(table: &Table, program: u64) -> Result<Option<Answers>, KernelError> {
    let records = records_in(table, program);
    let Some((_, first)) = records.first() else { return Ok(None) };
    let damaged = || {
        KernelError::Refused(format!("the answers of the processor that program {program} is to be given are damaged"))
    };
    let level = Level::from_code(first.level).ok_or_else(damaged)?;
    let mut all = Vec::new();
    for (_, record) in &records {
        let some = usize::try_from(record.count).ok().and_then(|count| record.answers.get(..count));
        all.extend_from_slice(some.filter(|_| record.level == first.level).ok_or_else(damaged)?);
    }
    Answers::kept(level, all).map(Some).ok_or_else(damaged)
}

/// The levels of programs that have one, by their numbers.
pub type Levels = BTreeMap<u64, Level>;

/// Those of a table.
pub(crate) fn levels_in(table: &Table) -> Levels {
    let level = |(_, record): (_, AnswersRecord)| Some((record.program, Level::from_code(record.level)?));
    table.iter::<AnswersRecord>().filter_map(level).collect()
}

fn remove(table: &mut Table, records: Vec<(RecordId, AnswersRecord)>) -> Result<(), TableError> {
    if records.is_empty() {
        return Ok(());
    }
    let mut tx = table.begin();
    for (at, _) in records {
        tx.remove(at)?;
    }
    tx.commit();
    Ok(())
}

/// Takes away what others than these programs are told.
pub(crate) fn remove_answers_but(table: &mut Table, programs: &BTreeSet<u64>) -> Result<(), TableError> {
    let others = table.iter::<AnswersRecord>().filter(|(_, record)| !programs.contains(&record.program)).collect();
    remove(table, others)
}

macro_rules! features {
    ($($name:tt)*) => {
        /// Instructions that some processors have, by their names in Linux and Rust. The place in the list is the bit in the record: new ones
        /// go to its end.
        const FEATURES: &[(&str, fn() -> bool)] = &[$(($name, || std::arch::is_x86_feature_detected!($name)),)*];
    };
}

features! {
    "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "cmpxchg16b" "movbe" "aes" "pclmulqdq" "rdrand" "rdseed" "xsave" "xsaveopt" "xsavec" "avx"
    "f16c" "fma" "bmi1" "bmi2" "lzcnt" "avx2" "adx" "sha" "gfni" "vaes" "vpclmulqdq" "avx512f" "avx512cd" "avx512bw" "avx512dq" "avx512vl"
    "avx512ifma" "avx512vbmi" "avx512vbmi2" "avx512vnni" "avx512bitalg" "avx512vpopcntdq" "avx512bf16" "avx512fp16" "sse4a" "tbm"
}

/// The bit that says that a program has a level. An earlier version, which cannot answer its questions, takes it for a feature that it does not know, and
/// does not go on with the world.
const LEVELLED: u64 = 1 << 63;

const _: () = assert!(FEATURES.len() < 63);

/// The features that `wanted` accepts, by name and whether this processor has them.
fn which(wanted: impl Fn(&str, &dyn Fn() -> bool) -> bool) -> u64 {
    (0..).zip(FEATURES).filter(|(_, (name, detect))| wanted(name, detect)).map(|(bit, _): (u32, _)| 1 << bit).sum()
}

/// What this processor offers.
fn here() -> u64 {
    let without = std::env::var("SEMPER_PROCESSOR_WITHOUT").unwrap_or_default();
    which(|name, detect| detect() && !without.split(',').any(|one| one == name))
}

/// What a level has.
fn of(level: Level) -> u64 {
    which(|name, _| level.features().contains(&name))
}

fn names(features: u64) -> String {
    let listed = FEATURES.iter().enumerate().filter(|(bit, _)| features >> bit & 1 == 1).map(|(_, (name, _))| *name);
    let unknown = (features >> FEATURES.len() != 0).then_some("others that this semper does not know");
    listed.chain(unknown).collect::<Vec<_>>().join(", ")
}

impl Kernel {
    fn set_processor(&self, features: u64) -> Result<(), TableError> {
        let mut objects = self.objects();
        let known = objects.table.first::<ProcessorRecord>();
        let new = ProcessorRecord { features };
        let mut tx = objects.table.begin();
        match known {
            Some((_, old)) if old == new => return Ok(()),
            Some((at, _)) => tx.update(at, &new)?,
            None => {
                tx.insert(&new)?;
            }
        }
        tx.commit();
        Ok(())
    }

    fn processor(&self) -> u64 {
        self.objects().table.first::<ProcessorRecord>().map_or(0, |(_, record)| record.features)
    }

    /// A program is started here: it may use what there is, or what its level has. Answers what it is told.
    ///
    /// # Errors
    /// The processor lacks some of the level, by name.
    pub(crate) fn note_processor(
        &self,
        program: u64,
        level: Option<Level>,
    ) -> Result<Option<Arc<Answers>>, KernelError> {
        let Some(level) = level else {
            self.set_processor(self.processor() | here())?;
            return Ok(None);
        };
        let missing = of(level) & !here();
        if missing != 0 {
            return Err(KernelError::Refused(format!("this processor lacks what {level} has: {}", names(missing))));
        }
        let answers = Answers::take(level);
        self.set_processor(self.processor() | of(level) | LEVELLED)?;
        let mut objects = self.objects();
        let mut tx = objects.table.begin();
        for some in answers.all().chunks(ANSWERS) {
            tx.insert(&AnswersRecord::new(program, level, some))?;
        }
        tx.commit();
        Ok(Some(Arc::new(answers)))
    }

    /// What a program is told; none: whatever the processor says.
    ///
    /// # Errors
    /// When that is damaged, or the processor writes more state than the program was told to make room for.
    pub(crate) fn answers(&self, program: u64) -> Result<Option<Arc<Answers>>, KernelError> {
        let answers = answers_in(&self.objects().table, program)?;
        if answers.as_ref().is_some_and(|answers| !answers.has_room_here()) {
            return Err(KernelError::Refused(
                "this processor has more state than programs were told to make room for; resume on another machine"
                    .into(),
            ));
        }
        Ok(answers.map(Arc::new))
    }

    /// A program is over, or was not started after all.
    pub(crate) fn forget_answers(&self, program: u64) -> Result<(), KernelError> {
        let mut objects = self.objects();
        let records = records_in(&objects.table, program);
        Ok(remove(&mut objects.table, records)?)
    }

    /// The levels of the programs that have one, by their numbers.
    #[must_use]
    pub fn levels(&self) -> Levels {
        levels_in(&self.objects().table)
    }

    /// Before anything is brought back: whether all is here that programs may use. What the ended ones may have used is forgotten.
    pub(super) fn check_processor(&self) -> Result<(), KernelError> {
        let levels: Vec<Option<Level>> = {
            let objects = self.objects();
            let levels = levels_in(&objects.table);
            let linux = objects.table.iter::<DomainRecord>().map(|(_, record)| (record.id, record.life));
            let native = objects.table.iter::<NativeProgram>().map(|(_, record)| (record.id, record.life));
            let living = linux.chain(native).filter(|(_, life)| life.exit().is_none());
            living.map(|(id, _)| levels.get(&id).copied()).collect()
        };
        let levelled = if levels.iter().any(Option::is_some) { LEVELLED } else { 0 };
        // Where all that live have a level, these are all that they may use.
        let features = match levels.into_iter().collect::<Option<Vec<_>>>() {
            Some(levels) => levels.into_iter().map(of).fold(0, |all, one| all | one),
            None => self.processor() & !LEVELLED,
        };
        self.set_processor(features | levelled)?;
        let missing = features & !here();
        if missing == 0 {
            return Ok(());
        }
        Err(KernelError::Refused(format!(
            "this processor lacks what programs of the store may use: {}; resume on a machine that has it",
            names(missing)
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::table::{Table, VecMemory};

    #[test]
    fn what_is_missing_is_named_also_if_nobody_knows_it() {
        assert_eq!(names(1 | 1 << 20), "sse3, avx2");
        assert_eq!(names(1 << 63), "others that this semper does not know");
        assert_eq!(names(0), "");
        assert_eq!(here() & 1, 1, "every processor that Semper runs on has SSE3");
    }

    #[test]
    fn every_feature_of_a_level_is_in_the_list() {
        for level in Level::ALL {
            assert_eq!(of(level).count_ones() as usize, level.features().len());
        }
        assert_eq!(names(of(Level::V2)), "sse3, ssse3, sse4.1, sse4.2, popcnt, cmpxchg16b");
    }

    #[test]
    fn answers_come_back_from_their_records_and_damaged_ones_are_refused() {
        let mut table = Table::format(VecMemory::zeroed(128), super::super::objects::RECORD_BYTES).unwrap();
        let answers = Answers::take(Level::V2);
        let mut at = Vec::new();
        let mut tx = table.begin();
        for some in answers.all().chunks(ANSWERS) {
            at.push(tx.insert(&AnswersRecord::new(7, Level::V2, some)).unwrap());
        }
        tx.commit();
        assert_eq!(answers_in(&table, 7).unwrap().unwrap(), answers);
        assert!(answers_in(&table, 8).unwrap().is_none());
        assert_eq!(levels_in(&table), BTreeMap::from([(7, Level::V2)]));
        let mut spoil = |change: fn(&mut AnswersRecord)| {
            let good: AnswersRecord = table.get(at[0]).unwrap();
            let mut bad = good;
            change(&mut bad);
            for (record, damaged) in [(bad, true), (good, false)] {
                let mut tx = table.begin();
                tx.update(at[0], &record).unwrap();
                tx.commit();
                assert_eq!(answers_in(&table, 7).is_err(), damaged, "{record:?}");
            }
        };
        spoil(|record| record.level = 9);
        spoil(|record| record.level = 3);
        spoil(|record| record.count = 10);
        spoil(|record| record.count = 0);
        spoil(|record| record.answers[1].words[2] |= 1 << 28);
        remove_answers_but(&mut table, &BTreeSet::new()).unwrap();
        assert!(answers_in(&table, 7).unwrap().is_none());
    }
}
