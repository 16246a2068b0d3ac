//! Clients that want too much of a real node on a simulated machine: scripted, each with its verdict.
//!
//! The random worlds judge what is stored; these judge what is held. A scenario gives a line for each promise that was
//! broken, and none if all were kept.

use crate::base::limits;
use crate::base::planted::{self, Planted};
use crate::base::units::{KIB, MIB, Nanos};
use crate::engine::Sizes;
use crate::node::config::Options;
use crate::node::{self, Announce};
use crate::runtime::Runtime;
use crate::runtime::disk::DiskCause;
use crate::runtime::net::{ConnectionId, Event, Net};
use crate::runtime::simulated::faults::DiskFaults;
use crate::runtime::simulated::{Faults, Machine, Simulation};
use crate::runtime::time::timeout;
use crate::wire::codec;
use crate::wire::frame::{self, REPLY_IDENTIFIER, Split};
use crate::wire::message::{Op, PutMode, Request, Status};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

pub(super) const SECOND: Duration = Duration::from_secs(1);
const PORT: u16 = 7700;
const EIO: i32 = 5;

/// The scenario that judges what a planted bug breaks; `None`: the random worlds do.
pub fn scenario_of(bug: Planted) -> Option<fn(u64) -> Vec<String>> {
    match bug {
        Planted::DeadlineIgnored => Some(deadlines),
        Planted::BudgetLeaked => Some(buffers),
        Planted::SupersededNotAwaited
        | Planted::FreedBeforeDurable
        | Planted::FlipsNotFlushed
        | Planted::FlippedBeforeDurable => Some(super::storage::overwrites),
        _ => None,
    }
}

/// Runs a scenario with a planted bug, or with none.
pub fn judge(scenario: fn(u64) -> Vec<String>, seed: u64, bug: Option<Planted>) -> Vec<String> {
    planted::disable_all();
    if let Some(bug) = bug {
        planted::enable(bug);
    }
    let broken = scenario(seed);
    planted::disable_all();
    broken
}

/// A disk that hangs: every request is answered by its deadline and leaves nothing behind, and the node goes on when
/// the disk does.
pub fn deadlines(seed: u64) -> Vec<String> {
    let stage = Stage::new(seed, 64 * MIB);
    stage.start();
    stage.play(|mut talk| async move {
        let door = talk.connect().await;
        talk.ask(door, put(b"cold", &[7; 2_000])).await;
        talk.broken
    });
    stage.stop();
    // After a restart no value is in memory.
    stage.start();
    let hang = DiskFaults {
        hang: 30 * SECOND,
        ..DiskFaults::default()
    };
    stage.simulation.set_faults(Faults {
        disk: hang,
        ..Faults::default()
    });
    let mut broken = stage.play(|mut talk| async move {
        let door = talk.connect().await;
        for (what, wanted, request) in [
            ("a get from the disk", Status::Overloaded, get(b"cold")),
            ("a put", Status::Timeout, put(b"new", b"v")),
        ] {
            let request = Request {
                timeout_ms: 200,
                ..request
            };
            let begin = talk.runtime.now();
            let told = talk.ask(door, request).await;
            let took = Duration::from_nanos(talk.runtime.now().0 - begin.0);
            if told.as_ref().map(|t| t.status) != Some(wanted) || took > 2 * SECOND {
                talk.broken.push(format!("{what}: {told:?} after {took:?}"));
            }
        }
        let report = talk.report(door).await;
        // The one that asks for the report is under way too.
        if report["requests_in_flight"] != 1 {
            let left = &report["requests_in_flight"];
            talk.broken
                .push(format!("{left} requests hold their slots"));
        }
        talk.broken
    });
    stage.simulation.set_faults(Faults::default());
    stage.simulation.run_for(40 * SECOND);
    broken.extend(stage.play(|mut talk| async move {
        let door = talk.connect().await;
        let told = talk.ask(door, get(b"cold")).await;
        if told.as_ref().map(|t| t.status) != Some(Status::Ok) {
            talk.broken.push(format!("afterwards: {told:?}"));
        }
        let report = talk.report(door).await;
        if report["disk_tasks"] != 0 {
            talk.broken
                .push(format!("tasks left: {}", report["disk_tasks"]));
        }
        talk.broken
    }));
    broken
}

