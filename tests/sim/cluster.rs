//! Seeds of clusters under crashes and partitions without a violation; and the runs must have seen what they test.

use armilla::base::marks::{self, Mark};
use armilla::sim::cluster::{Plan, Verdict, run};

/// Seeds of this run; a longer sweep is `cargo run --release -p armilla-sweep -- --world cluster`.
const SEEDS: u64 = 300;
const SEEDS_GROWING: u64 = 100;
const OPERATIONS: u64 = 600;
const THREADS: u64 = 2;

/// What several nodes meet; the other marks are of one node, or of rot.
const MUST_SEE: &[Mark] = &[
    Mark::WriteKeptSibling,
    Mark::WriteSupersededSibling,
    Mark::MintContinued,
    Mark::JoinDroppedSibling,
    Mark::ContextForeign,
    Mark::Poisoned,
    Mark::WalCut,
    Mark::TornTail,
    Mark::Joined,
    Mark::Forwarded,
    Mark::HandedOn,
    Mark::ReadMetNews,
    Mark::ReadWroteBack,
    Mark::ReadRepaired,
    Mark::Hedged,
    Mark::StoreNotSent,
    Mark::StoreNeeded,
    Mark::StoreRefused,
    Mark::OperationHeld,
    Mark::LinkSilent,
    Mark::StoredApart,
    Mark::PeerOfNoUse,
];

/// What a ring meets that grows.
const MUST_SEE_GROWING: &[Mark] = &[Mark::RingAgreed, Mark::RingLearned, Mark::RingFilled];

#[test]
fn seeds_of_crashes_and_partitions_break_no_cluster() {
    sweep(false, SEEDS, MUST_SEE);
}

#[test]
fn seeds_of_crashes_and_partitions_break_no_ring_that_grows() {
    sweep(true, SEEDS_GROWING, MUST_SEE_GROWING);
}

fn sweep(grows: bool, seeds: u64, must_see: &[Mark]) {
    let verdict = move |seed| {
        run(&Plan {
            seed,
            operations: OPERATIONS,
            planted: None,
            grows,
        })
    };
    let parts: Vec<_> = (0..THREADS)
        .map(|part| {
            std::thread::spawn(move || {
                let mut verdicts: Vec<Verdict> = Vec::new();
                for seed in (part..seeds).step_by(THREADS as usize) {
                    let verdict = verdict(seed);
                    let told = &verdict.violations[..verdict.violations.len().min(5)];
                    assert!(verdict.is_clean(), "seed {seed}: {told:#?}");
                    verdicts.push(verdict);
                }
                (verdicts, marks::counts())
            })
        })
        .collect();
    let mut seen = vec![0; Mark::ALL.len()];
    let mut verdicts = Vec::new();
    for part in parts {
        let (done, counts) = part.join().unwrap();
        verdicts.extend(done);
        for (mark, count) in counts {
            seen[mark as usize] += count;
        }
    }
    let sum = |count: fn(&Verdict) -> u64| verdicts.iter().map(count).sum::<u64>();
    let (crashes, partitions) = (sum(|v| v.crashes), sum(|v| v.partitions));
    let (acked, mints) = (sum(|v| v.acked as u64), sum(|v| v.mints as u64));
    println!(
        "{seeds} seeds, {} operations, {acked} acked writes, {mints} mints, {crashes} crashes, {partitions} partitions",
        sum(|v| v.operations)
    );
    assert!(crashes > 3 * seeds, "{crashes} crashes: too peaceful");
    assert!(
        partitions > 3 * seeds,
        "{partitions} partitions: too peaceful"
    );
    assert!(acked > 20 * seeds, "{acked} acked writes: nothing happens");
    let unseen: Vec<Mark> = must_see
        .iter()
        .copied()
        .filter(|&mark| seen[mark as usize] == 0)
        .collect();
    assert!(unseen.is_empty(), "no run ever saw {unseen:?}");
}
