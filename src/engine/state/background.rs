//! The state's part in flush, merge and collection: what is due, and what has become of it.

use super::State;
use crate::base::limits::{
    MEMTABLE_MEMORY_PART, REPLAY_BYTES_MAX, REPLAY_BYTES_MIN, REPLAY_DISK_PART, REPLAY_LIVE_PART,
};
use crate::base::marks::mark;
use crate::engine::frozen::Frozen;
use crate::engine::log::segment::{self, Segment};
use crate::engine::manifest::{ReplayFrom, Sealed};
use crate::engine::memtable::Memtable;
use crate::engine::runs::{Run, Runs};
use crate::engine::table::TableId;
use crate::engine::usage::{Candidate, Usage};
use crate::runtime::disk::File;
use std::rc::Rc;

impl State {
    /// Whether what is in memory should become a table.
    pub fn wants_freeze(&self) -> bool {
        let sizes = &self.options.sizes;
        let replay_max = self.disk_share() / REPLAY_DISK_PART;
        let live_part = self.usage.live_bytes() / REPLAY_LIVE_PART;
        let replay_max = replay_max
            .min(live_part)
            .clamp(REPLAY_BYTES_MIN, REPLAY_BYTES_MAX);
        let part = self.options.memory_bytes / MEMTABLE_MEMORY_PART;
        let large = self.memtable.bytes() >= sizes.memtable_bytes.unwrap_or(part);
        let long = self.replay_bytes >= sizes.replay_bytes.unwrap_or(replay_max);
        let serves = self.poisoned.is_none() && !self.closed;
        let due = large || long || self.due.flush || self.holds_much();
        self.frozen.is_none() && self.memtable.keys() > 0 && serves && due
    }

    /// What is in memory becomes a table without waiting until it pays; then merges and collection are looked at.
    pub fn ask_for_flush(&mut self) {
        self.due.flush = self.memtable.keys() > 0;
        self.due.collection = true;
        self.due.asked = true;
    }

    /// On their way into a table, or asked to be.
    pub(super) fn deferred_entries(&self) -> u64 {
        let asked = if self.due.flush {
            self.memtable.keys()
        } else {
            0
        };
        asked + self.frozen.as_ref().map_or(0, |frozen| frozen.keys())
    }

    /// Whether a merge is due, as the merger sees it.
    pub fn on_merge_due(&mut self, due: bool) {
        self.due.merge = due;
    }

    /// Takes the entries out of the way of new ones; they stay readable until `on_flushed`.
    pub fn freeze(&mut self) {
        assert!(self.frozen.is_none(), "one memtable is frozen at a time");
        mark!(Frozen);
        self.due.flush = false;
        self.cold.on_frozen();
        let memtable = std::mem::take(&mut self.memtable);
        let last = self.writer.seal();
        self.frozen = Some(Frozen::new(memtable, last, self.writer.next_sequence()));
        self.settle_frozen();
    }

    pub(super) fn settle_frozen(&mut self) {
        let (durable, chain) = (self.writer.durable(), self.writer.chain());
        if let (Some(frozen), Some(written)) = (&mut self.frozen, &self.written) {
            frozen.settle(durable, chain, written, self.replay_bytes);
        }
    }

    /// What is to be written as a table, once all of it is durable, and where replay begins behind it.
    pub fn flushable(&self) -> Option<(Rc<Memtable>, ReplayFrom)> {
        self.frozen.as_ref()?.flushable()
    }

    /// The segments that replay will no longer touch, and those that copies were added to: no table names a copy that
    /// is behind the end of its segment.
    pub fn sealed_before(&self, from: &ReplayFrom) -> Vec<Sealed> {
        let before = self
            .segments
            .iter()
            .take_while(|segment| segment.number != from.segment);
        let new = before.filter(|segment| !self.sealed.contains_key(&segment.number));
        new.chain(self.cold.segments())
            .filter_map(|segment| self.ends.get(&segment.number).copied())
            .collect()
    }

    /// A durable manifest says where these end.
    pub(super) fn on_sealed(&mut self, sealed: Vec<Sealed>) {
        for one in sealed {
            // More may have been written meanwhile.
            if self.ends.get(&one.segment) == Some(&one) {
                self.ends.remove(&one.segment);
            }
            self.sealed.insert(one.segment, one);
        }
    }

