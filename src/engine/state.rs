//! What a shard's engine knows, and how it changes from one wait to the next. No I/O.

mod background;
mod cold;
mod disk;
mod scrub;
mod snapshot;

use super::cache::{Cache, ValueName};
use super::damage::{Damage, Report};
use super::entry::{Entry, GroupNumber, Location, NewValue, Place};
use super::frozen::Frozen;
use super::key::{Key, KeyRef};
use super::log::format::GROUP_HEADER_BYTES;
use super::log::group::{self, Arcs, LogId};
use super::log::record::{self, NewRecord};
use super::log::segment::Segment;
use super::log::writer::{Job, LogWriter, NoRoom};
use super::manifest::Sealed;
use super::memtable::{self, Memtable};
use super::outcome::{AppendRefused, Lookup, Poisoned, Unsure};
use super::probe::Probe;
use super::recovery::{self, Replayed};
use super::runs::Runs;
use super::table::BlockName;
use super::usage::Usage;
use super::{Options, Statistics};
use crate::base::limits::{
    ENTRIES_MEMORY_PERCENT_MAX, PAGE_BYTES, PUT_DISK_PERCENT_MAX, SEGMENTS_AHEAD,
};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::causal::dot::Dot;
use crate::causal::object::Object;
use crate::runtime::buffer::PageBuffer;
use crate::runtime::disk::{DiskError, File};
pub use cold::Cold;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The cache keeps at least this part of the memory, whatever the entries need.
const CACHE_SHARE_MIN: usize = 8;
/// The cache's bound follows the entries in steps of this part of the memory.
const CACHE_STEPS: usize = 64;

/// Why and how a state is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A put or a delete.
    Write,
    /// The same siblings, some of their values copied to this record: collection makes room by it, so it may take what
    /// the disk budget keeps from puts.
    Relocation,
}

/// What has been found to be due, besides what is frozen.
#[derive(Debug, Default)]
struct Due {
    /// Somebody asked for a flush, though memory has room.
    flush: bool,
    /// Runs are being merged, or nobody has looked since they changed.
    merge: bool,
    /// The same of segments.
    collection: bool,
    /// Somebody asked for a flush, and collection has not come to rest since.
    asked: bool,
}

pub struct State {
    options: Options,
    memtable: Memtable,
    frozen: Option<Frozen>,
    due: Due,
    runs: Rc<Runs>,
    usage: Usage,
    cache: Cache,
    writer: LogWriter,
    /// The last group on the medium.
    written: Option<Sealed>,
    /// Where the groups of each segment end, as far as this life knows.
    ends: BTreeMap<u32, Sealed>,
    /// What the manifest says of segments before the replay position.
    sealed: BTreeMap<u32, Sealed>,
    /// Bytes of log behind the replay position.
    replay_bytes: u64,
    files: BTreeMap<u32, File>,
    /// In the order of the log, as the manifest names them.
    segments: Vec<Segment>,
    cold: Cold,
    /// The segment that replay begins in: what lies before it is value storage only.
    replay_segment: Option<u32>,
    highest_table: Option<u32>,
    log: LogId,
    /// A victim was there at the last look.
    collects: bool,
    /// Segments whose copies found no room; others are tried first.
    postponed: BTreeSet<u32>,
    damaged: Arcs,
    damage: Damage,
    poisoned: Option<Poisoned>,
    closed: bool,
    /// The last segment that was wanted could not be made for want of space.
    disk_full: bool,
    segment_bytes: u64,
    manifest_bytes: u64,
    counters: Statistics,
}

impl State {
    pub fn new(options: Options, replayed: Replayed, runs: Runs, damage: Damage) -> State {
        let log = LogId {
            identity: replayed.state.identity,
            shard: options.shard,
        };
        let mut state = State {
            cache: Cache::new(options.memory_bytes / CACHE_SHARE_MIN),
            writer: LogWriter::new(
                log,
                replayed.chain,
                replayed.next_number,
                replayed.next_sequence,
            ),
            usage: Usage::new(runs.is_empty() && replayed.memtable.keys() == 0),
            written: replayed.end,
            ends: replayed.ends,
            sealed: replayed
                .state
                .sealed
                .iter()
                .map(|one| (one.segment, *one))
                .collect(),
            replay_bytes: replayed.report.bytes,
            memtable: replayed.memtable,
            frozen: None,
            due: Due::default(),
            runs: Rc::new(runs),
            replay_segment: replayed.state.replay.map(|from| from.segment),
            segments: replayed.state.segments.clone(),
            cold: Cold::new(replayed.state.cold.clone()),
            highest_table: replayed.state.highest_table,
            log,
            collects: false,
            postponed: BTreeSet::new(),
            files: replayed.files,
            damaged: replayed.state.damaged,
            damage,
            poisoned: None,
            closed: false,
            disk_full: false,
            segment_bytes: replayed.state.segment_bytes(),
            manifest_bytes: 0,
            counters: Statistics::default(),
            options,
        };
        state.share_memory();
        state
    }

