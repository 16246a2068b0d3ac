//! Judges the history of a cluster: what clients were told and what replicas hold, against every mint there was.
//!
//! Checks: 1 no acked write is lost, 2 no phantom, 4 a dot names one value for ever, 5 a replica never goes back,
//! 6 the replicas converge, 7 siblings are exactly those of the twin (3, no resurrection, is a part of it), 8 what a
//! quorum was promised it sees, 9 what was refused never happened, and receipts that say what was asked.
//!
//! Of 8: the simulator knows the one order in which calls began and replies came, so it holds everybody to what a
//! session holds itself to. A dot that v of N replicas have on disk is in what any r of them say if r + v > N.

use super::judge::{Got, Judge, Operation, Recovered, Supersedes};
use super::reference::{Reference, Siblings, text};
use crate::causal::version_vector::VersionVector;
use crate::replica::witness::Minted;
use crate::wire::message::Receipt;
use std::collections::{BTreeMap, BTreeSet};

/// An operation and what became of its tries.
#[derive(Clone, Debug)]
struct Asked {
    operation: Operation,
    tries: u32,
    /// Tries of which a reply said that nothing was changed.
    refused: u32,
    acked: bool,
    /// What had been promised of the key when it was first asked.
    floor: Floor,
}

/// What is known of a key to be on the disks of all replicas but at most so many, the index. Who becomes one of them
/// later has taken it from the others, so that a ring may grow under it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floor(Vec<VersionVector>);

impl Floor {
    fn raise(&mut self, without: u8, vector: &VersionVector) {
        let without = usize::from(without);
        if self.0.len() <= without {
            self.0.resize(without + 1, VersionVector::default());
        }
        self.0[without].join(vector);
    }

    /// What so many replicas must have seen together.
    fn seen_by(&self, votes: u8) -> VersionVector {
        let mut seen = VersionVector::default();
        for vector in self.0.iter().take(usize::from(votes)) {
            seen.join(vector);
        }
        seen
    }
}

/// Replicas that may lack what these votes are for.
fn without(receipt: Receipt) -> u8 {
    receipt.replicas.saturating_sub(receipt.votes)
}

#[derive(Debug)]
pub struct History {
    /// Replicas of each key: N, or the nodes there are; in a ring that grows, those there will be.
    copies: u8,
    grows: bool,
    reference: Reference,
    operations: BTreeMap<u128, Asked>,
    floors: BTreeMap<Vec<u8>, Floor>,
    /// What each shard of each node was seen to hold.
    held: BTreeMap<(usize, u16), BTreeMap<Vec<u8>, VersionVector>>,
    violations: Vec<String>,
}

