//! The seeded executor: which task of which process runs next is a draw.
//!
//! 1. A task is in its process's run queue at most once.
//! 2. A process runs one task at a time and pays for each poll in virtual time.
//! 3. A wake only notes the task; it touches no other state, so wakers may be called anywhere.
//! 4. A process in `ready` lives and has something to run.

use super::faults::SchedulerFaults;
use super::world::ProcessId;
use crate::base::rng::Rng;
use crate::base::units::Nanos;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

pub(super) type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

/// The least and the most virtual nanoseconds of a poll.
const POLL_COST: (u64, u64) = (200, 2_000);

/// Tasks woken since the last step, in order. `Waker` demands `Send`, hence the lock; one thread
/// ever takes it.
type Woken = Arc<Mutex<Vec<(usize, u64)>>>;

struct TaskWake {
    slot: usize,
    number: u64,
    queued: AtomicBool,
    woken: Woken,
}

impl Wake for TaskWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
            woken.push((self.slot, self.number));
        }
    }
}

struct Task {
    process: ProcessId,
    is_main: bool,
    wake: Arc<TaskWake>,
    /// None while it is polled.
    future: Option<LocalFuture>,
}

/// A task taken out for its poll.
pub(super) struct Turn {
    pub(super) process: ProcessId,
    pub(super) number: u64,
    pub(super) is_main: bool,
    slot: usize,
    wake: Arc<TaskWake>,
    future: LocalFuture,
}

impl Turn {
    /// True when the task is done.
    pub(super) fn poll(&mut self) -> bool {
        let waker = Waker::from(self.wake.clone());
        let mut context = Context::from_waker(&waker);
        self.future.as_mut().poll(&mut context).is_ready()
    }
}

#[derive(Default)]
struct RunQueue {
    alive: bool,
    runnable: Vec<usize>,
    busy_until: Nanos,
    /// It stands in `ready`, or a happening will put it there.
    announced: bool,
}

pub(super) struct Executor {
    rng: Rng,
    stalls: Rng,
    tasks: Vec<Option<Task>>,
    free: Vec<usize>,
    next_number: u64,
    queues: Vec<RunQueue>,
    ready: Vec<ProcessId>,
    /// Processes that have work when they are no longer busy.
    waiting: Vec<(ProcessId, Nanos)>,
    woken: Woken,
}

impl Executor {
    pub(super) fn new(seed: u64) -> Executor {
        Executor {
            rng: Rng::stream(seed, "executor", 0),
            stalls: Rng::stream(seed, "executor.stalls", 0),
            tasks: Vec::new(),
            free: Vec::new(),
            next_number: 0,
            queues: Vec::new(),
            ready: Vec::new(),
            waiting: Vec::new(),
            woken: Woken::default(),
        }
    }

    pub(super) fn begin_process(&mut self, id: ProcessId) {
        assert_eq!(id.0, self.queues.len());
        self.queues.push(RunQueue {
            alive: true,
            ..RunQueue::default()
        });
    }

    /// Takes all tasks of a dead process out; the caller drops them.
    pub(super) fn end_process(&mut self, id: ProcessId) -> Vec<LocalFuture> {
        self.queues[id.0].alive = false;
        self.queues[id.0].runnable.clear();
        self.ready.retain(|ready| *ready != id);
        let mut dead = Vec::new();
        for slot in 0..self.tasks.len() {
            if self.tasks[slot]
                .as_ref()
                .is_some_and(|task| task.process == id)
            {
                dead.extend(self.tasks[slot].take().and_then(|task| task.future));
                self.free.push(slot);
            }
        }
        dead
    }

