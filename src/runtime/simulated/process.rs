//! One simulated process: the executor side of the facade.
//!
//! A handle outlives its process; then every call is a no-op, and what it would wait for never
//! comes.

use super::disk::Disk;
use super::executor::{Completion, Wait};
use super::net::Net;
use super::trace::{Kind, payload};
use super::world::{Happening, ProcessId, State, World};
use crate::base::units::{Nanos, UnixMillis};
use crate::runtime::Queue;
use crate::runtime::log::Event;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// 2026-01-01T00:00:00Z: what the wall clocks show when a world begins.
const UNIX_START_MS: u64 = 1_767_225_600_000;
/// How late a timer may fire.
const TIMER_SLACK_NANOS: u64 = 50_000;

/// One simulated process, the executor of one shard; clones are the same one.
#[derive(Clone)]
pub struct Process {
    pub(super) world: Rc<World>,
    pub(super) id: ProcessId,
}

impl Process {
    /// Works on the state if this process still lives.
    pub(super) fn live<T>(&self, work: impl FnOnce(&mut State) -> T) -> Option<T> {
        self.world
            .with(|state| state.alive(self.id).then(|| work(state)))
    }

    /// Whether it runs: not ended, killed or without power.
    pub fn is_alive(&self) -> bool {
        self.world.with(|state| state.alive(self.id))
    }

    pub fn spawn(&self, _queue: Queue, task: impl Future<Output = ()> + 'static) {
        let task = Box::pin(task);
        // A task for a dead process is dropped here, outside the borrow.
        if self.is_alive() {
            self.world
                .with(|state| state.executor.spawn(self.id, false, task));
        }
    }

    pub fn now(&self) -> Nanos {
        self.world.with(|state| state.now)
    }

    pub fn unix_time(&self) -> UnixMillis {
        self.world.with(|state| {
            let machine = state.process(self.id).machine;
            let ahead = state.machine(machine).clock_shift_ms;
            UnixMillis((UNIX_START_MS + state.now.0 / 1_000_000).saturating_add_signed(ahead))
        })
    }

    pub async fn sleep(&self, duration: Duration) {
        let timer = self.live(|state| {
            let timer = Completion::new();
            let slack = state.process(self.id).whims.below(TIMER_SLACK_NANOS);
            let late = duration + Duration::from_nanos(slack);
            state.after(late, Happening::Timer(timer.clone()));
            timer
        });
        Wait(timer).await;
    }

    pub async fn yield_now(&self) {
        let mut yielded = false;
        std::future::poll_fn(|context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    pub fn should_yield(&self) -> bool {
        self.live(|state| state.process(self.id).whims.chance(0.25))
            .is_some_and(|now| now)
    }

    pub fn random_u64(&self) -> u64 {
        self.world.with(|state| state.process(self.id).random.u64())
    }

    pub fn simulated_delay(&self) -> bool {
        self.live(|state| {
            let delay = state.faults.scheduler.delay;
            state.process(self.id).delays.chance(delay)
        })
        .is_some_and(|delayed| delayed)
    }

    /// What a node tells its operator is a part of what it does.
    pub fn log(&self, event: &Event) {
        let said = payload(&[event.level as u64], event.message.as_bytes());
        self.live(|state| state.trace.record(state.now, self.id, Kind::Log, said));
    }

    pub fn net(&self) -> Net {
        Net::new(self.clone())
    }

    pub fn disk(&self, root: &Path) -> Disk {
        Disk::new(self.clone(), root)
    }
}