/// A log that is poisoned while the node stops: what was under way is told to be unknown, and the node ends.
pub fn poisoned_stop(seed: u64) -> Vec<String> {
    let stage = Stage::new(seed, 64 * MIB);
    stage.start();
    let hang = DiskFaults {
        hang: SECOND / 10,
        ..DiskFaults::default()
    };
    stage.simulation.set_faults(Faults {
        disk: hang,
        ..Faults::default()
    });
    let node = stage.node.clone();
    let mut broken = stage.play(|mut talk| async move {
        let door = talk.connect().await;
        // Every operation from now on: the next one is the put's own commit, or the mark of the idle log.
        for number in 1..100 {
            node.fail_io(node.io_count() + number, DiskCause::Os(EIO));
        }
        let bytes = frame_of(&Request {
            id: 7,
            ..put(b"key", &[7; 100])
        });
        talk.net.send(door, bytes);
        talk.listen(SECOND / 50).await;
        node.stop_signal();
        talk.listen(2 * SECOND).await;
        let told = talk.told.iter().find(|told| told.id == 7);
        let status = told.map(|told| told.status);
        if status != Some(Status::OutcomeUnknown) {
            talk.broken.push(format!("a put under way: {status:?}"));
        }
        talk.broken
    });
    let running = || !stage.node.is_running();
    if !stage.simulation.run_until(running, 20 * SECOND) {
        broken.push("the node does not end".into());
    }
    broken
}

/// Unfinished requests and unread replies of many: what they hold is bounded, small requests go on meanwhile, those
/// that hold most and do not move are closed, and when all have gone nothing is held.
pub fn buffers(seed: u64) -> Vec<String> {
    const EACH: usize = 30;
    let stage = Stage::new(seed, 4 * MIB);
    stage.start();
    stage.play(|mut talk| async move {
        let honest = talk.connect().await;
        let large = vec![7; 200 * KIB];
        talk.ask(honest, put(b"large", &large)).await;
        let mut greedy = Vec::new();
        let half = frame_of(&put(b"half", &vec![7; MIB]));
        let little = frame_of(&put(b"little", &vec![7; 8 * KIB]));
        let gets: Vec<u8> = (0..20).flat_map(|_| frame_of(&get(b"large"))).collect();
        for _ in 0..EACH {
            for bytes in [&half[..600], &little[..4 * KIB], &gets] {
                let door = talk.connect().await;
                talk.net.pause(door);
                talk.net.send(door, bytes.to_vec());
                greedy.push(door);
            }
        }
        let mut most = 0;
        for round in 0..20 {
            talk.listen(SECOND).await;
            for request in [put(b"small", b"v"), get(b"small")] {
                let told = talk.ask(honest, request).await;
                if told.as_ref().map(|t| t.status) != Some(Status::Ok) {
                    talk.broken.push(format!("round {round}: {told:?}"));
                }
            }
            let report = talk.report(honest).await;
            most = most.max(report["buffers"]["bytes"].as_u64().unwrap_or(u64::MAX));
        }
        let report = talk.report(honest).await;
        let bound = report["buffers"]["bytes_max"].as_u64().unwrap_or(0);
        let small = (3 * EACH * limits::SMALL_BYTES_MAX) as u64;
        if most > bound + small {
            talk.broken
                .push(format!("{most} bytes were held, of {bound}"));
        }
        if report["connections_stalled"] == 0 {
            talk.broken
                .push("nobody was closed for holding memory".into());
        }
        let told = talk.ask(honest, put(b"large", &large)).await;
        if told.as_ref().map(|t| t.status) != Some(Status::Ok) {
            talk.broken
                .push(format!("a long request has no room: {told:?}"));
        }
        for door in greedy {
            talk.net.close(door);
        }
        talk.listen(5 * SECOND).await;
        let report = talk.report(honest).await;
        let left = report["buffers"]["bytes"].as_u64().unwrap_or(u64::MAX);
        if left > limits::CONNECTION_KEPT_BYTES_MAX as u64 {
            talk.broken
                .push(format!("{left} bytes are held for nobody"));
        }
        talk.broken
    })
}

