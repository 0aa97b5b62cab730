//! What the processor offers programs, and what those of a world may use already.
//!
//! A program asks the processor once, with the instruction `cpuid`, which nobody can answer for it, and uses what it found for ever. So the
//! world notes what every processor offered on which a program was started, and does not go on where some of that is missing.
//! With `SEMPER_PROCESSOR_WITHOUT=avx2,bmi2` in the environment a runtime takes these for missing, so that tests can try what is said then.

use super::objects::{DomainRecord, FINISHED};
use super::{Kernel, KernelError};
use crate::native::NativeProgram;
use crate::table::{Record, TableError};
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

const _: () = assert!(FEATURES.len() <= 64);

/// What this processor offers.
fn here() -> u64 {
    let without = std::env::var("SEMPER_PROCESSOR_WITHOUT").unwrap_or_default();
    let has = |(name, detect): &(&str, fn() -> bool)| detect() && !without.split(',').any(|one| one == *name);
    (0..).zip(FEATURES).filter(|(_, feature)| has(feature)).map(|(bit, _): (u32, _)| 1 << bit).sum()
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

    /// A program is started here: it may use what there is.
    pub(crate) fn note_processor(&self) -> Result<(), KernelError> {
        Ok(self.set_processor(self.processor() | here())?)
    }

    /// Before anything is brought back: whether all is here that programs may use. What the ended ones may have used is forgotten.
    pub(super) fn check_processor(&self) -> Result<(), KernelError> {
        let some = {
            let objects = self.objects();
            let linux = objects.table.iter::<DomainRecord>().map(|(_, record)| record.life.state);
            linux
                .chain(objects.table.iter::<NativeProgram>().map(|(_, record)| record.life.state))
                .any(|s| s != FINISHED)
        };
        if !some {
            return Ok(self.set_processor(0)?);
        }
        let missing = self.processor() & !here();
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
    use super::*;

    #[test]
    fn what_is_missing_is_named_also_if_nobody_knows_it() {
        assert_eq!(names(1 | 1 << 20), "sse3, avx2");
        assert_eq!(names(1 << 63), "others that this semper does not know");
        assert_eq!(names(0), "");
        assert_eq!(here() & 1, 1, "every processor that Semper runs on has SSE3");
    }
}
