//! The newest state of every key, in key order.
//!
//! Positions are hashes, so their top bits say where to look: the first ten choose one of 1024 sub-tables, the next
//! ones the home slot in it. A sub-table is an array of slots whose entries stand in key order, each at its home or
//! as few slots behind it as those before it need: linear probing that keeps order. So an arc is contiguous, a scan
//! walks slots, and a lookup compares a handful of neighbours. (Amble and Knuth, "Ordered hash tables", 1974; here
//! the hash itself is the order.)
//!
//! Invariants of a sub-table: 1 occupied slots are in key order. 2 No entry stands before its home. 3 Between an
//! entry and its home no slot is empty. Nothing is ever removed: a deleted key is an object of tombstones.

use super::entry::{Entry, Place};
use super::key::{Key, KeyRef};
use super::log::record;
use crate::base::limits::{INLINE_VALUE_BYTES_MAX, LOG_ARCS};
use crate::causal::object::{Object, Sibling};
use crate::ring::position::Position;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Slots of a sub-table that holds its first entry.
const SLOTS_MIN: usize = 4;
/// A sub-table grows when more than this many tenths of its slots are used.
const LOAD_TENTHS_MAX: usize = 6;
/// The two counts of an `Rc`, and what an allocator adds to a small allocation.
const ALLOCATION_BYTES: usize = 24;

#[derive(Clone)]
struct Slot {
    key: Key,
    entry: Rc<Entry>,
}

const SLOT_BYTES: usize = size_of::<Option<Slot>>();

#[derive(Default)]
struct SubTable {
    /// A power of two of home slots (or none yet), and behind them as many as the last run needs.
    slots: Vec<Option<Slot>>,
    homes: usize,
    used: usize,
}

pub struct Memtable {
    tables: Vec<SubTable>,
    buckets: BTreeSet<Rc<[u8]>>,
    keys: u64,
    /// Bytes of entries and keys, without the slots.
    held_bytes: usize,
    slots: usize,
}

/// Bytes that an entry takes for its key: the entry, its siblings, its vector, its inline values, its key.
/// The slot is counted apart, by the slots that there are; bucket names are shared and not counted.
pub fn entry_bytes(key_bytes: usize, entry: &Entry) -> usize {
    let inline: usize = entry
        .object
        .siblings
        .iter()
        .map(|sibling| match &sibling.value {
            Place::Inline(bytes) => inline_bytes(bytes.len()),
            Place::Nowhere | Place::At { .. } => 0,
        })
        .sum();
    object_bytes(key_bytes, &entry.object) + inline
}

/// `entry_bytes` without the inline values.
pub fn object_bytes<V>(key_bytes: usize, object: &Object<V>) -> usize {
    let siblings = object.siblings.len() * size_of::<Sibling<Place>>();
    let vector = size_of_val(object.vector.entries());
    size_of::<Entry>() + siblings + vector + key_bytes + 5 * ALLOCATION_BYTES
}

/// Bytes that a value takes in an entry; a large one takes none.
pub fn inline_bytes(value_bytes: usize) -> usize {
    if value_bytes <= INLINE_VALUE_BYTES_MAX {
        value_bytes + ALLOCATION_BYTES
    } else {
        0
    }
}

impl SubTable {
    /// The slot at which a run that may hold this position begins.
    fn home(&self, position: Position) -> usize {
        assert!(self.homes.is_power_of_two());
        if self.homes == 1 {
            return 0;
        }
        let behind_arc = position.0 << LOG_ARCS.trailing_zeros();
        (behind_arc >> (u64::BITS - self.homes.trailing_zeros())) as usize
    }

    /// The slot that holds the key, or at which it would have to be put.
    fn find(&self, key: KeyRef<'_>) -> Result<usize, usize> {
        if self.homes == 0 {
            return Err(0);
        }
        let mut at = self.home(key.position);
        while let Some(Some(slot)) = self.slots.get(at) {
            match slot.key.as_ref().cmp(&key) {
                std::cmp::Ordering::Less => at += 1,
                std::cmp::Ordering::Equal => return Ok(at),
                std::cmp::Ordering::Greater => break,
            }
        }
        Err(at)
    }

    /// Puts a slot at `at`, moving the run that stands there by one.
    fn insert(&mut self, at: usize, slot: Slot) {
        let empty = self.slots[at..].iter().position(Option::is_none);
        let end = empty.map_or(self.slots.len(), |run| at + run);
        if end == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[at..=end].rotate_right(1);
        assert!(self.slots[at].is_none());
        self.slots[at] = Some(slot);
        self.used += 1;
    }

    fn is_full(&self) -> bool {
        (self.used + 1) * 10 > self.homes * LOAD_TENTHS_MAX
    }

    fn grow(&mut self) {
        let homes = (self.homes * 2).max(SLOTS_MIN);
        let mut empty = Vec::new();
        empty.resize_with(homes, || None);
        let old = std::mem::replace(&mut self.slots, empty);
        self.homes = homes;
        let mut next = 0;
        for slot in old.into_iter().flatten() {
            let at = self.home(slot.key.position).max(next);
            if at == self.slots.len() {
                self.slots.push(None);
            }
            assert!(self.slots[at].is_none());
            self.slots[at] = Some(slot);
            next = at + 1;
        }
    }
}

impl Default for Memtable {
    fn default() -> Memtable {
        let mut tables = Vec::new();
        tables.resize_with(LOG_ARCS, SubTable::default);
        Memtable {
            tables,
            buckets: BTreeSet::new(),
            keys: 0,
            held_bytes: 0,
            slots: 0,
        }
    }
}

impl Memtable {
    pub fn get(&self, key: KeyRef<'_>) -> Option<&Rc<Entry>> {
        let table = &self.tables[record::arc(key.position)];
        let at = table.find(key).ok()?;
        table.slots[at].as_ref().map(|slot| &slot.entry)
    }

