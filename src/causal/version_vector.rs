//! All events of each actor up to a count: what somebody has seen of one key.

use super::dot::{Actor, Dot};

/// Entries sorted by actor, each actor once, counters >= 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionVector {
    entries: Vec<(Actor, u64)>,
}

impl VersionVector {
    pub fn get(&self, _actor: Actor) -> u64 {
        0
    }
    /// Whether the dot is among the events this vector has seen.
    pub fn contains(&self, dot: Dot) -> bool {
        self.get(dot.actor) >= dot.counter
    }
    pub fn join(&mut self, _other: &VersionVector) {}
    /// Raises the entry of the dot's actor to the dot's counter.
    pub fn add(&mut self, _dot: Dot) {}
    /// Whether everything `other` has seen, this has seen too.
    pub fn descends(&self, _other: &VersionVector) -> bool {
        false
    }
    pub fn entries(&self) -> &[(Actor, u64)] {
        &self.entries
    }
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    /// Appends the final encoding; see `schema/disk.md`.
    pub fn encode(&self, _out: &mut Vec<u8>) {}
    /// Reads one from the front of `bytes`, which is moved on. `None` for anything that `encode` does not write.
    pub fn decode(_bytes: &mut &[u8]) -> Option<VersionVector> {
        None
    }
}
