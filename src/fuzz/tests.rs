//! Every target over its seeds, what is committed under tools/fuzz, and seeded mutations of both.

use super::*;
use crate::base::planted::{Planted, disable_all, enable};
use crate::base::rng::Rng;
use std::panic::catch_unwind;
use std::path::PathBuf;

/// Mutations of a run. Long runs are for `tools/fuzz`.
const MUTATIONS: u64 = 4_000;
/// A directory is opened twice on a disk that has to be made first.
const MUTATIONS_REPLAY: u64 = 150;
/// Bytes of all committed inputs, as text.
const CORPUS_BYTES_MAX: usize = 200 << 10;

fn path(folder: &str, target: &Target) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("tools/fuzz")
        .join(folder)
        .join(target.name.to_owned() + ".hex")
}

/// What is committed for a target; regressions need not be there.
fn committed(target: &Target) -> Vec<Vec<u8>> {
    let read = |folder| {
        let path = path(folder, target);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        corpus::parse(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
    };
    let corpus = read("corpus");
    assert!(!corpus.is_empty(), "{} has no corpus", target.name);
    [read("regressions"), corpus].concat()
}

/// Runs the input, and tells which one it was if it panics.
fn run(target: &Target, input: &[u8]) {
    if catch_unwind(|| (target.run)(input)).is_err() {
        panic!(
            "a finding in {}: fix its cause, and add this line to {}:\n{}",
            target.name,
            path("regressions", target).display(),
            corpus::hex(input)
        );
    }
}

fn over_all_inputs(name: &str, mutations: u64) {
    let target = target(name).expect("a target of the table");
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    let inputs = [seeds, committed(target)].concat();
    for input in &inputs {
        assert!(input.len() <= target.bytes_max, "{name}: {}", input.len());
        run(target, input);
    }
    run(target, &[]);
    let mut rng = Rng::stream(1, name, 0);
    for _ in 0..mutations {
        run(
            target,
            &mutate::mutated(&mut rng, &inputs, target.bytes_max),
        );
    }
}

/// One test a target, so that they run beside each other.
macro_rules! over {
    ($($target:ident: $mutations:expr;)+) => {
        $(#[test]
        fn $target() {
            over_all_inputs(stringify!($target), $mutations);
        })+

        #[test]
        fn every_target_is_tested() {
            let tested = [$(stringify!($target)),+];
            let listed: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(listed, tested);
        }
    };
}

over! {
    frame: MUTATIONS;
    request: MUTATIONS;
    reply: MUTATIONS;
    peer: MUTATIONS;
    object: MUTATIONS;
    context: MUTATIONS;
    group: MUTATIONS;
    record: MUTATIONS;
    manifest: MUTATIONS;
    table: MUTATIONS;
    replay: MUTATIONS_REPLAY;
    node_toml: MUTATIONS;
    ring: MUTATIONS;
}

/// A check that never failed proves nothing.
#[test]
fn a_planted_bug_is_found() {
    for (name, bug) in [
        ("group", Planted::TornGroupAccepted),
        ("record", Planted::TornGroupAccepted),
        ("table", Planted::FilterFalseNegative),
    ] {
        let target = target(name).expect("a target of the table");
        enable(bug);
        let mut rng = Rng::new(1);
        let found = catch_unwind(move || {
            let seeds = (target.seeds)();
            (0..MUTATIONS)
                .for_each(|_| (target.run)(&mutate::mutated(&mut rng, &seeds, target.bytes_max)));
        });
        disable_all();
        assert!(found.is_err(), "{name} does not see {}", bug.name());
    }
}

#[test]
fn the_corpora_stay_small_and_are_all_of_targets() {
    let mut bytes = 0;
    for folder in ["corpus", "regressions"] {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tools/fuzz")
            .join(folder);
        for entry in std::fs::read_dir(&folder).expect("a folder of corpora") {
            let path = entry.expect("its entry").path();
            let name = path
                .file_stem()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            assert!(target(name).is_some(), "{} is of no target", path.display());
            bytes += std::fs::read(&path).expect("a corpus").len();
        }
    }
    assert!(
        bytes <= CORPUS_BYTES_MAX,
        "{bytes} bytes of at most {CORPUS_BYTES_MAX}"
    );
}

#[test]
fn a_corpus_is_read_back() {
    let inputs = vec![vec![], vec![0, 0xff], b"text".to_vec()];
    let text = "# why\n".to_string() + &corpus::format(&inputs);
    assert_eq!(corpus::parse(&text), Ok(inputs[1..].to_vec()));
    for bad in ["0", "0g", "00 11"] {
        assert!(corpus::parse(bad).is_err(), "{bad}");
    }
}