    /// Puts the newest state of a key in the place of what was there.
    pub fn insert(&mut self, key: KeyRef<'_>, entry: Entry) {
        let bytes = entry_bytes(key.key.len(), &entry);
        let table = &mut self.tables[record::arc(key.position)];
        let slots_before = table.slots.len();
        match table.find(key) {
            Ok(at) => {
                let slot = table.slots[at].as_mut().expect("it was found there");
                self.held_bytes -= entry_bytes(slot.key.key.len(), &slot.entry);
                slot.entry = Rc::new(entry);
            }
            Err(mut at) => {
                if table.is_full() {
                    table.grow();
                    at = table.find(key).expect_err("growing adds no key");
                }
                let bucket = match self.buckets.get(key.bucket) {
                    Some(bucket) => bucket.clone(),
                    None => {
                        let bucket: Rc<[u8]> = key.bucket.into();
                        self.buckets.insert(bucket.clone());
                        bucket
                    }
                };
                let key = Key {
                    position: key.position,
                    bucket,
                    key: key.key.into(),
                };
                let entry = Rc::new(entry);
                table.insert(at, Slot { key, entry });
                self.keys += 1;
            }
        }
        self.held_bytes += bytes;
        self.slots = self.slots + table.slots.len() - slots_before;
    }

    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Bytes of all entries, their keys and all slots.
    pub fn bytes(&self) -> usize {
        self.held_bytes + self.slots * SLOT_BYTES
    }

    /// All entries, in key order.
    pub fn entries(&self) -> impl Iterator<Item = &Rc<Entry>> {
        let slots = self.tables.iter().flat_map(|table| table.slots.iter());
        slots.flatten().map(|slot| &slot.entry)
    }

    /// At most `limit` entries in key order behind `after`.
    pub fn scan(&self, after: Option<&Key>, limit: usize) -> Vec<(Key, Rc<Entry>)> {
        let first = after.map_or(0, |key| record::arc(key.position));
        let mut found = Vec::new();
        for (arc, table) in self.tables.iter().enumerate().skip(first) {
            let from = match after {
                Some(key) if arc == first => match table.find(key.as_ref()) {
                    Ok(at) => at + 1,
                    Err(at) => at,
                },
                _ => 0,
            };
            for slot in table.slots.get(from..).unwrap_or_default().iter().flatten() {
                if found.len() == limit {
                    return found;
                }
                found.push((slot.key.clone(), slot.entry.clone()));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::entry::GroupNumber;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn entry(group: u64) -> Entry {
        Entry {
            object: Rc::new(Object {
                vector: Default::default(),
                siblings: Vec::new(),
            }),
            mine: None,
            group: GroupNumber(group),
        }
    }

    impl SubTable {
        fn check(&self) {
            let mut last: Option<&Slot> = None;
            let mut run_start = 0;
            let mut used = 0;
            for (at, slot) in self.slots.iter().enumerate() {
                let Some(slot) = slot else {
                    run_start = at + 1;
                    continue;
                };
                let home = self.home(slot.key.position);
                assert!(run_start <= home && home <= at, "{run_start} {home} {at}");
                assert!(last.is_none_or(|last| last.key < slot.key));
                last = Some(slot);
                used += 1;
            }
            assert_eq!(used, self.used);
        }
    }

    /// Positions that meet in one arc, in one home, at the end of the table, and anywhere.
    fn position() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            0u64..4,
            (0u64..40).prop_map(|n| u64::MAX - n),
            (0u64..64).prop_map(|n| n << 48),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn it_is_a_sorted_map(
            puts in prop::collection::vec((position(), 0u8..3, 0u8..3), 0..300),
            probes in prop::collection::vec((position(), 0u8..3, 0u8..3), 0..50),
        ) {
            let mut table = Memtable::default();
            let mut twin: BTreeMap<(u64, [u8; 1], [u8; 1]), u64> = BTreeMap::new();
            for (group, &(position, bucket, key)) in puts.iter().enumerate() {
                let name = KeyRef { position: Position(position), bucket: &[bucket], key: &[key] };
                table.insert(name, entry(group as u64));
                twin.insert((position, [bucket], [key]), group as u64);
            }
            table.tables.iter().filter(|table| table.used > 0).for_each(SubTable::check);
            prop_assert_eq!(table.keys(), twin.len() as u64);
            let slots: usize = table.tables.iter().map(|table| table.slots.len()).sum();
            prop_assert_eq!(table.bytes(), slots * SLOT_BYTES + twin.len() * entry_bytes(1, &entry(0)));
            for &(position, bucket, key) in puts.iter().chain(&probes) {
                let name = KeyRef { position: Position(position), bucket: &[bucket], key: &[key] };
                let got = table.get(name).map(|entry| entry.group.0);
                prop_assert_eq!(got, twin.get(&(position, [bucket], [key])).copied());
                let after = Key {
                    position: Position(position),
                    bucket: [bucket].as_slice().into(),
                    key: [key].as_slice().into(),
                };
                let scanned: Vec<u64> =
                    table.scan(Some(&after), 7).iter().map(|(_, entry)| entry.group.0).collect();
                let behind = (std::ops::Bound::Excluded((position, [bucket], [key])), std::ops::Bound::Unbounded);
                let expected: Vec<u64> = twin.range(behind).take(7).map(|(_, group)| *group).collect();
                prop_assert_eq!(scanned, expected);
            }
            let all: Vec<u64> = table.scan(None, usize::MAX).iter().map(|(_, e)| e.group.0).collect();
            prop_assert_eq!(all, twin.into_values().collect::<Vec<_>>());
        }
    }
}
