//! Replays the log of a shard: named segments in order, groups in order, records in order.
//!
//! One write is in flight at a time, so a group that is there proves that all before it were durable. Hence, at a place
//! where the next group should be and is not:
//!
//! | what follows in the log | verdict |
//! |---|---|
//! | a recorded cut, all groups before it read | the end of an earlier life; go on with the number the cut names |
//! | a recorded cut, groups missing before it | damage: they were whole when the cut was recorded |
//! | the expected group at the start of the next segment | the segment was full |
//! | a later group anywhere | damage: what is missing had been durable |
//! | nothing | a torn tail: never acked; cut here for ever |
//!
//! Cold segments are not replayed. The last of them may hold copies that a record of the log names already and no table
//! yet: it is looked through for its end, since a segment whose end is not known is never given back.
//!
//! Damage makes the arcs that the lost group touched "unsure": the next group lists them. Where more than one group
//! is lost, or the next one does not list them, all arcs are. An error of the disk is never the end of a log.

use super::Recovery;
use super::cache::ValueName;
use super::entry::{Entry, GroupNumber, Location, Place};
use super::log::format::{GROUP_HEADER_BYTES, GroupHeader, WORD_BYTES};
use super::log::group::{self, ALL_ARCS, Arcs, Link, LogId};
use super::log::reader::{FoundGroup, SegmentReader};
use super::log::record::{self, Found, Record};
use super::log::segment::{self, Segment};
use super::manifest::{Cut, Sealed, State};
use super::manifest_codec::Edit;
use super::memtable::Memtable;
use super::outcome::OpenError;
use super::usage;
use crate::base::limits::{INLINE_VALUE_BYTES_MAX, LOG_NUMBER_MAX, PAGE_BYTES};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::causal::object::{Object, Sibling};
use crate::runtime::Runtime;
use crate::runtime::disk::{Disk, DiskCause, File, Open};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What replay has brought together.
pub struct Replayed {
    /// The manifest's state for the life that begins: the cut recorded, segments without a group left out.
    pub state: State,
    pub files: BTreeMap<u32, File>,
    pub memtable: Memtable,
    /// Where the last group lies, or the cut behind it.
    pub end: Option<Sealed>,
    /// Where the groups of each segment end that was replayed.
    pub ends: BTreeMap<u32, Sealed>,
    pub chain: Link,
    /// The first number that no group ever had.
    pub next_number: u64,
    pub next_sequence: u64,
    pub report: Recovery,
}

/// Follows the chain of groups and tells what is missing.
struct Chain {
    last: Link,
    expected: u64,
}

/// Groups that had been durable and cannot be read.
struct Lost {
    groups: u64,
    arcs: Arcs,
}

impl Chain {
    /// `Err`: this group can be nowhere behind the ones before it.
    fn on_group(&mut self, header: &GroupHeader, arcs: Arcs) -> Result<Option<Lost>, &'static str> {
        if header.number < self.expected {
            return Err("its group numbers go backwards");
        }
        if header.number > LOG_NUMBER_MAX {
            return Err("its group numbers are beyond counting");
        }
        let follows = header.number == self.expected
            && header.previous_number == self.last.number
            && header.previous_header_crc == self.last.header_crc;
        let lost = (!follows).then(|| Lost {
            groups: (header.number - self.expected).max(1),
            arcs: if header.previous_number == self.expected {
                header.previous_arcs
            } else {
                ALL_ARCS
            },
        });
        self.last = Link {
            number: header.number,
            header_crc: header.header_crc,
            arcs,
        };
        self.expected = header.number + 1;
        Ok(lost)
    }

    fn on_cut(&mut self, cut: &Cut) -> Result<Option<Lost>, &'static str> {
        if cut.last.number < self.last.number || cut.next_number <= cut.last.number {
            return Err("it cuts the log before groups that are there");
        }
        let whole = cut.last.number == self.last.number;
        if whole && cut.last.header_crc != self.last.header_crc {
            return Err("its cut names another group than the one that is there");
        }
        let lost = (!whole).then(|| Lost {
            groups: (cut.last.number + 1).saturating_sub(self.expected).max(1),
            arcs: if cut.last.number == self.expected {
                cut.last.arcs
            } else {
                ALL_ARCS
            },
        });
        self.last = cut.last;
        self.expected = cut.next_number;
        Ok(lost)
    }
}

/// The memory of one replay.
struct Replay<'a> {
    runtime: &'a Runtime,
    state: State,
    log: LogId,
    chain: Chain,
    memtable: Memtable,
    next_sequence: u64,
    report: Recovery,
    /// The last segment that holds a group or a cut, and where its last group ends.
    end: Option<(usize, u64)>,
    ends: BTreeMap<u32, Sealed>,
    /// Something that is no group stands behind the last group.
    torn: bool,
}

