//! The wires between simulated processes: streams of pieces with delays, cut and merged at random.
//!
//! 1. What arrives at one endpoint arrives in the order it was sent. 2. The bytes under way to an endpoint and unread at it
//! never exceed the window. 3. An endpoint ends once: `Sent` for a send in flight, then `Closed`, then its slot is free.

use super::Lease;
use crate::base::limits::RECV_BUFFER_BYTES;
use crate::base::units::{KIB, Nanos};
use crate::runtime::net::{self, CloseReason, ConnectionId, Door, Event};
use crate::runtime::simulated::rng::Rng;
use crate::runtime::simulated::trace::{Kind, payload};
use crate::runtime::simulated::world::{End, Happening, MachineId, ProcessId, State};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Bytes under way to an endpoint or unread at it.
pub(super) const WINDOW_BYTES: usize = 64 * KIB;
/// How long a connect waits for an answer that does not come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a sender repeats itself to a machine that is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a lost piece takes to be sent again.
const RETRANSMIT: Duration = Duration::from_millis(200);
const FIRST_EPHEMERAL_PORT: u16 = 32_768;

pub(in crate::runtime::simulated) enum NetHappening {
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Backlog,
    Open,
    /// Closed by its process; nothing more is delivered.
    Closing,
}

struct Sending {
    buffer: Vec<u8>,
    offset: usize,
    /// All of it left; only the report is missing.
    reported: bool,
}

pub(super) struct Endpoint {
    process: ProcessId,
    machine: MachineId,
    id: ConnectionId,
    local: SocketAddr,
    remote: SocketAddr,
    remote_machine: Option<MachineId>,
    peer: Option<u64>,
    phase: Phase,
    sending: Option<Sending>,
    /// A close waits for the send in flight.
    closing: bool,
    paused: bool,
    /// What is under way to here, in order.
    pipe: VecDeque<(Nanos, Item)>,
    /// A partition holds the pipe up.
    stalled: bool,
    inbound: VecDeque<u8>,
    /// Bytes of data in `pipe`, in `inbound` and in events not yet taken.
    pending: usize,
    finished: bool,
    delivering: bool,
    /// Bytes sent to a peer that is no more.
    void_bytes: usize,
    breaking: bool,
}

pub(in crate::runtime::simulated) struct Fabric {
    pub(super) listeners: BTreeMap<SocketAddr, Vec<Listener>>,
    endpoints: BTreeMap<u64, Endpoint>,
    next_endpoint: u64,
    pub(super) next_port: u16,
    blocked: BTreeSet<(MachineId, MachineId)>,
    seed: u64,
    delays: Rng,
    cuts: Rng,
    choices: Rng,
    loss: Rng,
    reset: Rng,
    half_open: Rng,
    bit_flip: Rng,
    ends: Rng,
}

impl Fabric {
    pub(in crate::runtime::simulated) fn new(seed: u64) -> Fabric {
        let stream = |name: &str| Rng::stream(seed, name, 0);
        Fabric {
            listeners: BTreeMap::new(),
            endpoints: BTreeMap::new(),
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

    fn is_blocked(&self, from: MachineId, to: MachineId) -> bool {
        self.blocked.contains(&(from, to))
    }

    pub(super) fn ephemeral_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
        port
    }
}

/// The address of a machine: 10.0.x.y, counted from 1.
pub(in crate::runtime::simulated) fn ip_of(machine: MachineId) -> IpAddr {
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
    fn endpoint(&mut self, key: u64) -> Option<&mut Endpoint> {
        self.fabric.endpoints.get_mut(&key)
    }

    fn soon(&mut self, most_micros: u64, happening: NetHappening) {
        let nanos = self.fabric.delays.below(most_micros * 1_000);
        self.after(Duration::from_nanos(nanos), Happening::Net(happening));
    }

    /// The one-way delay of a piece now: a floor drawn once a directed pair, and jitter.
    fn link_delay(&mut self, from: MachineId, to: MachineId) -> Duration {
        let most = self.faults.net.link_delay_max.as_nanos() as u64;
        let pair = (from.0 as u64) << 32 | to.0 as u64;
        let floor = Rng::stream(self.fabric.seed, "net.link", pair).below(most + 1);
        let jitter = 20_000 + self.fabric.delays.below(180_000);
        Duration::from_nanos(floor + jitter)
    }

    fn push_event(&mut self, process: ProcessId, event: Event) {
        let digest = match &event {
            Event::Accepted { connection, .. } => digest(1, connection, b""),
            Event::Connected { connection } => digest(2, connection, b""),
            Event::Chunk { connection, bytes } => digest(3, connection, bytes),
            Event::Sent { connection, .. } => digest(4, connection, b""),
            Event::Closed { connection, .. } => digest(5, connection, b""),
            Event::Stop => 6,
        };
        self.trace.record(self.now, process, Kind::NetEvent, digest);
        self.process(process).ports.push(event);
    }

    fn new_endpoint(
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
            pending: 0,
            finished: false,
            delivering: false,
            void_bytes: 0,
            breaking: false,
        };
        self.fabric.endpoints.insert(key, endpoint);
        key
    }

