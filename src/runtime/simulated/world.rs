//! The whole state of a simulated world behind one cell, and its heap of things to come.
//!
//! 1. Time only moves when no process can run, to the earliest happening; equal times go in the
//!    order they were made.
//! 2. No future is polled or dropped while the state is borrowed: those of a dead process wait in
//!    `graveyard`.
//! 3. A process is marked dead before anything of it is dropped, so that its drops have no effect.

use super::disk::machine::MachineDisk;
use super::executor::{Completion, Executor, LocalFuture};
use super::faults::Faults;
use super::mail::{Office, Seat};
use super::net::fabric::{Fabric, NetHappening};
use super::net::ports::Ports;
use super::trace::{Kind, Trace};
use crate::base::rng::Rng;
use crate::base::units::Nanos;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

/// Counts the processes of a world; never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ProcessId(pub(super) usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MachineId(pub(super) usize);

/// Something that will happen at a known time.
pub(super) enum Happening {
    Timer(Rc<Completion<()>>),
    /// A process has paid for its last poll.
    Ready(ProcessId),
    Disk(MachineId, u64),
    Net(NetHappening),
    /// A shard looks for letters.
    Mail(Seat),
}

struct Entry {
    at: Nanos,
    sequence: u64,
    happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    /// The heap gives its greatest: the earliest.
    fn cmp(&self, other: &Entry) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

pub(super) struct ProcessState {
    pub(super) machine: MachineId,
    pub(super) alive: bool,
    /// What the process itself draws.
    pub(super) random: Rng,
    /// What the simulator draws for it.
    pub(super) whims: Rng,
    pub(super) delays: Rng,
    pub(super) ports: Ports,
    pub(super) seat: Option<Seat>,
}

pub(super) struct MachineState {
    pub(super) name: String,
    /// False from a power cut to the next start.
    pub(super) powered: bool,
    pub(super) disk: MachineDisk,
    /// Milliseconds that its wall clock is ahead.
    pub(super) clock_shift_ms: i64,
    pub(super) processes: Vec<ProcessId>,
}

pub(super) struct State {
    pub(super) seed: u64,
    pub(super) now: Nanos,
    pub(super) faults: Faults,
    pub(super) trace: Trace,
    pub(super) executor: Executor,
    pub(super) processes: Vec<ProcessState>,
    pub(super) machines: Vec<MachineState>,
    pub(super) fabric: Fabric,
    pub(super) offices: Vec<Office>,
    pub(super) graveyard: Vec<LocalFuture>,
    heap: BinaryHeap<Entry>,
    sequence: u64,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It ended by itself or was killed: the kernel lives on, closes its sockets and keeps its
    /// writes.
    Exit,
    /// The power went.
    PowerCut,
}

impl State {
    fn new(seed: u64, faults: Faults) -> State {
        State {
            seed,
            now: Nanos(0),
            faults,
            trace: Trace::new(seed),
            executor: Executor::new(seed),
            processes: Vec::new(),
            machines: Vec::new(),
            fabric: Fabric::new(seed),
            offices: Vec::new(),
            graveyard: Vec::new(),
            heap: BinaryHeap::new(),
            sequence: 0,
        }
    }

    pub(super) fn process(&mut self, id: ProcessId) -> &mut ProcessState {
        &mut self.processes[id.0]
    }

    pub(super) fn machine(&mut self, id: MachineId) -> &mut MachineState {
        &mut self.machines[id.0]
    }

    pub(super) fn alive(&self, id: ProcessId) -> bool {
        self.processes[id.0].alive
    }

    /// Schedules a happening `delay` from now.
    pub(super) fn after(&mut self, delay: Duration, happening: Happening) {
        let at = Nanos(self.now.0 + delay.as_nanos() as u64);
        self.at(at, happening);
    }

    pub(super) fn at(&mut self, at: Nanos, happening: Happening) {
        assert!(at >= self.now, "the past is over");
        self.sequence += 1;
        self.heap.push(Entry {
            at,
            sequence: self.sequence,
            happening,
        });
    }

    /// Lets what was woken run, at once or when its process is no longer busy.
    fn settle_woken(&mut self) {
        self.net_leases_returned();
        self.executor.take_woken(self.now);
        for (process, at) in self.executor.take_waiting() {
            self.at(at, Happening::Ready(process));
        }
    }

