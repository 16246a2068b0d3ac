//! What connections send, in turns: each has a bounded amount of work a turn, and waits for the next one with the rest,
//! so that a flood of requests on one connection holds nobody else up.

use super::events;
use super::shard::{Shard, SharedShard};
use super::waiters::ReplyTo;
use crate::base::limits::{
    ADMIN_CONNECTIONS_MAX, ADMIN_MS_MAX, CONNECTION_KEPT_BYTES_MAX, CONNECTION_STALL_MS,
    CONNECTIONS_REFUSED_MAX, FRAME_STALL_MS, PEER_FRAME_BYTES_MAX, SMALL_BYTES_MAX,
    STRANGER_FRAME_BYTES_MAX, TURN_WORK_MAX,
};
use crate::base::units::{KIB, Nanos};
use crate::runtime::net::{ConnectionId, Door};
use crate::wire::codec::RequestLimits;
use crate::wire::frame::{self, PEER_IDENTIFIER, REQUEST_IDENTIFIER, Split};
use crate::wire::message::Status;

/// Bytes that count as much as one more request.
const BYTES_A_WORK: usize = 4 * KIB;

/// Who speaks on a connection, and so what frames it may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Client,
    /// Another node.
    Peer,
    /// Who says that it is a node, and has not proved it.
    Stranger,
}

impl Dialect {
    fn of(is_peer: bool, bytes: &[u8]) -> Dialect {
        match (is_peer, frame::is_of_peer(bytes)) {
            (true, _) => Dialect::Peer,
            (false, true) => Dialect::Stranger,
            (false, false) => Dialect::Client,
        }
    }

    fn split(self, bytes: &[u8], limits: RequestLimits) -> Split {
        match self {
            Dialect::Client => frame::split(bytes, REQUEST_IDENTIFIER, limits.frame_bytes_max()),
            Dialect::Peer => frame::split(bytes, PEER_IDENTIFIER, PEER_FRAME_BYTES_MAX),
            Dialect::Stranger => frame::split(bytes, PEER_IDENTIFIER, STRANGER_FRAME_BYTES_MAX),
        }
    }
}

impl Shard {
    /// A turn of the loop begins: those that waited for it are served first.
    pub fn begin_turn(&mut self, shared: &SharedShard) {
        self.connections.now = self.runtime.now();
        self.connections.turn += 1;
        for _ in 0..self.connections.ready() {
            let Some(id) = self.connections.next_ready() else {
                return;
            };
            self.consume_inbox(shared, id);
        }
    }

    pub fn on_accepted(&mut self, id: ConnectionId, door: Door) {
        self.counters.connections_accepted += 1;
        self.connections.open(id, door);
        if door == Door::Admin {
            let oldest = self
                .connections
                .stale_admins(Nanos(0), ADMIN_CONNECTIONS_MAX);
            oldest.into_iter().for_each(|id| self.cut(id));
            return;
        }
        let over = self.connections.len().saturating_sub(self.connections_max);
        if over == 0 {
            return;
        }
        self.counters.connections_refused += 1;
        if let Some(refused) = self.refusals.due(self.runtime.now()) {
            let event = events::connection_limit(refused, self.connections_max);
            self.runtime.log(event);
        }
        if over > CONNECTIONS_REFUSED_MAX {
            return self.cut(id);
        }
        let message = "too many connections to this node; close some, or ask another node";
        self.reply_message(ReplyTo::Connection(id), 0, Status::Overloaded, message);
        self.close_after_replies(id);
    }

    pub fn on_chunk(&mut self, shared: &SharedShard, id: ConnectionId, bytes: &[u8]) {
        let (now, turn) = (self.connections.now, self.connections.turn);
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if connection.is_closing() {
            return;
        }
        connection.on_moved(bytes.len(), now);
        let whole = connection.inbox.is_empty() && connection.served_turn != turn;
        // The usual case: whole frames, served from the ring's own buffer.
        let used = if whole {
            self.consume(shared, id, bytes)
        } else {
            0
        };
        if let Some(connection) = self.connections.get(id).filter(|c| !c.is_closing()) {
            let inbox = &mut connection.inbox;
            if inbox.len() > SMALL_BYTES_MAX {
                // Growing by half of a long frame would cost more than moving it.
                inbox.reserve_exact(bytes.len() - used);
            }
            inbox.extend_from_slice(&bytes[used..]);
        }
        match whole {
            true => self.keep_rest(id),
            false => self.consume_inbox(shared, id),
        }
    }

    pub fn on_sent(&mut self, id: ConnectionId, buffer: Vec<u8>) {
        self.connections.on_sent(id, buffer);
        let waits = |c: &mut super::connection::Connection| !c.inbox.is_empty();
        if self.connections.get(id).is_some_and(waits) {
            self.connections.make_ready(id);
        }
    }

