//! Operations under way: when they are issued, when they complete, and what an end leaves of them.
//!
//! An operation takes effect when it completes; its caller may be long gone. A power cut takes
//! everything out of the air first, so that nothing completes afterwards.

use super::machine::MachineDisk;
use super::op::{Answer, Class, Done, Op};
use crate::runtime::disk::DiskCause;
use crate::runtime::simulated::executor::Completion;
use crate::runtime::simulated::faults::DiskFaults;
use crate::runtime::simulated::trace::{Kind, payload};
use crate::runtime::simulated::world::{End, Happening, MachineId, ProcessId, State};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

const EIO: DiskCause = DiskCause::Os(libc::EIO);

pub(super) struct InFlight {
    process: ProcessId,
    op: Op,
    /// An error that was decided when it was issued.
    failure: Option<DiskCause>,
    completion: Rc<Completion<Answer>>,
}

impl MachineDisk {
    /// The error that a step will meet, if any.
    fn failure(&mut self, class: Class, faults: &DiskFaults) -> Option<DiskCause> {
        if let Some(cause) = self.fail_at.remove(&self.issued) {
            return Some(cause);
        }
        let streams = &mut self.streams;
        let failed = match class {
            Class::Read => streams.read_error.chance(faults.read_error),
            Class::CachedWrite | Class::DurableWrite => {
                streams.write_error.chance(faults.write_error)
            }
            Class::Sync => streams.sync_error.chance(faults.sync_error),
            Class::Metadata => false,
        };
        failed.then_some(EIO)
    }

    fn latency(&mut self, class: Class, faults: &DiskFaults) -> Duration {
        let (least, most) = match class {
            Class::Read => (20, 150),
            Class::CachedWrite => (20, 200),
            Class::DurableWrite => (60, 600),
            Class::Sync => (100, 2_000),
            Class::Metadata => (5, 100),
        };
        let mut nanos = self.streams.latency.range(1_000 * least..1_000 * most);
        if self.streams.slow.chance(faults.slow) {
            nanos *= 100;
        }
        Duration::from_nanos(nanos) + faults.hang
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
            | Op::Create { .. }
            | Op::OpenFresh { .. }
            | Op::Rename { .. }
            | Op::Link { .. }
            | Op::Remove { .. }
            | Op::List { .. }
            | Op::Lock { .. }
            | Op::ReadSmall { .. }
            | Op::Space
            | Op::Allocate { .. }
            | Op::Read { .. } => {}
        }
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
            | Op::Create { .. }
            | Op::OpenFresh { .. }
            | Op::Rename { .. }
            | Op::Link { .. }
            | Op::Remove { .. }
            | Op::List { .. }
            | Op::SyncDir { .. }
            | Op::Lock { .. }
            | Op::ReadSmall { .. }
            | Op::Space
            | Op::Allocate { .. }
            | Op::Read { .. } => {}
        }
    }

    /// A process ended while these were in flight: writes reach the cache in part, changes of names
    /// or not.
    fn abandon(&mut self, process: ProcessId, end: End) {
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
                | Op::Create { .. }
                | Op::OpenFresh { .. }
                | Op::Rename { .. }
                | Op::Link { .. }
                | Op::Remove { .. }
                | Op::SyncDir { .. }) => {
                    if self.streams.crash.chance(0.5) {
                        // Nobody waits for the answer, whether it worked or not.
                        let _ = self.execute_name(op, process);
                    }
                }
                Op::List { .. }
                | Op::Lock { .. }
                | Op::ReadSmall { .. }
                | Op::Space
                | Op::Allocate { .. }
                | Op::Read { .. }
                | Op::Sync { .. } => {}
            }
        }
        for inode in self.inodes.values_mut() {
            inode.open.retain(|holder| *holder != process);
        }
    }

    fn cut_power(&mut self) {
        assert!(self.in_flight.is_empty(), "its processes are dead");
        self.names.cut_power(&mut self.streams.crash);
        self.locks.clear();
        let reachable = self.names.reachable();
        self.inodes.retain(|id, _| reachable.contains(id));
        for inode in self.inodes.values_mut() {
            assert!(inode.open.is_empty());
            inode.image.cut_power(&mut self.streams.crash);
        }
    }
}

impl State {
    /// Issues one I/O. None if the power went at that very moment.
    pub fn disk_issue(&mut self, process: ProcessId, mut op: Op) -> Option<Rc<Completion<Answer>>> {
        let machine = self.process(process).machine;
        let faults = self.faults.disk;
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
        let failure = disk.failure(op.class(), &faults);
        let latency = disk.latency(op.class(), &faults);
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

    pub fn disk_happens(&mut self, machine: MachineId, ticket: u64) {
        let faults = self.faults.disk;
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

    pub fn disk_process_ended(&mut self, process: ProcessId, end: End) {
        let machine = self.process(process).machine;
        self.machine(machine).disk.abandon(process, end);
    }

    pub fn disk_power_cut(&mut self, machine: MachineId) {
        self.machine(machine).disk.cut_power();
        self.trace.record(
            self.now,
            ProcessId(usize::MAX),
            Kind::PowerCut,
            machine.0 as u64,
        );
    }
}
