//! A checker for each shard of the node: each has a log, a life and a list of mints of its own.

use super::checker::Checker;
use super::judge::{Got, Judge, Operation, Recovered};
use crate::replica::witness::Minted;
use crate::ring::position::Position;
use crate::ring::shard_map::ShardMap;
use crate::wire::message::Receipt;
use std::collections::BTreeMap;

pub struct Checkers {
    virtual_nodes: u32,
    map: ShardMap,
    of_shard: Vec<Checker>,
    /// The shard of each operation's key.
    shards: BTreeMap<u128, usize>,
    violations: Vec<String>,
}

impl Checkers {
    pub fn new(virtual_nodes: u32, shards: u16) -> Checkers {
        Checkers {
            virtual_nodes,
            map: ShardMap::even(virtual_nodes, shards),
            of_shard: (0..shards).map(|_| Checker::default()).collect(),
            shards: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    fn shard(&self, key: &[u8]) -> usize {
        let virtual_node = Position::of(b"", key).virtual_node(self.virtual_nodes);
        usize::from(self.map.owner(virtual_node).0)
    }

    /// Lets the checker of one shard judge.
    fn judge<T>(&mut self, shard: usize, judge: impl FnOnce(&mut Checker) -> T) -> T {
        let checker = &mut self.of_shard[shard];
        let verdict = judge(checker);
        self.violations.append(&mut checker.violations);
        verdict
    }

    /// A shard has replayed its log; what it holds is its own.
    pub fn on_recovered(&mut self, shard: u16, store: Vec<Recovered>) {
        let shard = usize::from(shard);
        for found in &store {
            if self.shard(&found.key) != shard {
                let key = String::from_utf8_lossy(&found.key);
                let what =
                    format!("shard: {key} was recovered by shard {shard}, which does not own it");
                self.violations.push(what);
            }
        }
        self.judge(shard, |checker| checker.on_recovered(store));
    }
}

impl Judge for Checkers {
    /// The oldest step that a get may see.
    type Floor = Option<usize>;

    fn on_minted(&mut self, minted: Minted) {
        let shard = self.shard(&minted.key);
        self.judge(shard, |checker| checker.on_minted(minted));
    }

    fn on_call(&mut self, id: u128, operation: Operation) {
        let shard = self.shard(&operation.key);
        self.shards.insert(id, shard);
        self.judge(shard, |checker| checker.on_call(id, operation));
    }

    fn on_acked(&mut self, id: u128, _receipt: Receipt) {
        if let Some(&shard) = self.shards.get(&id) {
            self.judge(shard, |checker| checker.on_acked(id));
        }
    }

    fn on_refused(&mut self, id: u128) {
        if let Some(&shard) = self.shards.get(&id) {
            self.judge(shard, |checker| checker.on_refused(id));
        }
    }

    fn on_get_called(&self, key: &[u8]) -> Option<usize> {
        self.of_shard[self.shard(key)].on_get_called(key)
    }

    fn on_get(&mut self, got: Got<'_>, oldest: &Option<usize>) {
        let shard = self.shard(got.key);
        self.judge(shard, |checker| {
            checker.on_get(got.key, *oldest, got.siblings, got.context);
        });
    }

    fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    fn violations(&self) -> &[String] {
        &self.violations
    }

    fn mints(&self) -> usize {
        self.of_shard.iter().map(Checker::mints).sum()
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        self.of_shard.iter().flat_map(Checker::keys).collect()
    }
}