impl History {
    pub fn new(copies: u8) -> History {
        History {
            copies,
            grows: false,
            reference: Reference::default(),
            operations: BTreeMap::new(),
            floors: BTreeMap::new(),
            held: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    /// A key has one replica at first, and so many in the end.
    pub fn of_a_growing_ring(copies: u8) -> History {
        History {
            grows: true,
            ..History::new(copies)
        }
    }

    pub fn acked(&self) -> usize {
        self.operations.values().filter(|a| a.acked).count()
    }

    /// A start of a shard has recovered this.
    pub fn on_recovered(&mut self, node: usize, shard: u16, store: &[Recovered]) {
        let mut now = BTreeMap::new();
        for found in store {
            self.judge_replica(node, found);
            now.insert(found.key.clone(), found.vector.clone());
        }
        let before = self.held.insert((node, shard), now.clone());
        for (key, vector) in before.unwrap_or_default() {
            let held = now.get(&key);
            if !held.is_some_and(|held| held.descends(&vector)) {
                let what = format!(
                    "5 went back: node {node} held {vector:x?} of {}, now {held:x?}",
                    text(&key)
                );
                self.violation(what);
            }
        }
    }

    fn judge_replica(&mut self, node: usize, found: &Recovered) {
        let judged = self
            .reference
            .judge(&found.key, &found.vector, &found.siblings);
        if let Err(why) = judged {
            self.violation(format!("7 siblings: node {node}: {why}"));
        }
    }

    /// What every node holds when the world was healed, each key was read from all replicas through each node, and the
    /// power was cut everywhere.
    pub fn on_final(&mut self, nodes: &[Vec<Recovered>]) {
        let mut copies: BTreeMap<&[u8], Vec<(usize, &Recovered)>> = BTreeMap::new();
        for (node, store) in nodes.iter().enumerate() {
            for found in store {
                copies.entry(&found.key).or_default().push((node, found));
            }
        }
        let mut end: BTreeMap<Vec<u8>, VersionVector> = BTreeMap::new();
        for (key, held) in copies {
            let holders: Vec<usize> = held.iter().map(|(node, _)| *node).collect();
            if holders.len() != usize::from(self.copies) {
                let (key, copies) = (text(key), self.copies);
                let what = format!("6 convergence: {key} is on {holders:?}, not on {copies} nodes");
                self.violation(what);
            }
            let (first, one) = held[0];
            for (node, other) in &held[1..] {
                if one != *other {
                    let what =
                        format!("6 convergence: node {first} has {one:x?}, node {node} {other:x?}");
                    self.violation(what);
                }
            }
            end.insert(key.to_vec(), one.vector.clone());
        }
        self.nothing_acked_is_lost(&end);
    }

    /// A state is exact (check 7), so a dot in its vector is a sibling or was superseded by a write that is there.
    fn nothing_acked_is_lost(&mut self, end: &BTreeMap<Vec<u8>, VersionVector>) {
        let nothing = VersionVector::default();
        let mut lost = Vec::new();
        for (id, asked) in self.operations.iter().filter(|(_, asked)| asked.acked) {
            let key = &asked.operation.key;
            let vector = end.get(key).unwrap_or(&nothing);
            let dots = self.reference.dots_of(*id);
            if !dots.iter().any(|&dot| vector.contains(dot)) {
                let key = text(key);
                lost.push(format!("1 lost: {id:x} of {key} was acked as {dots:x?}"));
            }
        }
        self.violations.append(&mut lost);
    }

    /// The siblings that a get shows: no tombstones, and of one operation's only the first.
    fn shown(&self, siblings: Siblings) -> Siblings {
        let mut operations = BTreeSet::new();
        let asked = |id: &u128| self.operations.get(id);
        siblings
            .into_iter()
            .filter(|(_, id)| operations.insert(*id))
            .filter(|(_, id)| !asked(id).is_some_and(|asked| asked.operation.deletes))
            .collect()
    }

    fn majority(&self) -> u8 {
        self.copies / 2 + 1
    }

    /// The replicas that a put of these terms reads at least: its receipt does not tell.
    fn read_at_least(&self, votes: u8) -> u8 {
        match votes {
            // The majority of one.
            0 if self.grows => 1,
            0 => self.majority(),
            votes => votes,
        }
    }

    fn judge_receipt(&mut self, what: &str, receipt: Receipt, asked: u8) {
        let counted = match self.grows {
            true => (1..=self.copies).contains(&receipt.replicas),
            false => receipt.replicas == self.copies,
        };
        let needed = match asked {
            0 => receipt.replicas / 2 + 1,
            votes => votes,
        };
        let honest = receipt.votes >= receipt.needed
            && receipt.votes <= receipt.replicas
            && receipt.needed == needed
            && counted;
        if !honest {
            let copies = self.copies;
            self.violation(format!(
                "receipt: {what} asked for {needed} of {copies} and got {receipt:?}"
            ));
        }
    }

    /// What the write superseded is what its kind says.
    fn judge_superseded(&mut self, minted: &Minted, asked: &Asked) {
        let operation = minted.operation;
        let superseded = &minted.superseded;
        if let Supersedes::Seen(context) = &asked.operation.supersedes {
            if superseded != context {
                let what = format!(
                    "7 siblings: {operation:x} was put with {context:x?} and superseded {superseded:x?}"
                );
                self.violation(what);
            }
            return;
        }
        let read = self.read_at_least(asked.operation.terms.read);
        let due = asked.floor.seen_by(read);
        if !superseded.descends(&due) {
            let what = format!(
                "8 recency: {operation:x} read {read} replicas and superseded {superseded:x?}, {due:x?} was due"
            );
            self.violation(what);
        }
        if asked.operation.supersedes == Supersedes::Nothing
            && let Ok(siblings) = self.reference.siblings(&minted.key, superseded)
        {
            let mut met = self.shown(siblings);
            // A retry may meet what an earlier try has put through another coordinator: it takes its place.
            met.retain(|_, id| *id != operation);
            if !met.is_empty() {
                let what = format!("7 siblings: {operation:x} was if-absent and met {met:x?}");
                self.violation(what);
            }
        }
    }
}

impl Judge for History {
    type Floor = Floor;

    fn on_minted(&mut self, minted: Minted) {
        let operation = minted.operation;
        let wrong = self.reference.on_minted(&minted);
        self.violations.extend(wrong);
        let Some(asked) = self.operations.get(&operation).cloned() else {
            return self.violation(format!("2 phantom: nobody asked for {operation:x}"));
        };
        if asked.operation.key != minted.key {
            let (key, other) = (text(&asked.operation.key), text(&minted.key));
            self.violation(format!(
                "2 phantom: {operation:x} is of {key}, not of {other}"
            ));
        }
        let dots = self.reference.dots_of(operation).len();
        if dots > asked.tries as usize {
            let tries = asked.tries;
            self.violation(format!(
                "7 siblings: {operation:x} was asked {tries} times and minted {dots} times"
            ));
        }
        if asked.refused == asked.tries {
            self.violation(format!("9 honesty: {operation:x} was refused, then minted"));
        }
        self.judge_superseded(&minted, &asked);
    }

    fn on_call(&mut self, id: u128, operation: Operation) {
        let floor = self.on_get_called(&operation.key);
        let asked = self.operations.entry(id).or_insert(Asked {
            operation,
            tries: 0,
            refused: 0,
            acked: false,
            floor,
        });
        asked.tries += 1;
    }

    fn on_acked(&mut self, id: u128, receipt: Receipt) {
        let Some(asked) = self.operations.get_mut(&id) else {
            return self.violation(format!("1 lost: {id:x} was acked, nobody asked for it"));
        };
        asked.acked = true;
        let (key, write) = (asked.operation.key.clone(), asked.operation.terms.write);
        self.judge_receipt(&format!("{id:x}"), receipt, write);
        match *self.reference.dots_of(id) {
            [] => self.violation(format!("1 lost: {id:x} was acked and never minted")),
            [dot] if receipt.strict => {
                let mut vector = VersionVector::default();
                vector.add(dot);
                let floor = self.floors.entry(key).or_default();
                floor.raise(without(receipt), &vector);
            }
            // A retry minted again: which dot was voted for is not told. The end tells.
            [_, ..] => {}
        }
    }

    fn on_refused(&mut self, id: u128) {
        let Some(asked) = self.operations.get_mut(&id) else {
            return;
        };
        asked.refused += 1;
        if asked.refused == asked.tries && !self.reference.dots_of(id).is_empty() {
            self.violation(format!("9 honesty: {id:x} was minted, then refused"));
        }
    }

    fn on_get_called(&self, key: &[u8]) -> Floor {
        self.floors.get(key).cloned().unwrap_or_default()
    }

    fn on_get(&mut self, got: Got<'_>, floor: &Floor) {
        let key = text(got.key);
        if let Some(broken) = got.siblings.iter().find(|s| !s.intact) {
            let operation = broken.operation;
            self.violation(format!("2 phantom: {operation:x} came back altered"));
        }
        self.judge_receipt(&format!("a get of {key}"), got.receipt, got.terms.read);
        let told: Siblings = got.siblings.iter().map(|s| (s.dot, s.operation)).collect();
        match self.reference.siblings(got.key, got.context) {
            Err(why) => self.violation(format!("2 phantom: a get: {why}")),
            Ok(siblings) => {
                let due = self.shown(siblings);
                if told != due {
                    let context = got.context;
                    self.violation(format!(
                        "7 siblings: a get of {key} told {told:x?}, the twin {due:x?} by {context:x?}"
                    ));
                }
            }
        }
        let Receipt { votes, strict, .. } = got.receipt;
        if !strict {
            return;
        }
        let due = floor.seen_by(votes);
        if !got.context.descends(&due) {
            let context = got.context;
            self.violation(format!(
                "8 recency: a get of {key} with {votes} votes saw {context:x?}, {due:x?} was due"
            ));
        }
        // A strict get has written back what its replicas did not have.
        if got.terms.strict {
            // A get asks full members only, and says nothing of the one that fills meanwhile: it may lack what its
            // scan has passed, if a put wanted no vote of it.
            let fills = self.grows && got.receipt.replicas < self.copies;
            let floor = self.floors.entry(got.key.to_vec()).or_default();
            floor.raise(without(got.receipt) + u8::from(fills), got.context);
        }
    }

    fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    fn violations(&self) -> &[String] {
        &self.violations
    }

    fn mints(&self) -> usize {
        self.reference.mints()
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        self.reference.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::Seen;
    use super::super::workload::Terms;
    use super::*;
    use crate::causal::dot::{Actor, Dot, Incarnation};
    use crate::engine::GroupNumber;

    const KEY: &[u8] = b"k";
    const COPIES: u8 = 3;

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

    fn receipt(votes: u8, needed: u8) -> Receipt {
        Receipt {
            votes,
            needed,
            replicas: COPIES,
            strict: true,
            hints: 0,
        }
    }

    fn strict(votes: u8) -> Terms {
        Terms {
            read: votes,
            write: votes,
            strict: true,
            timeout_ms: 0,
        }
    }

    fn call(history: &mut History, id: u128, supersedes: Supersedes, terms: Terms) {
        let operation = Operation {
            key: KEY.to_vec(),
            deletes: false,
            supersedes,
            terms,
        };
        history.on_call(id, operation);
    }

    fn mint(history: &mut History, id: u128, dot: Dot, before: &[Dot], superseded: &[Dot]) {
        let superseded = vector(superseded);
        let mut after = before.to_vec();
        after.retain(|&held| !superseded.contains(held));
        after.push(dot);
        after.sort_unstable();
        history.on_minted(Minted {
            key: KEY.to_vec(),
            operation: id,
            dot,
            before: before.to_vec(),
            after,
            superseded,
            group: GroupNumber(1),
        });
    }

    fn get(history: &mut History, floor: &Floor, terms: Terms, told: &[(Dot, u128)], seen: &[Dot]) {
        let siblings: Vec<Seen> = told
            .iter()
            .map(|&(dot, operation)| Seen {
                dot,
                operation,
                intact: true,
            })
            .collect();
        let got = Got {
            key: KEY,
            terms,
            siblings: &siblings,
            context: &vector(seen),
            receipt: receipt(terms.read, terms.read),
        };
        history.on_get(got, floor);
    }

    /// Operation 1 is put concurrently as (1, 1) and acked by two replicas of three.
    fn one_put() -> History {
        let mut history = History::new(COPIES);
        let nothing = Supersedes::Seen(VersionVector::default());
        call(&mut history, 1, nothing, strict(2));
        mint(&mut history, 1, dot(1, 1), &[], &[]);
        history.on_acked(1, receipt(2, 2));
        assert_eq!(history.violations, Vec::<String>::new());
        history
    }

    fn copy(dots: &[(Dot, u128)], seen: &[Dot]) -> Vec<Recovered> {
        vec![Recovered {
            key: KEY.to_vec(),
            siblings: dots.iter().copied().collect(),
            vector: vector(seen),
        }]
    }

    /// Exactly one violation, of this check; and none of the twin history.
    #[track_caller]
    fn only(bad: &History, check: &str, good: &History) {
        assert_eq!(good.violations, Vec::<String>::new());
        assert_eq!(bad.violations.len(), 1, "{:#?}", bad.violations);
        assert!(
            bad.violations[0].starts_with(check),
            "{:#?}",
            bad.violations
        );
    }

    /// Runs a history twice: as it should be, and broken.
    fn twice(history: impl Fn(bool) -> History) -> (History, History) {
        (history(true), history(false))
    }

    #[test]
    fn an_acked_write_that_no_replica_holds_is_lost() {
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            let held = copy(&[(dot(1, 1), 1)], &[dot(1, 1)]);
            let nodes = match broken {
                true => vec![Vec::new(); 3],
                false => vec![held; 3],
            };
            history.on_final(&nodes);
            history
        });
        only(&bad, "1 lost", &good);
    }

    #[test]
    fn an_ack_without_a_mint_is_lost() {
        let (bad, good) = twice(|broken| {
            let mut history = History::new(COPIES);
            call(&mut history, 1, Supersedes::Everything, strict(2));
            if !broken {
                mint(&mut history, 1, dot(1, 1), &[], &[]);
            }
            history.on_acked(1, receipt(2, 2));
            history
        });
        only(&bad, "1 lost", &good);
    }

    #[test]
    fn a_value_that_nobody_put_is_a_phantom() {
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            let floor = history.on_get_called(KEY);
            let beyond = if broken { 2 } else { 1 };
            let seen = [dot(1, beyond)];
            get(&mut history, &floor, strict(2), &[(dot(1, 1), 1)], &seen);
            history
        });
        only(&bad, "2 phantom", &good);
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            if !broken {
                call(&mut history, 2, Supersedes::Everything, strict(2));
            }
            mint(&mut history, 2, dot(2, 1), &[], &[dot(1, 1)]);
            history
        });
        only(&bad, "2 phantom", &good);
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            let siblings = [Seen {
                dot: dot(1, 1),
                operation: 1,
                intact: !broken,
            }];
            let got = Got {
                key: KEY,
                terms: strict(2),
                siblings: &siblings,
                context: &vector(&[dot(1, 1)]),
                receipt: receipt(2, 2),
            };
            let floor = history.on_get_called(KEY);
            history.on_get(got, &floor);
            history
        });
        only(&bad, "2 phantom", &good);
    }

    #[test]
    fn two_nodes_that_mint_one_dot_are_told() {
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            call(
                &mut history,
                2,
                Supersedes::Seen(VersionVector::default()),
                strict(2),
            );
            let incarnation = if broken { 1 } else { 2 };
            mint(&mut history, 2, dot(incarnation, 1), &[], &[]);
            history
        });
        only(&bad, "4 dot", &good);
    }

    #[test]
    fn a_replica_that_forgets_what_it_recovered_went_back() {
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            let held = copy(&[(dot(1, 1), 1)], &[dot(1, 1)]);
            history.on_recovered(0, 0, &held);
            history.on_recovered(0, 0, if broken { &[] } else { &held });
            history
        });
        only(&bad, "5 went back", &good);
    }

    #[test]
    fn replicas_that_differ_in_the_end_did_not_converge() {
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            call(&mut history, 2, Supersedes::Everything, Terms::default());
            mint(&mut history, 2, dot(2, 1), &[dot(1, 1)], &[dot(1, 1)]);
            let old = copy(&[(dot(1, 1), 1)], &[dot(1, 1)]);
            let new = copy(&[(dot(2, 1), 2)], &[dot(1, 1), dot(2, 1)]);
            let last = if broken { old } else { new.clone() };
            history.on_final(&[new.clone(), new, last]);
            history
        });
        only(&bad, "6 convergence", &good);
    }

    #[test]
    fn a_copy_on_a_node_too_many_did_not_converge() {
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            let held = copy(&[(dot(1, 1), 1)], &[dot(1, 1)]);
            let fourth = if broken { held.clone() } else { Vec::new() };
            history.on_final(&[held.clone(), held.clone(), held, fourth]);
            history
        });
        only(&bad, "6 convergence", &good);
    }

    #[test]
    fn a_sibling_that_is_lost_or_rises_again_is_told() {
        for told in [&[(dot(2, 1), 2)][..], &[(dot(1, 1), 1), (dot(2, 1), 2)]] {
            let (bad, good) = twice(|broken| {
                let mut history = one_put();
                // Concurrent to the first where the get is to show both; else it supersedes it.
                let concurrent = (told.len() == 2) != broken;
                let superseded = match concurrent {
                    true => vec![],
                    false => vec![dot(1, 1)],
                };
                let seen = Supersedes::Seen(vector(&superseded));
                call(&mut history, 2, seen, strict(2));
                mint(&mut history, 2, dot(2, 1), &[dot(1, 1)], &superseded);
                let floor = history.on_get_called(KEY);
                let seen = [dot(1, 1), dot(2, 1)];
                get(&mut history, &floor, strict(2), told, &seen);
                history
            });
            only(&bad, "7 siblings", &good);
        }
    }

    #[test]
    fn a_write_supersedes_what_its_context_says() {
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            let context = match broken {
                true => VersionVector::default(),
                false => vector(&[dot(1, 1)]),
            };
            call(&mut history, 2, Supersedes::Seen(context), strict(2));
            mint(&mut history, 2, dot(2, 1), &[dot(1, 1)], &[dot(1, 1)]);
            history
        });
        only(&bad, "7 siblings", &good);
    }

    #[test]
    fn an_if_absent_that_met_a_value_is_told() {
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            let supersedes = match broken {
                true => Supersedes::Nothing,
                false => Supersedes::Everything,
            };
            call(&mut history, 2, supersedes, strict(2));
            mint(&mut history, 2, dot(2, 1), &[dot(1, 1)], &[dot(1, 1)]);
            history
        });
        only(&bad, "7 siblings", &good);
    }

    #[test]
    fn a_quorum_sees_what_a_quorum_wrote() {
        // With one vote there is no promise.
        for (votes, promised) in [(1, false), (2, true), (3, true)] {
            let mut history = one_put();
            let floor = history.on_get_called(KEY);
            get(&mut history, &floor, strict(votes), &[], &[]);
            assert_eq!(history.violations.len(), usize::from(promised));
        }
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            let late = history.on_get_called(KEY);
            let floor = if broken { late } else { Floor::default() };
            // A get that began before the ack is held to nothing.
            get(&mut history, &floor, strict(2), &[], &[]);
            history
        });
        only(&bad, "8 recency", &good);
    }

    #[test]
    fn a_quorum_sees_what_a_strict_get_saw() {
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            // Not acked: only a get has shown it.
            let nothing = Supersedes::Seen(VersionVector::default());
            call(&mut history, 2, nothing, Terms::default());
            mint(&mut history, 2, dot(2, 1), &[], &[]);
            let terms = Terms {
                strict: broken,
                ..strict(2)
            };
            let both = [(dot(1, 1), 1), (dot(2, 1), 2)];
            let floor = history.on_get_called(KEY);
            get(&mut history, &floor, terms, &both, &[dot(1, 1), dot(2, 1)]);
            let floor = history.on_get_called(KEY);
            get(&mut history, &floor, strict(2), &both[..1], &[dot(1, 1)]);
            history
        });
        only(&bad, "8 recency", &good);
    }

    #[test]
    fn an_overwrite_supersedes_what_a_quorum_was_told() {
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            call(&mut history, 2, Supersedes::Everything, strict(2));
            let superseded = if broken { vec![] } else { vec![dot(1, 1)] };
            mint(&mut history, 2, dot(2, 1), &[], &superseded);
            history
        });
        only(&bad, "8 recency", &good);
    }

    #[test]
    fn each_try_of_an_operation_mints_once() {
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            let nothing = Supersedes::Seen(VersionVector::default());
            if !broken {
                call(&mut history, 1, nothing, strict(2));
            }
            mint(&mut history, 1, dot(2, 1), &[], &[]);
            history
        });
        only(&bad, "7 siblings", &good);
    }

    #[test]
    fn what_was_refused_never_happened() {
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            call(&mut history, 2, Supersedes::Everything, strict(2));
            if !broken {
                // Nobody knows what became of the second try.
                call(&mut history, 2, Supersedes::Everything, strict(2));
            }
            history.on_refused(2);
            mint(&mut history, 2, dot(2, 1), &[dot(1, 1)], &[dot(1, 1)]);
            history
        });
        only(&bad, "9 honesty", &good);
        let (bad, good) = twice(|broken| {
            let mut history = one_put();
            call(&mut history, 2, Supersedes::Everything, strict(2));
            mint(&mut history, 2, dot(2, 1), &[dot(1, 1)], &[dot(1, 1)]);
            if broken {
                history.on_refused(2);
            }
            history
        });
        only(&bad, "9 honesty", &good);
    }

    #[test]
    fn a_receipt_says_what_was_asked() {
        let told = [receipt(1, 2), receipt(2, 1), receipt(2, 3), receipt(4, 2)];
        let of_two = Receipt {
            replicas: 2,
            ..receipt(2, 2)
        };
        for told in told.into_iter().chain([of_two]) {
            let (bad, good) = twice(|broken| {
                let mut history = History::new(COPIES);
                call(&mut history, 1, Supersedes::Everything, strict(2));
                mint(&mut history, 1, dot(1, 1), &[], &[]);
                history.on_acked(1, if broken { told } else { receipt(2, 2) });
                history
            });
            only(&bad, "receipt", &good);
        }
    }

    #[test]
    fn tombstones_and_repeated_operations_are_not_shown() {
        let mut history = one_put();
        let nothing = Supersedes::Seen(VersionVector::default());
        // The retry of the first met another coordinator; and a delete saw neither.
        call(&mut history, 1, nothing.clone(), strict(2));
        mint(&mut history, 1, dot(2, 1), &[], &[]);
        let operation = Operation {
            key: KEY.to_vec(),
            deletes: true,
            supersedes: nothing,
            terms: strict(2),
        };
        history.on_call(3, operation);
        mint(&mut history, 3, dot(3, 1), &[], &[]);
        let floor = history.on_get_called(KEY);
        let seen = [dot(1, 1), dot(2, 1), dot(3, 1)];
        get(&mut history, &floor, strict(2), &[(dot(1, 1), 1)], &seen);
        assert_eq!(history.violations, Vec::<String>::new());
    }
}