    /// When the next thing happens, if anything ever does. Timers that nobody waits for are
    /// forgotten.
    pub(super) fn next_at(&mut self) -> Option<Nanos> {
        while let Some(entry) = self.heap.peek() {
            match &entry.happening {
                Happening::Timer(timer) if Rc::strong_count(timer) == 1 => {
                    self.heap.pop();
                }
                Happening::Timer(_)
                | Happening::Ready(_)
                | Happening::Disk(..)
                | Happening::Net(_)
                | Happening::Mail(_) => return Some(entry.at),
            }
        }
        None
    }

    /// Moves the time to the next happening and lets it happen.
    fn happen(&mut self) -> bool {
        if self.next_at().is_none() {
            return false;
        }
        let Some(entry) = self.heap.pop() else {
            return false;
        };
        self.now = entry.at;
        match entry.happening {
            Happening::Timer(timer) => timer.complete(()),
            Happening::Ready(process) => self.executor.ready_again(process),
            Happening::Disk(machine, ticket) => self.disk_happens(machine, ticket),
            Happening::Net(happening) => self.net_happens(happening),
            Happening::Mail(seat) => self.mail_looked(seat),
        }
        true
    }

    pub(super) fn begin_process(&mut self, machine: MachineId) -> ProcessId {
        let id = ProcessId(self.processes.len());
        self.processes.push(ProcessState {
            machine,
            alive: true,
            random: Rng::stream(self.seed, "process", id.0 as u64),
            whims: Rng::stream(self.seed, "process.whims", id.0 as u64),
            delays: Rng::stream(self.seed, "process.delays", id.0 as u64),
            ports: Ports::default(),
            seat: None,
        });
        self.executor.begin_process(id);
        self.machine(machine).powered = true;
        self.machine(machine).processes.push(id);
        self.trace
            .record(self.now, id, Kind::Start, machine.0 as u64);
        id
    }

    /// Ends one process: first it is dead, then its sockets and locks go, then its tasks wait to be
    /// dropped.
    pub(super) fn end_process(&mut self, id: ProcessId, end: End) {
        if !self.alive(id) {
            return;
        }
        let machine = self.process(id).machine;
        self.process(id).alive = false;
        self.machine(machine).processes.retain(|other| *other != id);
        self.trace.record(self.now, id, Kind::End, end as u64);
        self.disk_process_ended(id, end);
        self.net_process_ended(id, end);
        self.mail_process_ended(id);
        let dead = self.executor.end_process(id);
        self.graveyard.extend(dead);
    }

    pub(super) fn end_machine(&mut self, id: MachineId, end: End) {
        if end == End::PowerCut {
            self.machine(id).powered = false;
        }
        for process in self.machine(id).processes.clone() {
            self.end_process(process, end);
        }
        if end == End::PowerCut {
            self.disk_power_cut(id);
        }
    }
}

pub(super) struct World {
    state: RefCell<State>,
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> Rc<World> {
        Rc::new(World {
            state: RefCell::new(State::new(seed, faults)),
        })
    }

    /// Works on the state, then drops what died by it.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.borrow_mut())
    }

    /// Drops the tasks of dead processes. Only from outside every poll: a task that crashes its own
    /// machine is on the stack.
    pub(super) fn bury(&self) {
        loop {
            let dead = self.with(|state| std::mem::take(&mut state.graveyard));
            if dead.is_empty() {
                return;
            }
            drop(dead);
        }
    }

    /// One poll of one task, or else one happening. False if nothing will ever happen again.
    pub(super) fn step(&self) -> bool {
        let turn = self.with(|state| {
            state.settle_woken();
            state.executor.next_turn()
        });
        let moved = match turn {
            Some(turn) => {
                self.poll(turn);
                true
            }
            None => self.with(State::happen),
        };
        self.bury();
        moved
    }

    fn poll(&self, mut turn: super::executor::Turn) {
        self.with(|state| {
            let (now, number) = (state.now, turn.number);
            state.trace.record(now, turn.process, Kind::Poll, number);
        });
        let done = turn.poll();
        let leftover = self.with(|state| {
            let faults = state.faults.scheduler;
            let is_main = turn.is_main;
            let process = turn.process;
            let leftover = state.executor.give_back(turn, done, state.now, &faults);
            if done && is_main {
                state.end_process(process, End::Exit);
            }
            leftover
        });
        drop(leftover);
    }

    pub(super) fn run_until(&self, mut done: impl FnMut() -> bool, limit: Duration) -> bool {
        let end = Nanos(self.with(|state| state.now.0) + limit.as_nanos() as u64);
        while !done() {
            let next = self.with(|state| {
                state.settle_woken();
                match state.executor.has_ready() {
                    true => Some(state.now),
                    false => state.next_at(),
                }
            });
            if next.is_none_or(|next| next > end) {
                return false;
            }
            self.step();
        }
        true
    }
}
