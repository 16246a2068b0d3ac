//! The bytes of one connection in both directions: what has arrived in part, what waits to leave, and what it may hold.

use super::budget::Budget;
use crate::base::limits::{
    CONNECTION_KEPT_BYTES_MAX, KEPT_BUFFERS_MAX, RECV_BUFFER_BYTES, RECV_BUFFERS_PER_CONNECTION_MAX,
};
use crate::base::units::Nanos;
use crate::ring::member::NodeId;
use crate::runtime::net::{ConnectionId, Door, Net};
use std::collections::VecDeque;

/// What may come before a connection that is read again is paused again.
const RESUME_BYTES: usize = RECV_BUFFERS_PER_CONNECTION_MAX * RECV_BUFFER_BYTES;

#[derive(Debug)]
pub struct Connection {
    pub id: ConnectionId,
    pub door: Door,
    /// Bytes that no whole frame covers yet, or that wait for their turn.
    pub inbox: Vec<u8>,
    /// Replies gathered while a send is in flight.
    pub outbox: Vec<u8>,
    /// Bytes of the send in flight; 0: none.
    sending: usize,
    /// Requests under way.
    pub in_flight: usize,
    /// Bytes of values in the replies of requests under way.
    pub promised: usize,
    /// The peer sends no more.
    pub ended: bool,
    /// It has had its work of this turn.
    pub served_turn: u64,
    /// In the queue of those that wait for their next turn.
    ready: bool,
    /// In the queue of those whose long frame has to wait.
    waits_for_room: bool,
    /// Bytes of the replies of late that came from other shards.
    pub crossed_bytes: usize,
    /// The node that dialled it, once it has proved that it is one.
    pub peer: Option<NodeId>,
    /// The number with which it is to prove that it knows a join token.
    pub challenge: Option<u128>,
    paused: bool,
    /// Closed once the outbox has left.
    closing: bool,
    /// The runtime has been told to close it.
    closed: bool,
    /// What the budget counts for it.
    charged: usize,
    /// When it last moved a good part of what it holds, and the bytes moved since.
    progress_at: Nanos,
    moved: usize,
}

impl Connection {
    fn new(id: ConnectionId, door: Door, now: Nanos) -> Connection {
        Connection {
            id,
            door,
            inbox: Vec::new(),
            outbox: Vec::new(),
            sending: 0,
            in_flight: 0,
            promised: 0,
            ended: false,
            served_turn: 0,
            ready: false,
            waits_for_room: false,
            crossed_bytes: 0,
            peer: None,
            challenge: None,
            paused: false,
            closing: false,
            closed: false,
            charged: 0,
            progress_at: now,
            moved: 0,
        }
    }

    pub fn unsent_bytes(&self) -> usize {
        self.outbox.len() + self.sending
    }

    /// What the budget counts for it now.
    pub fn charged(&self) -> usize {
        self.charged
    }

    /// What it holds of the budget; what requests under way need is counted apart.
    fn held(&self) -> usize {
        self.inbox.capacity() + self.outbox.capacity() + self.sending
    }

    /// Whether replies have piled up, or will as soon as a disk has answered, so that nothing more is answered.
    pub fn is_clogged(&self, unsent_max: usize) -> bool {
        self.unsent_bytes() + self.promised > unsent_max
    }

    pub fn is_closing(&self) -> bool {
        self.closing
    }

    pub fn is_waiting_for_room(&self) -> bool {
        self.waits_for_room
    }

    /// No further request is answered; the connection is closed after what is in the outbox.
    pub fn close_after_replies(&mut self) {
        self.closing = true;
        self.inbox = Vec::new();
    }

    /// So many bytes came or left.
    pub fn on_moved(&mut self, bytes: usize, now: Nanos) {
        self.moved += bytes;
        if self.moved >= self.charged / 8 {
            self.moved = 0;
            self.progress_at = now;
        }
    }

    /// Whether it holds something and moved next to nothing of it since `since`, for no reason of ours.
    fn is_stalled(&self, since: Nanos) -> bool {
        let ours = self.waits_for_room || self.ready;
        self.charged > 0 && self.progress_at <= since && !ours
    }

    /// Reads no more while replies pile up, while its long frame has no room, or while it is far ahead of its turns;
    /// goes on at half, so that it does not flutter.
    fn wants_pause(&self, unsent_max: usize) -> bool {
        let limit = if self.paused {
            unsent_max / 2
        } else {
            unsent_max
        };
        let ahead = self.ready && self.inbox.len() > RECV_BUFFER_BYTES;
        self.is_clogged(limit) || self.waits_for_room || ahead
    }