    pub fn lookup(&mut self, key: KeyRef<'_>) -> Lookup {
        if let Some(unsure) = self.unsure(key) {
            return Lookup::Unsure(unsure);
        }
        if let Some(entry) = self.in_memory(key) {
            return Lookup::Found(entry.clone());
        }
        let mut probe = Probe::new(&self.runs, key);
        while let Some((_, name)) = probe.wanted() {
            let Some(block) = self.cache.get(name) else {
                return Lookup::MustRead;
            };
            match probe.on_block(key, &block) {
                Ok(Some(found)) => return found,
                Ok(None) => {}
                Err(bad) => return Lookup::Unsure(self.damage.note(bad)),
            }
        }
        Lookup::Absent
    }

    pub fn damage(&mut self) -> &mut Damage {
        &mut self.damage
    }

    pub fn damage_report(&self) -> Report {
        let arcs_unsure = self
            .damaged
            .iter()
            .map(|word| word.count_ones())
            .sum::<u32>();
        self.damage.report(arcs_unsure.into())
    }

    /// The newest entry, if it is in no table yet.
    pub fn in_memory(&self, key: KeyRef<'_>) -> Option<&Rc<Entry>> {
        let frozen = || self.frozen.as_ref()?.get(key);
        self.memtable.get(key).or_else(frozen)
    }

    pub fn unsure(&self, key: KeyRef<'_>) -> Option<Unsure> {
        if planted!(UnsureServed) {
            return None;
        }
        if self.poisoned.is_some() {
            return Some(Unsure::Poisoned);
        }
        group::has_arc(&self.damaged, record::arc(key.position)).then_some(Unsure::Damaged)
    }

    /// `before`: the newest entry of the key.
    pub fn append(
        &mut self,
        key: KeyRef<'_>,
        before: Option<&Entry>,
        object: Object<NewValue<'_>>,
        mine: Option<Dot>,
        purpose: Purpose,
    ) -> Result<GroupNumber, AppendRefused> {
        if let Some(unsure) = self.unsure(key) {
            return Err(unsure.into());
        }
        if self.closed {
            return Err(AppendRefused::Overloaded);
        }
        let record = NewRecord::new(key, &object);
        let before = before.map(|entry| &*entry.object);
        self.admit(key, before, &object, record.bytes(), purpose)?;
        // Where no further segment can be made, the last one is for the copies that give others back.
        let kept = usize::from(self.disk_full && purpose == Purpose::Write);
        let reserved = self
            .writer
            .reserve(record.bytes(), record::arc(key.position), kept);
        let reserved = reserved.map_err(|no_room| match no_room {
            NoRoom::Record => AppendRefused::RecordTooLarge,
            NoRoom::Segment if self.disk_full => AppendRefused::DiskFull,
            NoRoom::Segment | NoRoom::Waiting => AppendRefused::Overloaded,
        })?;
        if purpose == Purpose::Relocation {
            self.counters.bytes_relocated += record.bytes() as u64;
        }
        let out = self.writer.reserved_bytes(reserved);
        record.encode(reserved.segment, reserved.offset_words, out);
        let location = Location {
            segment: reserved.segment,
            offset_words: reserved.offset_words,
            bytes: record.bytes() as u32,
        };
        let entry = Entry {
            object: Rc::new(self.settle_values(object, location, key, purpose)),
            mine,
            group: reserved.group,
        };
        if let Some(before) = before {
            self.uncache_superseded(before, &entry.object);
        }
        self.usage.on_write(key, before, &entry.object);
        self.memtable.insert(key, entry);
        self.share_memory();
        Ok(reserved.group)
    }

    /// Values that the new object no longer has there would only push others out of the cache.
    fn uncache_superseded(&mut self, before: &Object<Place>, next: &Object<Place>) {
        for sibling in &before.siblings {
            if let Place::At {
                location,
                sibling: nth,
                ..
            } = sibling.value
                && next.find_dot(sibling.dot).map(|kept| &kept.value) != Some(&sibling.value)
            {
                self.cache.remove(ValueName {
                    location,
                    sibling: nth,
                });
            }
        }
    }

