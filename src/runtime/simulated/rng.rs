//! Seeded draws: SplitMix64, one stream a subsystem, so that a fault switched off never shifts the draws of another.

use xxhash_rust::xxh3::xxh3_64_with_seed;

#[derive(Clone, Debug)]
pub(super) struct Rng {
    state: u64,
}

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng { state: seed }
    }

    /// The stream number `index` of `subsystem`.
    pub(super) fn stream(seed: u64, subsystem: &str, index: u64) -> Rng {
        let named = xxh3_64_with_seed(subsystem.as_bytes(), seed);
        Rng::new(xxh3_64_with_seed(&index.to_le_bytes(), named))
    }

    pub(super) fn u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in `0..bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a draw from nothing");
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True with probability `p`. Draws nothing for 0.
    pub(super) fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && ((self.u64() >> 11) as f64) < p * (1u64 << 53) as f64
    }
}
