//! Planted bugs. A test harness is worth what it finds: each of these must be found by it. They can be planted only under
//! the `sim` feature; without it [`Canary::planted`] is always false.

/// A bug to plant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Canary {
    /// An append is told before it is flushed.
    SkipFlush,
    /// The last batch is believed at opening without being written again.
    TrustLastBatch,
    /// A batch's checksum is not looked at.
    TrustBatches,
    /// Whatever is not whole is cut, without a look at what is behind it.
    CutEarly,
    /// The names of new segments are not made durable.
    SkipNameSync,
    /// A record of a batch is lost now and then.
    LoseARecord,
    /// Numbers of older segments are forgotten.
    ForgetSealed,
    /// Files go before the state says so.
    TrimEarly,
    /// Two batches get the same sequence numbers.
    RepeatSequence,
    /// After a failed flush writing goes on.
    IgnorePoison,
    /// Of a journal on several sides the first one is believed.
    OneSide,
    /// A batch that is rotten on one side is written over that of the other.
    MendBackwards,
}

impl Canary {
    /// Those that the crash harness must find.
    pub const ALL: [Self; 10] = [
        Self::SkipFlush,
        Self::TrustLastBatch,
        Self::TrustBatches,
        Self::CutEarly,
        Self::SkipNameSync,
        Self::LoseARecord,
        Self::ForgetSealed,
        Self::TrimEarly,
        Self::RepeatSequence,
        Self::IgnorePoison,
    ];

    /// Those that the harness of mirrored journals must find.
    pub const MIRRORED: [Self; 2] = [Self::OneSide, Self::MendBackwards];

    pub(crate) fn planted(self, planted: Option<Self>) -> bool {
        cfg!(feature = "sim") && planted == Some(self)
    }
}