    /// Refuses what the budgets do not allow.
    fn admit(
        &self,
        key: KeyRef<'_>,
        before: Option<&Object<Place>>,
        object: &Object<NewValue<'_>>,
        record_bytes: usize,
        purpose: Purpose,
    ) -> Result<(), AppendRefused> {
        let mut bytes = memtable::object_bytes(key.key.len(), object);
        for sibling in &object.siblings {
            bytes += match &sibling.value {
                NewValue::Put(value) => memtable::inline_bytes(value.len()),
                NewValue::Keep(Place::Inline(value)) => memtable::inline_bytes(value.len()),
                NewValue::Keep(Place::Nowhere | Place::At { .. }) => 0,
            };
        }
        let puts = object
            .siblings
            .iter()
            .any(|sibling| matches!(sibling.value, NewValue::Put(_)));
        // A delete that removes something makes an entry hardly larger than it was, and is how room is made: it is
        // taken always. A delete of what is not there makes a new entry, as a put does.
        let held = before.map_or(0, |object| object.siblings.len());
        let grows = puts || object.siblings.len() > held;
        if grows && self.entry_bytes() + bytes > self.entry_bytes_max() {
            return Err(self.no_memory());
        }
        let needed = (record_bytes + GROUP_HEADER_BYTES).next_multiple_of(PAGE_BYTES) as u64;
        let used = u128::from(self.used_bytes() + needed);
        let used_max = u128::from(self.disk_share()) * u128::from(PUT_DISK_PERCENT_MAX) / 100;
        if grows && used > used_max && purpose == Purpose::Write {
            mark!(DiskFull);
            return Err(AppendRefused::DiskFull);
        }
        Ok(())
    }

    /// What is frozen leaves memory soon, unless there is no disk for it.
    fn no_memory(&self) -> AppendRefused {
        match self.frozen.is_some() && !self.disk_full {
            true => AppendRefused::Overloaded,
            false => AppendRefused::MemoryFull,
        }
    }

    /// Bytes of memory that entries take.
    fn entry_bytes(&self) -> usize {
        let frozen = self.frozen.as_ref();
        self.memtable.bytes() + frozen.map_or(0, |frozen| frozen.bytes())
    }

    /// Bytes of memory that entries may take.
    fn entry_bytes_max(&self) -> usize {
        self.options.memory_bytes / 100 * ENTRIES_MEMORY_PERCENT_MAX
    }

    pub fn log(&self) -> LogId {
        self.log
    }

    pub fn counters_mut(&mut self) -> &mut Statistics {
        &mut self.counters
    }

    /// The object as memory keeps it: small values in the entry, others in the cache and in the record.
    fn settle_values(
        &mut self,
        object: Object<NewValue<'_>>,
        location: Location,
        key: KeyRef<'_>,
        purpose: Purpose,
    ) -> Object<Place> {
        let by_user = purpose == Purpose::Write;
        if by_user {
            self.counters.user_bytes_written += key.key.len() as u64;
        }
        let mut siblings = Vec::with_capacity(object.siblings.len());
        for (nth, sibling) in object.siblings.into_iter().enumerate() {
            let name = ValueName {
                location,
                sibling: nth as u16,
            };
            let place = match &sibling.value {
                NewValue::Keep(place) => place.clone(),
                NewValue::Put(bytes) => {
                    if by_user {
                        self.counters.user_bytes_written += bytes.len() as u64;
                    }
                    let place = recovery::value_place(bytes, name);
                    // What collection copies was not asked for by anybody.
                    if by_user && matches!(place, Place::At { .. }) {
                        self.cache.insert(name, Rc::from(*bytes));
                    }
                    place
                }
            };
            siblings.push(sibling.with_value(place));
        }
        Object {
            vector: object.vector,
            siblings,
        }
    }

    /// The cache gets what the entries leave, in steps.
    fn share_memory(&mut self) {
        let memory = self.options.memory_bytes;
        let left = memory
            .saturating_sub(self.entry_bytes() + self.runs.memory_bytes())
            .max(memory / CACHE_SHARE_MIN);
        let step = (memory / CACHE_STEPS).max(1);
        self.cache
            .set_bytes_max((left / step * step).max(memory / CACHE_SHARE_MIN));
    }

    pub fn on_segment(&mut self, segment: Segment, file: File, manifest_bytes: u64) {
        self.disk_full = false;
        self.files.insert(segment.number, file);
        self.segment_bytes += segment.bytes;
        self.segments.push(segment);
        self.manifest_bytes = manifest_bytes;
        self.writer.add_segment(segment);
    }

    pub fn take_job(&mut self) -> Option<(Job, File)> {
        let job = self.writer.take_job()?;
        Some(self.with_file(job))
    }

    pub fn wants_mark(&self) -> bool {
        self.writer.wants_mark()
    }

