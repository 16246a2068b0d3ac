//! Entries on their way into a table: nothing is added to them, and they answer until the manifest names the table.

use super::entry::{Entry, GroupNumber};
use super::key::{Key, KeyRef};
use super::log::group::Link;
use super::manifest::{ReplayFrom, Sealed};
use super::memtable::Memtable;
use crate::base::planted::planted;
use std::rc::Rc;

pub struct Frozen {
    memtable: Rc<Memtable>,
    /// The last group that may hold a record of them.
    last: GroupNumber,
    /// Of the first record behind them.
    next_sequence: u64,
    /// Bytes of log that the table takes out of replay.
    replay_bytes: u64,
    /// Known once that group is durable.
    replay: Option<ReplayFrom>,
}

impl Frozen {
    pub fn new(memtable: Memtable, last: GroupNumber, next_sequence: u64) -> Frozen {
        Frozen {
            memtable: Rc::new(memtable),
            last,
            next_sequence,
            replay_bytes: 0,
            replay: None,
        }
    }

    /// Notes where replay begins behind these entries, in the moment when all of them are durable and nothing behind
    /// them is. `written`: the last group on the medium, `chain`: the link to it, `replay_bytes`: of log up to it.
    pub fn settle(
        &mut self,
        durable: GroupNumber,
        chain: Link,
        written: &Sealed,
        replay_bytes: u64,
    ) {
        let due = durable >= self.last || planted!(FlushBeforeDurable);
        if self.replay.is_some() || !due {
            return;
        }
        self.replay_bytes = replay_bytes;
        self.replay = Some(ReplayFrom {
            segment: written.segment,
            offset: written.end,
            last: chain,
            next_number: chain.number + 1,
            next_sequence: self.next_sequence,
        });
    }

    pub fn flushable(&self) -> Option<(Rc<Memtable>, ReplayFrom)> {
        Some((self.memtable.clone(), self.replay?))
    }

    pub fn replay_bytes(&self) -> u64 {
        self.replay_bytes
    }

    pub fn get(&self, key: KeyRef<'_>) -> Option<&Rc<Entry>> {
        self.memtable.get(key)
    }

    pub fn scan(&self, after: Option<&Key>, limit: usize) -> Vec<(Key, Rc<Entry>)> {
        self.memtable.scan(after, limit)
    }

    pub fn bytes(&self) -> usize {
        self.memtable.bytes()
    }

    pub fn keys(&self) -> u64 {
        self.memtable.keys()
    }
}
