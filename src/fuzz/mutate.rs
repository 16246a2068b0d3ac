//! Seeded mutations of inputs, for runs without coverage: the same on every machine.

use crate::base::rng::Rng;

/// Numbers at which lengths and counts go wrong.
const BORDERS: [u64; 10] = [
    0,
    1,
    7,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX,
];

/// An input made of one of `inputs`, which are some, with a few spoilt places; at most `bytes_max` long.
pub fn mutated(rng: &mut Rng, inputs: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
    let pick = |rng: &mut Rng| &inputs[rng.below(inputs.len() as u64) as usize];
    let mut bytes = pick(rng).clone();
    for _ in 0..=rng.below(5) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        let end = (at + rng.range(1..9) as usize).min(bytes.len());
        match rng.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            1 => rng.bytes(&mut bytes[at..end]),
            2 => {
                let border = BORDERS[rng.below(BORDERS.len() as u64) as usize].to_le_bytes();
                bytes[at..end].copy_from_slice(&border[..end - at]);
            }
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copied = bytes[at..end].to_vec();
                let to = rng.below(bytes.len() as u64 + 1) as usize;
                drop(bytes.splice(to..to, copied));
            }
            5 => bytes.truncate(at),
            _ => {
                let other = pick(rng);
                let from = rng.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes.truncate(bytes_max);
    bytes
}
