//! The disk of one machine: which operations are in flight, what they do when they complete, what a crash leaves.
//!
//! 1. An operation takes effect when it completes; its caller may be long gone. 2. A power cut empties `in_flight` first, so
//! nothing completes afterwards. 3. Each fault draws from a stream of its own.

use super::image::Image;
use super::names::{Names, Node, parent};
use crate::base::limits::PAGE_BYTES;
use crate::runtime::buffer::PageBuffer;
use crate::runtime::disk::{DiskCause, Open, Persist, Space};
use crate::runtime::simulated::executor::Completion;
use crate::runtime::simulated::faults::DiskFaults;
use crate::runtime::simulated::rng::Rng;
use crate::runtime::simulated::trace::{Kind, payload};
use crate::runtime::simulated::world::{End, Happening, MachineId, ProcessId, State};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

const EIO: DiskCause = DiskCause::Os(libc::EIO);
/// What `space` says of a disk without a capacity.
const UNBOUNDED_BYTES: u64 = 1 << 40;

/// One primitive step on the disk: one I/O.
pub(super) enum Op {
    MakeDir {
        path: String,
    },
    Open {
        path: String,
        how: Open,
    },
    /// A new empty file, in place of one that may be there.
    OpenFresh {
        path: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    List {
        path: String,
    },
    SyncDir {
        path: String,
        fence: u64,
    },
    Lock {
        path: String,
    },
    ReadSmall {
        path: String,
    },
    Space,
    Read {
        inode: u64,
        offset: u64,
        len: usize,
    },
    Write {
        inode: u64,
        offset: u64,
        bytes: Vec<u8>,
        persist: Persist,
        fence: u64,
    },
    Sync {
        inode: u64,
        fence: u64,
    },
}

pub(super) enum Done {
    Nothing,
    Opened { inode: u64 },
    Locked { token: u64, inode: u64 },
    Names(Vec<String>),
    Page(PageBuffer),
    Bytes(Vec<u8>),
    Space(Space),
}

pub(super) type Answer = Result<Done, DiskCause>;

struct InFlight {
    process: ProcessId,
    op: Op,
    /// An error that was decided when it was issued.
    failure: Option<DiskCause>,
    completion: Rc<Completion<Answer>>,
}

struct Inode {
    image: Image,
    open: u32,
}

/// The streams of one disk, one for each thing that is drawn.
struct Streams {
    latency: Rng,
    slow: Rng,
    read_error: Rng,
    write_error: Rng,
    sync_error: Rng,
    bit_rot: Rng,
    misdirected_write: Rng,
    misdirected_read: Rng,
    lost_write: Rng,
    crash: Rng,
}

impl Streams {
    fn new(seed: u64, machine: u64) -> Streams {
        let stream = |name: &str| Rng::stream(seed, name, machine);
        Streams {
            latency: stream("disk.latency"),
            slow: stream("disk.slow"),
            read_error: stream("disk.read_error"),
            write_error: stream("disk.write_error"),
            sync_error: stream("disk.sync_error"),
            bit_rot: stream("disk.bit_rot"),
            misdirected_write: stream("disk.misdirected_write"),
            misdirected_read: stream("disk.misdirected_read"),
            lost_write: stream("disk.lost_write"),
            crash: stream("disk.crash"),
        }
    }
}

/// The durable image of a machine's disk at one moment.
#[derive(Clone)]
pub struct Snapshot {
    names: Names,
    images: BTreeMap<u64, Image>,
}

pub(in crate::runtime::simulated) struct MachineDisk {
    pub(super) names: Names,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    locks: BTreeMap<String, (ProcessId, u64)>,
    in_flight: BTreeMap<u64, InFlight>,
    pub(in crate::runtime::simulated) issued: u64,
    pub(in crate::runtime::simulated) crash_at: Option<u64>,
    pub(in crate::runtime::simulated) fail_at: BTreeMap<u64, DiskCause>,
    streams: Streams,
}

impl MachineDisk {
    pub(in crate::runtime::simulated) fn new(seed: u64, machine: u64) -> MachineDisk {
        MachineDisk {
            names: Names::default(),
            inodes: BTreeMap::new(),
            next_inode: 0,
            locks: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            issued: 0,
            crash_at: None,
            fail_at: BTreeMap::new(),
            streams: Streams::new(seed, machine),
        }
    }

