//! Every planted bug is caught within a bounded number of seeds: a check that never failed proves nothing.

use armilla::base::planted::Planted;
use armilla::sim::{cluster, hostile, world};

const SEEDS_MAX: u64 = 300;
const OPERATIONS: u64 = 1_000;

/// Bugs that need rot on the disk to show, a ring that changes, or a power cut at one I/O of many: tests of the engine
/// and of the ring catch them.
const CAUGHT_ELSEWHERE: &[Planted] = &[
    Planted::FlipsNotFlushed,
    Planted::RottenRecordCopied,
    Planted::FreedUnread,
    Planted::ColdTailForgotten,
    Planted::ApartNotPinned,
    Planted::QuarantineForgotten,
    Planted::RotOverlooked,
    Planted::SnapshotWithoutTail,
    Planted::PreferenceOffByOne,
    Planted::RepeatedReplica,
    Planted::RepeatedOwner,
    Planted::StaleClaim,
];

#[test]
fn every_planted_bug_is_caught() {
    let mut missed = Vec::new();
    println!("{:<24} {:>6}  first violation", "planted bug", "seeds");
    for &bug in Planted::ALL {
        if CAUGHT_ELSEWHERE.contains(&bug) {
            continue;
        }
        let caught =
            (0..SEEDS_MAX).find_map(|seed| match std::panic::catch_unwind(|| judge(bug, seed)) {
                Ok(violations) => violations.first().map(|v| (seed + 1, v.clone())),
                Err(_) => Some((seed + 1, "an assertion of the node".into())),
            });
        match caught {
            Some((seeds, what)) => println!("{:<24} {seeds:>6}  {what:.100}", format!("{bug:?}")),
            None => missed.push(bug),
        }
    }
    armilla::base::planted::disable_all();
    assert!(
        missed.is_empty(),
        "not caught within {SEEDS_MAX} seeds: {missed:?}"
    );
}

/// Runs a seed of the world that the bug shows in.
fn judge(bug: Planted, seed: u64) -> Vec<String> {
    if let Some(scenario) = hostile::scenario_of(bug) {
        return hostile::judge(scenario, seed, Some(bug));
    }
    let (operations, planted) = (OPERATIONS, Some(bug));
    if cluster::judges(bug) {
        let plan = cluster::Plan {
            seed,
            operations,
            planted,
            grows: cluster::judges_in_growth(bug),
        };
        return cluster::run(&plan).violations;
    }
    let plan = world::Plan {
        seed,
        operations,
        planted,
    };
    world::run(&plan).violations
}
