//! Gives back segments whose values are mostly dead: what lives is copied into the log by whoever holds the turn of its
//! key, and the segment is removed when nothing needs it any more.
//!
//! A segment goes only if every group in it was read whole, so that no record was overlooked; if its records all lie
//! before the replay position, so that no start needs them; and if every copy is durable. Who reads a value meanwhile
//! has its file open; who comes later finds that the value has moved, and asks the index again.

use super::Engine;
use super::damage::{Bad, BadFile, Spot};
use super::entry::{Entry, Location, NewValue, Place};
use super::key::{Key, KeyRef};
use super::log::format::{GROUP_HEADER_BYTES, WORD_BYTES};
use super::log::reader::SegmentReader;
use super::log::record::{self, Found};
use super::log::segment;
use super::manifest::Sealed;
use super::manifest_codec::Edit;
use super::outcome::OpenError;
use super::shell::Shell;
use crate::base::limits::{INLINE_VALUE_BYTES_MAX, PAGE_BYTES, SCAN_BATCH_ENTRIES};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::causal::dot::Dot;
use crate::causal::object::Object;
use crate::causal::value_hash::value_hash;
use crate::runtime::disk::DiskError;
use crate::runtime::time::timeout;
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

impl Shell {
    /// Counts what lives in each segment, once after a start.
    pub(super) async fn count_usage(&self) {
        let mut after: Option<Key> = None;
        while self.serves() && !self.state.borrow().is_counted() {
            let Ok(batch) = self.scan(after.as_ref(), SCAN_BATCH_ENTRIES).await else {
                // A block cannot be read: nothing is collected in this life.
                self.state.borrow_mut().damage().on_collection_stopped();
                self.damaged.notify();
                return;
            };
            let last = batch.last().map(|(key, _)| key.clone());
            let full = batch.len() == SCAN_BATCH_ENTRIES;
            let objects = batch.iter().map(|(_, entry)| &*entry.object);
            let upto = last.clone().filter(|_| full);
            self.state.borrow_mut().usage().on_counted(objects, upto);
            after = last;
        }
        self.collects.notify();
    }

    async fn free(&self, victim: &Victim) -> Result<bool, Stuck> {
        if !victim.is_whole() && !planted!(FreedUnread) {
            return Err(Stuck::Groups);
        }
        let number = victim.segment();
        let mut manifest = self.manifest.lock().await;
        if let Err(error) = manifest.append(vec![Edit::RemoveSegment(number)]).await {
            drop(manifest);
            self.on_background_error(error).await;
            return Ok(false);
        }
        mark!(SegmentCollected);
        {
            let mut state = self.state.borrow_mut();
            state.on_removed(number);
            state.counters_mut().segments_collected += 1;
        }
        drop(manifest);
        // Who reads it has it open. If it cannot be removed, it is rubbish to the next start.
        let _ = self.disk().remove(&segment::name(number)).await;
        self.segments.notify();
        self.room.notify();
        Ok(true)
    }
}

impl Engine {
    /// The segment to be collected now, if any pays.
    pub fn victim(&self) -> Option<Victim> {
        let (sealed, file) = self.shell.state.borrow_mut().victim()?;
        let log = self.shell.state.borrow().log();
        let reader = SegmentReader::new(file, log, sealed.segment, 0, sealed.end);
        Some(Victim {
            sealed,
            reader,
            offset: 0,
            last: None,
        })
    }

    /// Waits until there may be a victim, `ms` milliseconds at most: what lives changes with every write.
    pub async fn victim_perhaps(&self, ms: u64) {
        let wait = Duration::from_millis(ms);
        timeout(&self.shell.runtime, wait, self.shell.collects.notified()).await;
    }

    /// Every record of it that an entry pointed at was relocated, and all that was appended for it is durable:
    /// removes it. `false`: the disk had no room to note that, or the log closed; it is chosen again later.
    pub async fn free(&self, victim: &Victim) -> Result<bool, Stuck> {
        self.shell.free(victim).await
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