    pub fn runs(&self) -> Rc<Runs> {
        self.runs.clone()
    }

    /// A durable manifest names this run, the replay position behind its entries, and what is sealed before that.
    pub fn on_flushed(&mut self, run: Run, from: ReplayFrom, sealed: Vec<Sealed>) {
        let frozen = self.frozen.take().expect("it was just written");
        self.replay_bytes -= frozen.replay_bytes();
        self.replay_segment = Some(from.segment);
        self.on_sealed(sealed);
        self.cold.on_flushed();
        self.on_merged(&[], run);
    }

    /// A durable manifest names `run` in the place of the runs named `gone`.
    pub fn on_merged(&mut self, gone: &[u64], run: Run) {
        self.runs = Rc::new(self.runs.replace(gone, run));
        self.due.merge = true;
        self.due.collection = true;
        self.share_memory();
    }

    /// The segment whose collection pays most, if any does, and where its groups end.
    pub fn victim(&mut self) -> Option<(Sealed, File)> {
        // Those that found no room are still due, though none of them is chosen now.
        let postponed = !self.postponed.is_empty();
        let victim = self.choose_victim();
        self.collects = victim.is_some();
        self.due.collection = victim.is_some() || postponed || self.cold.emptied_bytes() > 0;
        if victim.is_none() && self.due.asked {
            // Nothing more is emptied: what waits for flips shall not wait for further writes too.
            self.due.flush |= self.cold.emptied_bytes() > 0 && self.memtable.keys() > 0;
            self.due.asked = self.due.collection;
        }
        victim
    }

    fn choose_victim(&mut self) -> Option<(Sealed, File)> {
        if self.closed || self.poisoned.is_some() {
            return None;
        }
        let from = self.replay_segment?;
        let before = self
            .segments
            .iter()
            .take_while(|segment| segment.number != from);
        let takes = |segment: &&Segment| {
            let number = segment.number;
            let left = self.damage.is_stuck(number) || self.postponed.contains(&number);
            let cold = self.cold.is_emptied(number) || self.cold.is_pinned(number);
            self.sealed.contains_key(&number) && !left && !cold
        };
        let candidates = before.chain(self.cold.closed()).filter(takes);
        let candidate = |segment: &Segment| Candidate {
            segment: *segment,
            end: self.sealed[&segment.number].end,
        };
        let mut candidates: Vec<Candidate> = candidates.map(candidate).collect();
        // Numbers are given in order of age.
        candidates.sort_by_key(|one| one.segment.number);
        let Some(number) = self.usage.victim(&candidates, &self.space()) else {
            // All have been tried: at the next look there may be room.
            self.postponed.clear();
            return None;
        };
        Some((self.sealed[&number], self.files.get(&number)?.clone()))
    }

    /// There was no room for what lives in it: the others come first.
    pub fn on_postponed(&mut self, segment: u32) {
        self.postponed.insert(segment);
    }

    /// A durable manifest no longer names it.
    pub fn on_removed(&mut self, segment: u32) {
        self.files.remove(&segment);
        let bytes = self.bytes_of(segment);
        self.segments.retain(|other| other.number != segment);
        self.cold.on_removed(segment);
        self.sealed.remove(&segment);
        self.postponed.clear();
        self.segment_bytes -= bytes;
        self.usage.on_removed(segment);
    }

    pub(super) fn bytes_of(&self, segment: u32) -> u64 {
        let mut all = self.segments.iter().chain(self.cold.segments());
        all.find(|one| one.number == segment)
            .map_or(0, |one| one.bytes)
    }

    pub fn usage(&mut self) -> &mut Usage {
        &mut self.usage
    }

    pub fn is_counted(&self) -> bool {
        self.usage.is_counted()
    }

    /// The name of the next table to be begun; none is given twice.
    /// `None`: numbers have run out, which only damage does.
    pub fn next_table(&mut self) -> Option<TableId> {
        let (shard, shards) = (self.options.shard, self.options.shards);
        let number = segment::next_number(self.highest_table, shard, shards);
        let number = number?;
        self.highest_table = Some(number);
        Some(TableId {
            identity: self.log.identity,
            shard,
            number,
        })
    }
}
