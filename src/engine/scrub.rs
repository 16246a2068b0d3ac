//! Looks at everything on the disk, at a bounded rate, so that what has rotted is found while there is still another
//! copy of it, and not when it is needed.
//!
//! Segments are read up to where nothing is written any more: groups follow each other without a gap, each record has
//! its checksum, each value its hash, live or dead: asking the index what lives would cost more than hashing all.
//! Tables are read block by block, and what stands behind the blocks. What fails is read a second time, and then noted
//! as if a reader had met it.
//!
//! Nothing is kept in the cache. A file that is given back meanwhile is no damage: whether it is still named is asked
//! before anything is noted. It is not held for longer than one segment takes.

use super::damage::{Bad, BadFile, Spot};
use super::log::format::{GROUP_HEADER_BYTES, WORD_BYTES};
use super::log::reader::SegmentReader;
use super::log::record::{self, Found};
use super::manifest::Sealed;
use super::outcome::OpenError;
use super::shell::Shell;
use super::{Engine, Scrub};
use crate::base::limits::{
    BULK_READ_BYTES_MAX, PAGE_BYTES, SCRUB_ASKED_MIB_PER_SECOND, SCRUB_PASS_HOURS,
};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::base::units::{MIB, Nanos};
use crate::causal::value_hash::value_hash;
use crate::runtime::Queue;
use crate::runtime::disk::{DiskError, File};
use crate::runtime::time::timeout;
use std::rc::Rc;
use std::time::Duration;

/// The pass ends before its end: the log closes, or somebody wants a new one from the beginning.
struct Ended;

/// How fast a pass reads.
struct Pace {
    bytes_per_second: u64,
    began: Nanos,
}

/// The way through one segment.
struct Way {
    sealed: Sealed,
    file: File,
    reader: SegmentReader,
    /// Where the next group must begin.
    offset: u64,
    /// Where the reader ends because the disk gives nothing behind it, and where it gives something again.
    hole: Option<u64>,
    /// What failed was read once before.
    again: bool,
    /// The disk did not give a part of the group that must come next: that is noted.
    noted: bool,
}

impl Shell {
    /// There is no task before somebody wants it.
    pub(super) fn start_scrubbing(self: &Rc<Shell>) {
        if !self.scrubbing.replace(true) {
            let shell = self.clone();
            let task = async move { shell.keep_scrubbing().await };
            self.runtime.spawn(Queue::Scrub, task);
        }
    }

    fn change_scrub(&self, change: impl FnOnce(&mut Scrub)) {
        let mut scrub = self.scrub.get();
        change(&mut scrub);
        self.scrub.set(scrub);
    }

    /// Until the log closes.
    async fn keep_scrubbing(&self) {
        let interval = SCRUB_PASS_HOURS * 3_600_000_000_000;
        let mut due = self.runtime.now();
        while self.serves() {
            let (rate, asked) = (self.state.borrow().scrub_rate(), self.scrub.get().asked);
            let now = self.runtime.now();
            if !asked && rate == 0 {
                self.scrubs.notified().await;
                continue;
            }
            if !asked && now < due {
                let wait = Duration::from_nanos(due.0 - now.0);
                timeout(&self.runtime, wait, self.scrubs.notified()).await;
                continue;
            }
            due = Nanos(now.0 + interval);
            let mut pace = Pace {
                bytes_per_second: rate,
                began: now,
            };
            if asked {
                let shards = u64::from(self.state.borrow().shards());
                let fast = SCRUB_ASKED_MIB_PER_SECOND * MIB as u64 / shards;
                pace.bytes_per_second = rate.max(fast);
            }
            self.change_scrub(|scrub| scrub.begin(asked));
            if self.pass(&mut pace).await.is_ok() {
                mark!(Scrubbed);
                let now = self.runtime.unix_time();
                self.change_scrub(|scrub| scrub.complete(now));
            }
        }
    }

    async fn pass(&self, pace: &mut Pace) -> Result<(), Ended> {
        let segments = self.state.borrow().written_segments();
        let tables: Vec<u32> = self
            .state
            .borrow()
            .runs()
            .tables()
            .map(|table| table.id().number)
            .collect();
        let bytes = segments.iter().map(|sealed| sealed.end).sum::<u64>()
            + self.state.borrow().runs().bytes();
        self.change_scrub(|scrub| scrub.bytes = bytes);
        for sealed in segments {
            self.segment(sealed, pace).await?;
        }
        for table in tables {
            self.table(table, pace).await?;
        }
        Ok(())
    }

