//! Judges a history: what clients were told against what the shard's life (the list of its mints) allows.
//!
//! Checks: 1 no acked write lost, 2 no phantom, 3 no resurrection, 4 a dot names one value for ever, 7 siblings
//! exactly those of the dumb twin, 9 what was refused never happened. One node's log is one order, so 1, 2, 3 and 9
//! are one rule: after a crash the store equals the twin at a prefix that holds all that was shown.

use super::judge::{Operation, Recovered, Seen, Supersedes};
use super::model::{KeyState, Model, Step};
use crate::causal::dot::Dot;
use crate::causal::version_vector::VersionVector;
use crate::replica::witness::Minted;
use std::collections::{BTreeMap, BTreeSet};

/// An operation and what became of its tries.
#[derive(Clone, Debug)]
struct Asked {
    operation: Operation,
    /// A reply said that nothing was changed.
    refused: bool,
    /// Asked once only, so a refusal speaks for the operation.
    tries: u32,
}

#[derive(Debug, Default)]
pub struct Checker {
    model: Model,
    operations: BTreeMap<u128, Asked>,
    /// Steps of each operation that are still in the model.
    steps: BTreeMap<u128, Vec<usize>>,
    /// Every dot ever minted for a key, lost ones too.
    dots: BTreeMap<(Vec<u8>, Dot), u128>,
    /// This many steps have been shown to somebody: no crash may take them.
    shown_len: usize,
    /// The newest step of each key that was shown: later reads see it or what came after.
    shown_of_key: BTreeMap<Vec<u8>, usize>,
    pub violations: Vec<String>,
}

impl Checker {
    pub fn mints(&self) -> usize {
        self.dots.len()
    }

    pub fn keys(&self) -> Vec<Vec<u8>> {
        self.model.keys().cloned().collect()
    }

    fn violation(&mut self, check: &str, what: String) {
        self.violations.push(format!("{check}: {what}"));
    }

    /// A client sends a write. The same id again is a retry.
    pub fn on_call(&mut self, id: u128, operation: Operation) {
        let asked = self.operations.entry(id).or_insert(Asked {
            operation,
            refused: false,
            tries: 0,
        });
        asked.tries += 1;
    }

    /// The shard appended a mint.
    pub fn on_minted(&mut self, minted: Minted) {
        let Minted {
            key,
            operation,
            dot,
            before,
            after,
            ..
        } = minted;
        let Some(asked) = self.operations.get(&operation).cloned() else {
            return self.violation("2 phantom", format!("nobody asked for {operation:x}"));
        };
        if let Some(other) = self.dots.insert((key.clone(), dot), operation) {
            self.violation(
                "4 dot",
                format!("{dot:?} names {other:x} and {operation:x}"),
            );
        }
        if asked.refused && asked.tries == 1 {
            self.violation(
                "9 honesty",
                format!("{operation:x} was refused, then minted"),
            );
        }
        let state = self.model.current(&key);
        let held: Vec<Dot> = state.siblings.keys().copied().collect();
        if before != held {
            let what = format!("{operation:x} joined {before:?}, the key held {held:?}");
            self.violation("7 siblings", what);
        }
        if state.siblings.values().any(|o| *o == operation) {
            self.violation(
                "7 siblings",
                format!("{operation:x} was held and minted again"),
            );
        }
        let nothing_there = self.shown(&state).is_empty();
        let supersedes = &asked.operation.supersedes;
        let context = match supersedes {
            Supersedes::Seen(vector) => &expand(vector),
            Supersedes::Everything | Supersedes::Nothing => &state.seen,
        };
        if *supersedes == Supersedes::Nothing && !nothing_there {
            self.violation(
                "7 siblings",
                format!("{operation:x} was if-absent and met a value"),
            );
        }
        let next = state.write(dot, operation, context);
        let expected: Vec<Dot> = next.siblings.keys().copied().collect();
        if after != expected {
            let what = format!("{operation:x} left {after:?}, the twin {expected:?}");
            self.violation("7 siblings", what);
        }
        let index = self.model.push(Step {
            key,
            dot,
            operation,
            after: next,
        });
        self.steps.entry(operation).or_default().push(index);
    }

    /// A write was acked.
    pub fn on_acked(&mut self, id: u128) {
        let Some(&index) = self.steps.get(&id).and_then(|steps| steps.first()) else {
            return self.violation("1 lost", format!("{id:x} was acked and is in no log"));
        };
        let key = self.model.step(index).key.clone();
        self.show(&key, index);
    }

