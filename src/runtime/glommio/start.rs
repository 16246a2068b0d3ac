//! The life of an executor: one thread pinned to one CPU, from its first task to the last completion of its ring.
#![allow(unsafe_code)]

use super::buffers::Pool;
use super::pump::{Bell, pump};
use super::ring::Ring;
use super::sockets::{check, owned};
use super::{Inner, Shard, random::Random};
use crate::runtime::Runtime;
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a task queue runs while another waits.
const PREEMPT: Duration = Duration::from_micros(250);
/// glommio 0.9 parks with runnable tasks if its preempt timer fires between arming and the first task (its run loop
/// takes "preempted before anything ran" for "nothing to run", and the timer's completion counts as no event). Any
/// timer wakes it, so one is always armed: this bounds how long such a stall lasts.
const HEARTBEAT: Duration = Duration::from_millis(5);
/// glommio registers this much with the kernel, and memlock counts it; our own reads and writes do not use it.
const IO_MEMORY: usize = 256 * 1024;
/// Entries of glommio's own rings: they carry timers and the pump's sleep.
const GLOMMIO_RING: usize = 128;

/// Asks one executor to stop; `Event::Stop` appears among its events. Safe from any thread, as often as one likes.
#[derive(Clone)]
pub struct StopHandle(Arc<Stop>);

struct Stop {
    asked: AtomicBool,
    told: AtomicBool,
    eventfd: OwnedFd,
}

impl StopHandle {
    pub(super) fn new() -> io::Result<StopHandle> {
        // Blocking, for a read in a ring waits only on a blocking one; nobody else reads it.
        // SAFETY: no memory is passed.
        let eventfd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        check(eventfd)?;
        Ok(StopHandle(Arc::new(Stop {
            asked: AtomicBool::new(false),
            told: AtomicBool::new(false),
            eventfd: owned(eventfd),
        })))
    }

    pub fn stop(&self) {
        self.0.asked.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes of our own. It fails only when the counter is full, and then the sleeper wakes anyway.
        unsafe { libc::write(self.0.eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub(super) fn is_news(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst) && !self.0.told.load(Ordering::Relaxed)
    }

    pub(super) fn take_news(&self) -> bool {
        self.is_news() && !self.0.told.swap(true, Ordering::Relaxed)
    }
}

/// The tasks of a shard that have not ended, so that teardown can drop them.
#[derive(Default)]
pub(super) struct Tasks {
    running: Vec<Option<glommio::Task<()>>>,
    free: Vec<usize>,
}

pub(super) fn spawn(
    shard: &Shard,
    queue: TaskQueueHandle,
    task: impl Future<Output = ()> + 'static,
) {
    if shard.0.ending.get() {
        return;
    }
    let place = {
        let mut tasks = shard.0.tasks.borrow_mut();
        tasks.free.pop().unwrap_or_else(|| {
            tasks.running.push(None);
            tasks.running.len() - 1
        })
    };
    let owner = shard.clone();
    let wrapped = async move {
        task.await;
        let mut tasks = owner.0.tasks.borrow_mut();
        // Nothing is there once teardown has taken the list.
        let Some(done) = tasks.running.get_mut(place).and_then(Option::take) else {
            return;
        };
        tasks.free.push(place);
        drop(tasks);
        done.detach();
    };
    let handle =
        glommio::spawn_local_into(wrapped, queue).expect("the queues live as long as the executor");
    shard.0.tasks.borrow_mut().running[place] = Some(handle);
}

/// A running executor.
pub struct Running<T: Send + 'static> {
    handle: glommio::ExecutorJoinHandle<io::Result<T>>,
    stop: StopHandle,
}

impl<T: Send + 'static> Running<T> {
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Waits until the body has returned and the executor is torn down. A panic of its thread is an error.
    pub fn join(self) -> io::Result<T> {
        self.handle
            .join()
            .map_err(|e| io::Error::other(format!("an executor failed: {e}")))?
    }
}

/// Starts an executor on `cpu` and runs `body` on it. When `body` returns, all other tasks are dropped, all
/// connections are closed and the ring is drained (rule 10). Run the preflight first: it says better what is
/// missing.
pub fn run<T, F>(
    cpu: usize,
    body: impl FnOnce(Runtime) -> F + Send + 'static,
) -> io::Result<Running<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let stop = StopHandle::new()?;
    let inside = stop.clone();
    let handle = LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name("shard")
        .preempt_timer(PREEMPT)
        .io_memory(IO_MEMORY)
        .ring_depth(GLOMMIO_RING)
        .spawn(move || async move {
            let eventfd = inside.0.eventfd.try_clone()?;
            let shard = build(inside)?;
            let foreground = shard.0.queues[0];
            let pump = glommio::spawn_local_into(pump(shard.clone(), eventfd), foreground)
                .expect("the queue was just made");
            let heartbeat = glommio::spawn_local_into(
                async {
                    loop {
                        glommio::timer::sleep(HEARTBEAT).await;
                    }
                },
                foreground,
            )
            .expect("the queue was just made");
            // The body lives in the pump's own queue: it runs between two enters, not after the pump has gone to
            // sleep.
            let body = body(Runtime::from(shard.clone()));
            let result = glommio::spawn_local_into(body, foreground)
                .expect("the queue was just made")
                .await;
            tear_down(&shard).await;
            pump.await;
            shard.0.ring.close();
            heartbeat.cancel().await;
            Ok(result)
        })
        .map_err(|e| io::Error::other(format!("cannot start an executor on CPU {cpu}: {e}")))?;
    Ok(Running { handle, stop })
}

fn build(stop: StopHandle) -> io::Result<Shard> {
    let ring = Ring::new(stop.0.eventfd.as_raw_fd())?;
    let bell = Rc::new(Bell::default());
    let pool = Pool::new(&ring, bell.clone())?;
    let executor = glommio::executor();
    let queue =
        |name, shares, latency| executor.create_task_queue(Shares::Static(shares), latency, name);
    let soon = Latency::Matters(Duration::from_millis(1));
    let queues = [
        queue("foreground", 1000, soon),
        queue("replica", 500, soon),
        queue("background", 200, Latency::NotImportant),
        queue("repair", 100, Latency::NotImportant),
    ];
    Ok(Shard(Rc::new(Inner {
        ring,
        bell,
        pool,
        network: RefCell::default(),
        arrived: Default::default(),
        operations: RefCell::default(),
        queues,
        tasks: RefCell::default(),
        random: Random::new(),
        stop,
        ending: Cell::new(false),
    })))
}

/// Stop accepting, drop the tasks, cancel all; the pump then drains to zero.
async fn tear_down(shard: &Shard) {
    shard.0.ending.set(true);
    let running = std::mem::take(&mut shard.0.tasks.borrow_mut().running);
    for task in running.into_iter().flatten() {
        task.cancel().await;
    }
    shard.0.network.borrow_mut().end(&shard.0.ring);
    shard.0.bell.ring();
}
