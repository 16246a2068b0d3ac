//! The wires between simulated processes: streams of pieces with delays, cut and merged at random.
//!
//! 1. What arrives at one endpoint arrives in the order it was sent.
//! 2. The bytes under way to an endpoint and unread at it never exceed the window.
//! 3. An endpoint ends once: `Sent` for a send in flight, then `Closed`; its slot is free before
//!    either is taken.

use crate::base::rng::Rng;
use crate::base::units::{KIB, Nanos};
use crate::runtime::net::{CloseReason, ConnectionId, Door, Event};
use crate::runtime::simulated::trace::{Kind, payload};
use crate::runtime::simulated::world::{Happening, MachineId, ProcessId, State};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// Bytes under way to an endpoint or unread at it.
pub(super) const WINDOW_BYTES: usize = 64 * KIB;
const FIRST_EPHEMERAL_PORT: u16 = 32_768;

pub enum NetHappening {
    /// A connect reaches the other machine.
    Syn { endpoint: u64, to: SocketAddr },
    /// The process takes a connection from the backlog.
    Accept { endpoint: u64, door: Door },
    /// A piece may have arrived.
    Pipe { endpoint: u64 },
    /// Received bytes are handed to the process.
    Deliver { endpoint: u64 },
    /// The last byte of a send left.
    Sent { endpoint: u64 },
    /// A send had its time to leave before a close.
    Linger { endpoint: u64 },
    /// A close is carried out.
    Close { endpoint: u64 },
    /// The connection fails with an errno.
    Break { endpoint: u64, errno: i32 },
}

pub(super) enum Item {
    Handshake,
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

pub(super) struct Listener {
    pub(super) process: ProcessId,
    pub(super) door: Door,
    pub(super) exclusive: bool,
    /// A process takes what comes; before that the address is only held.
    pub(super) open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Backlog,
    Open,
    /// Closed by its process; nothing more is delivered.
    Closing,
}

pub(super) struct Sending {
    pub(super) buffer: Vec<u8>,
    pub(super) offset: usize,
    /// All of it left; only the report is missing.
    pub(super) reported: bool,
}

pub(super) struct Endpoint {
    pub(super) process: ProcessId,
    pub(super) machine: MachineId,
    pub(super) id: ConnectionId,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) remote_machine: Option<MachineId>,
    pub(super) peer: Option<u64>,
    pub(super) phase: Phase,
    pub(super) sending: Option<Sending>,
    /// A close waits for the send in flight.
    pub(super) closing: bool,
    pub(super) paused: bool,
    /// What is under way to here, in order.
    pub(super) pipe: VecDeque<(Nanos, Item)>,
    /// A partition holds the pipe up.
    pub(super) stalled: bool,
    pub(super) inbound: VecDeque<u8>,
    /// Leases of its chunks that are not dropped yet.
    pub(super) held: Rc<Cell<u32>>,
    /// Bytes of data in `pipe`, in `inbound` and in events not yet taken.
    pub(super) pending: usize,
    /// The peer's end has arrived.
    pub(super) finished: bool,
    /// The process was told of it.
    pub(super) told_end: bool,
    /// Bytes thrown away since the process closed.
    pub(super) drained: usize,
    /// Closed, and its last byte has left.
    pub(super) shut: bool,
    pub(super) delivering: bool,
    /// Bytes sent to a peer that is no more.
    pub(super) void_bytes: usize,
    pub(super) breaking: bool,
}

pub struct Fabric {
    pub(super) listeners: BTreeMap<SocketAddr, Vec<Listener>>,
    pub(super) endpoints: BTreeMap<u64, Endpoint>,
    /// Endpoints of which leases were dropped since the last step.
    pub(super) returned: Rc<RefCell<Vec<u64>>>,
    pub(super) next_endpoint: u64,
    pub(super) next_port: u16,
    pub(super) blocked: BTreeSet<(MachineId, MachineId)>,
    pub(super) seed: u64,
    pub(super) delays: Rng,
    pub(super) cuts: Rng,
    pub(super) choices: Rng,
    pub(super) loss: Rng,
    pub(super) reset: Rng,
    pub(super) half_open: Rng,
    pub(super) bit_flip: Rng,
    pub(super) ends: Rng,
}

impl Fabric {
    pub fn new(seed: u64) -> Fabric {
        let stream = |name: &str| Rng::stream(seed, name, 0);
        Fabric {
            listeners: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            returned: Rc::default(),
            next_endpoint: 0,
            next_port: FIRST_EPHEMERAL_PORT,
            blocked: BTreeSet::new(),
            seed,
            delays: stream("net.delays"),
            cuts: stream("net.cuts"),
            choices: stream("net.choices"),
            loss: stream("net.loss"),
            reset: stream("net.reset"),
            half_open: stream("net.half_open"),
            bit_flip: stream("net.bit_flip"),
            ends: stream("net.ends"),
        }
    }

    pub(super) fn is_blocked(&self, from: MachineId, to: MachineId) -> bool {
        self.blocked.contains(&(from, to))
    }

    pub(super) fn ephemeral_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
        port
    }
}

/// The address of a machine: 10.0.x.y, counted from 1.
pub fn ip_of(machine: MachineId) -> IpAddr {
    let number = machine.0 as u32 + 1;
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number))
}

