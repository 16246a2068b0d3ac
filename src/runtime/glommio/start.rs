//! The life of an executor: one thread pinned to one CPU, from its first task to the last completion of its ring.
#![allow(unsafe_code)]

use super::buffers::Pool;
use super::pump::{Bell, pump};
use super::ring::Ring;
use super::sockets::{check, owned};
use super::watchdog::{Pulse, Watch};
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
    thread: std::thread::JoinHandle<io::Result<T>>,
    stop: StopHandle,
}

impl<T: Send + 'static> Running<T> {
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Waits until the body has returned and the executor is torn down. A panic of its thread is an error.
    pub fn join(self) -> io::Result<T> {
        self.thread.join().map_err(|panic| {
            let said = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            io::Error::other(format!("an executor failed: {}", said.unwrap_or("panic")))
        })?
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
    let thread = std::thread::Builder::new()
        .name(format!("shard-{cpu}"))
        .spawn(move || {
            let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
                .preempt_timer(PREEMPT)
                .io_memory(IO_MEMORY)
                .ring_depth(GLOMMIO_RING)
                .make()
                .map_err(|e| {
                    io::Error::other(format!("cannot start an executor on CPU {cpu}: {e}"))
                })?;
            let pulse = Arc::new(Pulse::default());
            let _watch = Watch::this_thread(pulse.clone())?;
            executor.run(live(inside, pulse, body))
        })?;
    Ok(Running { thread, stop })
}

/// The whole life of an executor.
async fn live<T: 'static, F>(
    stop: StopHandle,
    pulse: Arc<Pulse>,
    body: impl FnOnce(Runtime) -> F,
) -> io::Result<T>
where
    F: Future<Output = T> + 'static,
{
    let eventfd = stop.0.eventfd.try_clone()?;
    let shard = build(stop, pulse.clone())?;
    let foreground = shard.0.queues[0];
    let pump = spawn_for_life(pump(shard.clone(), eventfd), foreground);
    let watched = shard.clone();
    let look = move || {
        // A shard that never started rang no bell when it ended.
        if watched.0.mail.is_waiting() {
            watched.0.bell.ring();
        }
    };
    let heart = spawn_for_life(pulse.beat(look), foreground);
    // The body lives in the pump's own queue: it runs between two enters, not after the pump has gone to sleep.
    let result = spawn_for_life(body(Runtime::from(shard.clone())), foreground).await;
    tear_down(&shard).await;
    pump.await;
    shard.0.ring.close();
    heart.cancel().await;
    Ok(result)
}

fn spawn_for_life<T: 'static>(
    task: impl Future<Output = T> + 'static,
    queue: TaskQueueHandle,
) -> glommio::Task<T> {
    glommio::spawn_local_into(task, queue).expect("the queues live as long as the executor")
}

fn build(stop: StopHandle, pulse: Arc<Pulse>) -> io::Result<Shard> {
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
        queue("scrub", 20, Latency::NotImportant),
    ];
    Ok(Shard(Rc::new(Inner {
        ring,
        bell,
        pool,
        network: RefCell::default(),
        arrived: Default::default(),
        operations: RefCell::default(),
        mail: Default::default(),
        queues,
        tasks: RefCell::default(),
        random: Random::new(),
        stop,
        pulse,
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
    shard.end_mail();
    shard.0.bell.ring();
}
