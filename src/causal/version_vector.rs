//! All events of each actor up to a count: what somebody has seen of one key.
//!
//! Encoding, final (on disk, between nodes, inside context tokens); numbers marked varint as in
//! `base::varint`:
//!
//! ```text
//! count varint |
//! count x { incarnation u64 little-endian | birth varint (32 bits) | counter varint (64 bits) }
//! ```
//!
//! Actors ascend strictly (by incarnation, then birth), counters are at least 1, there are at most
//! `limits::VECTOR_ENTRIES_JOINED_MAX` entries. One vector has one encoding. Golden vectors:
//! `schema/vectors/version_vector.json`.

use super::dot::{Actor, Dot, Incarnation};
use crate::base::{limits, varint};

/// Entries sorted by actor, each actor once, counters >= 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionVector {
    entries: Vec<(Actor, u64)>,
}

impl VersionVector {
    pub fn get(&self, actor: Actor) -> u64 {
        match self.place(actor) {
            Ok(index) => self.entries[index].1,
            Err(_) => 0,
        }
    }

    /// Whether the dot is among the events this vector has seen.
    pub fn contains(&self, dot: Dot) -> bool {
        self.get(dot.actor) >= dot.counter
    }

    pub fn join(&mut self, other: &VersionVector) {
        for &(actor, counter) in &other.entries {
            self.add(Dot { actor, counter });
        }
    }

    /// Raises the entry of the dot's actor to the dot's counter.
    pub fn add(&mut self, dot: Dot) {
        assert!(dot.counter >= 1, "counters start at 1");
        match self.place(dot.actor) {
            Ok(index) => {
                let counter = &mut self.entries[index].1;
                *counter = dot.counter.max(*counter);
            }
            Err(index) => self.entries.insert(index, (dot.actor, dot.counter)),
        }
    }

    /// Whether everything `other` has seen, this has seen too.
    pub fn descends(&self, other: &VersionVector) -> bool {
        let seen = |&(actor, counter): &(Actor, u64)| self.get(actor) >= counter;
        other.entries.iter().all(seen)
    }

    /// The highest birth known of an incarnation.
    pub fn last_birth(&self, incarnation: Incarnation) -> Option<u32> {
        let end = |entry: &(Actor, u64)| entry.0.incarnation <= incarnation;
        let end = self.entries.partition_point(end);
        let (actor, _) = self.entries[..end].last()?;
        (actor.incarnation == incarnation).then_some(actor.birth)
    }

    pub fn entries(&self) -> &[(Actor, u64)] {
        &self.entries
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it has an encoding. Joining can make a vector that has none: refuse the write before
    /// it is stored or sent.
    pub fn fits(&self) -> bool {
        self.entries.len() <= limits::VECTOR_ENTRIES_JOINED_MAX
    }

    /// Appends the final encoding. The vector fits.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.fits());
        varint::encode(self.entries.len() as u64, out);
        for &(actor, counter) in &self.entries {
            assert!(counter >= 1);
            encode_dot(Dot { actor, counter }, out);
        }
    }

    /// Reads one from the front of `bytes`, which is moved on. `None` for anything that `encode`
    /// does not write.
    pub fn decode(bytes: &mut &[u8]) -> Option<VersionVector> {
        let mut rest = *bytes;
        let count = varint::decode_u32(&mut rest)? as usize;
        // Bounds what is allocated by what has come.
        if count > limits::VECTOR_ENTRIES_JOINED_MAX || count > rest.len() / DOT_BYTES_MIN {
            return None;
        }
        let mut entries: Vec<(Actor, u64)> = Vec::with_capacity(count);
        for _ in 0..count {
            let dot = decode_dot(&mut rest)?;
            if entries.last().is_some_and(|last| last.0 >= dot.actor) {
                return None;
            }
            entries.push((dot.actor, dot.counter));
        }
        *bytes = rest;
        Some(VersionVector { entries })
    }

    fn place(&self, actor: Actor) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&actor, |entry| entry.0)
    }
}

/// Bytes of the shortest dot: incarnation, birth, counter.
const DOT_BYTES_MIN: usize = 8 + 1 + 1;

/// A dot, as it stands in a vector and at the head of a sibling: incarnation u64, birth varint,
/// counter varint.
pub(super) fn encode_dot(dot: Dot, out: &mut Vec<u8>) {
    out.extend_from_slice(&dot.actor.incarnation.0.to_le_bytes());
    varint::encode(u64::from(dot.actor.birth), out);
    varint::encode(dot.counter, out);
}

/// `None` for anything that `encode_dot` does not write, a counter of 0 too; `bytes` is then
/// anywhere.
pub(super) fn decode_dot(bytes: &mut &[u8]) -> Option<Dot> {
    let (incarnation, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    let actor = Actor {
        incarnation: Incarnation(u64::from_le_bytes(*incarnation)),
        birth: varint::decode_u32(bytes)?,
    };
    let counter = varint::decode(bytes)?;
    (counter >= 1).then_some(Dot { actor, counter })
}
