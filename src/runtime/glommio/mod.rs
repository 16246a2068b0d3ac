//! One pinned glommio executor and its ring.
//!
//! glommio schedules tasks and timers; network, log commits and point reads go through one io_uring of our own,
//! driven by the pump. The rooms: `start` (an executor's life), `ring` (entries and completions), `pump` (when to
//! enter, when to sleep), `connections` and `net`, `buffers` (what is received into), `operations`, `disk` and
//! `file`, `mail`, `signals`, `watchdog`.

mod buffers;
mod connections;
mod disk;
mod file;
pub(in crate::runtime) mod holder;
mod mail;
mod net;
mod operations;
mod pump;
mod random;
mod ring;
pub mod signals;
mod sockets;
mod start;
mod watchdog;

pub use buffers::Lease;
pub use disk::{Disk, Lock};
pub use file::File;
pub(in crate::runtime) use mail::posts;
pub use mail::{Mailbox, Post};
pub use net::{Bound, Net};
pub use ring::RingStatistics;
pub(in crate::runtime) use ring::builder as ring_builder;
pub(in crate::runtime) use sockets::bound_socket;
pub use start::{Running, StopHandle, run};

use super::Queue;
use super::notify::Notify;
use crate::base::units::{Nanos, UnixMillis};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// One pinned executor and its ring.
#[derive(Clone)]
pub struct Shard(Rc<Inner>);

struct Inner {
    ring: ring::Ring,
    bell: Rc<pump::Bell>,
    pool: Rc<buffers::Pool>,
    network: RefCell<net::Network>,
    /// There are events to take.
    arrived: Notify,
    operations: RefCell<operations::Operations>,
    mail: mail::Mail,
    queues: [glommio::TaskQueueHandle; 5],
    tasks: RefCell<start::Tasks>,
    random: random::Random,
    stop: StopHandle,
    pulse: Arc<watchdog::Pulse>,
    /// Teardown has begun: nothing new is queued on the ring.
    ending: Cell<bool>,
}

impl Shard {
    pub fn spawn(&self, queue: Queue, task: impl Future<Output = ()> + 'static) {
        start::spawn(self, self.0.queues[queue as usize], task);
    }

    pub fn now(&self) -> Nanos {
        static START: OnceLock<Instant> = OnceLock::new();
        let since = START.get_or_init(Instant::now).elapsed();
        Nanos(since.as_nanos() as u64)
    }

    pub fn unix_time(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        UnixMillis(since.unwrap_or_default().as_millis() as u64)
    }

    pub async fn sleep(&self, duration: Duration) {
        glommio::timer::sleep(duration).await;
    }

    /// The pump too has its turn: a computation that yields lets what arrived meanwhile be seen.
    pub async fn yield_now(&self) {
        if self.0.ring.has_completions() {
            self.0.bell.ring();
        }
        glommio::executor().yield_task_queue_now().await;
    }

    pub fn should_yield(&self) -> bool {
        glommio::executor().need_preempt() || self.0.ring.has_completions()
    }

    pub fn random_u64(&self) -> u64 {
        self.0.random.next()
    }

    pub fn simulated_delay(&self) -> bool {
        false
    }

    pub fn net(&self) -> Net {
        Net(self.clone())
    }

    pub fn disk(&self, root: &Path) -> Disk {
        Disk::new(self.clone(), root)
    }

    /// Asks this shard to stop, from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.0.stop.clone()
    }

    pub fn statistics(&self) -> RingStatistics {
        RingStatistics {
            stalls: self.0.pulse.stalls(),
            doorbells: self.0.mail.rings(),
            ..self.0.ring.statistics.get()
        }
    }
}