    /// The peer sends no more: it is closed when it has its replies.
    pub fn on_ended(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            connection.ended = true;
            self.connections.touch(id);
        }
    }

    fn consume_inbox(&mut self, shared: &SharedShard, id: ConnectionId) {
        let turn = self.connections.turn;
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if connection.served_turn == turn {
            return self.connections.make_ready(id);
        }
        let mut inbox = std::mem::take(&mut connection.inbox);
        let used = self.consume(shared, id, &inbox);
        let Some(connection) = self.connections.get(id).filter(|c| !c.is_closing()) else {
            return self.connections.touch(id);
        };
        if used == inbox.len() {
            inbox = Vec::new();
        } else if used > 0 {
            inbox.drain(..used);
            if inbox.capacity() > CONNECTION_KEPT_BYTES_MAX {
                inbox.shrink_to(CONNECTION_KEPT_BYTES_MAX);
            }
        }
        connection.inbox = inbox;
        if used > 0 {
            self.connections.on_whole_frame(id);
        }
        self.keep_rest(id);
    }

    /// What is left of the bytes of a connection waits for a turn, or for the rest of its frame; that needs room.
    fn keep_rest(&mut self, id: ConnectionId) {
        self.connections.touch(id);
        let limits = self.request_limits;
        let full = self.connections.budget.is_full();
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if connection.inbox.is_empty() || connection.door == Door::Admin {
            return;
        }
        let dialect = Dialect::of(connection.peer.is_some(), &connection.inbox);
        let total = match dialect.split(&connection.inbox, limits) {
            Split::NeedMore { total } => total.unwrap_or(0),
            Split::Frame { .. } | Split::Bad(_) => return,
        };
        // The link of another node carries what many clients wait for, and comes in parts all the time: such small ones
        // of a few nodes are kept.
        let of_peer = connection.peer.is_some() && total <= SMALL_BYTES_MAX;
        if total > SMALL_BYTES_MAX && self.connections.on_long_frame(id) || !full || of_peer {
            return;
        }
        // A pause comes too late for what is here already.
        let message = "no memory is left for requests that come in parts; ask again in a moment, or ask another node";
        self.counters.connections_refused += 1;
        self.reply_message(ReplyTo::Connection(id), 0, Status::Overloaded, message);
        self.close_after_replies(id);
    }

    /// Serves whole requests at the front of `bytes`, as many as this turn allows; returns how many bytes they took.
    fn consume(&mut self, shared: &SharedShard, id: ConnectionId, bytes: &[u8]) -> usize {
        let turn = self.connections.turn;
        let (mut used, mut work) = (0, 0);
        loop {
            let unsent_max = self.connections.budget.unsent_max();
            let Some(connection) = self.connections.get(id) else {
                return bytes.len();
            };
            connection.served_turn = turn;
            if connection.is_closing() {
                return bytes.len();
            }
            if connection.door == Door::Admin {
                return used + self.on_admin(id, &bytes[used..]);
            }
            let unsent = connection.unsent_bytes();
            if connection.is_clogged(unsent_max) {
                self.connections.touch(id);
                return used;
            }
            let rest = &bytes[used..];
            let dialect = Dialect::of(connection.peer.is_some(), rest);
            match dialect.split(rest, self.request_limits) {
                Split::NeedMore { .. } => return used,
                Split::Frame { .. } if work >= TURN_WORK_MAX => {
                    self.connections.make_ready(id);
                    return used;
                }
                Split::Frame { len } => {
                    used += len;
                    match dialect {
                        Dialect::Client => self.on_frame(shared, id, &rest[..len]),
                        Dialect::Peer | Dialect::Stranger => {
                            self.on_peer_frame(shared, id, &rest[..len]);
                        }
                    }
                    let after = self.connections.get(id).map_or(0, |c| c.unsent_bytes());
                    let moved = len + after.saturating_sub(unsent);
                    work += 1 + moved / BYTES_A_WORK + std::mem::take(&mut self.more_work);
                }
                Split::Bad(why) => {
                    self.counters.frames_refused += 1;
                    self.reply_message(
                        ReplyTo::Connection(id),
                        0,
                        Status::BadRequest,
                        &why.to_string(),
                    );
                    self.close_after_replies(id);
                }
            }
        }
    }

    pub fn close_after_replies(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            connection.close_after_replies();
            self.connections.touch(id);
        }
    }

    fn cut(&mut self, id: ConnectionId) {
        self.connections.cut(&self.net, id);
    }

    /// Looks for connections that had their time.
    pub fn look_after_connections(&mut self) {
        let now = self.runtime.now();
        self.connections.now = now;
        let since = |ms: u64| Nanos(now.0.saturating_sub(ms * 1_000_000));
        let late = self
            .connections
            .stale_admins(since(ADMIN_MS_MAX), ADMIN_CONNECTIONS_MAX);
        late.into_iter().for_each(|id| self.cut(id));
        // Its replies fill the socket: what it has not read by now it does not want.
        for id in self.connections.closing() {
            self.cut(id);
        }
        let (others, favoured) = (since(CONNECTION_STALL_MS), since(FRAME_STALL_MS));
        for id in self.connections.stalled(others, favoured) {
            self.counters.connections_stalled += 1;
            let sends = self
                .connections
                .get(id)
                .is_some_and(|c| c.unsent_bytes() > 0);
            if !sends {
                let message = "closed: memory ran short, and this connection held the most of it for \
                               an unfinished request that did not go on";
                self.reply_message(ReplyTo::Connection(id), 0, Status::Overloaded, message);
            }
            match sends {
                true => self.cut(id),
                false => self.close_after_replies(id),
            }
        }
    }
}
