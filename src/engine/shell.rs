//! The engine between its waits: the one file that holds its cell. No borrow lives across an await.

use super::damage::{Bad, BadFile, Spot};
use super::directory;
use super::entry::{Entry, GroupNumber, Location, NewValue, Place};
use super::key::{Key, KeyRef};
use super::log::group::LogId;
use super::log::record::{self, Found};
use super::log::writer::Job;
use super::manifest::{Manifest, Sealed};
use super::manifest_codec::Edit;
use super::outcome::{AppendRefused, Lookup, Poisoned, Unsure};
use super::run_writer::Cause;
use super::snapshot::Snapshot;
use super::state::{Purpose, State};
use super::table::TableId;
use super::{DamageReport, Engine, Scrub, Statistics};
use crate::base::limits::{
    BULK_READ_BYTES_MAX, DISK_FULL_RETRY_MS, IDLE_MARK_MS, LOG_ARCS, PAGE_BYTES,
};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::base::units::UnixMillis;
use crate::causal::dot::Dot;
use crate::causal::object::{Object, Sibling};
use crate::causal::value_hash::value_hash;
use crate::ring::position::Position;
use crate::runtime::disk::{Disk, DiskError, File, Persist};
use crate::runtime::exclusive::Exclusive;
use crate::runtime::notify::Notify;
use crate::runtime::time::timeout;
use crate::runtime::{Queue, Runtime};
use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

pub(super) struct Shell {
    pub(super) runtime: Runtime,
    disk: Disk,
    pub(super) state: RefCell<State>,
    /// Who changes what the manifest says changes the state before it lets go.
    pub(super) manifest: Exclusive<Manifest>,
    manifest_written: Rc<Cell<u64>>,
    /// Who writes to the cold segment holds it.
    pub(super) copying: Exclusive<()>,
    /// Wakes `commit_next`.
    pub(super) work: Notify,
    /// Wakes the task that makes segments ready.
    pub(super) segments: Notify,
    /// Wakes the task that makes tables.
    pub(super) flushes: Notify,
    /// Wakes the task that merges tables.
    pub(super) merges: Notify,
    /// Wakes whoever collects: there may be a victim.
    pub(super) collects: Notify,
    /// Wakes whoever tells of damage.
    pub(super) damaged: Notify,
    /// Wakes the task that looks for rot.
    pub(super) scrubs: Notify,
    pub(super) scrub: Cell<Scrub>,
    pub(super) scrubbing: Cell<bool>,
    pub(super) snapshot: RefCell<Snapshot>,
    /// Wakes the flush that waits for the disk to have room.
    pub(super) room: Notify,
    /// Wakes `close`.
    settled: Notify,
    /// A group is being written.
    writing: Cell<bool>,
    /// Nanoseconds that the next group waits, so that collection does not fall behind.
    brake: Cell<u64>,
    /// What `commit_next` returned last.
    reported: Cell<GroupNumber>,
}

impl Shell {
    pub(super) fn new(runtime: &Runtime, disk: &Disk, state: State, manifest: Manifest) -> Shell {
        Shell {
            runtime: runtime.clone(),
            disk: disk.clone(),
            manifest_written: manifest.written(),
            manifest: Exclusive::new(manifest),
            copying: Exclusive::new(()),
            flushes: Notify::default(),
            merges: Notify::default(),
            collects: Notify::default(),
            damaged: Notify::default(),
            scrubs: Notify::default(),
            scrub: Cell::default(),
            scrubbing: Cell::default(),
            snapshot: RefCell::default(),
            room: Notify::default(),
            reported: Cell::new(state.durable()),
            state: RefCell::new(state),
            work: Notify::default(),
            segments: Notify::default(),
            settled: Notify::default(),
            writing: Cell::new(false),
            brake: Cell::new(0),
        }
    }

    /// Makes segments ready, tables of what fills memory, few tables of many, and counts what lives; until the log
    /// closes.
    pub(super) fn start_background(self: &Rc<Shell>) {
        let (preparing, flushing) = (self.clone(), self.clone());
        let (merging, counting) = (self.clone(), self.clone());
        let spawn =
            |task: Pin<Box<dyn Future<Output = ()>>>| self.runtime.spawn(Queue::Background, task);
        spawn(Box::pin(async move { preparing.keep_preparing().await }));
        spawn(Box::pin(async move { flushing.keep_flushing().await }));
        spawn(Box::pin(async move { merging.keep_merging().await }));
        spawn(Box::pin(async move { counting.count_usage().await }));
        if self.state.borrow().scrub_rate() > 0 {
            self.start_scrubbing();
        }
    }

    /// A reader met a place that it could not read: what it answers.
    pub(super) fn note(&self, bad: Bad) -> Unsure {
        let unsure = self.state.borrow_mut().damage().note(bad);
        self.damaged.notify();
        unsure
    }