    /// A reply said that nothing was changed and nothing will be.
    pub fn on_refused(&mut self, id: u128) {
        let Some(operation) = self.operations.get_mut(&id) else {
            return;
        };
        operation.refused = true;
        if operation.tries == 1 && self.steps.contains_key(&id) {
            self.violation("9 honesty", format!("{id:x} was minted, then refused"));
        }
    }

    /// The oldest step a get that begins now may see.
    pub fn on_get_called(&self, key: &[u8]) -> Option<usize> {
        self.shown_of_key.get(key).copied()
    }

    /// A get was answered; `context` is what its token says.
    pub fn on_get(
        &mut self,
        key: &[u8],
        oldest: Option<usize>,
        siblings: &[Seen],
        context: &VersionVector,
    ) {
        if let Some(broken) = siblings.iter().find(|s| !s.intact) {
            self.violation(
                "2 phantom",
                format!("{:x} came back altered", broken.operation),
            );
        }
        let seen = expand(context);
        let told: BTreeMap<Dot, u128> = siblings.iter().map(|s| (s.dot, s.operation)).collect();
        let fits = |state: &KeyState| self.shown(state) == told && state.seen == seen;
        let found = self
            .model
            .steps_of(key)
            .find(|&index| fits(&self.model.step(index).after));
        match found {
            Some(index) if oldest.is_none_or(|oldest| index >= oldest) => self.show(key, index),
            None if oldest.is_none() && told.is_empty() && seen.is_empty() => {}
            found => {
                let what = format!(
                    "get of {} saw {told:?} with context {seen:?}: step {found:?}, at least {oldest:?} was due",
                    String::from_utf8_lossy(key)
                );
                self.violation("2 phantom or 3 resurrection", what);
            }
        }
    }

    /// A start has replayed its log; from now on mints are those of a new life.
    pub fn on_recovered(&mut self, store: Vec<Recovered>) {
        let mut kept = 0;
        for found in &store {
            let newest = self
                .model
                .steps_of(&found.key)
                .find(|&index| found.vector.contains(self.model.step(index).dot));
            kept = kept.max(newest.map_or(0, |index| index + 1));
        }
        if kept < self.shown_len {
            let lost = self.model.step(self.shown_len - 1);
            let what = format!(
                "of {} steps that were shown {kept} are left; the last one was {:x} of {}",
                self.shown_len,
                lost.operation,
                String::from_utf8_lossy(&lost.key)
            );
            self.violation("1 lost", what);
            self.shown_len = kept;
            self.shown_of_key.retain(|_, index| *index < kept);
        }
        self.model.truncate(kept);
        for steps in self.steps.values_mut() {
            steps.retain(|&index| index < kept);
        }
        self.steps.retain(|_, steps| !steps.is_empty());
        self.compare(store);
    }

    fn compare(&mut self, store: Vec<Recovered>) {
        let mut keys: BTreeSet<Vec<u8>> = self.model.keys().cloned().collect();
        for found in store {
            let expected = self.model.current(&found.key);
            if found.siblings != expected.siblings || expand(&found.vector) != expected.seen {
                let what = format!(
                    "{} was recovered as {:?}, the twin has {:?}",
                    String::from_utf8_lossy(&found.key),
                    found.siblings,
                    expected.siblings
                );
                self.violation("3 resurrection or 1 lost", what);
            }
            keys.remove(&found.key);
        }
        for key in keys {
            let what = format!("{} is gone", String::from_utf8_lossy(&key));
            self.violation("1 lost", what);
        }
    }

    fn show(&mut self, key: &[u8], index: usize) {
        self.shown_len = self.shown_len.max(index + 1);
        let shown = self.shown_of_key.entry(key.to_vec()).or_insert(index);
        *shown = (*shown).max(index);
    }

    /// The siblings that a get shows: no tombstones.
    fn shown(&self, state: &KeyState) -> BTreeMap<Dot, u128> {
        let deletes = |id: &u128| self.operations.get(id).is_some_and(|o| o.operation.deletes);
        state
            .siblings
            .iter()
            .filter(|(_, id)| !deletes(id))
            .map(|(d, id)| (*d, *id))
            .collect()
    }
}

/// All the dots a vector has seen.
fn expand(vector: &VersionVector) -> BTreeSet<Dot> {
    let entries = vector.entries().iter();
    entries
        .flat_map(|&(actor, counter)| (1..=counter).map(move |counter| Dot { actor, counter }))
        .collect()
}