/// Opens and syncs every named segment, then replays them.
pub async fn replay(
    runtime: &Runtime,
    disk: &Disk,
    state: State,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Replayed, OpenError> {
    let first = state.first_replayed().ok_or_else(|| {
        let from = state
            .replay
            .expect("only a place to begin at can be missing");
        damaged(
            from.segment,
            "replay begins in it, and the manifest does not name it",
        )
    })?;
    let mut state = state;
    let (mut files, torn_cold) = open_cold(disk, &mut state).await?;
    for (index, segment) in state.segments.iter().enumerate() {
        let file = open_segment(disk, segment, index >= first).await?;
        files.insert(segment.number, file);
    }
    let log = LogId {
        identity: state.identity,
        shard: state.shard,
    };
    let mut replay = Replay {
        runtime,
        log,
        chain: match &state.replay {
            Some(from) => Chain {
                last: from.last,
                expected: from.next_number,
            },
            None => Chain {
                last: Link::default(),
                expected: state.first_group,
            },
        },
        memtable: Memtable::default(),
        next_sequence: state.replay.map_or(1, |from| from.next_sequence),
        report: Recovery::default(),
        end: state.replay.map(|from| (first, from.offset)),
        ends: state
            .replay
            .map(|from| (from.segment, from.sealed()))
            .into_iter()
            .collect(),
        torn: false,
        state,
    };
    let replayed = &replay.state.segments[first..];
    let total = replayed.iter().map(|segment| segment.bytes).sum();
    let mut done = 0;
    for index in first..replay.state.segments.len() {
        let segment = replay.state.segments[index];
        let file = files[&segment.number].clone();
        replay
            .segment(index, file, &mut |offset| progress(done + offset, total))
            .await?;
        done += segment.bytes;
        progress(done, total);
    }
    if let Some(segment) = torn_cold {
        replay.keep_what_is_pointed_at(segment)?;
        // Its first group is torn: nothing names it, and no table can, since a flush writes down where it ends.
        let named = replay.state.sealed.iter().any(|one| one.segment == segment);
        if !named {
            mark!(ColdTornAway);
            replay.state.apply(&Edit::RemoveSegment(segment));
            files.remove(&segment);
        }
    }
    Ok(replay.finish(files))
}

/// Opens the cold segments, and finds the end of the last one; it is forgotten if nothing was written to it. No life
/// goes on writing in one of an earlier life.
/// Returns it if something that is no group stands behind its end.
async fn open_cold(
    disk: &Disk,
    state: &mut State,
) -> Result<(BTreeMap<u32, File>, Option<u32>), OpenError> {
    let mut files = BTreeMap::new();
    let mut torn = None;
    let log = LogId {
        identity: state.identity,
        shard: state.shard,
    };
    let last = state.cold.last().map(|segment| segment.number);
    for segment in state.cold.clone() {
        let number = segment.number;
        let is_last = Some(number) == last && !planted!(ColdTailForgotten);
        let file = open_segment(disk, &segment, is_last).await?;
        files.insert(number, file.clone());
        if !is_last {
            continue;
        }
        let known = state.sealed.iter().find(|sealed| sealed.segment == number);
        let from = known.map_or(0, |sealed| sealed.end);
        let mut reader = SegmentReader::new(file, log, number, from, segment.bytes);
        let mut end = None;
        while let Some(found) = reader.next().await? {
            if found.header.number > LOG_NUMBER_MAX {
                return Err(damaged(number, "its group numbers are beyond counting"));
            }
            end = Some(Sealed {
                segment: number,
                end: found.offset + found.bytes.len() as u64,
                last: found.header.number,
            });
        }
        match end {
            Some(sealed) => {
                mark!(ColdTail);
                state.apply(&Edit::Sealed(sealed));
            }
            None if known.is_none() && !reader.is_dirty() => {
                state.apply(&Edit::RemoveSegment(number));
                files.remove(&number);
            }
            None => {}
        }
        torn = reader.is_dirty().then_some(number);
    }
    Ok((files, torn))
}

/// Bytes that were written and not synced can be read now and be gone after a power cut: sync before trusting any.
/// What lies before the replay position was synced by the life that wrote it, or by the one that replayed it.
async fn open_segment(disk: &Disk, segment: &Segment, replayed: bool) -> Result<File, OpenError> {
    let name = segment::name(segment.number);
    let damaged = |what| OpenError::Damaged {
        name: name.clone(),
        what,
    };
    let file = match disk.open(&name, Open::Existing).await {
        Ok(file) => file,
        Err(error) if error.cause == DiskCause::NotFound => {
            return Err(damaged("the manifest names it and it is missing"));
        }
        Err(error) => return Err(error.into()),
    };
    if file.len() < segment.bytes {
        return Err(damaged("it is shorter than the manifest says"));
    }
    if replayed {
        file.sync().await?;
    }
    Ok(file)
}

impl Replay<'_> {
    async fn segment(
        &mut self,
        index: usize,
        file: File,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), OpenError> {
        let segment = self.state.segments[index];
        let cut = self
            .state
            .cuts
            .iter()
            .find(|cut| cut.segment == segment.number)
            .copied();
        let cut = cut.filter(|_| !planted!(StaleGroupAfterCut));
        let end = cut.map_or(segment.bytes, |cut| cut.offset);
        if end > segment.bytes {
            return Err(damaged(
                segment.number,
                "the manifest cuts it behind its end",
            ));
        }
        let from = match &self.state.replay {
            Some(from) if from.segment == segment.number => from.offset,
            _ => 0,
        };
        if from > end {
            return Err(damaged(segment.number, "replay begins behind its end"));
        }
        let mut reader = SegmentReader::new(file, self.log, segment.number, from, end);
        loop {
            let found = match reader.next().await {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(OpenError::Disk(_)) if planted!(ReadErrorAsNotFound) => break,
                Err(error) => return Err(error),
            };
            self.group(segment.number, &found)?;
            self.torn = false;
            let group_end = found.offset + found.bytes.len() as u64;
            self.end = Some((index, group_end));
            let sealed = Sealed {
                segment: segment.number,
                end: group_end,
                last: found.header.number,
            };
            self.ends.insert(segment.number, sealed);
            progress(group_end);
            if self.runtime.should_yield() {
                self.runtime.yield_now().await;
            }
        }
        if let Some(cut) = cut {
            let lost = self
                .chain
                .on_cut(&cut)
                .map_err(|what| damaged(segment.number, what))?;
            if lost.is_some() {
                self.end_behind(u32::MAX, cut.last.number);
            }
            self.lose(lost);
            self.end = Some((index, cut.offset));
            self.torn = false;
        } else {
            self.torn |= reader.is_dirty();
        }
        Ok(())
    }

    fn group(&mut self, segment: u32, found: &FoundGroup<'_>) -> Result<(), OpenError> {
        let header = &found.header;
        if header.first_sequence < self.next_sequence {
            return Err(damaged(segment, "the numbers of its records go backwards"));
        }
        if header.first_sequence > LOG_NUMBER_MAX {
            return Err(damaged(
                segment,
                "the numbers of its records are beyond counting",
            ));
        }
        self.next_sequence = header.first_sequence + u64::from(header.records);
        let mut arcs = Arcs::default();
        let mut at = GROUP_HEADER_BYTES;
        let mut records = 0;
        while at < header.used_bytes as usize {
            let offset_words = ((found.offset + at as u64) / WORD_BYTES as u64) as u32;
            let bytes = &found.bytes[at..header.used_bytes as usize];
            let record = match record::decode(bytes, segment, offset_words) {
                Ok(record) => record,
                Err(_) if planted!(TornGroupAccepted) => break,
                Err(_) => return Err(damaged(segment, "a whole group holds a bad record")),
            };
            at += record.bytes as usize;
            records += 1;
            group::set_arc(&mut arcs, record::arc(record.key.position));
            self.record(segment, offset_words, &record, GroupNumber(header.number));
        }
        if records != header.records && !planted!(TornGroupAccepted) {
            return Err(damaged(
                segment,
                "a whole group holds another number of records",
            ));
        }
        let lost = self
            .chain
            .on_group(header, arcs)
            .map_err(|what| damaged(segment, what))?;
        // One group that is missing behind others of this segment was of this segment.
        let before = |lost: &Lost| found.offset == 0 || lost.groups > 1;
        if lost.as_ref().is_some_and(before) {
            self.end_behind(segment, header.previous_number);
        }
        self.lose(lost);
        self.report.groups += 1;
        self.report.records += u64::from(records);
        self.report.bytes += found.bytes.len() as u64;
        Ok(())
    }

    fn record(&mut self, segment: u32, offset_words: u32, record: &Record<'_>, group: GroupNumber) {
        let location = Location {
            segment,
            offset_words,
            bytes: record.bytes,
        };
        let siblings = record.object.siblings.iter().enumerate();
        let siblings = siblings.map(|(nth, sibling)| Sibling {
            dot: sibling.dot,
            operation: sibling.operation,
            kind: sibling.kind,
            written: sibling.written,
            expires: sibling.expires,
            value_hash: sibling.value_hash,
            value: place(&sibling.value, location, nth as u16),
        });
        let object = Object {
            vector: record.object.vector.clone(),
            siblings: siblings.collect(),
        };
        let entry = Entry {
            object: Rc::new(object),
            mine: None,
            group,
        };
        self.memtable.insert(record.key, entry);
    }

    /// A copy was durable before anything named it. If a record of the log names one behind the end of this cold
    /// segment, a group of it has rotted: the segment then ends behind that, and lacks a group for good.
    fn keep_what_is_pointed_at(&mut self, segment: u32) -> Result<(), OpenError> {
        let named = |sealed: &&Sealed| sealed.segment == segment;
        let known = self.state.sealed.iter().find(named).copied();
        let (end, last) = known.map_or((0, 0), |sealed| (sealed.end, sealed.last));
        let places = self.memtable.entries();
        let places = places.flat_map(|entry| usage::locations(&entry.object));
        let ends = places
            .filter(|at| at.segment == segment)
            .map(|at| at.offset() + u64::from(at.bytes));
        let pointed_at = ends.max().unwrap_or(0);
        let bytes = self.state.cold.iter().find(|one| one.number == segment);
        if pointed_at > bytes.map_or(0, |one| one.bytes) {
            return Err(damaged(
                segment,
                "a record of the log names a place behind its end",
            ));
        }
        if pointed_at > end {
            self.state.apply(&Edit::Sealed(Sealed {
                segment,
                end: pointed_at.next_multiple_of(PAGE_BYTES as u64),
                last: last + 1,
            }));
        }
        Ok(())
    }

    /// Groups before this place are lost, `last` among them. If they stood at the end of a segment, it lacks
    /// its last group for good, and so is never taken for read.
    fn end_behind(&mut self, segment: u32, last: u64) {
        let before = self.end.map(|(index, _)| self.state.segments[index].number);
        let before = before.filter(|&before| before != segment);
        if let Some(end) = before.and_then(|before| self.ends.get_mut(&before)) {
            end.last = end.last.max(last);
        }
    }

    fn lose(&mut self, lost: Option<Lost>) {
        if let Some(lost) = lost {
            mark!(DamagedGroup);
            self.report.damaged_groups += lost.groups;
            self.state.apply(&Edit::Damaged(lost.arcs));
        }
    }

    fn finish(mut self, mut files: BTreeMap<u32, File>) -> Replayed {
        // The group that was perhaps in flight had the expected number: it is skipped, whether or not a trace of it
        // is left.
        let next_number = self.chain.expected + 1;
        let kept = self.end.map_or(0, |(index, _)| index + 1);
        for dropped in self.state.segments.drain(kept..) {
            files.remove(&dropped.number);
        }
        match self.end {
            None => self.state.first_group = next_number,
            Some((index, offset)) => {
                mark!(WalCut);
                self.state.apply(&Edit::Cut(Cut {
                    segment: self.state.segments[index].number,
                    offset,
                    last: self.chain.last,
                    next_number,
                }));
            }
        }
        if self.torn {
            mark!(TornTail);
            self.report.cut_groups += 1;
        }
        Replayed {
            end: self.end.map(|(index, offset)| Sealed {
                segment: self.state.segments[index].number,
                end: offset,
                last: self.chain.last.number,
            }),
            ends: self.ends,
            state: self.state,
            files,
            memtable: self.memtable,
            chain: self.chain.last,
            next_number,
            next_sequence: self.next_sequence,
            report: self.report,
        }
    }
}

/// Where the value of sibling `nth` of the record at `location` is.
fn place(found: &Found<'_>, location: Location, nth: u16) -> Place {
    match found {
        Found::Nowhere => Place::Nowhere,
        Found::Here(bytes) => value_place(
            bytes,
            ValueName {
                location,
                sibling: nth,
            },
        ),
        Found::At {
            location,
            sibling,
            bytes,
        } => Place::At {
            location: *location,
            sibling: *sibling,
            bytes: *bytes,
        },
    }
}

/// The place of a value that stands in the record: a small one is kept in the entry.
pub fn value_place(bytes: &[u8], name: ValueName) -> Place {
    if bytes.len() <= INLINE_VALUE_BYTES_MAX {
        Place::Inline(bytes.into())
    } else {
        Place::At {
            location: name.location,
            sibling: name.sibling,
            bytes: bytes.len() as u32,
        }
    }
}

fn damaged(segment: u32, what: &'static str) -> OpenError {
    OpenError::Damaged {
        name: segment::name(segment),
        what,
    }
}