    pub(super) fn serves(&self) -> bool {
        let state = self.state.borrow();
        !state.is_closed() && state.poisoned().is_none()
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The name of a table that is begun now.
    pub(super) fn next_table(&self) -> Option<TableId> {
        self.state.borrow_mut().next_table()
    }

    /// Of which log and shard tables are.
    pub(super) fn log(&self) -> LogId {
        self.state.borrow().log()
    }

    pub(super) fn on_table_written(&self, cause: Cause, bytes: u64) {
        let mut state = self.state.borrow_mut();
        let counters = state.counters_mut();
        match cause {
            Cause::Flush => counters.flush_bytes_written += bytes,
            Cause::Merge => counters.merge_bytes_written += bytes,
        }
    }

    /// Ends this life of the log, and tells all that wait.
    pub(super) fn poison(&self, cause: DiskError) -> Poisoned {
        let poisoned = self.state.borrow_mut().poison(cause);
        self.wake_all();
        poisoned
    }

    fn wake_all(&self) {
        let all = [&self.work, &self.segments, &self.flushes, &self.merges];
        all.into_iter().for_each(Notify::notify);
        self.collects.notify();
        self.scrubs.notify();
        self.room.notify();
        self.settled.notify();
    }

    /// Makes segments ready ahead of the log; waits for space if the disk has none.
    async fn keep_preparing(&self) {
        while self.serves() {
            while self.prepare_one().await {
                if self.state.borrow().wants_segments() {
                    let wait = Duration::from_millis(DISK_FULL_RETRY_MS);
                    timeout(&self.runtime, wait, self.segments.notified()).await;
                }
            }
            self.segments.notified().await;
        }
    }

    /// Makes segments ready until there are enough. True: the disk is full, try again later.
    pub(super) async fn prepare_one(&self) -> bool {
        loop {
            let wanted = self.state.borrow_mut().wanted_segment();
            let Some(bytes) = wanted else {
                return false;
            };
            let mut manifest = self.manifest.lock().await;
            let named = |segment| vec![Edit::Segment(segment)];
            match directory::prepare_segment(&mut manifest, bytes, named).await {
                Ok(Some((segment, file))) => {
                    let manifest_bytes = manifest.bytes();
                    self.state
                        .borrow_mut()
                        .on_segment(segment, file, manifest_bytes);
                }
                Ok(None) => {
                    self.state.borrow_mut().on_disk_full();
                    return true;
                }
                Err(error) => {
                    self.poison(error);
                    return false;
                }
            }
        }
    }

    async fn commit_next(&self) -> Result<GroupNumber, Poisoned> {
        loop {
            if let Some(poisoned) = self.poisoned() {
                return Err(poisoned);
            }
            let durable = self.state.borrow().durable();
            if durable > self.reported.get() {
                self.reported.set(durable);
                return Ok(durable);
            }
            if self.writing.get() || self.state.borrow().is_closed() {
                // `close` writes what is left, and wakes this task to report it.
                self.settled.notify();
                self.work.notified().await;
                continue;
            }
            let braked = self.brake.take();
            if braked > 0 {
                // What comes meanwhile goes into the same group.
                mark!(Braked);
                self.runtime.sleep(Duration::from_nanos(braked)).await;
                continue;
            }
            let job = self.state.borrow_mut().take_job();
            match job {
                Some((job, file)) => {
                    let bytes = job.len;
                    self.write(job, file).await?;
                    self.brake.set(self.state.borrow().brake_ns(bytes));
                }
                None => self.wait_for_work().await?,
            }
        }
    }

    /// Waits until there is a record, or writes the mark of an idle log.
    async fn wait_for_work(&self) -> Result<(), Poisoned> {
        if !self.state.borrow().wants_mark() {
            self.work.notified().await;
            return Ok(());
        }
        let idle = Duration::from_millis(IDLE_MARK_MS);
        if timeout(&self.runtime, idle, self.work.notified())
            .await
            .is_some()
        {
            return Ok(());
        }
        if self.state.borrow().is_closed() {
            return Ok(());
        }
        let mark = self.state.borrow_mut().take_mark();
        match mark {
            Some((job, file)) => self.write(job, file).await,
            None => {
                self.work.notified().await;
                Ok(())
            }
        }
    }

    /// Writes one group. On any error nothing is written, served or acked by this log any more.
    async fn write(&self, job: Job, file: File) -> Result<(), Poisoned> {
        let persist = if planted!(AckBeforeSync) {
            Persist::Later
        } else {
            Persist::Dsync
        };
        if self.state.borrow().wants_segments() {
            self.segments.notify();
        }
        let written = Sealed {
            segment: job.segment,
            end: job.offset + job.len as u64,
            last: job.number.0,
        };
        assert!(
            !self.writing.replace(true),
            "one group is written at a time"
        );
        let began = self.runtime.now();
        let (buffer, done) = file
            .write_at(job.offset, job.buffer, job.len, persist)
            .await;
        self.writing.set(false);
        self.settled.notify();
        if let Some(poisoned) = self.poisoned() {
            return Err(poisoned);
        }
        match done {
            Err(error) if !planted!(DroppedSyncError) => Err(self.poison(error)),
            _ => {
                let mut state = self.state.borrow_mut();
                let took = self.runtime.now().0 - began.0;
                state.counters_mut().log_write.record_ns(took);
                state.on_durable(written, buffer, job.len);
                if state.wants_freeze() || state.flushable().is_some() {
                    self.flushes.notify();
                }
                Ok(())
            }
        }
    }

    pub(super) fn poisoned(&self) -> Option<Poisoned> {
        self.state.borrow().poisoned()
    }

    pub(super) fn append(
        &self,
        key: KeyRef<'_>,
        before: Option<&Entry>,
        object: Object<NewValue<'_>>,
        mine: Option<Dot>,
        purpose: Purpose,
    ) -> Result<GroupNumber, AppendRefused> {
        let mut state = self.state.borrow_mut();
        let appended = state.append(key, before, object, mine, purpose);
        match appended {
            Ok(_) => self.work.notify(),
            Err(_) => self.segments.notify(),
        }
        if state.wants_freeze() {
            self.flushes.notify();
        }
        appended
    }

    async fn close(&self) -> Result<(), Poisoned> {
        self.state.borrow_mut().close();
        self.wake_all();
        loop {
            if let Some(poisoned) = self.poisoned() {
                return Err(poisoned);
            }
            if self.writing.get() {
                self.settled.notified().await;
                continue;
            }
            let job = self.state.borrow_mut().take_job();
            let job = job.or_else(|| self.state.borrow_mut().take_mark());
            match job {
                Some((job, file)) => self.write(job, file).await?,
                None => return Ok(()),
            }
            self.work.notify();
        }
    }

    /// The record at `location`, verified; the value of its sibling `sibling`.
    async fn read_record(
        &self,
        key: KeyRef<'_>,
        dot: Dot,
        location: Location,
        sibling: u16,
    ) -> Result<Rc<[u8]>, Unsure> {
        let file = self.state.borrow().file(key, location.segment)?;
        let spot = Spot {
            file: BadFile::Segment(location.segment),
            offset: location.offset(),
            bytes: location.bytes.into(),
        };
        let from = location.offset() / PAGE_BYTES as u64 * PAGE_BYTES as u64;
        let end = location.offset() + u64::from(location.bytes);
        let end = end.next_multiple_of(PAGE_BYTES as u64);
        if end > file.len() {
            let what = "a record ends behind its segment";
            return Err(self.note(Bad::checksum(spot, what, None)));
        }
        let mut bytes = Vec::new();
        while from + (bytes.len() as u64) < end {
            let at = from + bytes.len() as u64;
            let len = (end - at).min(BULK_READ_BYTES_MAX as u64) as usize;
            let piece = file.read_at(at, len).await;
            let piece = piece.map_err(|error| self.note(Bad::read(spot, &error)))?;
            bytes.extend_from_slice(&piece[..len]);
        }
        let record = &bytes[(location.offset() - from) as usize..];
        let Some(value) = verify(record, key, dot, location, sibling) else {
            let sums = record::sums(location.segment, location.offset_words, record);
            let what = "a record or its value fails its checksum";
            return Err(self.note(Bad::checksum(spot, what, sums)));
        };
        // The log may have been poisoned meanwhile: then nothing is served.
        if let Some(unsure) = self.state.borrow().unsure(key) {
            return Err(unsure);
        }
        let value: Rc<[u8]> = value.into();
        self.state
            .borrow_mut()
            .cache_value(location, sibling, value.clone());
        Ok(value)
    }
}

/// The value of sibling `sibling`, if these bytes are the record that lies there, of this key and with this dot.
fn verify<'a>(
    bytes: &'a [u8],
    key: KeyRef<'_>,
    dot: Dot,
    location: Location,
    sibling: u16,
) -> Option<&'a [u8]> {
    let record = record::decode(bytes, location.segment, location.offset_words).ok()?;
    if record.key != key || record.bytes != location.bytes {
        return None;
    }
    let nth = usize::from(sibling);
    let found: &Sibling<Found<'a>> = record.object.siblings.get(nth)?;
    let Found::Here(value) = found.value else {
        return None;
    };
    let hash = value_hash(key.bucket, key.key, dot, found.operation, value);
    (found.dot == dot && found.value_hash == hash).then_some(value)
}

