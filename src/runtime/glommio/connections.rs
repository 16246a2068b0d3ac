//! The connections of a shard: what each waits for, and when it has ended.
//!
//! Invariants: 1 a descriptor is closed only when none of its entries is in flight; 2 a slot's generation changes
//! with each use, so that a late completion meets nothing; 3 at most one receive and one send of a connection are
//! in flight; 4 `Sent` comes before `Closed`, and `Closed` once.
//!
//! A connection that its owner closed goes through three stages: its send leaves, its half of the stream is shut, and
//! what the peer still sends is thrown away until the peer's end. Only then is the descriptor closed: the kernel
//! answers a close over unread bytes with a reset, and a reset overtakes the reply that said why.
#![allow(unsafe_code)]

use super::buffers::Pool;
use super::ring::{Completion, Kind, Ring, SLOTS_MAX, Tag};
use super::sockets::RawAddress;
use crate::base::limits::{
    CLOSE_DRAIN_BYTES_MAX, CLOSE_LINGERING_MAX, RECV_BUFFERS_PER_CONNECTION_MAX,
};
use crate::runtime::net::{CloseReason, ConnectionId, Event, LINGER, Lease};
use io_uring::{opcode, types::Fd};
use std::cell::Cell;
use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    Idle,
    Armed,
    /// A cancel is on its way; chunks that came before it are still delivered.
    Cancelling,
}

struct Sending {
    buffer: Vec<u8>,
    sent: usize,
    /// A cancel is on its way. Its completion counts what left before, and the rest is not sent again.
    given_up: bool,
}

struct Connection {
    socket: TcpStream,
    connecting: Option<Box<RawAddress>>,
    receive: Receive,
    paused: bool,
    /// Its receive ended for want of a buffer, and waits in `starved`.
    starved: bool,
    /// Leases of its chunks that are not dropped yet.
    held: Rc<Cell<u32>>,
    /// In `limited`: it holds too many leases.
    limited: bool,
    sending: Option<Sending>,
    /// The peer's end of stream was seen.
    ended: bool,
    ending: Option<CloseReason>,
    /// Closed here, and read on to the peer's end: bytes that may still be thrown away.
    draining: Option<usize>,
    /// Our half of the stream is shut.
    shut: bool,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

#[derive(Default)]
pub(super) struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
    starved: VecDeque<ConnectionId>,
    limited: Vec<ConnectionId>,
    /// Closed here and waiting for their send or for the peer's end, the oldest first, each with its deadline.
    lingering: VecDeque<(Instant, ConnectionId)>,
    /// The pump has a timer for the first of them.
    pub(super) linger_timer: bool,
    pub(super) events: Vec<Event>,
}