    fn image(&mut self, inode: u64) -> Result<&mut Image, DiskCause> {
        match self.inodes.get_mut(&inode) {
            Some(found) => Ok(&mut found.image),
            None => Err(DiskCause::NotFound),
        }
    }

    pub(super) fn len(&self, inode: u64) -> u64 {
        self.inodes.get(&inode).map_or(0, |found| found.image.len())
    }

    /// Names the writes and changes that a sync issued now covers.
    fn fence(&self, op: &mut Op) {
        match op {
            Op::Sync { inode, fence } | Op::Write { inode, fence, .. } => {
                *fence = self
                    .inodes
                    .get(inode)
                    .map_or(0, |found| found.image.fence());
            }
            Op::SyncDir { fence, .. } => *fence = self.names.fence(),
            Op::MakeDir { .. }
            | Op::Open { .. }
            | Op::OpenFresh { .. }
            | Op::Rename { .. }
            | Op::Remove { .. }
            | Op::List { .. }
            | Op::Lock { .. }
            | Op::ReadSmall { .. }
            | Op::Space
            | Op::Read { .. } => {}
        }
    }

    fn failure(&mut self, op: &Op, faults: &DiskFaults) -> Option<DiskCause> {
        if let Some(cause) = self.fail_at.remove(&self.issued) {
            return Some(cause);
        }
        let failed = match op {
            Op::Read { .. } | Op::ReadSmall { .. } => {
                self.streams.read_error.chance(faults.read_error)
            }
            Op::Write { .. } => self.streams.write_error.chance(faults.write_error),
            Op::Sync { .. } | Op::SyncDir { .. } => {
                self.streams.sync_error.chance(faults.sync_error)
            }
            Op::MakeDir { .. }
            | Op::Open { .. }
            | Op::OpenFresh { .. }
            | Op::Rename { .. }
            | Op::Remove { .. }
            | Op::List { .. }
            | Op::Lock { .. }
            | Op::Space => false,
        };
        failed.then_some(EIO)
    }

    fn latency(&mut self, op: &Op, faults: &DiskFaults) -> Duration {
        let (least, most) = match op {
            Op::Read { .. } | Op::ReadSmall { .. } => (20, 150),
            Op::Write {
                persist: Persist::Later,
                ..
            } => (20, 200),
            Op::Write { .. } => (60, 600),
            Op::Sync { .. } | Op::SyncDir { .. } => (100, 2_000),
            Op::MakeDir { .. }
            | Op::Open { .. }
            | Op::OpenFresh { .. }
            | Op::Rename { .. }
            | Op::Remove { .. }
            | Op::List { .. }
            | Op::Lock { .. }
            | Op::Space => (5, 100),
        };
        let mut nanos = 1_000 * least + self.streams.latency.below(1_000 * (most - least));
        if self.streams.slow.chance(faults.slow) {
            nanos *= 100;
        }
        Duration::from_nanos(nanos)
    }

    /// Bytes of all files that have a name or are open.
    fn used(&self) -> u64 {
        let named: std::collections::BTreeSet<u64> =
            self.names.files().map(|(_, inode)| inode).collect();
        let counted = |(id, inode): &(&u64, &Inode)| named.contains(id) || inode.open > 0;
        self.inodes
            .iter()
            .filter(counted)
            .map(|(_, inode)| inode.image.len())
            .sum()
    }

    fn room_for(&self, len: u64, faults: &DiskFaults) -> Result<(), DiskCause> {
        match faults.capacity {
            Some(capacity) if len > 0 && self.used() + len > capacity => Err(DiskCause::NoSpace),
            Some(_) | None => Ok(()),
        }
    }

    fn create(&mut self, path: &str, len: u64) -> u64 {
        self.next_inode += 1;
        let inode = Inode {
            image: Image::preallocated(len),
            open: 1,
        };
        self.inodes.insert(self.next_inode, inode);
        self.names.link(path, Node::File(self.next_inode));
        self.next_inode
    }

