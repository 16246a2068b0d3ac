//! The state's part in copies: what lives in a victim is copied, apart from what is written now, into a cold segment;
//! then its entry names the copy. So what is overwritten soon does not lie beside what stays. Values that are too large
//! together for one record of the log lie there too (`engine::apart`).
//!
//! Such a flip is in memory only, like any entry on its way into a table, and nothing of it is in the log: after a
//! crash the entry names the old place again. So a segment stays until every flip away from it stands in a table that a
//! manifest names. The copy is durable before the flip, so that a record which names it can be.

use super::State;
use crate::base::limits::{BRAKE_BYTES_PER_SECOND, BRAKE_EXCESS_PERCENT, BRAKE_MS_MAX, PAGE_BYTES};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::causal::object::Object;
use crate::engine::collection::Copied;
use crate::engine::entry::{Entry, GroupNumber, Location, NewValue};
use crate::engine::key::KeyRef;
use crate::engine::log::format::GROUP_HEADER_BYTES;
use crate::engine::log::group::Link;
use crate::engine::log::record::{self, NewRecord};
use crate::engine::log::segment::Segment;
use crate::engine::log::writer::{Job, LogWriter};
use crate::engine::manifest::Sealed;
use crate::engine::outcome::AppendRefused;
use crate::engine::usage::Space;
use crate::runtime::buffer::PageBuffer;
use crate::runtime::disk::File;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The cold segments, and what waits for flips.
#[derive(Default)]
pub struct Cold {
    /// In the order in which they were begun.
    segments: Vec<Segment>,
    /// Copies go to the last one.
    writer: Option<LogWriter>,
    flips: Flips,
    /// How many objects that are being stored have values there that no entry names yet.
    pins: BTreeMap<u32, u32>,
}

/// Which segments wait for which memory to become a table.
struct Flips {
    /// The number of the memory that is filled now.
    filling: u64,
    /// All up to this one stand in tables.
    flushed: u64,
    /// The newest memory that holds a flip away from the segment.
    newest: BTreeMap<u32, u64>,
    /// Segments without anything alive that wait, with their bytes.
    emptied: BTreeMap<u32, u64>,
}

impl Default for Flips {
    fn default() -> Flips {
        Flips {
            filling: 1,
            flushed: 0,
            newest: BTreeMap::new(),
            emptied: BTreeMap::new(),
        }
    }
}

impl Flips {
    fn wait(&self, segment: u32) -> bool {
        let newest = self.newest.get(&segment);
        newest.is_some_and(|&newest| newest > self.flushed) && !planted!(FlipsNotFlushed)
    }
}

impl Cold {
    pub fn new(segments: Vec<Segment>) -> Cold {
        Cold {
            segments,
            ..Cold::default()
        }
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Bytes of the open one that nothing was written to.
    pub fn unwritten_bytes(&self) -> u64 {
        let writer = self.writer.as_ref();
        writer.map_or(0, LogWriter::unwritten_bytes)
    }

    /// The one that copies go to now.
    pub(super) fn open(&self) -> Option<u32> {
        self.writer.as_ref()?;
        self.segments.last().map(|segment| segment.number)
    }

    /// Nothing is written to it any more.
    pub fn closed(&self) -> impl Iterator<Item = &Segment> {
        let open = self.open();
        self.segments
            .iter()
            .filter(move |segment| Some(segment.number) != open)
    }

    pub fn on_removed(&mut self, segment: u32) {
        self.segments.retain(|other| other.number != segment);
        self.flips.newest.remove(&segment);
        self.flips.emptied.remove(&segment);
    }

    /// It is not collected until it is unpinned as often.
    pub fn pin(&mut self, segment: u32) {
        *self.pins.entry(segment).or_default() += 1;
    }

    pub fn unpin(&mut self, segment: u32) {
        let pins = self.pins.get_mut(&segment).expect("it was pinned");
        *pins -= 1;
        if *pins == 0 {
            self.pins.remove(&segment);
        }
    }

    pub fn is_pinned(&self, segment: u32) -> bool {
        self.pins.contains_key(&segment) && !planted!(ApartNotPinned)
    }

    pub fn is_emptied(&self, segment: u32) -> bool {
        self.flips.emptied.contains_key(&segment)
    }

    pub fn emptied_bytes(&self) -> u64 {
        self.flips.emptied.values().sum()
    }

    /// Memory was frozen.
    pub fn on_frozen(&mut self) {
        self.flips.filling += 1;
    }

    /// What was frozen stands in a table.
    pub fn on_flushed(&mut self) {
        self.flips.flushed = self.flips.filling - 1;
    }

    /// Bytes of emptied segments that wait for what is in memory now.
    fn waits_for_memory(&self) -> u64 {
        let flips = &self.flips;
        let waiting = flips.emptied.iter();
        let waiting =
            waiting.filter(|(segment, _)| flips.newest.get(segment) == Some(&flips.filling));
        waiting.map(|(_, bytes)| bytes).sum()
    }
}

impl State {
    pub fn cold_mut(&mut self) -> &mut Cold {
        &mut self.cold
    }

    /// Whether copies have segments of their own now: a full disk has no room for another open one.
    pub fn copies_apart(&self) -> bool {
        !self.disk_full && !self.is_pressed()
    }

    /// The size of a cold segment that is begun for a record of `bytes` bytes; `None`: the budget has no room for it.
    pub fn wanted_cold(&mut self, bytes: usize) -> Option<u64> {
        let least = (GROUP_HEADER_BYTES + bytes).next_multiple_of(PAGE_BYTES) as u64;
        let bytes = self.new_segment_bytes().max(least);
        let fits = self.taken_bytes() + bytes <= self.disk_share();
        fits.then_some(bytes)
    }