pub(super) fn get(key: &[u8]) -> Request<'_> {
    Request {
        op: Op::Get,
        key,
        ..Request::default()
    }
}

pub(super) fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Request<'a> {
    Request {
        op: Op::Put,
        key,
        value,
        mode: PutMode::Overwrite,
        ..Request::default()
    }
}

fn frame_of(request: &Request<'_>) -> Vec<u8> {
    codec::encode_request(&mut codec::Builder::default(), request).to_vec()
}

pub(super) struct Stage {
    pub(super) simulation: Simulation,
    pub(super) node: Machine,
    clients: Cell<u32>,
    pub(super) options: Options,
}

impl Stage {
    pub(super) fn new(seed: u64, memory_bytes: usize) -> Stage {
        let simulation = Simulation::new(seed, Faults::default());
        let node = simulation.machine("node");
        let options = Options {
            listen: SocketAddr::new(node.ip(), PORT),
            admin: None,
            advertise: None,
            join: Vec::new(),
            join_token: None,
            data: "data".into(),
            memory_bytes,
            value_bytes_max: MIB,
            connections_max: limits::CONNECTIONS_MAX,
            sizes: Sizes::WITHOUT_SLACK,
            disk_bytes: None,
            scrub_bytes_per_second: 0,
        };
        Stage {
            simulation,
            node,
            clients: Cell::new(0),
            options,
        }
    }

    /// Starts the node and waits until it serves.
    pub(super) fn start(&self) {
        let ready = Rc::new(Cell::new(false));
        let (told, options) = (ready.clone(), self.options.clone());
        let announce: Rc<dyn Fn(Announce<'_>)> = Rc::new(move |what: Announce<'_>| {
            told.set(told.get() || matches!(what, Announce::Ready { .. }));
        });
        let posts = self.node.posts(1, limits::PAIR_CREDITS_MIN);
        self.node.start(|runtime: Runtime| async move {
            let none = |seats: Vec<node::Seat>| assert!(seats.is_empty());
            let ran = node::found_and_run(runtime, options, posts, none, announce).await;
            assert!(ran.is_ok(), "{:?}", ran.err());
        });
        assert!(self.simulation.run_until(|| ready.get(), 60 * SECOND));
    }

    pub(super) fn stop(&self) {
        self.node.stop_signal();
        let running = || !self.node.is_running();
        assert!(self.simulation.run_until(running, 60 * SECOND));
    }

    /// Runs a client on a machine of its own to its end.
    pub(super) fn play<F>(&self, script: impl FnOnce(Talk) -> F) -> Vec<String>
    where
        F: Future<Output = Vec<String>> + 'static,
    {
        let number = self.clients.replace(self.clients.get() + 1);
        let machine = self.simulation.machine(&format!("client-{number}"));
        let server = self.options.listen;
        let broken = Rc::new(RefCell::new(None));
        let place = broken.clone();
        machine.start(|runtime| {
            let script = script(Talk::new(runtime, server));
            async move {
                let found = script.await;
                *place.borrow_mut() = Some(found);
            }
        });
        let ended = || broken.borrow().is_some();
        self.simulation.run_until(ended, 600 * SECOND);
        broken
            .take()
            .unwrap_or_else(|| vec!["the script hangs".into()])
    }
}

