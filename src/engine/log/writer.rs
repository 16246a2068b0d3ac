//! The order of the log's end: which group gathers, where it will lie, what waits to be written. No I/O, no clock.
//!
//! Invariants: 1 a record's place is known when it is appended and never changes. 2 Groups are written in the order of
//! their numbers, one at a time, each behind the one before or at the start of a segment. 3 A page is written once.
//! 4 A group's number is never used again, in this life or a later one.

use super::format::*;
use super::group::{self, Arcs, Link, LogId};
use super::segment::Segment;
use crate::base::limits::{GROUP_BYTES_MAX, LOG_WAITING_BYTES_MAX, PAGE_BYTES};
use crate::base::marks::mark;
use crate::engine::entry::GroupNumber;
use crate::runtime::buffer::PageBuffer;
use std::collections::VecDeque;

/// Buffers of usual size that wait for the next group.
const SPARE_BUFFERS_MAX: usize = 3;

pub struct LogWriter {
    log: LogId,
    current: Option<Segment>,
    /// Where the next group begins in the current segment.
    next_offset: u64,
    ready: VecDeque<Segment>,
    next_number: u64,
    next_sequence: u64,
    gathering: Option<Group>,
    sealed: VecDeque<Group>,
    waiting_bytes: usize,
    chain: Link,
    durable: GroupNumber,
    /// The last group written holds records: nothing on disk says yet that it was durable.
    uncovered: bool,
    spare: Vec<PageBuffer>,
}

/// A group that gathers records, or waits.
struct Group {
    number: u64,
    first_sequence: u64,
    segment: u32,
    offset: u64,
    buffer: PageBuffer,
    used: usize,
    records: u32,
    arcs: Arcs,
}

/// Where a record is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    pub group: GroupNumber,
    pub segment: u32,
    pub offset_words: u32,
    at: usize,
    bytes: usize,
}

/// One write: `len` bytes of `buffer` at `offset` of the segment.
pub struct Job {
    pub number: GroupNumber,
    pub segment: u32,
    pub offset: u64,
    pub buffer: PageBuffer,
    pub len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// Too much waits for the disk.
    Waiting,
    /// The current segment is full and no next one is ready.
    Segment,
    /// No segment of this size will ever hold it.
    Record,
}

impl LogWriter {
    /// Goes on behind `chain` with group `next_number` and record `next_sequence`; no segment is ready yet.
    pub fn new(log: LogId, chain: Link, next_number: u64, next_sequence: u64) -> LogWriter {
        assert!(next_number > chain.number);
        LogWriter {
            log,
            current: None,
            next_offset: 0,
            ready: VecDeque::new(),
            next_number,
            next_sequence,
            gathering: None,
            sealed: VecDeque::new(),
            waiting_bytes: 0,
            chain,
            durable: GroupNumber(next_number - 1),
            uncovered: false,
            spare: Vec::new(),
        }
    }

    /// A segment that no byte was written to and that a durable manifest names.
    pub fn add_segment(&mut self, segment: Segment) {
        assert!(segment.bytes.is_multiple_of(PAGE_BYTES as u64));
        self.ready.push_back(segment);
    }

    pub fn segments_ready(&self) -> usize {
        self.ready.len()
    }

