//! The disk of one machine: its files, names and locks, and what each completed step does to them.

use super::flight::InFlight;
use super::image::Image;
use super::names::{Names, Node, parent};
use super::op::{Answer, Done, Op};
use crate::base::limits::PAGE_BYTES;
use crate::base::rng::Rng;
use crate::runtime::buffer::PageBuffer;
use crate::runtime::disk::{DiskCause, Persist, Space};
use crate::runtime::simulated::faults::DiskFaults;
use crate::runtime::simulated::world::ProcessId;
use std::collections::{BTreeMap, BTreeSet};

/// What `space` says of a disk without a capacity.
const UNBOUNDED_BYTES: u64 = 1 << 40;

pub(super) struct Inode {
    pub(super) image: Image,
    /// Who has it open, once for each handle.
    pub(super) open: Vec<ProcessId>,
}

/// The streams of one disk, one for each thing that is drawn, so that a fault switched off shifts
/// no other.
pub(super) struct Streams {
    pub(super) latency: Rng,
    pub(super) slow: Rng,
    pub(super) read_error: Rng,
    pub(super) write_error: Rng,
    pub(super) sync_error: Rng,
    bit_rot: Rng,
    misdirected_write: Rng,
    misdirected_read: Rng,
    lost_write: Rng,
    pub(super) crash: Rng,
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

pub struct MachineDisk {
    pub(super) names: Names,
    pub(super) inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    pub(super) locks: BTreeMap<String, (ProcessId, u64)>,
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    pub issued: u64,
    pub crash_at: Option<u64>,
    pub fail_at: BTreeMap<u64, DiskCause>,
    /// Files and pages of them that cannot be read.
    pub(super) dead_pages: BTreeSet<(u64, u64)>,
    pub(super) streams: Streams,
}

impl MachineDisk {
    pub fn new(seed: u64, machine: u64) -> MachineDisk {
        MachineDisk {
            names: Names::default(),
            inodes: BTreeMap::new(),
            next_inode: 0,
            locks: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            issued: 0,
            crash_at: None,
            fail_at: BTreeMap::new(),
            dead_pages: BTreeSet::new(),
            streams: Streams::new(seed, machine),
        }
    }

    pub(super) fn image(&mut self, inode: u64) -> Result<&mut Image, DiskCause> {
        match self.inodes.get_mut(&inode) {
            Some(found) => Ok(&mut found.image),
            None => Err(DiskCause::NotFound),
        }
    }

    pub(super) fn len(&self, inode: u64) -> u64 {
        self.inodes.get(&inode).map_or(0, |found| found.image.len())
    }

    /// Bytes of all files that have a name or are open.
    fn used(&self) -> u64 {
        let named: BTreeSet<u64> = self.names.files().map(|(_, inode)| inode).collect();
        let counted = |(id, inode): &(&u64, &Inode)| named.contains(id) || !inode.open.is_empty();
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

    fn create(&mut self, path: &str, process: ProcessId) -> u64 {
        self.next_inode += 1;
        let inode = Inode {
            image: Image::default(),
            open: vec![process],
        };
        self.inodes.insert(self.next_inode, inode);
        self.names.link(path, Node::File(self.next_inode));
        self.next_inode
    }

    pub(super) fn file(&self, path: &str) -> Result<u64, DiskCause> {
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
    pub(super) fn execute(&mut self, op: Op, process: ProcessId, faults: &DiskFaults) -> Answer {
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
            Op::Allocate { inode, len } => {
                self.room_for(len, faults)?;
                self.image(inode)?.allocate(len);
                Ok(Done::Nothing)
            }
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
            | Op::Create { .. }
            | Op::OpenFresh { .. }
            | Op::Rename { .. }
            | Op::Link { .. }
            | Op::Remove { .. }
            | Op::List { .. }
            | Op::SyncDir { .. } => self.execute_name(op, process),
        }
    }

    pub(super) fn execute_name(&mut self, op: Op, process: ProcessId) -> Answer {
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
            Op::Open { path } => {
                let inode = self.open(&path, process)?;
                Ok(Done::Opened { inode })
            }
            Op::Create { path } => {
                self.dir(parent(&path))?;
                if self.names.get(&path).is_some() {
                    return Err(DiskCause::Exists);
                }
                let inode = self.create(&path, process);
                Ok(Done::Opened { inode })
            }
            Op::OpenFresh { path } => {
                self.dir(parent(&path))?;
                if self.names.get(&path).is_some() {
                    self.file(&path)?;
                    self.names.unlink(&path);
                }
                let inode = self.create(&path, process);
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
            Op::Link { from, to } => {
                let inode = self.file(&from)?;
                self.dir(parent(&to))?;
                if self.names.get(&to).is_some() {
                    return Err(DiskCause::Exists);
                }
                self.names.link(&to, Node::File(inode));
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
            | Op::Allocate { .. }
            | Op::Read { .. }
            | Op::Write { .. }
            | Op::Sync { .. } => unreachable!("not an operation on names"),
        }
    }

    fn open(&mut self, path: &str, process: ProcessId) -> Result<u64, DiskCause> {
        let inode = self.file(path)?;
        if let Some(found) = self.inodes.get_mut(&inode) {
            found.open.push(process);
        }
        Ok(inode)
    }

    fn lock(&mut self, path: String, process: ProcessId) -> Answer {
        if self.locks.contains_key(&path) {
            return Err(DiskCause::Locked);
        }
        let inode = match self.open(&path, process) {
            Ok(inode) => {
                self.image(inode)?.empty();
                inode
            }
            Err(DiskCause::NotFound) => {
                self.dir(parent(&path))?;
                self.create(&path, process)
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

    pub(super) fn close(&mut self, inode: u64, process: ProcessId) {
        if let Some(found) = self.inodes.get_mut(&inode) {
            let held = found.open.iter().position(|holder| *holder == process);
            assert!(held.is_some(), "closed more often than opened");
            held.map(|held| found.open.swap_remove(held));
        }
    }

    /// Frees the files that nothing can reach any more.
    pub(super) fn sweep(&mut self) {
        let reachable = self.names.reachable();
        self.inodes
            .retain(|id, inode| !inode.open.is_empty() || reachable.contains(id));
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
        let page = |at: u64| (inode, at / PAGE_BYTES as u64);
        let end = page(offset + len as u64);
        if self.dead_pages.range(page(offset)..end).next().is_some() {
            return Err(DiskCause::Os(libc::EIO));
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
}