impl Engine {
    pub fn lookup(&self, key: KeyRef<'_>) -> Lookup {
        if self.shell.runtime.simulated_delay() {
            return Lookup::MustRead;
        }
        let found = self.shell.state.borrow_mut().lookup(key);
        if let Lookup::Unsure(_) = found {
            self.shell.damaged.notify();
        }
        found
    }

    /// The answer to `MustRead`; never `MustRead`. What it says held when the read began: only the key's turn keeps
    /// it true.
    pub async fn lookup_slow(&self, key: KeyRef<'_>) -> Lookup {
        self.shell.lookup_slow(key).await
    }

    /// Takes the whole new object of a key: puts a record into the open group, replaces the entry, returns the group
    /// whose durability is the vote. The caller holds the key's turn since its lookup found `before`. Wakes
    /// `commit_next`.
    pub fn append(
        &self,
        key: KeyRef<'_>,
        before: Option<&Entry>,
        object: Object<NewValue<'_>>,
        mine: Option<Dot>,
        _now: UnixMillis,
    ) -> Result<GroupNumber, AppendRefused> {
        self.shell.append(key, before, object, mine, Purpose::Write)
    }

    /// The same for an object that differs from `before` only in where its values are; `Survivor::relocated` makes it.
    pub fn relocate(
        &self,
        key: KeyRef<'_>,
        before: &Entry,
        object: Object<NewValue<'_>>,
    ) -> Result<GroupNumber, AppendRefused> {
        let (shell, mine) = (&self.shell, before.mine);
        shell.append(key, Some(before), object, mine, Purpose::Relocation)
    }

