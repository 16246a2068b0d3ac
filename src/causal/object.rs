//! The object of one key: its siblings and one version vector.
//!
//! Invariants: 1 siblings ascend strictly by dot. 2 The vector has seen the dot of every sibling.
//! 3 A dot that the vector has seen and that is no sibling was superseded. An object that came as
//! bytes is checked for 1 and 2 by `Object::checked`.

use super::dot::Dot;
use super::version_vector::VersionVector;
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::base::units::UnixMillis;
use std::cmp::Ordering;

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
    /// xxh3-64 over bucket, key, dot, operation id and value, made where the dot is minted:
    /// `causal::value_hash`.
    pub value_hash: u64,
    pub value: V,
}

impl<V> Sibling<V> {
    /// Whether a get shows it: tombstones are there for causality only.
    pub fn is_shown(&self) -> bool {
        self.kind != Kind::Tombstone
    }

    /// The same sibling with its value elsewhere.
    pub fn with_value<W>(self, value: W) -> Sibling<W> {
        Sibling {
            dot: self.dot,
            operation: self.operation,
            kind: self.kind,
            written: self.written,
            expires: self.expires,
            value_hash: self.value_hash,
            value,
        }
    }
}

/// Siblings in the order of their dots, none of them covered by another write that the vector saw
/// supersede it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object<V> {
    pub vector: VersionVector,
    pub siblings: Vec<Sibling<V>>,
}

impl<V: Clone> Object<V> {
    /// An object of parts that came from disk or a peer; `None` if they cannot be one.
    pub fn checked(vector: VersionVector, siblings: Vec<Sibling<V>>) -> Option<Object<V>> {
        let object = Object { vector, siblings };
        object.is_sound().then_some(object)
    }

    /// What somebody knows who has seen both: a sibling stays if both hold it, or if the other side
    /// has not seen its dot.
    pub fn join(&mut self, other: &Object<V>) {
        assert!(self.is_sound());
        assert!(other.is_sound());
        let mut joined = Vec::with_capacity(self.siblings.len().max(other.siblings.len()));
        let mut ours = std::mem::take(&mut self.siblings).into_iter().peekable();
        let mut theirs = other.siblings.iter().peekable();
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(our), Some(their)) => our.dot.cmp(&their.dot),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            match order {
                Ordering::Less => {
                    joined.extend(ours.next().filter(|our| unseen(our, &other.vector)))
                }
                Ordering::Greater => {
                    joined.extend(
                        theirs
                            .next()
                            .filter(|their| unseen(their, &self.vector))
                            .cloned(),
                    );
                }
                Ordering::Equal => {
                    let pair = ours.next().zip(theirs.next());
                    joined.extend(pair.map(|(our, their)| better(our, their)));
                }
            }
        }
        self.siblings = joined;
        if planted!(LwwJoin) {
            let newest = self.siblings.iter().map(|s| (s.written, s.dot)).max();
            self.siblings.retain(|s| Some((s.written, s.dot)) == newest);
        }
        self.vector.join(&other.vector);
        assert!(self.is_sound());
    }

    /// Takes a write in: drops the siblings that `context` has seen, joins `context` into the
    /// vector, adds `sibling`. The sibling's dot is new: no vector has seen it.
    pub fn write(&mut self, context: &VersionVector, sibling: Sibling<V>) {
        assert!(!self.vector.contains(sibling.dot), "a dot is written once");
        assert!(!context.contains(sibling.dot), "nobody has seen it yet");
        let before = self.siblings.len();
        self.siblings.retain(|held| !context.contains(held.dot));
        if self.siblings.len() < before {
            mark!(WriteSupersededSibling);
        }
        if !self.siblings.is_empty() {
            mark!(WriteKeptSibling);
        }
        self.vector.join(context);
        self.vector.add(sibling.dot);
        let place = self.siblings.partition_point(|held| held.dot < sibling.dot);
        self.siblings.insert(place, sibling);
        assert!(self.is_sound());
    }

    pub fn find_dot(&self, dot: Dot) -> Option<&Sibling<V>> {
        let index = self.siblings.binary_search_by_key(&dot, |held| held.dot);
        index.ok().map(|index| &self.siblings[index])
    }

    /// The sibling that an earlier try of this operation wrote. No operation is none: zero finds
    /// nothing.
    pub fn find_operation(&self, operation: OperationId) -> Option<&Sibling<V>> {
        if operation == OperationId::default() {
            return None;
        }
        self.siblings
            .iter()
            .find(|held| held.operation == operation)
    }

    fn is_sound(&self) -> bool {
        let ascending = self.siblings.is_sorted_by(|one, next| one.dot < next.dot);
        ascending
            && self
                .siblings
                .iter()
                .all(|held| self.vector.contains(held.dot))
    }
}

/// A sibling that one side holds stays unless the other side saw it, and saw it superseded.
fn unseen<V>(sibling: &Sibling<V>, other: &VersionVector) -> bool {
    let unseen = !other.contains(sibling.dot);
    if !unseen {
        mark!(JoinDroppedSibling);
    }
    unseen
}

/// Of two copies of one write: the one that has its value; if both have, ours, whose place is at
/// hand.
fn better<V: Clone>(our: Sibling<V>, their: &Sibling<V>) -> Sibling<V> {
    assert_eq!(our.dot, their.dot);
    if our.kind == Kind::ValueLost && their.kind != Kind::ValueLost {
        mark!(JoinFoundLostValue);
        return their.clone();
    }
    our
}