    /// Starts a send if there is something to send and none is in flight; pauses or closes as is due.
    fn flush(&mut self, net: &Net, unsent_max: usize) {
        if self.closed {
            return;
        }
        if self.sending == 0 && !self.outbox.is_empty() {
            self.sending = self.outbox.len();
            net.send(self.id, std::mem::take(&mut self.outbox));
        }
        let answered = self.in_flight == 0 && self.unsent_bytes() == 0 && !self.ready;
        // A close lets the send in flight leave, but not for ever.
        if self.closing && self.outbox.is_empty() || self.ended && answered {
            self.close(net);
            return;
        }
        let pause = self.wants_pause(unsent_max);
        if pause != self.paused {
            self.paused = pause;
            match pause {
                true => net.pause(self.id),
                false => net.resume(self.id),
            }
        }
    }

    fn close(&mut self, net: &Net) {
        self.closing = true;
        self.closed = true;
        self.inbox = Vec::new();
        self.outbox = Vec::new();
        net.close(self.id);
    }
}

/// The connections of a shard, by slot.
#[derive(Debug)]
pub struct Connections {
    slots: Vec<Option<Connection>>,
    clients: usize,
    /// Those of the admin door, the oldest first.
    admins: VecDeque<(Nanos, ConnectionId)>,
    /// Connections with something to send, or whose reading may have to change.
    dirty: Vec<ConnectionId>,
    /// Those that have more to do than one turn allows, in the order of their turns.
    ready: VecDeque<ConnectionId>,
    /// Those that are not read because memory is short and their frame is long, the first come first.
    waiting: VecDeque<ConnectionId>,
    /// The one whose long frame is finished, short as memory is.
    favoured: Option<ConnectionId>,
    pub budget: Budget,
    /// Empty buffers for replies: a connection that has nothing to send has none.
    spares: Vec<Vec<u8>>,
    pub now: Nanos,
    pub turn: u64,
}

impl Connections {
    pub fn new(budget: Budget) -> Connections {
        Connections {
            slots: Vec::new(),
            clients: 0,
            admins: VecDeque::new(),
            dirty: Vec::new(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            favoured: None,
            budget,
            spares: Vec::new(),
            now: Nanos(0),
            turn: 0,
        }
    }

    pub fn open(&mut self, id: ConnectionId, door: Door) {
        let slot = id.slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        assert!(self.slots[slot].is_none(), "a slot was given out twice");
        self.slots[slot] = Some(Connection::new(id, door, self.now));
        match door {
            Door::Client => self.clients += 1,
            Door::Admin => self.admins.push_back((self.now, id)),
        }
    }

    /// `None` if it has been closed since: late replies go nowhere.
    pub fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots
            .get_mut(id.slot as usize)?
            .as_mut()
            .filter(|c| c.id == id)
    }

    /// The outbox to put a reply into, unless it has been closed.
    pub fn outbox(&mut self, id: ConnectionId) -> Option<&mut Vec<u8>> {
        let spare = &mut self.spares;
        let slot = self.slots.get_mut(id.slot as usize)?;
        let connection = slot.as_mut().filter(|c| c.id == id && !c.closed)?;
        if connection.outbox.capacity() == 0
            && let Some(spare) = spare.pop()
        {
            connection.outbox = spare;
        }
        Some(&mut connection.outbox)
    }

    pub fn close(&mut self, id: ConnectionId) {
        let Some(connection) = self.get(id) else {
            return;
        };
        let (charged, door) = (connection.charged, connection.door);
        self.budget.change(charged, 0);
        match door {
            Door::Client => self.clients -= 1,
            Door::Admin => self.admins.retain(|(_, other)| *other != id),
        }
        if self.favoured == Some(id) {
            self.favoured = None;
        }
        self.slots[id.slot as usize] = None;
    }

    /// Connections of clients.
    pub fn len(&self) -> usize {
        self.clients
    }

    pub fn is_empty(&self) -> bool {
        self.clients == 0
    }

    pub fn admins(&self) -> usize {
        self.admins.len()
    }

    /// The admin connections that were opened at `since` or before, and as many of the oldest as are more than `most`.
    pub fn stale_admins(&self, since: Nanos, most: usize) -> Vec<ConnectionId> {
        let over = self.admins.len().saturating_sub(most);
        let stale =
            |(nth, (opened, _)): &(usize, &(Nanos, ConnectionId))| *nth < over || *opened <= since;
        let admins = self.admins.iter().enumerate().filter(stale);
        admins.map(|(_, (_, id))| *id).collect()
    }

    /// Something of it changed: it is counted anew, and looked after at the end of the turn.
    pub fn touch(&mut self, id: ConnectionId) {
        self.recount(id);
        if self.dirty.last() != Some(&id) {
            self.dirty.push(id);
        }
    }

    fn recount(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.get(id) else {
            return;
        };
        let (before, after) = (connection.charged, connection.held());
        if after > 2 * before {
            connection.progress_at = now;
            connection.moved = 0;
        }
        connection.charged = after;
        self.budget.change(before, after);
    }

    /// It has more to do than this turn allows.
    pub fn make_ready(&mut self, id: ConnectionId) {
        let Some(connection) = self.get(id) else {
            return;
        };
        if !std::mem::replace(&mut connection.ready, true) {
            self.ready.push_back(id);
        }
    }

