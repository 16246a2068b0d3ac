//! The object of one key: its siblings and one version vector.

use super::dot::Dot;
use super::version_vector::VersionVector;
use crate::base::units::UnixMillis;

/// The client's name of one put or delete, the same on each of its retries. Zero is "none given".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u128);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Value,
    /// A delete is a write: it has a dot, and goes only by settling.
    Tombstone,
    /// The value could not be read; the sibling stays until the value is fetched again by its dot.
    ValueLost,
}

/// One sibling; `V` says where its value is (bytes in memory, a place on disk).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling<V> {
    pub dot: Dot,
    pub operation: OperationId,
    pub kind: Kind,
    pub written: UnixMillis,
    /// Absolute; zero is never.
    pub expires: UnixMillis,
    /// xxh3-64 over bucket, key, dot, operation id and value, made where the dot is minted.
    pub value_hash: u64,
    pub value: V,
}

/// Siblings in the order of their dots, none of them covered by another write that the vector saw supersede it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object<V> {
    pub vector: VersionVector,
    pub siblings: Vec<Sibling<V>>,
}

impl<V: Clone> Object<V> {
    /// What somebody knows who has seen both: a sibling stays if both hold it, or if the other side has not seen its
    /// dot.
    pub fn join(&mut self, _other: &Object<V>) {}

    /// Takes a write in: drops the siblings that `context` has seen, joins `context` into the vector, adds `sibling`.
    /// The sibling's dot is new: no vector has seen it.
    pub fn write(&mut self, _context: &VersionVector, _sibling: Sibling<V>) {}
}