    /// Every group up to this one is durable.
    pub fn durable_group(&self) -> GroupNumber {
        self.shell.state.borrow().durable()
    }

    /// Waits for records, writes one group, returns the number up to which all is durable. One task calls this in a
    /// loop; an idle log writes its mark from here too. After an error it is never called again.
    pub async fn commit_next(&self) -> Result<GroupNumber, Poisoned> {
        self.shell.commit_next().await
    }

    /// The value, if it is in memory.
    pub fn cached_value(&self, place: &Place) -> Option<Rc<[u8]>> {
        self.shell.state.borrow_mut().cached_value(place)
    }

    /// Reads and verifies the value of the sibling with `dot`, whose group is durable.
    pub async fn read_value(
        &self,
        key: KeyRef<'_>,
        dot: Dot,
        place: &Place,
    ) -> Result<Rc<[u8]>, Unsure> {
        match place {
            Place::Nowhere => Err(Unsure::Read),
            Place::Inline(bytes) => Ok(bytes.clone()),
            Place::At {
                location, sibling, ..
            } => {
                if let Some(unsure) = self.shell.state.borrow().unsure(key) {
                    return Err(unsure);
                }
                let cached = self
                    .shell
                    .state
                    .borrow_mut()
                    .peek_value(*location, *sibling);
                if let Some(value) = cached {
                    return Ok(value);
                }
                let read = self.shell.read_record(key, dot, *location, *sibling).await;
                if read.is_err() && planted!(ReadErrorAsNotFound) {
                    self.shell.state.borrow_mut().forget(key);
                }
                read
            }
        }
    }

    /// At most `limit` entries in key order after `after` (`None`: from the start), as they were when the call began.
    pub async fn scan(
        &self,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Rc<Entry>)>, Unsure> {
        self.shell.scan(after, limit).await
    }

    /// Why nothing is said of keys in this range; `None`: what a scan of it found is all there is.
    pub fn unsure(&self, range: RangeInclusive<Position>) -> Option<Unsure> {
        let state = self.shell.state.borrow();
        let arc_positions = u64::MAX / LOG_ARCS as u64 + 1;
        let (first, last) = (
            range.start().0 / arc_positions,
            range.end().0 / arc_positions,
        );
        (first..=last).find_map(|arc| {
            state.unsure(KeyRef {
                position: Position(arc * arc_positions),
                bucket: &[],
                key: &[],
            })
        })
    }

    /// Closes the log against further appends and writes what is pending, and a mark behind it; after it,
    /// `commit_next` returns no more than what was pending.
    pub async fn close(&self) -> Result<(), Poisoned> {
        self.shell.close().await
    }

    pub fn poisoned(&self) -> Option<Poisoned> {
        self.shell.poisoned()
    }

    /// What is known to be damaged.
    pub fn damage(&self) -> DamageReport {
        self.shell.state.borrow().damage_report()
    }

    /// Begins what is deferred: entries in memory become a table, whether they fill it or not. It is done when the
    /// statistics count nothing deferred.
    pub fn flush(&self) {
        self.shell.state.borrow_mut().ask_for_flush();
        self.shell.flushes.notify();
        self.shell.collects.notify();
    }

    pub fn statistics(&self) -> Statistics {
        Statistics {
            manifest_bytes_written: self.shell.manifest_written.get(),
            ..self.shell.state.borrow().statistics()
        }
    }
}
