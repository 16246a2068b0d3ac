//! The pure twin of a whole cluster: every mint of every node, and so what any state of a key must hold.
//!
//! A state is a vector and its siblings, wherever it is met: in a reply, on a replica's disk. Vectors are closed: who
//! has seen a write has seen all that it superseded. So one rule judges every state: its siblings are exactly the dots
//! minted for the key that its vector has seen and that no mint it has seen superseded. A sibling lost, a false one, a
//! false merge and a resurrection break it alike, on one replica or over several.

use crate::causal::dot::{Actor, Dot};
use crate::causal::version_vector::VersionVector;
use crate::replica::witness::Minted;
use std::collections::BTreeMap;

/// Siblings by dot, each with the operation that made it.
pub type Siblings = BTreeMap<Dot, u128>;

#[derive(Debug)]
struct Mint {
    operation: u128,
    /// What this mint and the earlier ones of its actor superseded together: a vector that has seen it has seen those.
    superseded_so_far: VersionVector,
}

#[derive(Debug, Default)]
pub struct Reference {
    /// The mints of each actor, its first at index 0.
    keys: BTreeMap<Vec<u8>, BTreeMap<Actor, Vec<Mint>>>,
    /// An actor mints for one key.
    key_of: BTreeMap<Actor, Vec<u8>>,
    dots_of: BTreeMap<u128, Vec<Dot>>,
    mints: usize,
}

impl Reference {
    pub fn mints(&self) -> usize {
        self.mints
    }

    pub fn keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.keys.keys()
    }

    /// The dots of an operation: one, or one for each of its retries.
    pub fn dots_of(&self, operation: u128) -> &[Dot] {
        self.dots_of.get(&operation).map_or(&[], Vec::as_slice)
    }

    /// Takes a mint in; what is wrong with it by itself.
    pub fn on_minted(&mut self, minted: &Minted) -> Vec<String> {
        let mut wrong = Vec::new();
        let (dot, operation) = (minted.dot, minted.operation);
        let owner = self.key_of.entry(dot.actor).or_insert(minted.key.clone());
        if *owner != minted.key {
            let (other, key) = (text(owner), text(&minted.key));
            wrong.push(format!("4 dot: {dot:?} of {key} is of an actor of {other}"));
        }
        if let Err(why) = self.siblings(&minted.key, &minted.superseded) {
            wrong.push(format!(
                "2 phantom: {operation:x} superseded what never was: {why}"
            ));
        }
        if minted.superseded.contains(dot) {
            wrong.push(format!("4 dot: {operation:x} superseded its own {dot:?}"));
        }
        let kept = minted.before.iter().copied();
        let mut after: Vec<Dot> = kept
            .filter(|&sibling| !minted.superseded.contains(sibling))
            .collect();
        after.push(dot);
        after.sort_unstable();
        if minted.after != after {
            let found = &minted.after;
            wrong.push(format!(
                "7 siblings: {operation:x} left {found:?}, the twin {after:?}"
            ));
        }
        let key = self.keys.entry(minted.key.clone()).or_default();
        let mints = key.entry(dot.actor).or_default();
        match (mints.len() as u64 + 1).cmp(&dot.counter) {
            std::cmp::Ordering::Equal => {
                let mut superseded_so_far = minted.superseded.clone();
                if let Some(last) = mints.last() {
                    superseded_so_far.join(&last.superseded_so_far);
                }
                mints.push(Mint {
                    operation,
                    superseded_so_far,
                });
                self.mints += 1;
                self.dots_of.entry(operation).or_default().push(dot);
            }
            std::cmp::Ordering::Greater => {
                let other = mints[dot.counter as usize - 1].operation;
                wrong.push(format!("4 dot: {dot:?} names {other:x} and {operation:x}"));
            }
            std::cmp::Ordering::Less => {
                let count = mints.len();
                wrong.push(format!(
                    "4 dot: {dot:?} of {operation:x} is number {} of its actor",
                    count + 1
                ));
            }
        }
        wrong
    }

    /// The siblings of the state that has seen `vector`; or the dot it has seen that was never minted for the key.
    pub fn siblings(&self, key: &[u8], vector: &VersionVector) -> Result<Siblings, String> {
        let nothing = BTreeMap::new();
        let actors = self.keys.get(key).unwrap_or(&nothing);
        let mut superseded = VersionVector::default();
        let mut seen = Vec::new();
        for &(actor, counter) in vector.entries() {
            let mints = actors.get(&actor).map_or(&[][..], Vec::as_slice);
            let Some(mints) = mints.get(..counter as usize) else {
                let dot = Dot { actor, counter };
                return Err(format!("{dot:?} was not minted for {}", text(key)));
            };
            if let Some(last) = mints.last() {
                superseded.join(&last.superseded_so_far);
            }
            seen.push((actor, mints));
        }
        let dots = seen.into_iter().flat_map(|(actor, mints)| {
            (1..).zip(mints).map(move |(counter, mint)| {
                let dot = Dot { actor, counter };
                (dot, mint.operation)
            })
        });
        Ok(dots.filter(|(dot, _)| !superseded.contains(*dot)).collect())
    }

    /// What is wrong with a state, if anything.
    pub fn judge(
        &self,
        key: &[u8],
        vector: &VersionVector,
        siblings: &Siblings,
    ) -> Result<(), String> {
        let expected = self.siblings(key, vector)?;
        if *siblings == expected {
            return Ok(());
        }
        let lost: Vec<_> = missing(&expected, siblings);
        let false_ones: Vec<_> = missing(siblings, &expected);
        Err(format!(
            "{} has lost {lost:x?} and holds {false_ones:x?} that were superseded or never were, by {vector:x?}",
            text(key)
        ))
    }
}