    pub(super) fn spawn(&mut self, process: ProcessId, is_main: bool, future: LocalFuture) {
        assert!(self.queues[process.0].alive);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() - 1
        });
        self.next_number += 1;
        let wake = Arc::new(TaskWake {
            slot,
            number: self.next_number,
            queued: AtomicBool::new(false),
            woken: self.woken.clone(),
        });
        wake.wake_by_ref();
        self.tasks[slot] = Some(Task {
            process,
            is_main,
            wake,
            future: Some(future),
        });
    }

    /// Moves what was woken into the run queues.
    pub(super) fn take_woken(&mut self, now: Nanos) {
        let woken = {
            let mut list = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
            if list.is_empty() {
                return;
            }
            std::mem::take(&mut *list)
        };
        for (slot, number) in woken {
            let Some(task) = self.tasks.get(slot).and_then(Option::as_ref) else {
                continue;
            };
            if task.wake.number == number {
                let process = task.process;
                self.queues[process.0].runnable.push(slot);
                self.announce(process, now);
            }
        }
    }

    fn announce(&mut self, process: ProcessId, now: Nanos) {
        let queue = &mut self.queues[process.0];
        if queue.announced || queue.runnable.is_empty() {
            return;
        }
        queue.announced = true;
        if queue.busy_until <= now {
            self.ready.push(process);
        } else {
            self.waiting.push((process, queue.busy_until));
        }
    }

    pub(super) fn take_waiting(&mut self) -> Vec<(ProcessId, Nanos)> {
        std::mem::take(&mut self.waiting)
    }

    /// A process of `take_waiting` is no longer busy.
    pub(super) fn ready_again(&mut self, process: ProcessId) {
        let queue = &self.queues[process.0];
        if queue.alive {
            assert!(queue.announced && !queue.runnable.is_empty());
            self.ready.push(process);
        }
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Draws a process that can run, and one of its runnable tasks.
    pub(super) fn next_turn(&mut self) -> Option<Turn> {
        if self.ready.is_empty() {
            return None;
        }
        let drawn = self.rng.below(self.ready.len() as u64) as usize;
        let process = self.ready.swap_remove(drawn);
        let queue = &mut self.queues[process.0];
        assert!(queue.alive && queue.announced);
        queue.announced = false;
        let drawn = self.rng.below(queue.runnable.len() as u64) as usize;
        let slot = queue.runnable.swap_remove(drawn);
        let Some(task) = self.tasks[slot].as_mut() else {
            unreachable!("a runnable task is there: a dead process's queue is empty");
        };
        task.wake.queued.store(false, Ordering::Relaxed);
        let Some(future) = task.future.take() else {
            unreachable!("polls do not nest");
        };
        Some(Turn {
            process,
            number: task.wake.number,
            is_main: task.is_main,
            slot,
            wake: task.wake.clone(),
            future,
        })
    }

    /// Takes a task back after its poll, unless it is done or its process died in it; then the
    /// caller drops the future.
    pub(super) fn give_back(
        &mut self,
        turn: Turn,
        done: bool,
        now: Nanos,
        faults: &SchedulerFaults,
    ) -> Option<LocalFuture> {
        let queue = &mut self.queues[turn.process.0];
        if !queue.alive {
            return Some(turn.future);
        }
        let mut cost = POLL_COST.0 + self.rng.below(POLL_COST.1 - POLL_COST.0);
        if self.stalls.chance(faults.stall) {
            cost += self.stalls.below(faults.stall_max.as_nanos().max(1) as u64);
        }
        queue.busy_until = Nanos(now.0 + cost);
        self.announce(turn.process, now);
        if done {
            self.tasks[turn.slot] = None;
            self.free.push(turn.slot);
            return Some(turn.future);
        }
        let Some(task) = self.tasks[turn.slot].as_mut() else {
            unreachable!("the slot of a task in its poll is kept for it");
        };
        task.future = Some(turn.future);
        None
    }
}

/// The answer to one call that takes time: filled in by a happening, awaited by `Wait`.
pub(super) struct Completion<T> {
    value: RefCell<Option<T>>,
    waker: Cell<Option<Waker>>,
}

impl<T> Completion<T> {
    pub(super) fn new() -> Rc<Completion<T>> {
        Rc::new(Completion {
            value: RefCell::new(None),
            waker: Cell::new(None),
        })
    }

    pub(super) fn complete(&self, value: T) {
        *self.value.borrow_mut() = Some(value);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Waits for a completion; without one, for ever: the call of a dead process.
pub(super) struct Wait<T>(pub(super) Option<Rc<Completion<T>>>);

impl<T> Future for Wait<T> {
    type Output = T;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(completion) = &self.0 else {
            return Poll::Pending;
        };
        if let Some(value) = completion.value.borrow_mut().take() {
            return Poll::Ready(value);
        }
        completion.waker.set(Some(context.waker().clone()));
        Poll::Pending
    }
}
