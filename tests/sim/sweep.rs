//! Seeds of crashes and faults without a violation; and the runs must have seen what they are meant to test.

use armilla::base::marks::{self, Mark};
use armilla::sim::world::{Plan, run};

/// Seeds of this run; a longer sweep is `cargo run --release -p armilla-sweep`.
const SEEDS: u64 = 1_000;
const OPERATIONS: u64 = 1_000;
const THREADS: u64 = 2;

#[test]
fn a_thousand_seeds_of_crashes_break_nothing() {
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
    let mut unseen = Mark::ALL.to_vec();
    let (mut lives, mut mints) = (0, 0);
    for part in parts {
        let (part_lives, part_mints, counts) = part.join().unwrap();
        lives += part_lives;
        mints += part_mints;
        unseen.retain(|mark| {
            counts
                .iter()
                .all(|(seen, count)| seen != mark || *count == 0)
        });
    }
    println!("{SEEDS} seeds, {lives} lives, {mints} mints");
    assert!(
        lives > 3 * SEEDS,
        "{lives} lives: the worlds are too peaceful"
    );
    assert!(unseen.is_empty(), "no run ever saw {unseen:?}");
}
