//! A whole world in one thread: machines, their disks, the network between them, and virtual time,
//! all drawn from one seed.
//!
//! A `Simulation` is driven from outside by `run_until` and its like. The same seed, faults and
//! calls give the same trace, step by step; `trace_hash` tells. Randomness comes from one stream a
//! subsystem, so that a fault switched off leaves the draws of the others as they were. A panic in
//! a task goes through to the caller, after the seed and the faults were printed.

mod disk;
mod executor;
pub mod faults;
mod mail;
mod net;
mod process;
#[cfg(test)]
mod tests;
mod trace;
mod world;

use super::Runtime;
use super::disk::DiskCause;
use super::mailbox;
use crate::base::units::Nanos;
pub use disk::{Disk, File, Lock, Snapshot};
pub use faults::Faults;
pub use mail::{Mailbox, Post};
pub use net::{Bound, Lease, Net};
pub use process::Process;
use std::cell::RefCell;
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use world::{End, MachineId, MachineState, World};

/// How long `Machine::run` lets a future take, in virtual time.
const RUN_LIMIT: Duration = Duration::from_secs(3_600);

pub struct Simulation {
    world: Rc<World>,
    seed: u64,
}

impl Simulation {
    pub fn new(seed: u64, faults: Faults) -> Simulation {
        Simulation {
            world: World::new(seed, faults),
            seed,
        }
    }

    /// A new machine with an empty disk and the next address.
    pub fn machine(&self, name: &str) -> Machine {
        let id = self.world.with(|state| {
            let id = MachineId(state.machines.len());
            state.machines.push(MachineState {
                name: name.to_string(),
                powered: true,
                disk: disk::machine::MachineDisk::new(state.seed, id.0 as u64),
                clock_shift_ms: 0,
                processes: Vec::new(),
            });
            id
        });
        Machine {
            world: self.world.clone(),
            id,
        }
    }

    /// Virtual time since the world began.
    pub fn now(&self) -> Nanos {
        self.world.with(|state| state.now)
    }

    /// Changes the faults from now on, for example to heal the world.
    pub fn set_faults(&self, faults: Faults) {
        self.world.with(|state| state.faults = faults);
    }

    /// One poll of one task, or one thing that happens. False if nothing will ever happen again.
    pub fn step(&self) -> bool {
        self.world.step()
    }

    /// Steps until `done`; false if `limit` of virtual time passed or nothing will ever happen
    /// again.
    pub fn run_until(&self, done: impl FnMut() -> bool, limit: Duration) -> bool {
        self.world.run_until(done, limit)
    }

    /// Lets exactly `duration` of virtual time pass.
    pub fn run_for(&self, duration: Duration) {
        let end = self.now().0 + duration.as_nanos() as u64;
        self.world.run_until(|| false, duration);
        self.world
            .with(|state| state.now = state.now.max(Nanos(end)));
    }

    /// The hash of all that happened, in order.
    pub fn trace_hash(&self) -> u128 {
        self.world.with(|state| state.trace.hash())
    }

    /// How many entries the hash covers.
    pub fn trace_steps(&self) -> u64 {
        self.world.with(|state| state.trace.steps())
    }

    /// Nothing passes from `from` to `to` until `mend`; what is sent waits.
    pub fn cut(&self, from: &Machine, to: &Machine) {
        self.world
            .with(|state| state.net_block(from.id, to.id, true));
    }

    pub fn mend(&self, from: &Machine, to: &Machine) {
        self.world
            .with(|state| state.net_block(from.id, to.id, false));
    }

    /// Nothing passes between the two, in either direction.
    pub fn partition(&self, one: &Machine, other: &Machine) {
        self.cut(one, other);
        self.cut(other, one);
    }

    pub fn heal(&self, one: &Machine, other: &Machine) {
        self.mend(one, other);
        self.mend(other, one);
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let faults = self.world.with(|state| state.faults.clone());
            eprintln!("the world of seed {} failed, with {faults:?}", self.seed);
        }
        // Tasks hold handles to the world that holds them: they must go first.
        self.world.with(|state| {
            for machine in 0..state.machines.len() {
                state.end_machine(MachineId(machine), End::PowerCut);
            }
        });
        self.world.bury();
    }
}

/// A computer: a disk that outlives its processes, an address, a wall clock. Clones are the same
/// one.
#[derive(Clone)]
pub struct Machine {
    world: Rc<World>,
    id: MachineId,
}

impl Machine {
    pub fn name(&self) -> String {
        self.world.with(|state| state.machine(self.id).name.clone())
    }

    pub fn ip(&self) -> IpAddr {
        net::fabric::ip_of(self.id)
    }

