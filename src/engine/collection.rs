//! Gives back segments whose values are mostly dead: what lives is copied into a cold segment, then whoever holds the
//! turn of its key makes the entry name the copy, and the segment is removed when nothing needs it any more. Where the
//! disk is nearly full, which leaves no room to wait, the copy is a record of the log instead.
//!
//! A segment goes only if every group in it was read whole, so that no record was overlooked; if its records all lie
//! before the replay position, so that no start needs them; if every copy is durable; and if a start would find every
//! copy: by a table, or by the record. Who reads a value meanwhile has its file open; who comes later finds that the
//! value has moved, and asks the index again.

use super::damage::{Bad, BadFile, Spot};
use super::entry::{Entry, Location, NewValue, Place};
use super::key::{Key, KeyRef};
use super::log::format::{GROUP_HEADER_BYTES, WORD_BYTES};
use super::log::reader::SegmentReader;
use super::log::record::{self, Found};
use super::log::segment;
use super::manifest::Sealed;
use super::manifest_codec::Edit;
use super::outcome::{AppendRefused, OpenError};
use super::shell::Shell;
use super::usage;
use super::{Engine, directory};
use crate::base::limits::{INLINE_VALUE_BYTES_MAX, LOG_ARCS, PAGE_BYTES, SCAN_BATCH_ENTRIES};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::causal::dot::Dot;
use crate::causal::object::Object;
use crate::causal::value_hash::value_hash;
use crate::ring::position::Position;
use crate::runtime::disk::{DiskError, Persist};
use crate::runtime::time::timeout;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// The segment that is being collected.
pub struct Victim {
    sealed: Sealed,
    reader: SegmentReader,
    /// Where the next group must begin.
    offset: u64,
    /// The last group that was read.
    last: Option<u64>,
}

/// A record whose values may live: checked, and to be asked for in the index.
pub struct Survivor {
    pub key: Key,
    pub location: Location,
    values: Vec<(Dot, Rc<[u8]>)>,
}

/// The copy of a record's values, on the medium.
pub struct Copied {
    /// What was copied.
    pub from: Location,
    at: Location,
    /// The siblings of the copy, in their order.
    dots: Vec<Dot>,
}

/// What has become of a segment without anything alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freed {
    Now,
    /// When the entries that name the copies stand in a table.
    Later,
    /// The disk had no room to note it, or the log closed: it is chosen again later.
    NotNow,
}

/// Why nothing was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCopied {
    NoRoom,
    Poisoned,
}

/// Why a segment cannot be given back in this life.
#[derive(Debug, thiserror::Error)]
pub enum Stuck {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("a group of the segment cannot be read whole")]
    Groups,
    #[error("a record of the segment fails its checks")]
    Record,
    #[error("the index cannot say whether a record of the segment lives")]
    Index,
    #[error(
        "a record of the segment is larger than values may be now: a start with the earlier limit frees it"
    )]
    TooLarge,
}

/// Positions of an arc of the log.
const ARC_POSITIONS: u64 = u64::MAX / LOG_ARCS as u64 + 1;

impl From<DiskError> for Stuck {
    fn from(error: DiskError) -> Stuck {
        Stuck::Open(error.into())
    }
}

impl Victim {
    pub fn segment(&self) -> u32 {
        self.sealed.segment
    }

    /// Every group of it was read.
    fn is_whole(&self) -> bool {
        self.offset == self.sealed.end && self.last == Some(self.sealed.last)
    }

    /// The records of the next group; `None` behind the last one.
    pub async fn next(&mut self) -> Result<Option<Vec<Survivor>>, Stuck> {
        let number = self.sealed.segment;
        let Some(found) = self.reader.next().await? else {
            return Ok(None);
        };
        if found.offset != self.offset && !planted!(FreedUnread) {
            return Err(Stuck::Groups);
        }
        let mut survivors = Vec::new();
        let mut at = GROUP_HEADER_BYTES;
        while at < found.header.used_bytes as usize {
            let offset_words = ((found.offset + at as u64) / WORD_BYTES as u64) as u32;
            let bytes = &found.bytes[at..found.header.used_bytes as usize];
            let record = record::decode(bytes, number, offset_words).map_err(|_| Stuck::Record)?;
            at += record.bytes as usize;
            let mut values = Vec::new();
            for sibling in &record.object.siblings {
                if let Found::Here(value) = sibling.value
                    && value.len() > INLINE_VALUE_BYTES_MAX
                {
                    let key = record.key;
                    let hash =
                        value_hash(key.bucket, key.key, sibling.dot, sibling.operation, value);
                    if hash != sibling.value_hash && !planted!(RottenRecordCopied) {
                        return Err(Stuck::Record);
                    }
                    values.push((sibling.dot, value.into()));
                }
            }
            if !values.is_empty() {
                survivors.push(Survivor {
                    key: record.key.into(),
                    location: Location {
                        segment: number,
                        offset_words,
                        bytes: record.bytes,
                    },
                    values,
                });
            }
        }
        self.offset += found.bytes.len() as u64;
        self.last = Some(found.header.number);
        Ok(Some(survivors))
    }
}