/// A reply.
#[derive(Clone, Debug)]
pub(super) struct Told {
    id: u64,
    pub(super) status: Status,
    json: String,
}

/// A client of many connections.
pub(super) struct Talk {
    runtime: Runtime,
    net: Net,
    server: SocketAddr,
    inboxes: BTreeMap<ConnectionId, Vec<u8>>,
    told: Vec<Told>,
    sending: BTreeSet<ConnectionId>,
    next_id: u64,
    pub(super) broken: Vec<String>,
}

impl Talk {
    fn new(runtime: Runtime, server: SocketAddr) -> Talk {
        Talk {
            net: runtime.net(),
            runtime,
            server,
            inboxes: BTreeMap::new(),
            told: Vec::new(),
            sending: BTreeSet::new(),
            next_id: 1_000_000,
            broken: Vec::new(),
        }
    }

    pub(super) async fn connect(&mut self) -> ConnectionId {
        let connection = self.net.connect(self.server);
        self.listen(Duration::from_millis(20)).await;
        connection
    }

    /// Takes what comes for so long.
    pub(super) async fn listen(&mut self, time: Duration) {
        let end = Nanos(self.runtime.now().0 + time.as_nanos() as u64);
        let mut events = Vec::new();
        while self.runtime.now() < end {
            let left = Duration::from_nanos(end.0 - self.runtime.now().0);
            timeout(&self.runtime, left, self.net.events(&mut events)).await;
            events.drain(..).for_each(|event| self.on_event(event));
        }
    }

    /// Whether what was sent last is still on its way out: until then no more is sent.
    pub(super) fn is_sending(&self, connection: ConnectionId) -> bool {
        self.sending.contains(&connection)
    }

    /// Sends one request and does not wait.
    pub(super) fn send(&mut self, connection: ConnectionId, request: Request<'_>) {
        self.sending.insert(connection);
        self.next_id += 1;
        let id = self.next_id;
        self.net
            .send(connection, frame_of(&Request { id, ..request }));
    }

    /// Sends one request and waits for its reply for a few seconds.
    pub(super) async fn ask(
        &mut self,
        connection: ConnectionId,
        request: Request<'_>,
    ) -> Option<Told> {
        self.send(connection, request);
        let id = self.next_id;
        for _ in 0..500 {
            self.listen(Duration::from_millis(10)).await;
            if let Some(at) = self.told.iter().position(|told| told.id == id) {
                return Some(self.told.swap_remove(at));
            }
        }
        None
    }

    pub(super) async fn report(&mut self, connection: ConnectionId) -> Value {
        let request = Request {
            op: Op::Status,
            ..Request::default()
        };
        let told = self.ask(connection, request).await;
        let json = told.map(|told| told.json).unwrap_or_default();
        serde_json::from_str(&json).unwrap_or_default()
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Chunk { connection, bytes } => {
                let inbox = self.inboxes.entry(connection).or_default();
                inbox.extend_from_slice(&bytes);
                let mut used = 0;
                while let Split::Frame { len } = frame::split(
                    &inbox[used..],
                    REPLY_IDENTIFIER,
                    limits::RESPONSE_FRAME_BYTES_MAX,
                ) {
                    let reply = codec::decode_reply(&inbox[used..used + len]);
                    let reply = reply.expect("a node sends replies");
                    self.told.push(Told {
                        id: reply.id,
                        status: reply.status,
                        json: reply.status_json.to_owned(),
                    });
                    used += len;
                }
                inbox.drain(..used);
            }
            Event::Ended { connection } => self.net.close(connection),
            Event::Sent { connection, .. } => {
                self.sending.remove(&connection);
            }
            Event::Closed { .. }
            | Event::Accepted { .. }
            | Event::Connected { .. }
            | Event::Asked { .. }
            | Event::Answered { .. }
            | Event::ShardEnded { .. }
            | Event::Stop => {}
        }
    }
}
