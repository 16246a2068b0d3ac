//! The deliberately dumb twin of a shard: every key's siblings and everything seen, as explicit sets of dots.
//!
//! A replica's whole life is one list of mints in the order of its log. After a crash the store must be exactly
//! what some prefix of that list makes, and every mint that anybody was shown must lie in that prefix.

use crate::causal::dot::Dot;
use std::collections::{BTreeMap, BTreeSet};

/// The state of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyState {
    /// Dot of each sibling, and the operation that made it.
    pub siblings: BTreeMap<Dot, u128>,
    pub seen: BTreeSet<Dot>,
}

impl KeyState {
    /// What a write makes of it that supersedes `context`.
    pub fn write(&self, dot: Dot, operation: u128, context: &BTreeSet<Dot>) -> KeyState {
        let mut next = self.clone();
        next.siblings
            .retain(|sibling, _| !context.contains(sibling));
        next.siblings.insert(dot, operation);
        next.seen.extend(context);
        next.seen.insert(dot);
        next
    }
}

/// One mint and the state of its key after it.
#[derive(Clone, Debug)]
pub struct Step {
    pub key: Vec<u8>,
    pub dot: Dot,
    pub operation: u128,
    pub after: KeyState,
}

/// The life of a shard over all its starts; mints that a crash lost are taken out of it.
#[derive(Debug, Default)]
pub struct Model {
    steps: Vec<Step>,
    /// For each key, the steps that changed it, ascending.
    of_key: BTreeMap<Vec<u8>, Vec<usize>>,
}

impl Model {
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub fn step(&self, index: usize) -> &Step {
        &self.steps[index]
    }

    pub fn push(&mut self, step: Step) -> usize {
        let index = self.steps.len();
        self.of_key.entry(step.key.clone()).or_default().push(index);
        self.steps.push(step);
        index
    }

    /// The newest state of a key; the default before its first mint.
    pub fn current(&self, key: &[u8]) -> KeyState {
        match self.of_key.get(key).and_then(|steps| steps.last()) {
            Some(&index) => self.steps[index].after.clone(),
            None => KeyState::default(),
        }
    }

    /// The steps of a key, newest first.
    pub fn steps_of(&self, key: &[u8]) -> impl Iterator<Item = usize> + '_ {
        self.of_key.get(key).into_iter().flatten().rev().copied()
    }

    pub fn keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.of_key.keys()
    }

    /// Forgets the steps from `len` on: a crash lost them.
    pub fn truncate(&mut self, len: usize) {
        self.steps.truncate(len);
        for steps in self.of_key.values_mut() {
            steps.retain(|&index| index < len);
        }
        self.of_key.retain(|_, steps| !steps.is_empty());
    }
}