    /// So many bytes were read: waits until the next may be.
    async fn step(&self, pace: &mut Pace, bytes: u64) -> Result<(), Ended> {
        self.change_scrub(|scrub| scrub.on_read(bytes));
        let due = u128::from(bytes) * 1_000_000_000 / u128::from(pace.bytes_per_second.max(1));
        let due = Nanos(pace.began.0 + due as u64);
        loop {
            let now = self.runtime.now();
            if !self.serves() || self.scrub.get().again {
                return Err(Ended);
            }
            if now >= due {
                // Time that a busy disk took is not made up for.
                pace.began = now;
                return Ok(());
            }
            let wait = Duration::from_nanos(due.0 - now.0);
            timeout(&self.runtime, wait, self.scrubs.notified()).await;
        }
    }

    /// Notes what is bad, if its file is still a part of the store.
    fn found_bad(&self, bad: Bad) {
        if !self.state.borrow().is_named(bad.spot.file) || planted!(RotOverlooked) {
            return;
        }
        mark!(RotFound);
        self.change_scrub(|scrub| scrub.bad += 1);
        if let BadFile::Segment(segment) = bad.spot.file {
            self.state.borrow_mut().save_from_replay(segment);
            self.flushes.notify();
        }
        self.note(bad);
    }

    async fn table(&self, number: u32, pace: &mut Pace) -> Result<(), Ended> {
        let mut next = Some(0);
        let mut tail = true;
        loop {
            let runs = self.state.borrow().runs();
            let Some(table) = runs.table(number) else {
                return Ok(());
            };
            let bytes = match next {
                Some(from) => {
                    let checked = table.check_blocks(from, &self.runtime).await;
                    next = checked.next;
                    checked.bad.into_iter().for_each(|bad| self.found_bad(bad));
                    checked.bytes
                }
                None if std::mem::take(&mut tail) => {
                    let (bytes, bad) = table.check_tail().await;
                    bad.into_iter().for_each(|bad| self.found_bad(bad));
                    bytes
                }
                None => return Ok(()),
            };
            drop(runs);
            self.step(pace, bytes).await?;
        }
    }

    fn reader(&self, file: &File, segment: u32, from: u64, end: u64) -> SegmentReader {
        let log = self.state.borrow().log();
        SegmentReader::new(file.clone(), log, segment, from, end)
    }

    async fn segment(&self, sealed: Sealed, pace: &mut Pace) -> Result<(), Ended> {
        let segment = sealed.segment;
        let Some(file) = self.state.borrow().segment_file(segment) else {
            return Ok(());
        };
        let mut way = Way {
            reader: self.reader(&file, segment, 0, sealed.end),
            sealed,
            file,
            offset: 0,
            hole: None,
            again: false,
            noted: false,
        };
        let mut read = 0;
        while way.offset < sealed.end && self.state.borrow().is_named(BadFile::Segment(segment)) {
            self.group(&mut way).await;
            // What is read again is not counted twice, and what is skipped as if it were read.
            let bytes = way.offset.saturating_sub(read);
            read = read.max(way.offset);
            self.step(pace, bytes).await?;
        }
        Ok(())
    }

    /// Looks at the next group, or finds out why there is none.
    async fn group(&self, way: &mut Way) {
        let (segment, end) = (way.sealed.segment, way.sealed.end);
        let offset = way.offset;
        let found = match way.reader.next().await {
            Ok(found) => found,
            Err(OpenError::Disk(error)) => return self.unreadable(way, error).await,
            // Neither is met in what this program wrote.
            Err(
                OpenError::NewerFormat { .. }
                | OpenError::OlderFormat { .. }
                | OpenError::Damaged { .. },
            ) => None,
        };
        let Some(found) = found else {
            if let Some(behind) = way.hole.take() {
                // The group that must come next lies in the hole, or begins in it.
                way.noted = true;
                way.reader = self.reader(&way.file, segment, behind, end);
                return;
            }
            return self.missing(way, end);
        };
        if found.offset != offset && !(way.again || way.noted) {
            way.again = true;
            way.reader = self.reader(&way.file, segment, offset, end);
            return;
        }
        let (next, begins) = (found.offset + found.bytes.len() as u64, found.offset);
        let mut at = GROUP_HEADER_BYTES;
        let mut bad = Vec::new();
        while at < found.header.used_bytes as usize {
            let place = found.offset + at as u64;
            let bytes = &found.bytes[at..found.header.used_bytes as usize];
            match check_record(bytes, segment, place) {
                Ok(bytes) => at += bytes as usize,
                Err(why) => {
                    bad.push(why.bad);
                    match why.bytes {
                        Some(bytes) => at += bytes as usize,
                        None => break,
                    }
                }
            }
            if self.runtime.should_yield() {
                self.runtime.yield_now().await;
            }
        }
        if begins != offset {
            self.missing(way, begins);
        }
        bad.into_iter().for_each(|bad| self.found_bad(bad));
        (way.offset, way.again, way.noted) = (next, false, false);
    }

