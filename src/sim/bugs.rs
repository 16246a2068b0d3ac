//! Which planted bugs show in a world of several nodes.

use crate::base::planted::Planted;

/// Planted bugs that need several nodes to show.
const PLANTED: &[Planted] = &[
    Planted::VoteBeforeDurable,
    Planted::StoreReplaces,
    Planted::UnsureVotes,
    Planted::OverwriteLocalOnly,
    Planted::QuorumOffByOne,
    Planted::RefusalVotes,
    Planted::LwwJoin,
    Planted::ForwardedTwice,
    Planted::GetNotJoined,
    Planted::StrictNotWrittenBack,
    Planted::PeerReadBeforeSync,
    Planted::TimeoutSaysNo,
    Planted::RepairMints,
    Planted::TwoFounders,
    Planted::FillingVotes,
    Planted::FillSkipsLast,
    Planted::FilledTooEarly,
];
/// Of those, the ones that need a ring that grows.
const PLANTED_IN_GROWTH: &[Planted] = &[
    Planted::FillingVotes,
    Planted::FillSkipsLast,
    Planted::FilledTooEarly,
];

/// Whether a planted bug needs several nodes to show.
pub fn judges(bug: Planted) -> bool {
    PLANTED.contains(&bug)
}

/// Whether it needs a ring that grows.
pub fn judges_in_growth(bug: Planted) -> bool {
    PLANTED_IN_GROWTH.contains(&bug)
}