impl Survivor {
    /// The state of its key with the values of this record to be written anew; `None`: nothing points here.
    pub fn relocated(&self, entry: &Entry) -> Option<Object<NewValue<'_>>> {
        let here = |place: &Place| matches!(place, Place::At { location, .. } if *location == self.location);
        let points = entry.object.siblings.iter().any(|s| here(&s.value));
        if !points {
            return None;
        }
        let siblings = entry.object.siblings.iter().cloned().map(|sibling| {
            let place = sibling.value.clone();
            let copied = self.values.iter().find(|(dot, _)| *dot == sibling.dot);
            let value = match copied {
                Some((_, value)) if here(&place) => NewValue::Put(value),
                _ => NewValue::Keep(place),
            };
            sibling.with_value(value)
        });
        Some(Object {
            vector: entry.object.vector.clone(),
            siblings: siblings.collect(),
        })
    }

    pub fn key(&self) -> KeyRef<'_> {
        self.key.as_ref()
    }

    /// Of the record.
    pub fn bytes(&self) -> usize {
        self.location.bytes as usize
    }
}

impl Copied {
    /// The object with the copies in the place of what was copied.
    pub fn flipped(&self, object: &Object<Place>) -> Object<Place> {
        let siblings = object.siblings.iter().cloned().map(|mut sibling| {
            if let Place::At {
                location, bytes, ..
            } = sibling.value
                && location == self.from
            {
                let nth = self.dots.iter().position(|dot| *dot == sibling.dot);
                // What points here was there when the copy was made: nothing ever comes to point to an old record.
                let nth = nth.expect("it was copied");
                sibling.value = Place::At {
                    location: self.at,
                    sibling: nth as u16,
                    bytes,
                };
            }
            sibling
        });
        Object {
            vector: object.vector.clone(),
            siblings: siblings.collect(),
        }
    }

    /// Whether anything of the object is where the copy was made from.
    pub fn is_named(&self, object: &Object<Place>) -> bool {
        usage::locations(object).any(|location| location == self.from)
    }
}

/// The place before the arc that follows the one behind `after`; `None`: there is none.
fn next_arc(after: Option<&Key>) -> Option<Key> {
    let first = after.map_or(Some(0), |key| key.position.0.checked_add(1))?;
    let next = record::arc(Position(first)) as u64 + 1;
    Key::last_before(Position(next.checked_mul(ARC_POSITIONS)?))
}

impl Shell {
    /// Counts what lives in each segment, once after a start. Where a block cannot be read, the keys of its arc are not
    /// counted: a segment that seems emptier than it is will be left alone when it comes to the copies.
    pub(super) async fn count_usage(&self) {
        let mut after: Option<Key> = None;
        let mut limit = SCAN_BATCH_ENTRIES;
        while self.serves() && !self.state.borrow().is_counted() {
            let (batch, upto) = match self.scan(after.as_ref(), limit).await {
                Ok(batch) if batch.len() < limit => (batch, None),
                Ok(batch) => {
                    let upto = batch.last().map(|(key, _)| key.clone());
                    limit = (2 * limit).min(SCAN_BATCH_ENTRIES);
                    (batch, upto)
                }
                // In small steps up to the bad block; an error that passes does not slow down the rest.
                Err(_) if limit > 1 => {
                    limit = 1;
                    continue;
                }
                Err(_) => {
                    mark!(CountSkipped);
                    limit = SCAN_BATCH_ENTRIES;
                    (Vec::new(), next_arc(after.as_ref()))
                }
            };
            let mut batch: BTreeMap<Key, Rc<Entry>> = batch.into_iter().collect();
            let mut state = self.state.borrow_mut();
            // What was written while the batch was read.
            let written = state.scan_memory(after.as_ref(), 2 * SCAN_BATCH_ENTRIES);
            let within = |key: &Key| upto.as_ref().is_none_or(|upto| key <= upto);
            batch.extend(written.into_iter().filter(|(key, _)| within(key)));
            let objects = batch
                .iter()
                .map(|(key, entry)| (key.as_ref(), &*entry.object));
            state.usage().on_counted(objects, upto.clone());
            after = upto;
        }
        self.collects.notify();
    }

