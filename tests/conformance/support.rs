//! Executors, directories and event loops for the cases.

use armilla::runtime::Runtime;
use armilla::runtime::glommio;
use armilla::runtime::mailbox::{self, Mailbox};
use armilla::runtime::net::{CloseReason, ConnectionId, Door, Event, Net};
use armilla::runtime::simulated::{Faults, Machine, Simulation};
use armilla::runtime::time::timeout;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A case that waits longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

static TURN: Mutex<()> = Mutex::new(());

/// Runs `case` on a real shard, one at a time in this process.
pub fn on_shard<T, F>(case: impl FnOnce(Runtime) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    alone(|| {
        let running = glommio::run(0, case).expect("an executor starts");
        running.join().expect("the case holds")
    })
}

/// Runs `case` on two real shards that write to each other, on two CPUs if there are as many.
pub fn on_shards<F>(credits: u32, case: fn(Runtime, Mailbox) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    alone(|| {
        let shards = mailbox::posts(2, credits).into_iter().enumerate();
        let running: Vec<_> = shards
            .map(|(shard, post)| {
                let body = move |runtime: Runtime| async move {
                    let mailbox = runtime.mailbox(post).expect("a place");
                    case(runtime, mailbox).await;
                };
                glommio::run(shard % cpus, body).expect("an executor starts")
            })
            .collect();
        for shard in running {
            shard.join().expect("the case holds");
        }
    });
}

/// Runs `case` in two processes of a new machine that write to each other, once for each seed.
pub fn on_processes<F>(credits: u32, case: fn(Runtime, Mailbox) -> F)
where
    F: Future<Output = ()> + 'static,
{
    for seed in SEEDS {
        let (simulation, machine) = world(seed);
        for post in machine.posts(2, credits) {
            machine.start(|runtime| async move {
                let mailbox = runtime.mailbox(post).expect("a place");
                case(runtime, mailbox).await;
            });
        }
        let ended = simulation.run_until(|| !machine.is_running(), 2 * PATIENCE);
        assert!(ended, "a shard waits for what never comes");
    }
}

/// Worlds in which a shared case is tried: orders of tasks, cuts of streams and delays differ.
const SEEDS: std::ops::Range<u64> = 0..5;

/// Runs `case` in a process of a new machine, once for each seed.
pub fn on_machine<F>(case: impl Fn(Runtime) -> F)
where
    F: Future<Output = ()> + 'static,
{
    for seed in SEEDS {
        let (_simulation, machine) = world(seed);
        machine.run(&case).expect("the process ends by itself");
    }
}

/// A world without faults, and a machine of it.
pub fn world(seed: u64) -> (Simulation, Machine) {
    let simulation = Simulation::new(seed, Faults::default());
    let machine = simulation.machine("one");
    (simulation, machine)
}

/// Runs `what` while no other case has an executor.
pub fn alone<T>(what: impl FnOnce() -> T) -> T {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    what()
}

/// A directory of the machine, removed at the end.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new(name: &str) -> Directory {
        let unique = format!("{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
        std::fs::create_dir_all(&path).expect("the target directory is writable");
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// This machine, at a port of its choice: a simulated machine too has a loopback, its own address.
pub fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Bytes in which every offset can be told from its neighbours.
pub fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i + seed) % 251) as u8).collect()
}

/// What an id may still bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The peer's end of stream was told: no chunk may follow.
    Ended,
    Closed,
}

/// Events taken one by one, in order. Whatever a case is about, the order of the events of each connection is checked.
pub struct Events {
    runtime: Runtime,
    net: Net,
    taken: Vec<Event>,
    queue: VecDeque<Event>,
    phases: BTreeMap<ConnectionId, Phase>,
    /// Whether `Ended` is answered by a close, as most owners do.
    pub closes_at_end: bool,
}

impl Events {
    pub fn of(runtime: &Runtime) -> Events {
        Events {
            runtime: runtime.clone(),
            net: runtime.net(),
            taken: Vec::new(),
            queue: VecDeque::new(),
            phases: BTreeMap::new(),
            closes_at_end: true,
        }
    }

