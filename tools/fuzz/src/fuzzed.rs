//! `armilla-fuzzed`: one fuzz target under libFuzzer, whose command line it takes. `armilla-fuzz` builds and runs it.
#![no_main]

use armilla::fuzz::target;
use std::sync::OnceLock;

/// The environment variable that names the target.
const TARGET: &str = "ARMILLA_FUZZ_TARGET";

static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var(TARGET).unwrap_or_default();
        let target = target(&name).unwrap_or_else(|| panic!("set {TARGET} to the name of a target, not to '{name}'"));
        RUN.set(target.run).expect("set once");
    },
    |data: &[u8]| {
        RUN.get().expect("set by init")(data)
    }
);