    async fn free(&self, victim: &Victim) -> Result<Freed, Stuck> {
        if !victim.is_whole() && !planted!(FreedUnread) {
            return Err(Stuck::Groups);
        }
        let number = victim.segment();
        let now = self.state.borrow_mut().on_emptied(number);
        if !now {
            self.flushes.notify();
            return Ok(Freed::Later);
        }
        Ok(match self.remove(&[number]).await {
            true => Freed::Now,
            false => Freed::NotNow,
        })
    }

    /// False: the disk has no room to note it, or the log closed.
    async fn remove(&self, segments: &[u32]) -> bool {
        let mut manifest = self.manifest.lock().await;
        let edits = segments.iter().map(|number| Edit::RemoveSegment(*number));
        if let Err(error) = manifest.append(edits.collect()).await {
            drop(manifest);
            self.on_background_error(error);
            return false;
        }
        for &number in segments {
            mark!(SegmentCollected);
            let mut state = self.state.borrow_mut();
            state.on_removed(number);
            state.counters_mut().segments_collected += 1;
        }
        drop(manifest);
        for &number in segments {
            // Who reads it has it open. If it cannot be removed, it is rubbish to the next start.
            let _ = self.disk().remove(&segment::name(number)).await;
        }
        self.segments.notify();
        self.room.notify();
        true
    }

    async fn copy(
        &self,
        batch: Vec<(&Survivor, Object<NewValue<'_>>)>,
    ) -> Result<Vec<Copied>, NotCopied> {
        let mut batch = batch;
        batch.sort_by(|(a, _), (b, _)| a.key().cmp(&b.key()));
        let mut copied = Vec::with_capacity(batch.len());
        let _copying = self.copying.lock().await;
        for (survivor, object) in &batch {
            let at = self.add_copy(survivor.key(), object).await?;
            let mut state = self.state.borrow_mut();
            state.counters_mut().bytes_relocated += u64::from(at.bytes);
            drop(state);
            copied.push(Copied {
                from: survivor.location,
                at,
                dots: object.siblings.iter().map(|sibling| sibling.dot).collect(),
            });
        }
        if !planted!(FlippedBeforeDurable) {
            self.write_copies().await?;
        }
        Ok(copied)
    }

    /// Gives a record of an object's values its place in a cold segment; it is durable when `write_copies` returns. The
    /// caller holds `copying`.
    pub(super) async fn add_copy(
        &self,
        key: KeyRef<'_>,
        object: &Object<NewValue<'_>>,
    ) -> Result<Location, NotCopied> {
        loop {
            let added = self.state.borrow_mut().add_copy(key, object);
            match added {
                Ok(at) => return Ok(at),
                Err(bytes) => {
                    if !self.write_copies().await? {
                        self.begin_cold(bytes).await?;
                    }
                }
            }
        }
    }

    /// Writes what waits for the cold segment. False: there was nothing.
    pub(super) async fn write_copies(&self) -> Result<bool, NotCopied> {
        let mut any = false;
        loop {
            if !self.serves() {
                return Err(NotCopied::Poisoned);
            }
            let job = self.state.borrow_mut().take_cold_job();
            let Some((job, file)) = job else {
                return Ok(any);
            };
            any = true;
            let written = Sealed {
                segment: job.segment,
                end: job.offset + job.len as u64,
                last: job.number.0,
            };
            let write = file.write_at(job.offset, job.buffer, job.len, Persist::Dsync);
            let (buffer, done) = write.await;
            if let Err(error) = done {
                self.poison(error);
                return Err(NotCopied::Poisoned);
            }
            let mut state = self.state.borrow_mut();
            state.on_cold_durable(written, buffer, job.len);
        }
    }

    /// Begins a cold segment in which a record of `bytes` bytes has room.
    async fn begin_cold(&self, bytes: usize) -> Result<(), NotCopied> {
        let mut manifest = self.manifest.lock().await;
        let wanted = self.state.borrow_mut().wanted_cold(bytes);
        let left = self.state.borrow().cold_end();
        let named = |segment| {
            let left = left.map(Edit::Sealed);
            left.into_iter()
                .chain([Edit::ColdSegment(segment)])
                .collect()
        };
        let made = match wanted {
            Some(bytes) => directory::prepare_segment(&mut manifest, bytes, named).await,
            None => Ok(None),
        };
        match made {
            Ok(Some((segment, file))) => {
                let bytes = manifest.bytes();
                let mut state = self.state.borrow_mut();
                state.on_cold_segment(segment, file, left, bytes);
                Ok(())
            }
            Ok(None) => {
                self.state.borrow_mut().on_disk_full();
                Err(NotCopied::NoRoom)
            }
            Err(error) => {
                self.poison(error);
                Err(NotCopied::Poisoned)
            }
        }
    }
}

impl Engine {
    /// The segment to be collected now, if any pays.
    pub fn victim(&self) -> Option<Victim> {
        let victim = self.shell.state.borrow_mut().victim();
        if self.shell.state.borrow().wants_freeze() {
            self.shell.flushes.notify();
        }
        let (sealed, file) = victim?;
        let log = self.shell.state.borrow().log();
        let reader = SegmentReader::new(file, log, sealed.segment, 0, sealed.end);
        Some(Victim {
            sealed,
            reader,
            offset: 0,
            last: None,
        })
    }