    pub(super) fn net_connect(&mut self, process: ProcessId, address: SocketAddr) -> ConnectionId {
        let machine = self.process(process).machine;
        let to = resolve(machine, address);
        let local = SocketAddr::new(ip_of(machine), self.fabric.ephemeral_port());
        let endpoint = self.new_endpoint(process, local, to, Phase::Connecting);
        let target = self.fabric.endpoints[&endpoint].remote_machine;
        let delay = self.link_delay(machine, target.unwrap_or(machine));
        self.after(delay, Happening::Net(NetHappening::Syn { endpoint, to }));
        self.fabric.endpoints[&endpoint].id
    }

    fn syn(&mut self, client: u64, to: SocketAddr) {
        let Some(endpoint) = self.endpoint(client) else {
            return;
        };
        let (local, from, target) = (endpoint.local, endpoint.machine, endpoint.remote_machine);
        let Some(target) = target else {
            self.soon(
                100,
                NetHappening::Break {
                    endpoint: client,
                    errno: libc::EHOSTUNREACH,
                },
            );
            return;
        };
        let cut = self.fabric.is_blocked(from, target) || self.fabric.is_blocked(target, from);
        if cut || !self.machine(target).powered {
            let errno = libc::ETIMEDOUT;
            let happening = NetHappening::Break {
                endpoint: client,
                errno,
            };
            self.after(CONNECT_TIMEOUT, Happening::Net(happening));
            return;
        }
        let found = self.fabric.listeners.get(&to).map_or(0, Vec::len);
        if found == 0 {
            let delay = self.link_delay(target, from);
            let errno = libc::ECONNREFUSED;
            let happening = NetHappening::Break {
                endpoint: client,
                errno,
            };
            self.after(delay, Happening::Net(happening));
            return;
        }
        let drawn = self.fabric.choices.below(found as u64) as usize;
        let listener = &self.fabric.listeners[&to][drawn];
        let (process, door) = (listener.process, listener.door);
        let server = self.new_endpoint(process, to, local, Phase::Backlog);
        for (one, other) in [(client, server), (server, client)] {
            if let Some(endpoint) = self.endpoint(one) {
                endpoint.peer = Some(other);
            }
        }
        self.send_item(client, Item::Handshake, Duration::ZERO);
        self.soon(
            100,
            NetHappening::Accept {
                endpoint: server,
                door,
            },
        );
    }

    fn accept(&mut self, key: u64, door: Door) {
        let Some(endpoint) = self.endpoint(key) else {
            return;
        };
        if endpoint.phase != Phase::Backlog {
            return;
        }
        endpoint.phase = Phase::Open;
        let (process, connection, peer) = (endpoint.process, endpoint.id, endpoint.remote);
        self.push_event(
            process,
            Event::Accepted {
                connection,
                door,
                peer,
            },
        );
        self.schedule_delivery(key);
    }

    /// Puts an item on its way to `receiver`, behind those before it.
    fn send_item(&mut self, receiver: u64, item: Item, extra: Duration) {
        let Some(endpoint) = self.endpoint(receiver) else {
            return;
        };
        let (to, from) = (endpoint.machine, endpoint.remote_machine);
        let delay = self.link_delay(from.unwrap_or(to), to) + extra;
        let mut at = Nanos(self.now.0 + delay.as_nanos() as u64);
        if let Some(endpoint) = self.endpoint(receiver) {
            if let Some((last, _)) = endpoint.pipe.back() {
                at = at.max(*last);
            }
            if let Item::Bytes(bytes) = &item {
                endpoint.pending += bytes.len();
            }
            endpoint.pipe.push_back((at, item));
        }
        self.at(
            at,
            Happening::Net(NetHappening::Pipe { endpoint: receiver }),
        );
    }

