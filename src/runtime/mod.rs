//! The seam to the world: executor, disk, network, time, randomness, with two backends in one binary.
//!
//! The real backend is a pinned glommio executor with one io_uring ring of our own; the simulated one a seeded executor
//! with virtual time, a disk that loses what was not synced, and a network that cuts. Everything above this folder
//! reaches the world through these few verbs only; glommio and io-uring types end here. (DESIGN decisions 1, 2, 4
//! and section 2.1.)

pub mod buffer;
pub mod disk;
pub mod exclusive;
pub mod glommio;
pub mod log;
pub mod mailbox;
pub mod net;
pub mod notify;
pub mod preflight;
pub mod process;
#[cfg(feature = "sim")]
pub mod simulated;
pub mod time;

pub use self::glommio::{Running, StopHandle, run, signals};
use crate::base::units::{Nanos, UnixMillis};
use std::future::Future;
use std::time::Duration;

/// Whose share of the core a task takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Requests, commits, point reads: latency matters.
    Foreground,
    /// Replica traffic of other nodes.
    Replica,
    /// Flush, compaction, collection.
    Background,
    /// Repair and hand-off.
    Repair,
    /// Looking for what has rotted: it may take for ever.
    Scrub,
}

/// A handle to the executor of one shard; clones are the same executor.
#[derive(Clone)]
pub struct Runtime {
    backend: Backend,
}

#[derive(Clone)]
enum Backend {
    Glommio(glommio::Shard),
    #[cfg(feature = "sim")]
    Simulated(simulated::Process),
}

/// Calls the same method of whichever backend there is.
macro_rules! either {
    ($backend:expr, $b:ident => $call:expr) => {
        match $backend {
            Backend::Glommio($b) => $call,
            #[cfg(feature = "sim")]
            Backend::Simulated($b) => $call,
        }
    };
}

impl From<glommio::Shard> for Runtime {
    fn from(shard: glommio::Shard) -> Runtime {
        Runtime {
            backend: Backend::Glommio(shard),
        }
    }
}

#[cfg(feature = "sim")]
impl From<simulated::Process> for Runtime {
    fn from(process: simulated::Process) -> Runtime {
        Runtime {
            backend: Backend::Simulated(process),
        }
    }
}

impl Runtime {
    /// Runs `task` on this executor until it is done or the executor ends.
    pub fn spawn(&self, queue: Queue, task: impl Future<Output = ()> + 'static) {
        either!(&self.backend, b => b.spawn(queue, task))
    }

    /// Monotonic time.
    pub fn now(&self) -> Nanos {
        either!(&self.backend, b => b.now())
    }

    /// The wall clock: may jump, decides nothing but what users see.
    pub fn unix_time(&self) -> UnixMillis {
        either!(&self.backend, b => b.unix_time())
    }

    /// Resolves after `duration`, never before.
    pub async fn sleep(&self, duration: Duration) {
        either!(&self.backend, b => b.sleep(duration).await)
    }

    /// Lets other runnable tasks have their turn; which, and how many, the scheduler chooses.
    pub async fn yield_now(&self) {
        either!(&self.backend, b => b.yield_now().await)
    }

    /// Whether a long computation should yield now: asked every 50 microseconds or so (rule 3).
    pub fn should_yield(&self) -> bool {
        either!(&self.backend, b => b.should_yield())
    }

    /// Unpredictable under the real backend; drawn from the seed under simulation.
    pub fn random_u64(&self) -> u64 {
        either!(&self.backend, b => b.random_u64())
    }

    /// True, with a probability of the simulator's choosing, where a real node would wait for a table read or a peer.
    /// Always false under the real backend.
    pub fn simulated_delay(&self) -> bool {
        either!(&self.backend, b => b.simulated_delay())
    }

    /// Whether the operator asked for events of this level: before making one that nobody may read.
    pub fn logs(&self, level: log::Level) -> bool {
        match &self.backend {
            Backend::Glommio(_) => log::is_told(level),
            #[cfg(feature = "sim")]
            Backend::Simulated(_) => true,
        }
    }

    /// Tells the operator. Never waits.
    pub fn log(&self, event: log::Event) {
        match &self.backend {
            Backend::Glommio(_) => log::emit(event),
            #[cfg(feature = "sim")]
            Backend::Simulated(b) => b.log(&event),
        }
    }

    /// Counters of the ring since its start; all zero under simulation, which has none.
    pub fn ring_statistics(&self) -> glommio::RingStatistics {
        match &self.backend {
            Backend::Glommio(b) => b.statistics(),
            #[cfg(feature = "sim")]
            Backend::Simulated(_) => glommio::RingStatistics::default(),
        }
    }

    /// The network plane of this executor.
    pub fn net(&self) -> net::Net {
        match &self.backend {
            Backend::Glommio(b) => net::Net::Glommio(b.net()),
            #[cfg(feature = "sim")]
            Backend::Simulated(b) => net::Net::Simulated(b.net()),
        }
    }

    /// Takes this executor's place among the shards of its process: once, before it asks or is asked anything. The post
    /// is of the same backend.
    pub fn mailbox(&self, post: mailbox::Post) -> std::io::Result<mailbox::Mailbox> {
        use mailbox::{Mailbox, Post};
        match (&self.backend, post) {
            (Backend::Glommio(b), Post::Glommio(post)) => b.mailbox(post).map(Mailbox::Glommio),
            #[cfg(feature = "sim")]
            (Backend::Simulated(b), Post::Simulated(post)) => {
                Ok(Mailbox::Simulated(b.mailbox(post)))
            }
            #[cfg(feature = "sim")]
            (Backend::Glommio(_), Post::Simulated(_))
            | (Backend::Simulated(_), Post::Glommio(_)) => {
                panic!("a post of the other backend")
            }
        }
    }

    /// The files under `root` (under simulation a name, not a path of the machine).
    pub fn disk(&self, root: &std::path::Path) -> disk::Disk {
        match &self.backend {
            Backend::Glommio(b) => disk::Disk::Glommio(b.disk(root)),
            #[cfg(feature = "sim")]
            Backend::Simulated(b) => disk::Disk::Simulated(b.disk(root)),
        }
    }
}
