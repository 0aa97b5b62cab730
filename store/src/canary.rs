//! Planted bugs. A test harness is worth what it finds: each of these must be found by it. They can be planted only under
//! the `sim` feature; without it [`Canary::planted`] is always false.

use crate::ids::Page;
use crate::root::Root;

/// A bug to plant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Canary {
    /// The root is written before the pages are durable.
    SkipDataFlush,
    /// A commit is announced before its root is durable.
    SkipRootFlush,
    /// A page of a commit is lost now and then.
    LoseAPage,
    /// A root says the wrong generation.
    WrongGeneration,
    /// Both roots are written to the same slot.
    OneSlotOnly,
    /// Replaced pages are reused at once, though an older generation refers to them.
    ReuseTooEarly,
    /// Checksums of pages are not checked.
    TrustPages,
    /// The newest root is used without a look at what was not flushed before it.
    TrustUnflushed,
    /// The newest root is used without a look at its tree.
    TrustRoot,
    /// The free map is made from the newest generation alone.
    WalkNewestOnly,
    /// A removed range stays.
    ForgetRemoval,
    /// What only a held generation needs is taken for free.
    FreeWhatIsHeld,
    /// The end of a store that is made smaller is cut off before the roots say so.
    CutFirst,
    /// The same with older generations that have something there.
    CutOlder,
    /// Now and then a write reaches one side of a mirrored store only.
    WriteOneSide,
    /// Only the first side is flushed.
    FlushOneSide,
    /// That a side went away is not noted.
    ForgetAway,
    /// What is committed while a side is brought up to date is not written to it.
    FillBlind,
    /// A side that comes back is taken for whole as it is.
    AdmitStale,
    /// The file that speaks of the others of a folder is written at once to a side that is brought up to date.
    SpeakEarly,
    /// What is written to a folder while it is copied to a side does not reach that side.
    CopyBlind,
}

impl Canary {
    /// Those that the crash harness must find. [`Self::TrustRoot`] has a test of its own.
    pub const ALL: [Self; 13] = [
        Self::SkipDataFlush,
        Self::SkipRootFlush,
        Self::LoseAPage,
        Self::WrongGeneration,
        Self::OneSlotOnly,
        Self::ReuseTooEarly,
        Self::TrustPages,
        Self::TrustUnflushed,
        Self::WalkNewestOnly,
        Self::ForgetRemoval,
        Self::FreeWhatIsHeld,
        Self::CutFirst,
        Self::CutOlder,
    ];

    /// Those that the harness of mirrors must find.
    pub const MIRRORS: [Self; 5] =
        [Self::WriteOneSide, Self::FlushOneSide, Self::ForgetAway, Self::FillBlind, Self::AdmitStale];

    /// Those that the harness of mirrored journals must find.
    pub const FOLDERS: [Self; 2] = [Self::SpeakEarly, Self::CopyBlind];

    pub(crate) fn planted(self, planted: Option<Self>) -> bool {
        cfg!(feature = "sim") && planted == Some(self)
    }

    pub(crate) fn spoil_root(planted: Option<Self>, root: &Root, slot: usize, encoded: &mut Page) {
        if Self::WrongGeneration.planted(planted) && root.newest().generation % 5 == 4 {
            let mut wrong = root.clone();
            wrong.kept[0].generation += 1;
            wrong.highest += 1;
            encoded.copy_from_slice(&wrong.encode(slot)[..]);
        }
    }
}