    pub async fn next(&mut self) -> Event {
        let next = self.within(PATIENCE).await;
        next.expect("an event comes in time")
    }

    /// The next event, or none if `time` passes without one.
    pub async fn within(&mut self, time: Duration) -> Option<Event> {
        if self.queue.is_empty() {
            let waiting = self.net.events(&mut self.taken);
            timeout(&self.runtime, time, waiting).await?;
            assert!(!self.taken.is_empty(), "woken for nothing");
            for event in std::mem::take(&mut self.taken) {
                self.check(&event);
                self.queue.push_back(event);
            }
        }
        self.queue.pop_front()
    }

    /// One `Accepted` or `Connected`, then chunks and sents, after the last chunk at most one `Ended`, then one
    /// `Closed`; a connect that fails is only closed.
    fn check(&mut self, event: &Event) {
        let (id, next) = match event {
            Event::Accepted { connection, .. } | Event::Connected { connection } => {
                let before = self.phases.insert(*connection, Phase::Open);
                assert_eq!(before, None, "{event:?} comes first");
                return;
            }
            Event::Chunk { connection, bytes } => {
                assert!(!bytes.is_empty(), "an empty chunk");
                (connection, Phase::Open)
            }
            Event::Sent { connection, buffer } => {
                assert!(buffer.is_empty(), "a buffer comes back cleared");
                let before = self.phases.get(connection);
                assert!(before.is_some_and(|b| *b != Phase::Closed), "{event:?}");
                return;
            }
            Event::Ended { connection } => {
                if self.closes_at_end {
                    self.net.close(*connection);
                }
                (connection, Phase::Ended)
            }
            Event::Closed { connection, .. } => (connection, Phase::Closed),
            // Of the process and the other shards, not of a connection.
            Event::Stop
            | Event::Asked { .. }
            | Event::Answered { .. }
            | Event::ShardEnded { .. } => return,
        };
        let before = self.phases.insert(*id, next);
        let never_opened = before.is_none() && next == Phase::Closed;
        let ends = before == Some(Phase::Ended) && next == Phase::Closed;
        assert!(
            before == Some(Phase::Open) || ends || never_opened,
            "{event:?} after {before:?}"
        );
    }

    /// The first result of `wanted`; what it has no use for is dropped.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            let event = self.next().await;
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }

    pub async fn accepted(&mut self) -> ConnectionId {
        self.until(|event| match event {
            Event::Accepted { connection, .. } => Some(connection),
            _ => None,
        })
        .await
    }

    pub async fn closed(&mut self, which: ConnectionId) -> CloseReason {
        self.until(|event| match event {
            Event::Closed { connection, reason } if connection == which => Some(reason),
            _ => None,
        })
        .await
    }

    /// Bytes of one connection until there are `len` of them.
    pub async fn bytes(&mut self, which: ConnectionId, len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            let bytes = self.until(|event| match event {
                Event::Chunk { connection, bytes } if connection == which => Some(bytes),
                Event::Closed { connection, .. } => {
                    assert!(connection != which, "closed before all bytes came");
                    None
                }
                _ => None,
            });
            all.extend_from_slice(&bytes.await);
        }
        all
    }

    /// A connection with both ends here: the client's id, then the server's.
    pub async fn pair(&mut self, listening: SocketAddr) -> (ConnectionId, ConnectionId) {
        let client = self.net.connect(listening);
        let (mut server, mut connected) = (None, false);
        while server.is_none() || !connected {
            match self.next().await {
                Event::Accepted { connection, .. } => server = Some(connection),
                Event::Connected { connection } => connected |= connection == client,
                Event::Closed { connection, .. } => assert!(connection != client),
                _ => {}
            }
        }
        (client, server.expect("seen above"))
    }
}

pub fn listen(net: &Net) -> SocketAddr {
    net.listen(anywhere(), Door::Client, true)
        .expect("a free port")
}