    fn file(&self, path: &str) -> Result<u64, DiskCause> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Dir) => Err(DiskCause::Os(libc::EISDIR)),
            None => Err(DiskCause::NotFound),
        }
    }

    fn dir(&self, path: &str) -> Result<(), DiskCause> {
        match self.names.get(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(DiskCause::Os(libc::ENOTDIR)),
            None => Err(DiskCause::NotFound),
        }
    }

    /// Does a completed operation.
    fn execute(&mut self, op: Op, process: ProcessId, faults: &DiskFaults) -> Answer {
        match op {
            Op::Read { inode, offset, len } => {
                self.read(inode, offset, len, faults).map(Done::Page)
            }
            Op::Write {
                inode,
                offset,
                bytes,
                persist,
                fence,
            } => self
                .write(inode, offset, bytes, persist, fence, faults)
                .map(|()| Done::Nothing),
            Op::Sync { inode, fence } => {
                self.image(inode)?.sync(fence);
                Ok(Done::Nothing)
            }
            Op::ReadSmall { path } => {
                let inode = self.file(&path)?;
                let mut bytes = vec![0; self.len(inode) as usize];
                self.image(inode)?.read(0, &mut bytes);
                Ok(Done::Bytes(bytes))
            }
            Op::Space => {
                let total_bytes = faults.capacity.unwrap_or(UNBOUNDED_BYTES);
                let free_bytes = total_bytes.saturating_sub(self.used());
                Ok(Done::Space(Space {
                    free_bytes,
                    total_bytes,
                }))
            }
            Op::Lock { path } => self.lock(path, process),
            Op::MakeDir { .. }
            | Op::Open { .. }
            | Op::OpenFresh { .. }
            | Op::Rename { .. }
            | Op::Remove { .. }
            | Op::List { .. }
            | Op::SyncDir { .. } => self.execute_name(op, faults),
        }
    }

    fn execute_name(&mut self, op: Op, faults: &DiskFaults) -> Answer {
        match op {
            Op::MakeDir { path } => {
                self.dir(parent(&path))?;
                match self.names.get(&path) {
                    None => self.names.link(&path, Node::Dir),
                    Some(Node::Dir) => {}
                    Some(Node::File(_)) => return Err(DiskCause::Exists),
                }
                Ok(Done::Nothing)
            }
            Op::Open { path, how } => self.open(&path, how, faults),
            Op::OpenFresh { path } => {
                self.dir(parent(&path))?;
                if self.names.get(&path).is_some() {
                    self.file(&path)?;
                    self.names.unlink(&path);
                }
                let inode = self.create(&path, 0);
                Ok(Done::Opened { inode })
            }
            Op::Rename { from, to } => {
                self.file(&from)?;
                self.dir(parent(&to))?;
                if from != to {
                    self.names.rename(&from, &to);
                }
                Ok(Done::Nothing)
            }
            Op::Remove { path } => {
                self.file(&path)?;
                self.names.unlink(&path);
                Ok(Done::Nothing)
            }
            Op::List { path } => {
                self.dir(&path)?;
                Ok(Done::Names(self.names.list(&path)))
            }
            Op::SyncDir { path, fence } => {
                self.dir(&path)?;
                self.names.sync(&path, fence);
                self.sweep();
                Ok(Done::Nothing)
            }
            Op::Lock { .. }
            | Op::ReadSmall { .. }
            | Op::Space
            | Op::Read { .. }
            | Op::Write { .. }
            | Op::Sync { .. } => unreachable!("not an operation on names"),
        }
    }

    fn open(&mut self, path: &str, how: Open, faults: &DiskFaults) -> Answer {
        let inode = match how {
            Open::Existing => {
                let inode = self.file(path)?;
                if let Some(found) = self.inodes.get_mut(&inode) {
                    found.open += 1;
                }
                inode
            }
            Open::Create { len } => {
                assert!(len.is_multiple_of(PAGE_BYTES as u64), "whole pages");
                self.dir(parent(path))?;
                if self.names.get(path).is_some() {
                    return Err(DiskCause::Exists);
                }
                self.room_for(len, faults)?;
                self.create(path, len)
            }
        };
        Ok(Done::Opened { inode })
    }

    fn lock(&mut self, path: String, process: ProcessId) -> Answer {
        if self.locks.contains_key(&path) {
            return Err(DiskCause::Locked);
        }
        let inode = match self.file(&path) {
            Ok(inode) => {
                if let Some(found) = self.inodes.get_mut(&inode) {
                    found.open += 1;
                }
                inode
            }
            Err(DiskCause::NotFound) => {
                self.dir(parent(&path))?;
                self.create(&path, 0)
            }
            Err(cause) => return Err(cause),
        };
        self.next_inode += 1;
        self.locks.insert(path, (process, self.next_inode));
        let token = self.next_inode;
        Ok(Done::Locked { token, inode })
    }

    pub(super) fn unlock(&mut self, token: u64) {
        self.locks.retain(|_, (_, held)| *held != token);
    }

    pub(super) fn close(&mut self, inode: u64) {
        if let Some(found) = self.inodes.get_mut(&inode) {
            assert!(found.open > 0);
            found.open -= 1;
        }
    }

    /// Frees the files that nothing can reach any more.
    fn sweep(&mut self) {
        let reachable = self.names.reachable();
        self.inodes
            .retain(|id, inode| inode.open > 0 || reachable.contains(id));
    }

    /// Another page of the same file, if it has another.
    fn astray(len: u64, offset: u64, bytes: usize, rng: &mut Rng) -> u64 {
        let places = (len.saturating_sub(bytes as u64)) / PAGE_BYTES as u64 + 1;
        let other = rng.below(places) * PAGE_BYTES as u64;
        if other == offset && places > 1 {
            return (offset / PAGE_BYTES as u64 + 1) % places * PAGE_BYTES as u64;
        }
        other
    }

    fn read(
        &mut self,
        inode: u64,
        mut offset: u64,
        len: usize,
        faults: &DiskFaults,
    ) -> Result<PageBuffer, DiskCause> {
        let file_len = self.image(inode)?.len();
        if offset + len as u64 > file_len {
            return Err(DiskCause::PastEnd);
        }
        if len > 0 && self.streams.bit_rot.chance(faults.bit_rot) {
            let bit = self.streams.bit_rot.below(8 * len as u64);
            self.image(inode)?
                .corrupt(offset + bit / 8, 1, |byte| byte[0] ^= 1 << (bit % 8));
        }
        if self
            .streams
            .misdirected_read
            .chance(faults.misdirected_read)
        {
            offset = MachineDisk::astray(file_len, offset, len, &mut self.streams.misdirected_read);
        }
        let mut buffer = PageBuffer::zeroed(len);
        self.image(inode)?.read(offset, &mut buffer[..len]);
        Ok(buffer)
    }

    fn write(
        &mut self,
        inode: u64,
        mut offset: u64,
        bytes: Vec<u8>,
        persist: Persist,
        fence: u64,
        faults: &DiskFaults,
    ) -> Result<(), DiskCause> {
        let end = offset + bytes.len() as u64;
        let len = self.image(inode)?.len();
        self.room_for(end.saturating_sub(len), faults)?;
        if self
            .streams
            .misdirected_write
            .chance(faults.misdirected_write)
        {
            let rng = &mut self.streams.misdirected_write;
            offset = MachineDisk::astray(len, offset, bytes.len(), rng);
        }
        let lost = self.streams.lost_write.chance(faults.lost_write);
        let image = self.image(inode)?;
        match persist {
            Persist::Later if !lost => image.write_cached(offset, bytes),
            Persist::Dsync if !lost => image.write_durable(offset, &bytes),
            Persist::WriteThenSync => {
                if !lost {
                    image.write_durable(offset, &bytes);
                }
                image.sync(fence);
            }
            Persist::Later | Persist::Dsync => {}
        }
        Ok(())
    }

    /// What an operation leaves that failed.
    fn fail(&mut self, op: Op) {
        match op {
            Op::Write {
                inode,
                offset,
                bytes,
                ..
            } => {
                if let Some(found) = self.inodes.get_mut(&inode) {
                    let rng = &mut self.streams.write_error;
                    found.image.write_some_sectors(offset, &bytes, rng);
                }
            }
            Op::Sync { inode, .. } => {
                if let Some(found) = self.inodes.get_mut(&inode) {
                    found.image.lose_unsynced();
                }
            }
            Op::MakeDir { .. }
            | Op::Open { .. }
            | Op::OpenFresh { .. }
            | Op::Rename { .. }
            | Op::Remove { .. }
            | Op::List { .. }
            | Op::SyncDir { .. }
            | Op::Lock { .. }
            | Op::ReadSmall { .. }
            | Op::Space
            | Op::Read { .. } => {}
        }
    }

    /// A process ended while these were in flight: writes reach the cache in part, changes of names or not.
    fn abandon(&mut self, process: ProcessId, end: End, faults: &DiskFaults) {
        self.locks.retain(|_, (holder, _)| *holder != process);
        let all = std::mem::take(&mut self.in_flight);
        let (mine, others): (BTreeMap<_, _>, _) = all
            .into_iter()
            .partition(|(_, entry)| entry.process == process);
        self.in_flight = others;
        for entry in mine.into_values() {
            match entry.op {
                Op::Write {
                    inode,
                    offset,
                    bytes,
                    ..
                } => {
                    let Some(found) = self.inodes.get_mut(&inode) else {
                        continue;
                    };
                    match end {
                        End::Exit => {
                            let rng = &mut self.streams.crash;
                            found.image.write_some_sectors(offset, &bytes, rng);
                        }
                        // Undecided like those in the cache, whatever it promised to be on return.
                        End::PowerCut => found.image.write_cached(offset, bytes),
                    }
                }
                op @ (Op::MakeDir { .. }
                | Op::Open { .. }
                | Op::OpenFresh { .. }
                | Op::Rename { .. }
                | Op::Remove { .. }
                | Op::SyncDir { .. }) => {
                    if self.streams.crash.chance(0.5) {
                        // Nobody waits for the answer; an opened file is closed below.
                        if let Ok(Done::Opened { inode }) = self.execute_name(op, faults) {
                            self.close(inode);
                        }
                    }
                }
                Op::List { .. }
                | Op::Lock { .. }
                | Op::ReadSmall { .. }
                | Op::Space
                | Op::Read { .. }
                | Op::Sync { .. } => {}
            }
        }
    }

    fn cut_power(&mut self) {
        assert!(self.in_flight.is_empty(), "its processes are dead");
        self.names.cut_power(&mut self.streams.crash);
        self.locks.clear();
        let reachable = self.names.reachable();
        self.inodes.retain(|id, _| reachable.contains(id));
        for inode in self.inodes.values_mut() {
            inode.open = 0;
            inode.image.cut_power(&mut self.streams.crash);
        }
    }
}