fn machine_of(ip: IpAddr) -> Option<MachineId> {
    match ip {
        IpAddr::V4(ip) => (u32::from(ip) & 0xff00_0000 == 0x0a00_0000)
            .then(|| (u32::from(ip) & 0x00ff_ffff) as usize)
            .and_then(|number| number.checked_sub(1))
            .map(MachineId),
        IpAddr::V6(_) => None,
    }
}

/// "Any" and "this machine" are the machine's own address.
pub(super) fn resolve(machine: MachineId, address: SocketAddr) -> SocketAddr {
    match address.ip().is_unspecified() || address.ip().is_loopback() {
        true => SocketAddr::new(ip_of(machine), address.port()),
        false => address,
    }
}

impl State {
    pub(super) fn endpoint(&mut self, key: u64) -> Option<&mut Endpoint> {
        self.fabric.endpoints.get_mut(&key)
    }

    pub(super) fn soon(&mut self, most_micros: u64, happening: NetHappening) {
        let nanos = self.fabric.delays.below(most_micros * 1_000);
        self.after(Duration::from_nanos(nanos), Happening::Net(happening));
    }

    /// The one-way delay of a piece now: a floor drawn once a directed pair, and jitter.
    pub(super) fn link_delay(&mut self, from: MachineId, to: MachineId) -> Duration {
        let most = self.faults.net.link_delay_max.as_nanos() as u64;
        let pair = (from.0 as u64) << 32 | to.0 as u64;
        let floor = Rng::stream(self.fabric.seed, "net.link", pair).below(most + 1);
        let jitter = 20_000 + self.fabric.delays.below(180_000);
        Duration::from_nanos(floor + jitter)
    }

    pub(in crate::runtime::simulated) fn push_event(&mut self, process: ProcessId, event: Event) {
        let digest = match &event {
            Event::Accepted { connection, .. } => digest(1, connection, b""),
            Event::Connected { connection } => digest(2, connection, b""),
            Event::Chunk { connection, bytes } => digest(3, connection, bytes),
            Event::Sent { connection, .. } => digest(4, connection, b""),
            Event::Closed { connection, .. } => digest(5, connection, b""),
            Event::Ended { connection } => digest(8, connection, b""),
            Event::Stop => 6,
            Event::Asked { ticket, bytes, .. } => payload(&[7, u64::from(ticket.shard)], bytes),
            Event::Answered { tag, bytes } => payload(&[8, *tag], bytes),
            Event::ShardEnded { shard } => 9 << 16 | u64::from(*shard),
        };
        self.trace.record(self.now, process, Kind::NetEvent, digest);
        self.process(process).ports.push(event);
    }

    pub(super) fn new_endpoint(
        &mut self,
        process: ProcessId,
        local: SocketAddr,
        remote: SocketAddr,
        phase: Phase,
    ) -> u64 {
        self.fabric.next_endpoint += 1;
        let key = self.fabric.next_endpoint;
        let id = self.process(process).ports.open(key);
        let machine = self.process(process).machine;
        let machines = self.machines.len();
        let endpoint = Endpoint {
            process,
            machine,
            id,
            local,
            remote,
            remote_machine: machine_of(remote.ip()).filter(|machine| machine.0 < machines),
            peer: None,
            phase,
            sending: None,
            closing: false,
            paused: false,
            pipe: VecDeque::new(),
            stalled: false,
            inbound: VecDeque::new(),
            held: Rc::default(),
            pending: 0,
            finished: false,
            told_end: false,
            drained: 0,
            shut: false,
            delivering: false,
            void_bytes: 0,
            breaking: false,
        };
        self.fabric.endpoints.insert(key, endpoint);
        key
    }

    pub(super) fn keys_of(&self, wanted: impl Fn(&Endpoint) -> bool) -> Vec<u64> {
        let endpoints = self.fabric.endpoints.iter();
        endpoints
            .filter(|(_, endpoint)| wanted(endpoint))
            .map(|(key, _)| *key)
            .collect()
    }

    pub fn net_stop_signal(&mut self, process: ProcessId) {
        self.push_event(process, Event::Stop);
    }

    pub fn net_happens(&mut self, happening: NetHappening) {
        match happening {
            NetHappening::Syn { endpoint, to } => self.syn(endpoint, to),
            NetHappening::Accept { endpoint, door } => self.accept(endpoint, door),
            NetHappening::Pipe { endpoint } => self.pipe(endpoint),
            NetHappening::Deliver { endpoint } => self.deliver(endpoint),
            NetHappening::Sent { endpoint } => self.sent(endpoint),
            NetHappening::Linger { endpoint } => self.linger(endpoint),
            NetHappening::Close { endpoint } => self.finish(endpoint, CloseReason::Finished),
            NetHappening::Break { endpoint, errno } => {
                self.finish(endpoint, CloseReason::Failed(errno));
            }
        }
    }
}

pub(super) fn digest(kind: u64, connection: &ConnectionId, bytes: &[u8]) -> u64 {
    let place = u64::from(connection.slot) << 32 | u64::from(connection.generation);
    payload(&[kind, place], bytes)
}