    /// There is no group up to `end` where there was one.
    fn missing(&self, way: &mut Way, end: u64) {
        if !way.noted {
            let spot = Spot {
                file: BadFile::Segment(way.sealed.segment),
                offset: way.offset,
                bytes: end - way.offset,
            };
            let what = "a group of the log fails its checksum, or is not there";
            self.found_bad(Bad::checksum(spot, what, None));
        }
        way.offset = end;
    }

    /// The disk does not give what lies where the reader reads: it is asked again, then page by page.
    async fn unreadable(&self, way: &mut Way, error: DiskError) {
        let (segment, end) = (way.sealed.segment, way.sealed.end);
        let from = way.reader.reads_at();
        let window_end = end.min(from + BULK_READ_BYTES_MAX as u64);
        if !std::mem::replace(&mut way.again, true) {
            way.reader = self.reader(&way.file, segment, way.offset, end);
            return;
        }
        let bad = |offset: u64, bytes: u64, error: &DiskError| {
            let file = BadFile::Segment(segment);
            let spot = Spot {
                file,
                offset,
                bytes,
            };
            self.found_bad(Bad::read(spot, error));
        };
        let page_bytes = PAGE_BYTES as u64;
        let mut hole: Option<(u64, u64)> = None;
        for page in (from..window_end).step_by(PAGE_BYTES) {
            match way.file.read_bulk_at(page, PAGE_BYTES).await {
                Ok(_) if hole.is_some() => break,
                Ok(_) => {}
                Err(error) => {
                    bad(page, page_bytes, &error);
                    let first = hole.map_or(page, |(first, _)| first);
                    hole = Some((first, page + page_bytes));
                }
            }
        }
        if hole.is_none() {
            // Each page by itself it gives.
            bad(from, window_end - from, &error);
        }
        let (first, behind) = hole.unwrap_or((from, window_end));
        way.hole = Some(behind);
        way.reader = self.reader(&way.file, segment, way.offset, first);
    }
}

/// A record that is not what was written; its length, if that can be told.
struct BadRecord {
    bad: Bad,
    bytes: Option<u32>,
}

/// The bytes of the record at the front of `bytes`, which lie at `place`.
fn check_record(bytes: &[u8], segment: u32, place: u64) -> Result<u32, BadRecord> {
    let offset_words = (place / WORD_BYTES as u64) as u32;
    let spot = |bytes: u64| Spot {
        file: BadFile::Segment(segment),
        offset: place,
        bytes,
    };
    let record = record::decode(bytes, segment, offset_words).map_err(|error| BadRecord {
        bad: Bad::checksum(
            spot(bytes.len() as u64),
            &error.to_string(),
            record::sums(segment, offset_words, bytes),
        ),
        bytes: None,
    })?;
    let key = record.key;
    let differs = record.object.siblings.iter().any(|sibling| {
        let Found::Here(value) = sibling.value else {
            return false;
        };
        let hash = value_hash(key.bucket, key.key, sibling.dot, sibling.operation, value);
        hash != sibling.value_hash
    });
    match differs {
        false => Ok(record.bytes),
        true => Err(BadRecord {
            bad: Bad::checksum(
                spot(record.bytes.into()),
                "a value in a record differs from its hash",
                None,
            ),
            bytes: Some(record.bytes),
        }),
    }
}

impl Engine {
    /// Begins to look at everything now, from the beginning; `scrubbed` tells how far that is.
    pub fn scrub(&self) {
        self.shell.change_scrub(Scrub::ask);
        self.shell.start_scrubbing();
        self.shell.scrubs.notify();
    }

    pub fn scrubbed(&self) -> Scrub {
        self.shell.scrub.get()
    }
}