    fn pipe(&mut self, key: u64) {
        loop {
            let now = self.now;
            let Some(endpoint) = self.fabric.endpoints.get_mut(&key) else {
                return;
            };
            let from = endpoint.remote_machine.unwrap_or(endpoint.machine);
            if endpoint.pipe.front().is_none_or(|(at, _)| *at > now) {
                return;
            }
            if self.fabric.blocked.contains(&(from, endpoint.machine)) {
                endpoint.stalled = true;
                return;
            }
            let Some((_, item)) = endpoint.pipe.pop_front() else {
                return;
            };
            let (process, connection) = (endpoint.process, endpoint.id);
            match item {
                Item::Handshake => {
                    if endpoint.phase == Phase::Connecting {
                        endpoint.phase = Phase::Open;
                        self.push_event(process, Event::Connected { connection });
                        self.pump(key);
                    }
                }
                Item::Bytes(bytes) => {
                    let digest = digest(7, &connection, &bytes);
                    endpoint.inbound.extend(bytes);
                    self.trace.record(now, process, Kind::NetItem, digest);
                    self.schedule_delivery(key);
                }
                Item::Fin => {
                    endpoint.finished = true;
                    self.schedule_delivery(key);
                }
                Item::Reset => self.finish(key, CloseReason::Failed(libc::ECONNRESET)),
            }
        }
    }

    fn schedule_delivery(&mut self, key: u64) {
        let Some(endpoint) = self.endpoint(key) else {
            return;
        };
        let something = !endpoint.inbound.is_empty() || endpoint.finished;
        let may = endpoint.phase == Phase::Open && !endpoint.paused && !endpoint.delivering;
        if something && may {
            endpoint.delivering = true;
            self.soon(50, NetHappening::Deliver { endpoint: key });
        }
    }

    fn deliver(&mut self, key: u64) {
        let Some(endpoint) = self.fabric.endpoints.get_mut(&key) else {
            return;
        };
        endpoint.delivering = false;
        if endpoint.paused || endpoint.phase != Phase::Open {
            return;
        }
        if endpoint.inbound.is_empty() {
            if endpoint.finished {
                self.finish(key, CloseReason::Finished);
            }
            return;
        }
        let mut take = endpoint.inbound.len().min(RECV_BUFFER_BYTES);
        if self.fabric.cuts.chance(0.25) {
            take = 1 + self.fabric.cuts.below(take as u64) as usize;
        }
        let bytes: Vec<u8> = endpoint.inbound.drain(..take).collect();
        let (process, connection) = (endpoint.process, endpoint.id);
        let bytes = net::Lease::Simulated(Lease::new(bytes));
        self.push_event(process, Event::Chunk { connection, bytes });
        self.schedule_delivery(key);
    }

    /// The process took a chunk: its room is free for the peer.
    pub(super) fn net_taken(&mut self, process: ProcessId, connection: ConnectionId, len: usize) {
        let Some(key) = self.process(process).ports.get(connection) else {
            return;
        };
        let Some(endpoint) = self.endpoint(key) else {
            return;
        };
        assert!(endpoint.pending >= len);
        endpoint.pending -= len;
        if let Some(peer) = endpoint.peer {
            self.pump(peer);
        }
    }

    pub(super) fn net_send(
        &mut self,
        process: ProcessId,
        connection: ConnectionId,
        buffer: Vec<u8>,
    ) {
        let Some(key) = self.process(process).ports.get(connection) else {
            return;
        };
        let Some(endpoint) = self.endpoint(key) else {
            return;
        };
        if endpoint.closing {
            return;
        }
        assert!(
            endpoint.sending.is_none(),
            "one send in flight a connection: {connection:?}"
        );
        endpoint.sending = Some(Sending {
            buffer,
            offset: 0,
            reported: false,
        });
        self.pump(key);
    }

    /// Moves bytes of the send in flight onto the wire while the peer's window has room.
    fn pump(&mut self, key: u64) {
        loop {
            let Some(endpoint) = self.fabric.endpoints.get(&key) else {
                return;
            };
            let Some(sending) = endpoint.sending.as_ref() else {
                return;
            };
            let ready = matches!(endpoint.phase, Phase::Open | Phase::Closing);
            if !ready || sending.reported {
                return;
            }
            let left = sending.buffer.len() - sending.offset;
            if left == 0 {
                if let Some(sending) = self.endpoint(key).and_then(|e| e.sending.as_mut()) {
                    sending.reported = true;
                }
                self.soon(50, NetHappening::Sent { endpoint: key });
                return;
            }
            let peer = endpoint.peer;
            match peer.filter(|peer| self.fabric.endpoints.contains_key(peer)) {
                Some(peer) => {
                    if !self.send_piece(key, peer, left) {
                        return;
                    }
                }
                None => {
                    if !self.send_into_void(key, left) {
                        return;
                    }
                }
            }
        }
    }

