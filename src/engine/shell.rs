//! The engine between its waits: the one file that holds its cell. No borrow lives across an await.

use super::directory;
use super::entry::{Entry, GroupNumber, Location, NewValue, Place};
use super::key::{Key, KeyRef};
use super::log::record::{self, Found};
use super::log::segment::Segment;
use super::log::writer::Job;
use super::manifest::Manifest;
use super::outcome::{AppendRefused, Lookup, Poisoned, Unsure};
use super::state::State;
use super::{Engine, Statistics};
use crate::base::limits::{BULK_READ_BYTES_MAX, DISK_FULL_RETRY_MS, IDLE_MARK_MS, PAGE_BYTES};
use crate::base::planted::planted;
use crate::base::units::UnixMillis;
use crate::causal::dot::Dot;
use crate::causal::object::{Object, Sibling};
use crate::causal::value_hash::value_hash;
use crate::runtime::disk::{File, Persist};
use crate::runtime::notify::Notify;
use crate::runtime::time::timeout;
use crate::runtime::{Queue, Runtime};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

pub(super) struct Shell {
    runtime: Runtime,
    state: RefCell<State>,
    /// Wakes `commit_next`.
    work: Notify,
    /// Wakes the task that makes segments ready.
    segments: Notify,
    /// Wakes `close`.
    settled: Notify,
    /// A group is being written.
    writing: Cell<bool>,
    /// What `commit_next` returned last.
    reported: Cell<GroupNumber>,
}

impl Shell {
    pub(super) fn new(runtime: &Runtime, state: State) -> Shell {
        Shell {
            runtime: runtime.clone(),
            reported: Cell::new(state.durable()),
            state: RefCell::new(state),
            work: Notify::default(),
            segments: Notify::default(),
            settled: Notify::default(),
            writing: Cell::new(false),
        }
    }

    /// Makes segments ready ahead of the log, until it closes.
    pub(super) fn start_preparing(self: &Rc<Shell>, mut manifest: Manifest) {
        let shell = self.clone();
        let task = async move {
            while !shell.state.borrow().is_closed() && shell.poisoned().is_none() {
                shell.prepare(&mut manifest).await;
                shell.segments.notified().await;
            }
        };
        self.runtime.spawn(Queue::Background, task);
    }

    /// Makes as many segments ready as are wanted; waits for space if the disk has none.
    async fn prepare(&self, manifest: &mut Manifest) {
        while self.prepare_one(manifest).await {
            if self.state.borrow().wants_segments() {
                let wait = Duration::from_millis(DISK_FULL_RETRY_MS);
                timeout(&self.runtime, wait, self.segments.notified()).await;
            }
        }
    }

    /// Makes segments ready until there are enough. True: the disk is full, try again later.
    pub(super) async fn prepare_one(&self, manifest: &mut Manifest) -> bool {
        loop {
            let wanted = self.state.borrow_mut().wanted_segment();
            let Some(bytes) = wanted else {
                return false;
            };
            match directory::prepare_segment(manifest, bytes).await {
                Ok(Some((number, file))) => {
                    let segment = Segment { number, bytes };
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
                    self.state.borrow_mut().poison(error);
                    self.work.notify();
                    self.settled.notify();
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
            let job = self.state.borrow_mut().take_job();
            match job {
                Some((job, file)) => self.write(job, file).await?,
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
        assert!(
            !self.writing.replace(true),
            "one group is written at a time"
        );
        let (buffer, written) = file
            .write_at(job.offset, job.buffer, job.len, persist)
            .await;
        self.writing.set(false);
        self.settled.notify();
        if let Some(poisoned) = self.poisoned() {
            return Err(poisoned);
        }
        match written {
            Err(error) if !planted!(DroppedSyncError) => Err(self.state.borrow_mut().poison(error)),
            _ => {
                self.state
                    .borrow_mut()
                    .on_durable(job.number, buffer, job.len);
                Ok(())
            }
        }
    }

    pub(super) fn poisoned(&self) -> Option<Poisoned> {
        self.state.borrow().poisoned()
    }

    async fn close(&self) -> Result<(), Poisoned> {
        self.state.borrow_mut().close();
        self.segments.notify();
        self.work.notify();
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
        let from = location.offset() / PAGE_BYTES as u64 * PAGE_BYTES as u64;
        let end = location.offset() + u64::from(location.bytes);
        let end = end.next_multiple_of(PAGE_BYTES as u64);
        if end > file.len() {
            return Err(Unsure::Checksum);
        }
        let mut bytes = Vec::new();
        while from + (bytes.len() as u64) < end {
            let at = from + bytes.len() as u64;
            let len = (end - at).min(BULK_READ_BYTES_MAX as u64) as usize;
            let piece = file.read_at(at, len).await.map_err(|_| Unsure::Read)?;
            bytes.extend_from_slice(&piece[..len]);
        }
        let record = &bytes[(location.offset() - from) as usize..];
        let value = verify(record, key, dot, location, sibling).ok_or(Unsure::Checksum)?;
        // The log may have been poisoned meanwhile: then nothing is served.
        self.state.borrow().file(key, location.segment)?;
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
        self.shell.state.borrow().lookup(key)
    }

    /// The answer to `MustRead`; never `MustRead`. What it says held when the read began: only the key's turn keeps
    /// it true.
    pub async fn lookup_slow(&self, key: KeyRef<'_>) -> Lookup {
        let found = self.shell.state.borrow().lookup(key);
        self.shell.runtime.yield_now().await;
        // The log may have been poisoned meanwhile: then nothing is said of any key.
        match self.shell.poisoned() {
            Some(_) => self.shell.state.borrow().lookup(key),
            None => found,
        }
    }

    /// Takes the whole new object of a key: puts a record into the open group, replaces the entry, returns the group
    /// whose durability is the vote. The caller holds the key's turn since its lookup. Wakes `commit_next`.
    pub fn append(
        &self,
        key: KeyRef<'_>,
        object: Object<NewValue<'_>>,
        mine: Option<Dot>,
        _now: UnixMillis,
    ) -> Result<GroupNumber, AppendRefused> {
        let appended = self.shell.state.borrow_mut().append(key, object, mine);
        match appended {
            Ok(_) => self.shell.work.notify(),
            Err(_) => self.shell.segments.notify(),
        }
        appended
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
                self.shell.state.borrow().file(key, location.segment)?;
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

    /// At most `limit` entries in key order after `after` (`None`: from the start).
    pub fn scan(&self, after: Option<&Key>, limit: usize) -> Vec<(Key, Rc<Entry>)> {
        self.shell.state.borrow().memtable().scan(after, limit)
    }

    /// Closes the log against further appends and writes what is pending, and a mark behind it; after it,
    /// `commit_next` returns no more than what was pending.
    pub async fn close(&self) -> Result<(), Poisoned> {
        self.shell.close().await
    }

    pub fn poisoned(&self) -> Option<Poisoned> {
        self.shell.poisoned()
    }

    pub fn statistics(&self) -> Statistics {
        self.shell.state.borrow().statistics()
    }
}