    /// The next of those that waited for this turn.
    pub fn next_ready(&mut self) -> Option<ConnectionId> {
        let id = self.ready.pop_front()?;
        if let Some(connection) = self.get(id) {
            connection.ready = false;
        }
        Some(id)
    }

    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// A long frame of it is not whole yet. While memory is short it is not read, unless it is its turn to be finished:
    /// then this is true.
    pub fn on_long_frame(&mut self, id: ConnectionId) -> bool {
        let favoured = self.favoured == Some(id);
        if !self.budget.is_pressed() || favoured {
            return favoured;
        }
        let Some(connection) = self.get(id) else {
            return false;
        };
        if !std::mem::replace(&mut connection.waits_for_room, true) {
            self.waiting.push_back(id);
        }
        false
    }

    /// Frames of it are whole: it waits for nobody.
    pub fn on_whole_frame(&mut self, id: ConnectionId) {
        if self.favoured == Some(id) {
            self.favoured = None;
        }
        if let Some(connection) = self.get(id) {
            connection.waits_for_room = false;
        }
    }

    /// Lets those go on with their frames for which there is room; if there is none, the first of them, so that one
    /// frame is always on its way to be finished.
    fn admit_frames(&mut self) {
        let mut resumed = 0;
        loop {
            let room = self.budget.has_room(resumed + RESUME_BYTES);
            if self.waiting.is_empty() || !room && self.favoured.is_some() {
                return;
            }
            let id = self.waiting.pop_front().expect("seen above");
            let now = self.now;
            let Some(connection) = self.get(id).filter(|c| c.waits_for_room) else {
                continue;
            };
            connection.waits_for_room = false;
            connection.progress_at = now;
            resumed += RESUME_BYTES;
            if !room {
                self.favoured = Some(id);
            }
            self.touch(id);
        }
    }

    /// The send in flight of a connection has left.
    pub fn on_sent(&mut self, id: ConnectionId, mut buffer: Vec<u8>) {
        let now = self.now;
        let Some(connection) = self.get(id) else {
            return;
        };
        assert!(connection.sending > 0, "a send ended that was not begun");
        connection.on_moved(connection.sending, now);
        connection.sending = 0;
        if buffer.capacity() <= CONNECTION_KEPT_BYTES_MAX && self.spares.len() < KEPT_BUFFERS_MAX {
            buffer.clear();
            self.spares.push(buffer);
        }
        self.touch(id);
    }

    /// Sends what this turn gathered.
    pub fn flush(&mut self, net: &Net) {
        self.admit_frames();
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let unsent_max = self.budget.unsent_max();
            if let Some(connection) = self.get(id) {
                connection.flush(net, unsent_max);
                self.recount(id);
            }
        }
        self.dirty = dirty;
    }

    /// While memory is short: those that hold most and have not moved since `since`, as many as it takes; and the one
    /// that others wait for, if it has not moved since `favoured_since`.
    pub fn stalled(&self, since: Nanos, favoured_since: Nanos) -> Vec<ConnectionId> {
        if !self.budget.is_pressed() && self.waiting.is_empty() {
            return Vec::new();
        }
        let connections = self.slots.iter().flatten().filter(|c| !c.closed);
        let mut stalled: Vec<(bool, &Connection)> = connections
            .map(|c| (self.favoured == Some(c.id), c))
            .filter(|(favoured, c)| c.is_stalled(if *favoured { favoured_since } else { since }))
            .collect();
        stalled.sort_by_key(|(favoured, c)| std::cmp::Reverse((*favoured, c.charged)));
        let mut over = self.budget.used().saturating_sub(self.budget.relieved_at());
        let mut chosen = Vec::new();
        for (favoured, connection) in stalled {
            if over == 0 && !favoured {
                break;
            }
            over = over.saturating_sub(connection.charged);
            chosen.push(connection.id);
        }
        chosen
    }

    /// Closes it now, whatever it has not read yet.
    pub fn cut(&mut self, net: &Net, id: ConnectionId) {
        if let Some(connection) = self.get(id).filter(|c| !c.closed) {
            connection.close(net);
            self.touch(id);
        }
    }

    /// Those that are to be closed after their replies, and have replies still.
    pub fn closing(&self) -> Vec<ConnectionId> {
        let closing = |c: &&Connection| c.closing && !c.closed;
        let connections = self.slots.iter().flatten().filter(closing);
        connections.map(|c| c.id).collect()
    }

    pub fn unsent_bytes(&self) -> usize {
        self.slots
            .iter()
            .flatten()
            .map(Connection::unsent_bytes)
            .sum()
    }

    /// Those that other nodes have dialled.
    pub fn peers(&self) -> Vec<ConnectionId> {
        let peers = self.slots.iter().flatten().filter(|c| c.peer.is_some());
        peers.map(|c| c.id).collect()
    }

    pub fn ids(&self) -> Vec<ConnectionId> {
        self.slots.iter().flatten().map(|c| c.id).collect()
    }
}
