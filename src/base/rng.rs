//! Seeded randomness whose draws are the same on every machine, for ever: kept seeds must replay.
//!
//! Algorithm: xoshiro256++ 1.0 (Blackman and Vigna, 2019), its state filled by SplitMix64 from the
//! seed. Not for secrets.

use super::checksum;
use std::ops::Range;

#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    pub fn new(seed: u64) -> Rng {
        let mut seed = seed;
        let state = [(); 4].map(|()| splitmix64(&mut seed));
        // SplitMix64 draws each number once in its period, so four in a row are never all zero.
        assert_ne!(state, [0; 4]);
        Rng { state }
    }

    /// A stream of its own for the `index`-th part of a subsystem: one draw more in one part does
    /// not shift the others.
    pub fn stream(seed: u64, subsystem: &str, index: u64) -> Rng {
        let length = subsystem.len() as u64;
        Rng::new(checksum::xxh3_64_parts(&[
            &seed.to_le_bytes(),
            &length.to_le_bytes(),
            subsystem.as_bytes(),
            &index.to_le_bytes(),
        ]))
    }

    pub fn u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Even over `0..n`; `n` is at least 1. Multiply and reject (Lemire, 2019): no bias, seldom a
    /// second draw.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "nothing is below zero");
        let refused = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.u64()) * u128::from(n);
            if product as u64 >= refused {
                return (product >> 64) as u64;
            }
        }
    }

    /// Even over a range that is not empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "an empty range");
        range.start + self.below(range.end - range.start)
    }

    /// True with this probability, of 0 to 1. One draw, whatever it is.
    pub fn chance(&mut self, probability: f64) -> bool {
        assert!((0.0..=1.0).contains(&probability));
        // 53 bits, so that the quotient is exact and below 1.
        let unit = (self.u64() >> 11) as f64 / (1u64 << 53) as f64;
        unit < probability
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Every order equally likely (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// Fills `out`: each draw gives eight bytes, little-endian.
    pub fn bytes(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// One draw of SplitMix64 (Steele, Lea and Flood, 2014; constants of Vigna's version).
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // The first outputs of the authors' programs.
        let mut seed = 1_234_567;
        assert_eq!(
            [(); 3].map(|()| splitmix64(&mut seed)),
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
        let mut rng = Rng {
            state: [1, 2, 3, 4],
        };
        assert_eq!(
            [(); 4].map(|()| rng.u64()),
            [
                41_943_041,
                58_720_359,
                3_588_806_011_781_223,
                3_591_011_842_654_386
            ]
        );
    }

    #[test]
    fn kept_seeds_replay() {
        // Our own composition: if one of these changes, every kept seed has lost its meaning.
        let mut rng = Rng::stream(42, "network", 3);
        let mut bytes = [0; 5];
        rng.bytes(&mut bytes);
        let mut order = [0, 1, 2, 3, 4, 5];
        rng.shuffle(&mut order);
        let drawn = (rng.u64(), rng.below(1000), rng.range(10..20), bytes, order);
        let kept = (
            2_790_191_167_908_481_679,
            160,
            11,
            [8, 206, 23, 251, 176],
            [2, 3, 1, 4, 5, 0],
        );
        assert_eq!(drawn, kept);
    }

    #[test]
    fn streams_differ_by_each_of_their_names() {
        let first = |seed, subsystem, index| Rng::stream(seed, subsystem, index).u64();
        let all = [
            first(1, "disk", 0),
            first(2, "disk", 0),
            first(1, "disk", 1),
            first(1, "net", 0),
            first(1, "disk2", 0),
        ];
        for (index, draw) in all.iter().enumerate() {
            assert!(!all[..index].contains(draw));
        }
    }

    #[test]
    fn draws_are_even() {
        let mut rng = Rng::new(7);
        let mut counts = [0u32; 6];
        (0..60_000).for_each(|_| counts[rng.below(6) as usize] += 1);
        // 10,000 each with a deviation of 91: ten of those are never seen.
        assert!(counts.iter().all(|count| (9_000..11_000).contains(count)));
        let hits = (0..10_000).filter(|_| rng.chance(0.25)).count();
        assert!((2_100..2_900).contains(&hits), "{hits}");
        assert!(!rng.chance(0.0) && rng.chance(1.0) && rng.one_in(1));
        assert_eq!(rng.below(1), 0);
        assert!(rng.range(u64::MAX - 1..u64::MAX) == u64::MAX - 1);
    }

    #[test]
    fn a_shuffle_keeps_all_and_reaches_every_order() {
        let mut rng = Rng::new(9);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let mut items = [0u8, 1, 2, 3];
            rng.shuffle(&mut items);
            let mut sorted = items;
            sorted.sort();
            assert_eq!(sorted, [0, 1, 2, 3]);
            seen.insert(items);
        }
        assert_eq!(seen.len(), 24);
    }
}