    /// How much of its time collection should take, in percent: the more the nearer the space goal is.
    pub fn haste(&self) -> u64 {
        self.shell.state.borrow().haste()
    }

    /// Waits until there may be a victim, `ms` milliseconds at most: what lives changes with every write.
    pub async fn victim_perhaps(&self, ms: u64) {
        let wait = Duration::from_millis(ms);
        timeout(&self.shell.runtime, wait, self.shell.collects.notified()).await;
    }

    /// Whether what lives goes to cold segments now, by `copy` and `flip`; else to the log, by `relocate`.
    pub fn copies_apart(&self) -> bool {
        self.shell.state.borrow().copies_apart()
    }

    /// Copies records, each with the object that `Survivor::relocated` made of its entry, into a cold segment; the
    /// copies are durable on return, in whatever order.
    pub async fn copy(
        &self,
        batch: Vec<(&Survivor, Object<NewValue<'_>>)>,
    ) -> Result<Vec<Copied>, NotCopied> {
        self.shell.copy(batch).await
    }

    /// The newest entry names the copy from now on. The caller holds the key's turn since its lookup found `before`,
    /// which names what was copied.
    pub fn flip(
        &self,
        key: KeyRef<'_>,
        before: &Rc<Entry>,
        copied: &Copied,
    ) -> Result<(), AppendRefused> {
        let flipped = self.shell.state.borrow_mut().flip(key, before, copied);
        if self.shell.state.borrow().wants_freeze() {
            self.shell.flushes.notify();
        }
        flipped
    }

    /// Nothing names a record of it any more, and all that was appended in the place of its records is durable: removes
    /// it, now or when every flip away from it stands in a table.
    pub async fn free(&self, victim: &Victim) -> Result<Freed, Stuck> {
        self.shell.free(victim).await
    }

    /// Removes the segments that wait for no flip any more. False: the disk had no room to note it, or the log closed.
    pub async fn free_waiting(&self) -> bool {
        let freeable = self.shell.state.borrow().freeable();
        freeable.is_empty() || self.shell.remove(&freeable).await
    }

    /// There was no room for a copy: others come first, those without anything alive among them.
    pub fn postpone(&self, victim: &Victim) {
        let segment = victim.segment();
        self.shell.state.borrow_mut().on_postponed(segment);
    }

    /// It is left alone for this life.
    pub fn leave(&self, victim: &Victim, why: &Stuck) {
        mark!(SegmentStuck);
        let (segment, what) = (victim.segment(), why.to_string());
        let in_it = matches!(why, Stuck::Groups | Stuck::Record | Stuck::Open(_));
        if in_it {
            let spot = Spot {
                file: BadFile::Segment(segment),
                // The group that begins here, or something in it.
                offset: victim.offset,
                bytes: PAGE_BYTES as u64,
            };
            self.shell.note(Bad::checksum(spot, &what, None));
        }
        self.shell
            .state
            .borrow_mut()
            .damage()
            .on_stuck(segment, what);
        self.shell.damaged.notify();
    }
}