    /// One piece to a peer that is there. False if there is no room, or no connection afterwards.
    fn send_piece(&mut self, key: u64, peer: u64, left: usize) -> bool {
        let room = WINDOW_BYTES.saturating_sub(self.fabric.endpoints[&peer].pending);
        if room == 0 {
            return false;
        }
        let mut len = left.min(room);
        if self.fabric.cuts.chance(0.25) {
            len = 1 + self.fabric.cuts.below(len as u64) as usize;
        }
        let Some(sending) = self.endpoint(key).and_then(|e| e.sending.as_mut()) else {
            return false;
        };
        let mut bytes = sending.buffer[sending.offset..sending.offset + len].to_vec();
        sending.offset += len;
        let faults = self.faults.net.clone();
        if self.fabric.bit_flip.chance(faults.bit_flip) {
            let bit = self.fabric.bit_flip.below(8 * len as u64);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        if self.fabric.reset.chance(faults.reset) {
            self.send_item(peer, Item::Reset, Duration::ZERO);
            self.soon(
                200,
                NetHappening::Break {
                    endpoint: key,
                    errno: libc::ECONNRESET,
                },
            );
        }
        if self.fabric.half_open.chance(faults.half_open) {
            self.finish(peer, CloseReason::Failed(libc::ECONNRESET));
            return true;
        }
        let lost = self.fabric.loss.chance(faults.loss);
        let extra = if lost { RETRANSMIT } else { Duration::ZERO };
        self.send_item(peer, Item::Bytes(bytes), extra);
        true
    }

    /// One piece to nobody: the kernel takes a window of it, then a reset or a timeout ends the connection.
    fn send_into_void(&mut self, key: u64, left: usize) -> bool {
        let Some(endpoint) = self.fabric.endpoints.get_mut(&key) else {
            return false;
        };
        let len = left.min(WINDOW_BYTES - endpoint.void_bytes);
        endpoint.void_bytes += len;
        if let Some(sending) = endpoint.sending.as_mut() {
            sending.offset += len;
        }
        let (from, to, breaking) = (endpoint.machine, endpoint.remote_machine, endpoint.breaking);
        endpoint.breaking = true;
        if !breaking {
            let to = to.unwrap_or(from);
            let cut = self.fabric.is_blocked(from, to) || self.fabric.is_blocked(to, from);
            let answers = !cut && self.machine(to).powered;
            let (delay, errno) = match answers {
                true => (
                    self.link_delay(from, to) + self.link_delay(to, from),
                    libc::ECONNRESET,
                ),
                false => (SEND_TIMEOUT, libc::ETIMEDOUT),
            };
            let happening = NetHappening::Break {
                endpoint: key,
                errno,
            };
            self.after(delay, Happening::Net(happening));
        }
        len > 0
    }

    fn sent(&mut self, key: u64) {
        let Some(endpoint) = self.endpoint(key) else {
            return;
        };
        let Some(sending) = endpoint.sending.take() else {
            return;
        };
        let (process, connection, closing) = (endpoint.process, endpoint.id, endpoint.closing);
        self.report_sent(process, connection, sending.buffer);
        if closing {
            self.begin_close(key);
        }
    }

    fn report_sent(&mut self, process: ProcessId, connection: ConnectionId, mut buffer: Vec<u8>) {
        buffer.clear();
        self.push_event(process, Event::Sent { connection, buffer });
    }

    pub(super) fn net_pause(&mut self, process: ProcessId, connection: ConnectionId, paused: bool) {
        let Some(key) = self.process(process).ports.get(connection) else {
            return;
        };
        if let Some(endpoint) = self.endpoint(key) {
            endpoint.paused = paused;
        }
        self.schedule_delivery(key);
    }

    pub(super) fn net_close(&mut self, process: ProcessId, connection: ConnectionId) {
        let Some(key) = self.process(process).ports.get(connection) else {
            return;
        };
        let Some(endpoint) = self.endpoint(key) else {
            return;
        };
        if endpoint.closing {
            return;
        }
        endpoint.closing = true;
        let connecting = endpoint.phase == Phase::Connecting;
        let idle = endpoint.sending.is_none() || connecting;
        endpoint.phase = Phase::Closing;
        if idle {
            self.begin_close(key);
        }
    }

    fn begin_close(&mut self, key: u64) {
        let Some(peer) = self.endpoint(key).map(|endpoint| endpoint.peer) else {
            return;
        };
        if let Some(peer) = peer {
            self.send_item(peer, Item::Fin, Duration::ZERO);
        }
        self.soon(50, NetHappening::Close { endpoint: key });
    }

    /// The end of an endpoint as its process sees it.
    fn finish(&mut self, key: u64, reason: CloseReason) {
        let Some(endpoint) = self.fabric.endpoints.remove(&key) else {
            return;
        };
        let (process, connection) = (endpoint.process, endpoint.id);
        if let Some(sending) = endpoint.sending {
            self.report_sent(process, connection, sending.buffer);
        }
        let announced = endpoint.phase != Phase::Backlog;
        self.process(process).ports.close(connection);
        if announced {
            self.push_event(process, Event::Closed { connection, reason });
        }
        // A sender that waits for room here waits for nobody now.
        if let Some(peer) = endpoint.peer {
            self.pump(peer);
        }
    }

    pub(super) fn net_stop_listening(&mut self, process: ProcessId) {
        self.forget_listeners(process);
        let backlog =
            |endpoint: &Endpoint| endpoint.process == process && endpoint.phase == Phase::Backlog;
        for key in self.keys_of(backlog) {
            if let Some(peer) = self.endpoint(key).and_then(|endpoint| endpoint.peer) {
                self.send_item(peer, Item::Reset, Duration::ZERO);
            }
            self.finish(key, CloseReason::Finished);
        }
    }

    fn forget_listeners(&mut self, process: ProcessId) {
        self.fabric.listeners.retain(|_, listeners| {
            listeners.retain(|listener| listener.process != process);
            !listeners.is_empty()
        });
    }

    fn keys_of(&self, wanted: impl Fn(&Endpoint) -> bool) -> Vec<u64> {
        let endpoints = self.fabric.endpoints.iter();
        endpoints
            .filter(|(_, endpoint)| wanted(endpoint))
            .map(|(key, _)| *key)
            .collect()
    }

    /// A process is gone: its kernel resets what it had, or, without power, the peers learn late or never.
    pub(in crate::runtime::simulated) fn net_process_ended(
        &mut self,
        process: ProcessId,
        end: End,
    ) {
        self.forget_listeners(process);
        for key in self.keys_of(|endpoint| endpoint.process == process) {
            let Some(endpoint) = self.fabric.endpoints.remove(&key) else {
                continue;
            };
            let Some(peer) = endpoint.peer else {
                continue;
            };
            match end {
                End::Exit => self.send_item(peer, Item::Reset, Duration::ZERO),
                End::PowerCut if self.fabric.ends.chance(0.5) => {
                    let wait = Duration::from_millis(100 + self.fabric.ends.below(2_900));
                    let errno = libc::ECONNRESET;
                    let happening = NetHappening::Break {
                        endpoint: peer,
                        errno,
                    };
                    self.after(wait, Happening::Net(happening));
                }
                End::PowerCut => {}
            }
            self.pump(peer);
        }
    }

    /// Cuts or mends the way from one machine to another.
    pub(in crate::runtime::simulated) fn net_block(
        &mut self,
        from: MachineId,
        to: MachineId,
        blocked: bool,
    ) {
        if blocked {
            self.fabric.blocked.insert((from, to));
            return;
        }
        self.fabric.blocked.remove(&(from, to));
        let stalled = |endpoint: &Endpoint| {
            endpoint.stalled && endpoint.machine == to && endpoint.remote_machine == Some(from)
        };
        for key in self.keys_of(stalled) {
            if let Some(endpoint) = self.endpoint(key) {
                endpoint.stalled = false;
            }
            self.soon(1_000, NetHappening::Pipe { endpoint: key });
        }
    }

    pub(in crate::runtime::simulated) fn net_stop_signal(&mut self, process: ProcessId) {
        self.push_event(process, Event::Stop);
    }

    pub(in crate::runtime::simulated) fn net_happens(&mut self, happening: NetHappening) {
        match happening {
            NetHappening::Syn { endpoint, to } => self.syn(endpoint, to),
            NetHappening::Accept { endpoint, door } => self.accept(endpoint, door),
            NetHappening::Pipe { endpoint } => self.pipe(endpoint),
            NetHappening::Deliver { endpoint } => self.deliver(endpoint),
            NetHappening::Sent { endpoint } => self.sent(endpoint),
            NetHappening::Close { endpoint } => self.finish(endpoint, CloseReason::Finished),
            NetHappening::Break { endpoint, errno } => {
                self.finish(endpoint, CloseReason::Failed(errno));
            }
        }
    }
}

fn digest(kind: u64, connection: &ConnectionId, bytes: &[u8]) -> u64 {
    let place = u64::from(connection.slot) << 32 | u64::from(connection.generation);
    payload(&[kind, place], bytes)
}