    /// Starts a process whose first task is the future; when that is done, the process ends as if
    /// killed.
    pub fn start<F>(&self, main: impl FnOnce(Runtime) -> F) -> Process
    where
        F: Future<Output = ()> + 'static,
    {
        let id = self.world.with(|state| state.begin_process(self.id));
        let process = Process {
            world: self.world.clone(),
            id,
        };
        let future = Box::pin(main(Runtime::from(process.clone())));
        if process.is_alive() {
            self.world
                .with(|state| state.executor.spawn(id, true, future));
        }
        process
    }

    /// Places for `shards` processes of this machine that stand for the shards of one node; `credits` of asks for each
    /// ordered pair.
    pub fn posts(&self, shards: u16, credits: u32) -> Vec<mailbox::Post> {
        let posts = self
            .world
            .with(|state| state.open_office(self.id, shards, credits));
        posts.into_iter().map(mailbox::Post::from).collect()
    }

    /// Starts a process, runs the world until it ends, and returns what its future returned; None
    /// if it died before.
    pub fn run<T, F>(&self, main: impl FnOnce(Runtime) -> F) -> Option<T>
    where
        T: 'static,
        F: Future<Output = T> + 'static,
    {
        let result = Rc::new(RefCell::new(None));
        let place = result.clone();
        let process = self.start(|runtime| {
            let future = main(runtime);
            async move {
                let value = future.await;
                *place.borrow_mut() = Some(value);
            }
        });
        let ended = self.world.run_until(|| !process.is_alive(), RUN_LIMIT);
        assert!(
            ended,
            "a process of {} waits for what never comes",
            self.name()
        );
        result.take()
    }

    /// Cuts the power: memory is gone, what was not synced is decided by the seed.
    pub fn crash(&self) {
        self.world
            .with(|state| state.end_machine(self.id, End::PowerCut));
        self.world.bury();
    }

    /// Kills all processes (SIGKILL): completed writes stay visible, unsynced ones undecided.
    pub fn kill(&self) {
        self.world
            .with(|state| state.end_machine(self.id, End::Exit));
        self.world.bury();
    }

    /// Asks all processes to stop.
    pub fn stop_signal(&self) {
        self.world.with(|state| {
            for process in state.machine(self.id).processes.clone() {
                state.net_stop_signal(process);
            }
        });
    }

    /// Whether a process runs on it.
    pub fn is_running(&self) -> bool {
        self.world
            .with(|state| !state.machine(self.id).processes.is_empty())
    }

    /// How many disk I/Os it ever issued.
    pub fn io_count(&self) -> u64 {
        self.world.with(|state| state.machine(self.id).disk.issued)
    }

    /// Cuts the power when the disk I/O of this number (counted from 1, over all lives) is about to
    /// be issued or in flight.
    pub fn crash_at_io(&self, number: Option<u64>) {
        self.world
            .with(|state| state.machine(self.id).disk.crash_at = number);
    }

    /// Lets the disk I/O of this number fail.
    pub fn fail_io(&self, number: u64, cause: DiskCause) {
        self.world
            .with(|state| state.machine(self.id).disk.fail_at.insert(number, cause));
    }

    /// No I/O that was to fail will.
    pub fn fail_no_io(&self) {
        self.world
            .with(|state| state.machine(self.id).disk.fail_at.clear());
    }

    /// Moves its wall clock.
    pub fn shift_clock(&self, milliseconds: i64) {
        self.world
            .with(|state| state.machine(self.id).clock_shift_ms += milliseconds);
    }

    /// The paths of all files, sorted.
    pub fn files(&self) -> Vec<String> {
        self.world.with(|state| state.machine(self.id).disk.paths())
    }

    /// The file as a read would see it now.
    pub fn file_bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.world
            .with(|state| state.machine(self.id).disk.bytes(path, false))
    }

    /// The part of the file that no power cut can take, whether its name is durable or not.
    pub fn durable_bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.world
            .with(|state| state.machine(self.id).disk.bytes(path, true))
    }

    /// Spoils a range of a file; false if there is no such range.
    pub fn corrupt(&self, path: &str, offset: u64, len: usize) -> bool {
        self.world
            .with(|state| state.machine(self.id).disk.corrupt(path, offset, len))
    }

    /// Puts bytes into a file behind everybody's back; false if there is no such range.
    pub fn overwrite(&self, path: &str, offset: u64, bytes: &[u8]) -> bool {
        self.world
            .with(|state| state.machine(self.id).disk.overwrite(path, offset, bytes))
    }

    /// Lets a page of a file fail whenever it is read; false if there is no such file.
    pub fn kill_page(&self, path: &str, page: u64) -> bool {
        self.world
            .with(|state| state.machine(self.id).disk.kill_page(path, page))
    }

    /// The durable image of the disk, as a backup of this moment would have it.
    pub fn snapshot(&self) -> Snapshot {
        self.world
            .with(|state| state.machine(self.id).disk.snapshot())
    }

    /// Puts an old image back; the machine must be down.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.world
            .with(|state| state.machine(self.id).disk.restore(snapshot));
    }
}
