//! The rolling hash of a run: two runs of one seed in one binary have one hash.
//!
//! Only virtual time, numbers given out in order, and payload bytes enter it; never an address, a
//! hash seed or real time.

use super::world::ProcessId;
use crate::base::units::Nanos;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What happened.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Poll = 1,
    Start,
    End,
    DiskIssue,
    DiskDone,
    PowerCut,
    NetItem,
    NetEvent,
    Log,
}

pub(super) struct Trace {
    hash: Xxh3,
    steps: u64,
}

impl Trace {
    pub(super) fn new(seed: u64) -> Trace {
        Trace {
            hash: Xxh3::with_seed(seed),
            steps: 0,
        }
    }

    pub(super) fn record(&mut self, now: Nanos, process: ProcessId, kind: Kind, payload: u64) {
        let mut entry = [0u8; 25];
        entry[..8].copy_from_slice(&now.0.to_le_bytes());
        entry[8..16].copy_from_slice(&(process.0 as u64).to_le_bytes());
        entry[16] = kind as u8;
        entry[17..].copy_from_slice(&payload.to_le_bytes());
        self.hash.update(&entry);
        self.steps += 1;
    }

    pub(super) fn hash(&self) -> u128 {
        self.hash.digest128()
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }
}

/// The hash of some numbers and bytes, for the payload of an entry.
pub(super) fn payload(numbers: &[u64], bytes: &[u8]) -> u64 {
    numbers.iter().fold(xxh3_64(bytes), |sum, n| {
        (sum ^ n)
            .rotate_left(23)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}
