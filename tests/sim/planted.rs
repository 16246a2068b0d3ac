//! Every planted bug is caught within a bounded number of seeds: a check that never failed proves nothing.

use armilla::base::planted::Planted;
use armilla::sim::hostile;
use armilla::sim::world::{Plan, run};

const SEEDS_MAX: u64 = 300;
const OPERATIONS: u64 = 1_000;

/// Bugs that need rot on the disk, or several nodes, to show: tests of the engine and of the ring catch them.
const CAUGHT_ELSEWHERE: &[Planted] = &[
    Planted::RottenRecordCopied,
    Planted::FreedUnread,
    Planted::ColdTailForgotten,
    Planted::QuarantineForgotten,
    Planted::PreferenceOffByOne,
    Planted::RepeatedReplica,
    Planted::RepeatedOwner,
    Planted::StaleClaim,
    Planted::VoteBeforeDurable,
    Planted::StoreReplaces,
    Planted::UnsureVotes,
    Planted::OverwriteLocalOnly,
];

#[test]
fn every_planted_bug_is_caught() {
    let mut missed = Vec::new();
    println!("{:<24} {:>6}  first violation", "planted bug", "seeds");
    for &bug in Planted::ALL {
        if CAUGHT_ELSEWHERE.contains(&bug) {
            continue;
        }
        let caught = (0..SEEDS_MAX).find_map(|seed| {
            if let Some(scenario) = hostile::scenario_of(bug) {
                let broken = hostile::judge(scenario, seed, Some(bug));
                return broken.first().map(|what| (seed + 1, what.clone()));
            }
            let plan = Plan {
                seed,
                operations: OPERATIONS,
                planted: Some(bug),
            };
            let verdict = std::panic::catch_unwind(|| run(&plan));
            match verdict {
                Ok(verdict) => verdict.violations.first().map(|v| (seed + 1, v.clone())),
                Err(_) => Some((seed + 1, "an assertion of the node".into())),
            }
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