impl Connections {
    fn insert(&mut self, socket: TcpStream, connecting: Option<Box<RawAddress>>) -> ConnectionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        assert!(slot < SLOTS_MAX);
        let place = &mut self.slots[slot as usize];
        assert!(place.connection.is_none());
        place.connection = Some(Box::new(Connection {
            socket,
            connecting,
            receive: Receive::Idle,
            paused: false,
            starved: false,
            held: Rc::default(),
            limited: false,
            sending: None,
            ended: false,
            ending: None,
            draining: None,
            shut: false,
        }));
        ConnectionId {
            slot,
            generation: place.generation,
        }
    }

    fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.connection.as_deref_mut()
    }

    pub(super) fn accepted(&mut self, ring: &Ring, socket: TcpStream) -> ConnectionId {
        let id = self.insert(socket, None);
        self.maintain(ring, id);
        id
    }

    pub(super) fn connect(
        &mut self,
        ring: &Ring,
        socket: TcpStream,
        to: RawAddress,
    ) -> ConnectionId {
        let fd = Fd(socket.as_raw_fd());
        let to = Box::new(to);
        let (address, len) = (to.address(), to.len());
        let id = self.insert(socket, Some(to));
        let entry = opcode::Connect::new(fd, address, len).build();
        // SAFETY: address and socket lie in the slot, which is not freed before the completion (invariant 1).
        unsafe { ring.push(entry.user_data(tag(Kind::Connect, id))) };
        id
    }

    /// A connection that could not even begin: its id is never used again.
    pub(super) fn stillborn(&mut self, errno: i32) -> ConnectionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let id = ConnectionId {
            slot,
            generation: self.slots[slot as usize].generation,
        };
        self.retire(id, CloseReason::Failed(errno));
        id
    }

    fn retire(&mut self, connection: ConnectionId, reason: CloseReason) {
        let slot = &mut self.slots[connection.slot as usize];
        slot.connection = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(connection.slot);
        self.events.push(Event::Closed { connection, reason });
    }

    pub(super) fn send(&mut self, ring: &Ring, id: ConnectionId, buffer: Vec<u8>) {
        let Some(connection) = self.get(id) else {
            return;
        };
        if connection.ending.is_some() {
            return;
        }
        assert!(
            connection.sending.is_none(),
            "one send in flight a connection"
        );
        assert!(
            connection.connecting.is_none(),
            "a send waits for Connected"
        );
        if buffer.is_empty() {
            self.events.push(Event::Sent {
                connection: id,
                buffer,
            });
            return;
        }
        connection.sending = Some(Sending {
            buffer,
            sent: 0,
            given_up: false,
        });
        self.continue_send(ring, id);
    }

    fn continue_send(&mut self, ring: &Ring, id: ConnectionId) {
        let connection = self.get(id).expect("it is sending");
        let fd = Fd(connection.socket.as_raw_fd());
        let sending = connection.sending.as_ref().expect("it is sending");
        let rest = &sending.buffer[sending.sent..];
        let len = rest.len().min(1 << 30) as u32;
        let entry = opcode::Send::new(fd, rest.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        // SAFETY: the buffer lies in the slot and is neither changed nor freed before the completion (invariants 1
        // and 3).
        unsafe { ring.push(entry.user_data(tag(Kind::Send, id))) };
    }

    pub(super) fn pause(&mut self, ring: &Ring, id: ConnectionId, paused: bool) {
        if let Some(connection) = self.get(id) {
            connection.paused = paused;
            self.maintain(ring, id);
        }
    }

    /// Arms or cancels the receive as the state of the connection wants it.
    fn maintain(&mut self, ring: &Ring, id: ConnectionId) {
        let Some(connection) = self.get(id) else {
            return;
        };
        let taken = match connection.ending {
            None => !connection.paused,
            Some(_) => connection.draining.is_some(),
        };
        let wanted = taken
            && !connection.ended
            && connection.connecting.is_none()
            && !connection.starved
            && !connection.limited;
        match (connection.receive, wanted) {
            (Receive::Idle, true) => {
                connection.receive = Receive::Armed;
                let entry = opcode::RecvMulti::new(Fd(connection.socket.as_raw_fd()), 0).build();
                // SAFETY: the kernel writes into the pool, which outlives the ring; the socket lies in the slot.
                unsafe { ring.push(entry.user_data(tag(Kind::Receive, id))) };
            }
            (Receive::Armed, false) => {
                connection.receive = Receive::Cancelling;
                cancel(ring, Kind::Receive, id);
            }
            _ => {}
        }
    }

    /// Looks after those that waited for buffers or leases; called before each enter.
    pub(super) fn tend(&mut self, ring: &Ring, pool: &Pool) {
        if self.limited.is_empty() && self.starved.is_empty() {
            pool.wanted.set(false);
            return;
        }
        for id in std::mem::take(&mut self.limited) {
            let Some(connection) = self.get(id) else {
                continue;
            };
            connection.limited = connection.held.get() as usize >= RECV_BUFFERS_PER_CONNECTION_MAX;
            if connection.limited {
                self.limited.push(id);
            }
            self.maintain(ring, id);
        }
        let mut free = pool.free();
        while free > 0 {
            let Some(id) = self.starved.pop_front() else {
                break;
            };
            if let Some(connection) = self.get(id) {
                connection.starved = false;
                free -= 1;
                self.maintain(ring, id);
            }
        }
        pool.wanted
            .set(!self.limited.is_empty() || !self.starved.is_empty());
    }

    pub(super) fn on_connect(&mut self, ring: &Ring, id: ConnectionId, result: i32) {
        let connection = self.get(id).expect("its entry was in flight");
        connection.connecting = None;
        if connection.ending.is_some() {
            self.settle(id);
        } else if result < 0 {
            self.end(ring, id, CloseReason::Failed(-result));
        } else {
            // Without it a small frame waits for the acknowledgement of the one before. A refusal means that the
            // connection is gone already, and then the receive says so.
            let _ = connection.socket.set_nodelay(true);
            self.events.push(Event::Connected { connection: id });
            self.maintain(ring, id);
        }
    }

    pub(super) fn on_receive(&mut self, ring: &Ring, pool: &Rc<Pool>, completion: Completion) {
        let id = id_of(completion.tag);
        let connection = self.get(id).expect("its entry was in flight");
        let deliver = connection.ending.is_none();
        let result = completion.result;
        if let Some(buffer) = completion.buffer {
            if result > 0 && deliver {
                let lease = pool.lease(buffer, result as usize, &connection.held);
                // The next turn asks again, after the chunks were taken.
                let full = connection.held.get() as usize > RECV_BUFFERS_PER_CONNECTION_MAX;
                if full && !self.limited.contains(&id) {
                    self.limited.push(id);
                }
                self.events.push(Event::Chunk {
                    connection: id,
                    bytes: Lease::Glommio(lease),
                });
            } else {
                pool.discard(buffer);
                connection.draining = connection
                    .draining
                    .and_then(|left| left.checked_sub(result.max(0) as usize));
            }
        }
        if completion.more {
            if !deliver {
                self.maintain(ring, id);
            }
            return;
        }
        let connection = self.get(id).expect("its entry was in flight");
        let cancelled = connection.receive == Receive::Cancelling;
        connection.receive = Receive::Idle;
        match result {
            1.. => self.maintain(ring, id),
            0 => {
                connection.ended = true;
                connection.draining = None;
                if deliver {
                    self.events.push(Event::Ended { connection: id });
                }
            }
            _ if -result == libc::ENOBUFS => {
                connection.starved = true;
                self.starved.push_back(id);
                pool.wanted.set(true);
                ring.count_parked();
            }
            _ if -result == libc::ECANCELED || -result == libc::EINTR => {
                debug_assert!(cancelled || -result == libc::EINTR);
                self.maintain(ring, id);
            }
            _ => self.end(ring, id, CloseReason::Failed(-result)),
        }
        self.settle(id);
    }

    pub(super) fn on_send(&mut self, ring: &Ring, id: ConnectionId, result: i32) {
        let connection = self.get(id).expect("its entry was in flight");
        let sending = connection
            .sending
            .as_mut()
            .expect("its entry was in flight");
        if result > 0 {
            sending.sent += result as usize;
            assert!(sending.sent <= sending.buffer.len());
            if sending.sent < sending.buffer.len() && !sending.given_up {
                return self.continue_send(ring, id);
            }
        }
        let mut buffer = connection.sending.take().expect("seen above").buffer;
        buffer.clear();
        self.events.push(Event::Sent {
            connection: id,
            buffer,
        });
        if result <= 0 {
            self.end(ring, id, CloseReason::Failed(-result));
        }
        self.settle(id);
    }

    /// Begins the end of a connection; the first reason stands. `Finished` is the owner's close.
    pub(super) fn end(&mut self, ring: &Ring, id: ConnectionId, reason: CloseReason) {
        let Some(connection) = self.get(id) else {
            return;
        };
        match (connection.ending, reason) {
            (None, CloseReason::Finished) => {
                connection.ending = Some(reason);
                if connection.connecting.is_some() {
                    cancel(ring, Kind::Connect, id);
                } else if !connection.ended {
                    connection.draining = Some(CLOSE_DRAIN_BYTES_MAX);
                }
                let waits = connection.sending.is_some() || connection.draining.is_some();
                if waits {
                    self.lingering.push_back((Instant::now() + LINGER, id));
                }
                self.maintain(ring, id);
                self.bound_lingering(ring);
            }
            (_, CloseReason::Failed(_)) => {
                connection.ending.get_or_insert(reason);
                self.give_up(ring, id);
            }
            (Some(_), CloseReason::Finished) => {}
        }
        self.settle(id);
    }

    /// An ending connection had its time: what has not left by now never will.
    fn give_up(&mut self, ring: &Ring, id: ConnectionId) {
        let Some(connection) = self.get(id) else {
            return;
        };
        connection.draining = None;
        if let Some(sending) = connection.sending.as_mut().filter(|s| !s.given_up) {
            sending.given_up = true;
            cancel(ring, Kind::Send, id);
        }
        self.maintain(ring, id);
        self.settle(id);
    }

    /// Gives up those whose time has passed; the deadline of the next one, if any waits.
    pub(super) fn end_lingering(&mut self, ring: &Ring) -> Option<Instant> {
        let now = Instant::now();
        loop {
            let &(deadline, id) = self.lingering.front()?;
            if deadline > now && self.get(id).is_some() {
                return Some(deadline);
            }
            self.lingering.pop_front();
            self.give_up(ring, id);
        }
    }

    /// Those that have ended meanwhile do not count; of the others, the oldest is given up if they are too many.
    fn bound_lingering(&mut self, ring: &Ring) {
        if self.lingering.len() <= CLOSE_LINGERING_MAX {
            return;
        }
        let mut lingering = std::mem::take(&mut self.lingering);
        lingering.retain(|(_, id)| self.get(*id).is_some());
        let over = lingering.len().saturating_sub(CLOSE_LINGERING_MAX);
        let given_up: Vec<_> = lingering.drain(..over).collect();
        self.lingering = lingering;
        for (_, id) in given_up {
            self.give_up(ring, id);
        }
    }

    pub(super) fn is_lingering(&self) -> bool {
        !self.lingering.is_empty()
    }

    /// Ends all, and their sends too.
    pub(super) fn end_all(&mut self, ring: &Ring) {
        for slot in 0..self.slots.len() as u32 {
            let id = ConnectionId {
                slot,
                generation: self.slots[slot as usize].generation,
            };
            self.end(ring, id, CloseReason::Finished);
            self.give_up(ring, id);
        }
    }

    /// Shuts our half of an ending connection once its send has left, and closes the descriptor once nothing of it is
    /// in flight and the peer has ended too.
    fn settle(&mut self, id: ConnectionId) {
        let Some(connection) = self.get(id) else {
            return;
        };
        let Some(reason) = connection.ending else {
            return;
        };
        if connection.sending.is_some() || connection.connecting.is_some() {
            return;
        }
        if connection.draining.is_some() && !connection.shut {
            connection.shut = true;
            // A refusal means that the connection is gone already, and then the receive says so.
            let _ = connection.socket.shutdown(Shutdown::Write);
        }
        if connection.receive == Receive::Idle && connection.draining.is_none() {
            self.retire(id, reason);
        }
    }
}

fn tag(kind: Kind, id: ConnectionId) -> u64 {
    Tag {
        kind,
        slot: id.slot,
        generation: id.generation,
    }
    .encode()
}

pub(super) fn id_of(tag: Tag) -> ConnectionId {
    ConnectionId {
        slot: tag.slot,
        generation: tag.generation,
    }
}

fn cancel(ring: &Ring, kind: Kind, id: ConnectionId) {
    let entry = opcode::AsyncCancel::new(tag(kind, id)).build();
    // SAFETY: a cancel points to nothing.
    unsafe { ring.push(entry.user_data(tag(Kind::Cancel, id))) };
}