    pub fn take_mark(&mut self) -> Option<(Job, File)> {
        if !self.wants_mark() {
            return None;
        }
        let job = self.writer.take_mark()?;
        Some(self.with_file(job))
    }

    fn with_file(&self, job: Job) -> (Job, File) {
        let file = self
            .files
            .get(&job.segment)
            .expect("the writer has only ready segments");
        (job, file.clone())
    }

    /// The group of `len` bytes that ends at this place is on the medium.
    pub fn on_durable(&mut self, written: Sealed, buffer: PageBuffer, len: usize) {
        self.counters.log_bytes_written += len as u64;
        self.counters.groups_written += 1;
        self.replay_bytes += len as u64;
        self.written = Some(written);
        self.ends.insert(written.segment, written);
        self.writer.on_durable(GroupNumber(written.last), buffer);
        self.settle_frozen();
    }

    pub fn poison(&mut self, cause: DiskError) -> Poisoned {
        mark!(Poisoned);
        self.poisoned.get_or_insert(Poisoned { cause }).clone()
    }

    pub fn poisoned(&self) -> Option<Poisoned> {
        self.poisoned.clone()
    }

    pub fn close(&mut self) {
        self.closed = true;
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn wants_segments(&self) -> bool {
        self.writer.segments_ready() < SEGMENTS_AHEAD
    }

    pub fn durable(&self) -> GroupNumber {
        self.writer.durable()
    }

    pub fn cached_value(&mut self, place: &Place) -> Option<Rc<[u8]>> {
        match place {
            Place::Nowhere => None,
            Place::Inline(bytes) => Some(bytes.clone()),
            Place::At {
                location, sibling, ..
            } => {
                let found = self.peek_value(*location, *sibling);
                match found {
                    Some(_) => self.counters.cache_hits += 1,
                    None => self.counters.cache_misses += 1,
                }
                found
            }
        }
    }

    /// As `cached_value`, uncounted.
    pub fn peek_value(&mut self, location: Location, sibling: u16) -> Option<Rc<[u8]>> {
        self.cache.get(ValueName { location, sibling })
    }

    /// The file to read a value of this key from.
    pub fn file(&self, key: KeyRef<'_>, segment: u32) -> Result<File, Unsure> {
        match self.unsure(key) {
            Some(unsure) => Err(unsure),
            None => self.files.get(&segment).cloned().ok_or(Unsure::Moved),
        }
    }

    pub fn cache_value(&mut self, location: Location, sibling: u16, value: Rc<[u8]>) {
        self.cache.insert(ValueName { location, sibling }, value);
    }

    pub fn cached_block(&mut self, name: BlockName) -> Option<Rc<[u8]>> {
        self.cache.get(name)
    }

    pub fn cache_block(&mut self, name: BlockName, bytes: Rc<[u8]>) {
        self.cache.insert(name, bytes);
    }

    /// What a store does that takes a read error for "not found"; only a planted bug calls it.
    pub fn forget(&mut self, key: KeyRef<'_>) {
        let entry = Entry {
            object: Rc::new(Object {
                vector: Default::default(),
                siblings: Vec::new(),
            }),
            mine: None,
            group: self.durable(),
        };
        self.memtable.insert(key, entry);
    }

    /// At most `limit` entries in key order behind `after` that are in no table yet.
    pub fn scan_memory(&self, after: Option<&Key>, limit: usize) -> Vec<(Key, Rc<Entry>)> {
        let mut found: BTreeMap<Key, Rc<Entry>> = BTreeMap::new();
        if let Some(frozen) = &self.frozen {
            found.extend(frozen.scan(after, limit));
        }
        found.extend(self.memtable.scan(after, limit));
        found.into_iter().take(limit).collect()
    }

    pub fn statistics(&self) -> Statistics {
        Statistics {
            entries_in_memory: self.memtable.keys()
                + self.frozen.as_ref().map_or(0, |frozen| frozen.keys()),
            entries_in_tables: self.runs.entries(),
            entry_bytes: self.entry_bytes() as u64,
            table_memory_bytes: self.runs.memory_bytes() as u64,
            cached_bytes: self.cache.bytes(),
            disk_bytes: self.taken_bytes(),
            log_bytes: self.segment_bytes,
            table_bytes: self.runs.bytes(),
            live_bytes: self.usage.live_bytes(),
            replay_bytes: self.replay_bytes,
            segments: (self.segments.len() + self.cold.segments().len()) as u64,
            runs: self.runs.len() as u64,
            tables: self.runs.tables().count() as u64,
            deferred_entries: self.deferred_entries(),
            deferred_merges: u64::from(self.due.merge),
            deferred_collections: u64::from(self.due.collection),
            ..self.counters
        }
    }
}