    /// The number of the next record.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    pub fn durable(&self) -> GroupNumber {
        self.durable
    }

    /// The last group that was taken to be written.
    pub fn chain(&self) -> Link {
        self.chain
    }

    /// Closes the group that gathers: the next record goes into another. Returns the last number that was given to a
    /// group.
    pub fn seal(&mut self) -> GroupNumber {
        self.next_offset = self.next_begin();
        self.sealed.extend(self.gathering.take());
        GroupNumber(self.next_number - 1)
    }

    /// Bytes of the current segment that nothing was written to.
    pub fn unwritten_bytes(&self) -> u64 {
        let rest = self
            .current
            .map_or(0, |segment| segment.bytes - self.next_offset);
        rest + self.ready.iter().map(|segment| segment.bytes).sum::<u64>()
    }

    /// A group waits to be written.
    fn has_work(&self) -> bool {
        self.gathering.is_some() || !self.sealed.is_empty()
    }

    /// The last group on disk is not covered by a later one.
    pub fn wants_mark(&self) -> bool {
        self.uncovered && !self.has_work()
    }

    /// Gives a record of `bytes` bytes its place. On refusal nothing was changed. `kept`: ready segments that it may
    /// not use up.
    pub fn reserve(&mut self, bytes: usize, arc: usize, kept: usize) -> Result<Reserved, NoRoom> {
        assert!(bytes > 0 && bytes.is_multiple_of(WORD_BYTES));
        if self.ready.len() < kept {
            return Err(NoRoom::Segment);
        }
        if self.waiting_bytes > 0 && self.waiting_bytes + bytes > LOG_WAITING_BYTES_MAX {
            return Err(NoRoom::Waiting);
        }
        let joins = self
            .gathering
            .as_ref()
            .is_some_and(|group| self.fits(group, bytes));
        if !joins {
            self.open_group(GROUP_HEADER_BYTES + bytes, kept)?;
        }
        let group = self
            .gathering
            .as_mut()
            .expect("it was there or was just opened");
        let at = group.used;
        group.used += bytes;
        group.records += 1;
        self.next_sequence += 1;
        group::set_arc(&mut group.arcs, arc);
        self.waiting_bytes += bytes;
        let offset = group.offset + at as u64;
        assert!(group.used <= group.buffer.len() && offset.is_multiple_of(WORD_BYTES as u64));
        Ok(Reserved {
            group: GroupNumber(group.number),
            segment: group.segment,
            offset_words: (offset / WORD_BYTES as u64) as u32,
            at,
            bytes,
        })
    }

    /// The bytes of a record that was just given its place.
    pub fn reserved_bytes(&mut self, reserved: Reserved) -> &mut [u8] {
        let group = self.gathering.as_mut().expect("no group was sealed since");
        assert_eq!(group.number, reserved.group.0);
        &mut group.buffer[reserved.at..reserved.at + reserved.bytes]
    }

    fn fits(&self, group: &Group, bytes: usize) -> bool {
        let end = (group.used + bytes).next_multiple_of(PAGE_BYTES);
        let segment_bytes = self.current.map_or(0, |segment| segment.bytes);
        end <= group.buffer.len() && group.offset + end as u64 <= segment_bytes
    }

    /// Begins a group that will hold at least `bytes`, in the current segment or the next if more than `kept` are
    /// ready, and seals the one that gathers.
    fn open_group(&mut self, bytes: usize, kept: usize) -> Result<(), NoRoom> {
        let len = bytes.next_multiple_of(PAGE_BYTES);
        let begin = self.next_begin();
        let fits_here = self
            .current
            .is_some_and(|segment| begin + len as u64 <= segment.bytes);
        if !fits_here {
            match self.ready.front() {
                Some(_) if self.ready.len() <= kept => return Err(NoRoom::Segment),
                None => return Err(NoRoom::Segment),
                Some(next) if len as u64 > next.bytes => return Err(NoRoom::Record),
                Some(_) => {}
            }
        }
        if let Some(group) = self.gathering.take() {
            self.sealed.push_back(group);
        }
        self.next_offset = begin;
        if !fits_here {
            if self.current.is_some() {
                mark!(SegmentRolled);
            }
            self.current = self.ready.pop_front();
            self.next_offset = 0;
        }
        let segment = self.current.expect("it was there or was just taken");
        let buffer = if len <= GROUP_BYTES_MAX {
            self.spare
                .pop()
                .unwrap_or_else(|| PageBuffer::zeroed(GROUP_BYTES_MAX))
        } else {
            PageBuffer::zeroed(len)
        };
        assert!(buffer.len() >= len);
        self.gathering = Some(Group {
            number: self.next_number,
            first_sequence: self.next_sequence,
            segment: segment.number,
            offset: self.next_offset,
            buffer,
            used: GROUP_HEADER_BYTES,
            records: 0,
            arcs: [0; ARC_WORDS],
        });
        self.next_number += 1;
        Ok(())
    }

    /// Where a group behind the one that gathers would begin.
    fn next_begin(&self) -> u64 {
        self.gathering.as_ref().map_or(self.next_offset, |group| {
            group.offset + group.used.next_multiple_of(PAGE_BYTES) as u64
        })
    }

    /// The next group to be written, its header made. The one before it is durable.
    pub fn take_job(&mut self) -> Option<Job> {
        let mut group = match self.sealed.pop_front() {
            Some(group) => group,
            None => {
                self.seal();
                self.sealed.pop_front()?
            }
        };
        let len = group.used.next_multiple_of(PAGE_BYTES);
        group.buffer[group.used..len].fill(0);
        let mut header = GroupHeader {
            magic: GROUP_MAGIC,
            header_crc: 0,
            format: LOG_FORMAT,
            identity: self.log.identity,
            number: group.number,
            previous_number: self.chain.number,
            durable_up_to: self.durable.0,
            segment: group.segment,
            page: (group.offset / PAGE_BYTES as u64) as u32,
            pages: (len / PAGE_BYTES) as u32,
            used_bytes: group.used as u32,
            records: group.records,
            body_crc: 0,
            previous_header_crc: self.chain.header_crc,
            shard: u32::from(self.log.shard),
            first_sequence: group.first_sequence,
            reserved: [0; 5],
            previous_arcs: self.chain.arcs,
        };
        let header_crc = group::seal(&mut header, &mut group.buffer[..len]);
        self.chain = Link {
            number: group.number,
            header_crc,
            arcs: group.arcs,
        };
        self.uncovered = group.records > 0;
        self.waiting_bytes -= group.used - GROUP_HEADER_BYTES;
        Some(Job {
            number: GroupNumber(group.number),
            segment: group.segment,
            offset: group.offset,
            buffer: group.buffer,
            len,
        })
    }

    /// A group without records, to say that the one before it is durable. `None`: there is no room for it now.
    pub fn take_mark(&mut self) -> Option<Job> {
        assert!(self.wants_mark());
        self.open_group(GROUP_HEADER_BYTES, 0).ok()?;
        mark!(IdleMark);
        self.take_job()
    }

    /// The group is on the medium.
    pub fn on_durable(&mut self, number: GroupNumber, buffer: PageBuffer) {
        assert!(number > self.durable && number.0 == self.chain.number);
        self.durable = number;
        if buffer.len() == GROUP_BYTES_MAX && self.spare.len() < SPARE_BUFFERS_MAX {
            self.spare.push(buffer);
        }
    }
}
