//! Seeds of crashes and faults without a violation; and the runs must have seen what they are meant to test.

use armilla::base::marks::{self, Mark};
use armilla::sim::world::{Plan, run};

/// Seeds of this run; a longer sweep is `cargo run --release -p armilla-sweep`.
const SEEDS: u64 = 2_000;
const OPERATIONS: u64 = 1_000;
const THREADS: u64 = 2;

/// What one node under crashes and disk errors meets; the other marks need several nodes or rot.
const MUST_SEE: &[Mark] = &[
    Mark::WriteKeptSibling,
    Mark::WriteSupersededSibling,
    Mark::MintContinued,
    Mark::ContextForeign,
    Mark::WalCut,
    Mark::TornTail,
    Mark::SegmentRolled,
    Mark::ManifestRewritten,
    Mark::Poisoned,
    Mark::IdleMark,
    Mark::Flushed,
    Mark::FoundInTable,
    Mark::Merged,
    Mark::SegmentCollected,
    Mark::Relocated,
    Mark::Flipped,
    Mark::FreeWaited,
    Mark::ValueMoved,
    Mark::Scrubbed,
];

#[test]
fn two_thousand_seeds_of_crashes_break_nothing() {
    let parts: Vec<_> = (0..THREADS)
        .map(|part| {
            std::thread::spawn(move || {
                let mut lives = 0;
                let mut mints = 0;
                for seed in (part..SEEDS).step_by(THREADS as usize) {
                    let verdict = run(&Plan {
                        seed,
                        operations: OPERATIONS,
                        planted: None,
                    });
                    assert!(
                        verdict.is_clean(),
                        "seed {seed}: {:#?}",
                        &verdict.violations[..verdict.violations.len().min(5)]
                    );
                    lives += verdict.lives;
                    mints += verdict.mints as u64;
                }
                (lives, mints, marks::counts())
            })
        })
        .collect();
    let mut seen = vec![0; Mark::ALL.len()];
    let (mut lives, mut mints) = (0, 0);
    for part in parts {
        let (part_lives, part_mints, counts) = part.join().unwrap();
        lives += part_lives;
        mints += part_mints;
        for (mark, count) in counts {
            seen[mark as usize] += count;
        }
    }
    let unseen = |marks: &[Mark]| -> Vec<Mark> {
        marks
            .iter()
            .copied()
            .filter(|&mark| seen[mark as usize] == 0)
            .collect()
    };
    println!("not seen, of all marks: {:?}", unseen(Mark::ALL));
    println!("{SEEDS} seeds, {lives} lives, {mints} mints");
    assert!(
        lives > 3 * SEEDS,
        "{lives} lives: the worlds are too peaceful"
    );
    let unseen = unseen(MUST_SEE);
    assert!(unseen.is_empty(), "no run ever saw {unseen:?}");
}
