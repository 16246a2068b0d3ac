//! The bytes of a connection on their way: cut, delayed, merged, held back, and its orderly end.

use super::Lease;
use super::fabric::{Item, NetHappening, Phase, Sending, WINDOW_BYTES, digest};
use crate::base::limits::{
    CLOSE_DRAIN_BYTES_MAX, RECV_BUFFER_BYTES, RECV_BUFFERS_PER_CONNECTION_MAX,
};
use crate::base::units::Nanos;
use crate::runtime::net::{self, CloseReason, ConnectionId, Event, LINGER};
use crate::runtime::simulated::trace::Kind;
use crate::runtime::simulated::world::{Happening, ProcessId, State};
use std::time::Duration;

/// How long a sender repeats itself to a machine that is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a lost piece takes to be sent again.
const RETRANSMIT: Duration = Duration::from_millis(200);

impl State {
    /// Puts an item on its way to `receiver`, behind those before it.
    pub(super) fn send_item(&mut self, receiver: u64, item: Item, extra: Duration) {
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

    pub(super) fn pipe(&mut self, key: u64) {
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
                    let closing = endpoint.phase == Phase::Closing;
                    self.trace.record(now, process, Kind::NetItem, digest);
                    match closing {
                        true => self.drain(key),
                        false => self.schedule_delivery(key),
                    }
                }
                Item::Fin => {
                    endpoint.finished = true;
                    match endpoint.shut {
                        true => self.soon(50, NetHappening::Close { endpoint: key }),
                        false => self.schedule_delivery(key),
                    }
                }
                Item::Reset => self.finish(key, CloseReason::Failed(libc::ECONNRESET)),
            }
        }
    }

    pub(super) fn schedule_delivery(&mut self, key: u64) {
        let Some(endpoint) = self.endpoint(key) else {
            return;
        };
        let end = endpoint.finished && !endpoint.told_end;
        let something = !endpoint.inbound.is_empty() || end;
        let limited = endpoint.held.get() as usize >= RECV_BUFFERS_PER_CONNECTION_MAX;
        let wanted = endpoint.phase == Phase::Open && !endpoint.paused;
        let may = wanted && !endpoint.delivering && !limited;
        if something && may {
            endpoint.delivering = true;
            self.soon(50, NetHappening::Deliver { endpoint: key });
        }
    }

    /// Those that hold fewer leases now may get what waits.
    pub fn net_leases_returned(&mut self) {
        let returned = std::mem::take(&mut *self.fabric.returned.borrow_mut());
        for key in returned {
            self.schedule_delivery(key);
        }
    }

    pub(super) fn deliver(&mut self, key: u64) {
        let Some(endpoint) = self.fabric.endpoints.get_mut(&key) else {
            return;
        };
        endpoint.delivering = false;
        if endpoint.paused || endpoint.phase != Phase::Open {
            return;
        }
        if endpoint.inbound.is_empty() {
            if endpoint.finished && !endpoint.told_end {
                endpoint.told_end = true;
                let (process, connection) = (endpoint.process, endpoint.id);
                self.push_event(process, Event::Ended { connection });
            }
            return;
        }
        let mut take = endpoint.inbound.len().min(RECV_BUFFER_BYTES);
        if self.fabric.cuts.chance(0.25) {
            take = 1 + self.fabric.cuts.below(take as u64) as usize;
        }
        let bytes: Vec<u8> = endpoint.inbound.drain(..take).collect();
        let (process, connection) = (endpoint.process, endpoint.id);
        endpoint.held.set(endpoint.held.get() + 1);
        let bytes = net::Lease::Simulated(Lease {
            bytes,
            endpoint: key,
            held: endpoint.held.clone(),
            returned: self.fabric.returned.clone(),
        });
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
        assert!(
            endpoint.phase != Phase::Connecting,
            "a send waits for Connected: {connection:?}"
        );
        endpoint.sending = Some(Sending {
            buffer,
            offset: 0,
            reported: false,
        });
        self.pump(key);
    }

    /// Moves bytes of the send in flight onto the wire while the peer's window has room.
    pub(super) fn pump(&mut self, key: u64) {
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
        let faults = self.faults.net;
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

    /// One piece to nobody: the kernel takes a window of it, then a reset or a timeout ends the
    /// connection.
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

    pub(super) fn sent(&mut self, key: u64) {
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
        self.after(
            LINGER,
            Happening::Net(NetHappening::Linger { endpoint: key }),
        );
        self.drain(key);
        if idle {
            self.begin_close(key);
        }
        if connecting {
            self.soon(50, NetHappening::Close { endpoint: key });
        }
    }

    /// Throws away what came for an endpoint that its process has closed, up to a bound.
    fn drain(&mut self, key: u64) {
        let Some(endpoint) = self.endpoint(key) else {
            return;
        };
        let thrown = endpoint.inbound.len();
        endpoint.inbound.clear();
        endpoint.pending -= thrown;
        endpoint.drained += thrown;
        let over = endpoint.drained > CLOSE_DRAIN_BYTES_MAX;
        // A window that opens by a few bytes at a time would be filled by ever smaller pieces.
        let peer = endpoint
            .peer
            .filter(|_| endpoint.pending <= WINDOW_BYTES / 2);
        if over {
            self.cut(key);
        } else if let Some(peer) = peer {
            self.pump(peer);
        }
    }

    /// What of a send has not left by now never will, and a peer that has not ended is not waited for.
    pub(super) fn linger(&mut self, key: u64) {
        let Some(endpoint) = self.endpoint(key) else {
            return;
        };
        let (peer, shut) = (endpoint.peer, endpoint.shut);
        if let Some(peer) = peer.filter(|_| !shut) {
            self.send_item(peer, Item::Fin, Duration::ZERO);
        }
        self.finish(key, CloseReason::Finished);
    }

    /// The peer sends on and on to an endpoint that was closed: it is told by a reset.
    fn cut(&mut self, key: u64) {
        if let Some(peer) = self.endpoint(key).and_then(|endpoint| endpoint.peer) {
            self.send_item(peer, Item::Reset, Duration::ZERO);
        }
        self.finish(key, CloseReason::Finished);
    }

    /// Our half is shut; the close is carried out when the peer's is, too.
    pub(super) fn begin_close(&mut self, key: u64) {
        let Some(endpoint) = self.endpoint(key) else {
            return;
        };
        endpoint.shut = true;
        let ended = endpoint.finished;
        let peer = endpoint.peer;
        if let Some(peer) = peer {
            self.send_item(peer, Item::Fin, Duration::ZERO);
        }
        if ended || peer.is_none() {
            self.soon(50, NetHappening::Close { endpoint: key });
        }
    }

    /// The end of an endpoint as its process sees it.
    pub(super) fn finish(&mut self, key: u64, reason: CloseReason) {
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
}