/// What tests see and do with a disk from outside.
impl MachineDisk {
    pub(in crate::runtime::simulated) fn paths(&self) -> Vec<String> {
        self.names.files().map(|(name, _)| name.clone()).collect()
    }

    pub(in crate::runtime::simulated) fn bytes(
        &self,
        path: &str,
        durable: bool,
    ) -> Option<Vec<u8>> {
        let image = &self.inodes.get(&self.file(path).ok()?)?.image;
        if durable {
            return Some(image.read_durable());
        }
        let mut bytes = vec![0; image.len() as usize];
        image.read(0, &mut bytes);
        Some(bytes)
    }

    /// False if there is no such range.
    pub(in crate::runtime::simulated) fn corrupt(
        &mut self,
        path: &str,
        offset: u64,
        len: usize,
    ) -> bool {
        let Ok(inode) = self.file(path) else {
            return false;
        };
        match self.image(inode) {
            Ok(image) if offset + len as u64 <= image.len() => {
                image.corrupt(offset, len, |bytes| {
                    bytes.iter_mut().for_each(|byte| *byte ^= 0xa5)
                });
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    pub(in crate::runtime::simulated) fn snapshot(&self) -> Snapshot {
        let images = self.inodes.iter();
        Snapshot {
            names: self.names.durable_only(),
            images: images
                .map(|(id, inode)| (*id, inode.image.durable_only()))
                .collect(),
        }
    }

    pub(in crate::runtime::simulated) fn restore(&mut self, snapshot: &Snapshot) {
        assert!(
            self.in_flight.is_empty() && self.locks.is_empty(),
            "the machine must be down"
        );
        self.names = snapshot.names.clone();
        let images = snapshot.images.iter();
        self.inodes = images
            .map(|(id, image)| {
                (
                    *id,
                    Inode {
                        image: image.clone(),
                        open: 0,
                    },
                )
            })
            .collect();
        self.sweep();
    }
}

impl State {
    /// Issues one I/O. None if the power went at that very moment.
    pub(super) fn disk_issue(
        &mut self,
        process: ProcessId,
        mut op: Op,
    ) -> Option<Rc<Completion<Answer>>> {
        let machine = self.process(process).machine;
        let faults = self.faults.disk.clone();
        let disk = &mut self.machine(machine).disk;
        disk.issued += 1;
        let ticket = disk.issued;
        let crashes = disk.crash_at == Some(ticket);
        if crashes && disk.streams.crash.chance(0.5) {
            disk.crash_at = None;
            self.end_machine(machine, End::PowerCut);
            return None;
        }
        disk.fence(&mut op);
        let failure = disk.failure(&op, &faults);
        let latency = disk.latency(&op, &faults);
        let digest = payload(&[ticket, latency.as_nanos() as u64], op.traced());
        let completion = Completion::new();
        disk.in_flight.insert(
            ticket,
            InFlight {
                process,
                op,
                failure,
                completion: completion.clone(),
            },
        );
        self.trace
            .record(self.now, process, Kind::DiskIssue, digest);
        if crashes {
            self.machine(machine).disk.crash_at = None;
            self.end_machine(machine, End::PowerCut);
            return None;
        }
        self.after(latency, Happening::Disk(machine, ticket));
        Some(completion)
    }

    pub(in crate::runtime::simulated) fn disk_happens(&mut self, machine: MachineId, ticket: u64) {
        let faults = self.faults.disk.clone();
        let disk = &mut self.machine(machine).disk;
        let Some(entry) = disk.in_flight.remove(&ticket) else {
            return;
        };
        let answer = match entry.failure {
            Some(cause) => {
                disk.fail(entry.op);
                Err(cause)
            }
            None => disk.execute(entry.op, entry.process, &faults),
        };
        let digest = match &answer {
            Ok(Done::Page(page)) => payload(&[ticket], page),
            Ok(Done::Bytes(bytes)) => payload(&[ticket], bytes),
            Ok(_) => payload(&[ticket], b""),
            Err(_) => payload(&[ticket, 1], b""),
        };
        self.trace
            .record(self.now, entry.process, Kind::DiskDone, digest);
        entry.completion.complete(answer);
    }

    pub(in crate::runtime::simulated) fn disk_process_ended(
        &mut self,
        process: ProcessId,
        end: End,
    ) {
        let machine = self.process(process).machine;
        let faults = self.faults.disk.clone();
        self.machine(machine).disk.abandon(process, end, &faults);
    }

    pub(in crate::runtime::simulated) fn disk_power_cut(&mut self, machine: MachineId) {
        self.machine(machine).disk.cut_power();
        self.trace.record(
            self.now,
            ProcessId(usize::MAX),
            Kind::PowerCut,
            machine.0 as u64,
        );
    }
}

impl Op {
    /// The bytes that enter the trace.
    fn traced(&self) -> &[u8] {
        match self {
            Op::MakeDir { path }
            | Op::Open { path, .. }
            | Op::OpenFresh { path }
            | Op::Remove { path }
            | Op::List { path }
            | Op::SyncDir { path, .. }
            | Op::Lock { path }
            | Op::ReadSmall { path } => path.as_bytes(),
            Op::Rename { to, .. } => to.as_bytes(),
            Op::Write { bytes, .. } => bytes,
            Op::Space | Op::Read { .. } | Op::Sync { .. } => b"",
        }
    }
}