/// What `of` holds and `in_these` do not.
pub fn missing(of: &Siblings, in_these: &Siblings) -> Vec<(Dot, u128)> {
    of.iter()
        .filter(|(dot, operation)| in_these.get(dot) != Some(operation))
        .map(|(dot, operation)| (*dot, *operation))
        .collect()
}

pub fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causal::dot::Incarnation;
    use crate::engine::GroupNumber;

    const KEY: &[u8] = b"k";

    fn dot(incarnation: u64, counter: u64) -> Dot {
        let actor = Actor {
            incarnation: Incarnation(incarnation),
            birth: 0,
        };
        Dot { actor, counter }
    }

    fn vector(dots: &[Dot]) -> VersionVector {
        let mut vector = VersionVector::default();
        dots.iter().for_each(|&dot| vector.add(dot));
        vector
    }

    fn minted(dot: Dot, operation: u128, before: &[Dot], superseded: &[Dot]) -> Minted {
        let superseded = vector(superseded);
        let mut after: Vec<Dot> = before.to_vec();
        after.retain(|&held| !superseded.contains(held));
        after.push(dot);
        after.sort_unstable();
        Minted {
            key: KEY.to_vec(),
            operation,
            dot,
            before: before.to_vec(),
            after,
            superseded,
            group: GroupNumber(1),
        }
    }

    /// Two nodes: 1 mints `a`, 2 mints `b` beside it, then 1 supersedes `a` alone.
    fn two_nodes() -> Reference {
        let mut reference = Reference::default();
        for mint in [
            minted(dot(1, 1), 0xa, &[], &[]),
            minted(dot(2, 1), 0xb, &[], &[]),
            minted(dot(1, 2), 0xc, &[dot(1, 1)], &[dot(1, 1)]),
        ] {
            assert_eq!(reference.on_minted(&mint), Vec::<String>::new());
        }
        reference
    }

    #[test]
    fn a_state_is_what_its_vector_has_seen_and_seen_superseded() {
        let reference = two_nodes();
        let siblings = |dots: &[Dot]| reference.siblings(KEY, &vector(dots)).unwrap();
        assert_eq!(siblings(&[]), Siblings::new());
        assert_eq!(siblings(&[dot(1, 1)]), Siblings::from([(dot(1, 1), 0xa)]));
        let both = Siblings::from([(dot(1, 1), 0xa), (dot(2, 1), 0xb)]);
        assert_eq!(siblings(&[dot(1, 1), dot(2, 1)]), both);
        let newest = Siblings::from([(dot(1, 2), 0xc), (dot(2, 1), 0xb)]);
        assert_eq!(siblings(&[dot(1, 2), dot(2, 1)]), newest);
    }

    #[test]
    fn a_lost_sibling_a_false_one_and_a_stranger_are_told() {
        let reference = two_nodes();
        let all = vector(&[dot(1, 2), dot(2, 1)]);
        let good = reference.siblings(KEY, &all).unwrap();
        assert_eq!(reference.judge(KEY, &all, &good), Ok(()));
        let mut lost = good.clone();
        lost.remove(&dot(2, 1));
        assert!(reference.judge(KEY, &all, &lost).is_err());
        let mut risen = good.clone();
        risen.insert(dot(1, 1), 0xa);
        assert!(reference.judge(KEY, &all, &risen).is_err());
        let mut renamed = good.clone();
        renamed.insert(dot(2, 1), 0xa);
        assert!(reference.judge(KEY, &all, &renamed).is_err());
        let beyond = vector(&[dot(1, 3)]);
        assert!(reference.siblings(KEY, &beyond).is_err());
        assert!(reference.siblings(b"other", &all).is_err());
    }

    #[test]
    fn a_dot_is_minted_once_for_one_key_and_in_order() {
        let mut reference = two_nodes();
        let again = minted(dot(2, 1), 0xd, &[], &[]);
        assert_eq!(reference.on_minted(&again).len(), 1);
        let skips = minted(dot(2, 3), 0xd, &[], &[]);
        assert_eq!(reference.on_minted(&skips).len(), 1);
        let mut elsewhere = minted(dot(2, 2), 0xd, &[], &[]);
        elsewhere.key = b"other".to_vec();
        assert!(!reference.on_minted(&elsewhere).is_empty());
        let invented = minted(dot(3, 1), 0xd, &[], &[dot(9, 1)]);
        assert_eq!(reference.on_minted(&invented).len(), 1);
    }

    #[test]
    fn a_mint_leaves_what_its_context_had_not_seen() {
        let mut reference = two_nodes();
        let mut dropped = minted(dot(2, 2), 0xd, &[dot(1, 2), dot(2, 1)], &[dot(2, 1)]);
        dropped.after.retain(|&held| held != dot(1, 2));
        assert_eq!(reference.on_minted(&dropped).len(), 1);
    }
}