    /// A cold segment is left for the next one: where its groups end.
    pub fn cold_end(&self) -> Option<Sealed> {
        let open = self.cold.open()?;
        self.ends.get(&open).copied()
    }

    /// A durable manifest names the segment, and `left` as the end of the one before it.
    pub fn on_cold_segment(
        &mut self,
        segment: Segment,
        file: File,
        left: Option<Sealed>,
        manifest_bytes: u64,
    ) {
        self.on_sealed(left.into_iter().collect());
        let mut writer = LogWriter::new(self.log, Link::default(), 1, 0);
        writer.add_segment(segment);
        self.cold.writer = Some(writer);
        self.cold.segments.push(segment);
        self.files.insert(segment.number, file);
        self.segment_bytes += segment.bytes;
        self.manifest_bytes = manifest_bytes;
    }

    /// Gives a record of an object's values its place; `Err`: there is no room for its record of so many bytes, in what
    /// waits or in the open segment.
    pub fn add_copy(
        &mut self,
        key: KeyRef<'_>,
        object: &Object<NewValue<'_>>,
    ) -> Result<Location, usize> {
        let record = NewRecord::new(key, object);
        let bytes = record.bytes();
        let writer = self.cold.writer.as_mut().ok_or(bytes)?;
        let reserved = writer.reserve(bytes, record::arc(key.position), 0);
        let reserved = reserved.map_err(|_| bytes)?;
        let out = writer.reserved_bytes(reserved);
        record.encode(reserved.segment, reserved.offset_words, out);
        Ok(Location {
            segment: reserved.segment,
            offset_words: reserved.offset_words,
            bytes: bytes as u32,
        })
    }

    pub fn take_cold_job(&mut self) -> Option<(Job, File)> {
        let job = self.cold.writer.as_mut()?.take_job()?;
        Some(self.with_file(job))
    }

    /// A group of copies is on the medium.
    pub fn on_cold_durable(&mut self, written: Sealed, buffer: PageBuffer, len: usize) {
        self.counters.log_bytes_written += len as u64;
        self.counters.groups_written += 1;
        self.ends.insert(written.segment, written);
        let writer = self.cold.writer.as_mut().expect("it was written by it");
        writer.on_durable(GroupNumber(written.last), buffer);
    }

    /// The newest entry of the key names the copies from now on, where it names what was copied. `before`: the newest
    /// entry, as whoever holds the turn of the key has found it.
    pub fn flip(
        &mut self,
        key: KeyRef<'_>,
        before: &Rc<Entry>,
        copied: &Copied,
    ) -> Result<(), AppendRefused> {
        if let Some(unsure) = self.unsure(key) {
            return Err(unsure.into());
        }
        let newest = self.in_memory(key);
        let same = newest.is_none_or(|newest| Rc::ptr_eq(newest, before));
        assert!(
            same || planted!(RelocateWithoutTurn),
            "only the turn changes a key"
        );
        let object = copied.flipped(&before.object);
        let bytes = super::memtable::entry_bytes(key.key.len(), before);
        if self.closed {
            return Err(AppendRefused::Overloaded);
        }
        if self.entry_bytes() + bytes > self.entry_bytes_max() {
            return Err(self.no_memory());
        }
        mark!(Flipped);
        self.usage.on_write(key, Some(&before.object), &object);
        self.uncache_superseded(&before.object, &object);
        let flips = &mut self.cold.flips;
        flips.newest.insert(copied.from.segment, flips.filling);
        let entry = Entry {
            object: Rc::new(object),
            mine: before.mine,
            group: before.group,
        };
        self.memtable.insert(key, entry);
        self.share_memory();
        Ok(())
    }

    /// Nothing in the segment lives. True: it can go now, and does not wait for flips.
    pub fn on_emptied(&mut self, segment: u32) -> bool {
        if !self.cold.flips.wait(segment) {
            return true;
        }
        mark!(FreeWaited);
        let bytes = self.bytes_of(segment);
        self.cold.flips.emptied.insert(segment, bytes);
        false
    }

    /// Emptied segments that wait for nothing any more.
    pub fn freeable(&self) -> Vec<u32> {
        let flips = &self.cold.flips;
        let emptied = flips.emptied.keys().copied();
        emptied.filter(|&segment| !flips.wait(segment)).collect()
    }

    /// So much is held up by flips in memory that it should become a table for that alone.
    pub(super) fn holds_much(&self) -> bool {
        let waiting = self.cold.waits_for_memory();
        let much = self.usage.emptied_max();
        waiting > 0 && (waiting >= much || self.disk_full || self.is_pressed())
    }

    pub(super) fn space(&self) -> Space {
        let (log, emptied) = (self.written_bytes(), self.cold.emptied_bytes());
        Space {
            log: log - emptied,
            emptied,
            other: self.taken_bytes() - log,
            goal: self.options.sizes.space_percent,
            slack: self.options.sizes.space_slack_bytes,
            pressed: self.is_pressed(),
        }
    }

    pub fn haste(&self) -> u64 {
        self.usage.haste(&self.space())
    }

    /// Nanoseconds that the next group waits after one of `bytes` bytes, so that collection catches up.
    pub fn brake_ns(&self, bytes: usize) -> u64 {
        // Where nothing can be collected, and where copies wait for the log themselves, waiting helps nobody.
        if !self.collects || !self.copies_apart() {
            return 0;
        }
        let excess = self
            .usage
            .excess_percent(&self.space())
            .min(BRAKE_EXCESS_PERCENT);
        let whole = bytes as u64 * 1_000_000_000 / BRAKE_BYTES_PER_SECOND;
        (whole * excess / BRAKE_EXCESS_PERCENT).min(BRAKE_MS_MAX * 1_000_000)
    }
}
