//! The bytes of one connection in both directions: what has arrived in part, what waits to leave.

use crate::base::limits;
use crate::runtime::net::{ConnectionId, Door, Net};

#[derive(Debug)]
pub struct Connection {
    pub id: ConnectionId,
    pub door: Door,
    /// Bytes that no whole frame covers yet, or that wait until replies have left.
    pub inbox: Vec<u8>,
    /// Replies gathered while a send is in flight.
    pub outbox: Vec<u8>,
    /// Bytes of the send in flight; 0: none.
    sending: usize,
    /// An empty buffer that came back from the last send.
    spare: Vec<u8>,
    /// Requests under way.
    pub in_flight: usize,
    /// Bytes of values in the replies of requests under way.
    pub promised: usize,
    /// Bytes of the replies of late that came from other shards.
    pub crossed_bytes: usize,
    paused: bool,
    /// Closed once the outbox has left.
    closing: bool,
}

impl Connection {
    fn new(id: ConnectionId, door: Door) -> Connection {
        Connection {
            id,
            door,
            inbox: Vec::new(),
            outbox: Vec::new(),
            sending: 0,
            spare: Vec::new(),
            in_flight: 0,
            promised: 0,
            crossed_bytes: 0,
            paused: false,
            closing: false,
        }
    }

    pub fn unsent_bytes(&self) -> usize {
        self.outbox.len() + self.sending
    }

    /// Whether replies have piled up, or will as soon as a disk has answered, so that nothing more is read or answered.
    pub fn is_clogged(&self) -> bool {
        self.unsent_bytes() + self.promised > limits::CONNECTION_UNSENT_BYTES_MAX
    }

    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// No further request is answered; the connection is closed after what is in the outbox.
    pub fn close_after_replies(&mut self) {
        self.closing = true;
    }

    /// Starts a send if there is something to send and none is in flight; pauses or closes as is due.
    pub fn flush(&mut self, net: &Net) {
        if self.sending == 0 && !self.outbox.is_empty() {
            self.sending = self.outbox.len();
            let next = std::mem::take(&mut self.spare);
            net.send(self.id, std::mem::replace(&mut self.outbox, next));
        }
        if self.closing && self.unsent_bytes() == 0 {
            net.close(self.id);
        }
        if self.is_clogged() && !self.paused {
            self.paused = true;
            net.pause(self.id);
        }
    }

    /// The send in flight has left. True if the connection may be read again: at half the limit, so that it does not
    /// flutter.
    pub fn on_sent(&mut self, buffer: Vec<u8>, net: &Net) -> bool {
        assert!(self.sending > 0, "a send ended that was not begun");
        self.sending = 0;
        // A buffer that large replies made is not kept for ever.
        if buffer.capacity() <= limits::CONNECTION_KEPT_BYTES_MAX {
            self.spare = buffer;
            self.spare.clear();
        }
        let coming = self.outbox.len() + self.promised;
        let resumed = self.paused && coming <= limits::CONNECTION_UNSENT_BYTES_MAX / 2;
        if resumed {
            self.paused = false;
            net.resume(self.id);
        }
        resumed
    }
}

/// The connections of a shard, by slot.
#[derive(Debug, Default)]
pub struct Connections {
    slots: Vec<Option<Connection>>,
    open: usize,
    /// Connections with something to send.
    dirty: Vec<ConnectionId>,
}

impl Connections {
    pub fn open(&mut self, id: ConnectionId, door: Door) {
        let slot = id.slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        assert!(self.slots[slot].is_none(), "a slot was given out twice");
        self.slots[slot] = Some(Connection::new(id, door));
        self.open += 1;
    }

    /// `None` if it has been closed since: late replies go nowhere.
    pub fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots
            .get_mut(id.slot as usize)?
            .as_mut()
            .filter(|c| c.id == id)
    }

    pub fn close(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get(id)?;
        self.open -= 1;
        self.slots[id.slot as usize].take()
    }

    pub fn len(&self) -> usize {
        self.open
    }

    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    pub fn touch(&mut self, id: ConnectionId) {
        if self.dirty.last() != Some(&id) {
            self.dirty.push(id);
        }
    }

    /// Sends what this turn gathered.
    pub fn flush(&mut self, net: &Net) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            if let Some(connection) = self.get(id) {
                connection.flush(net);
            }
        }
        self.dirty = dirty;
    }

    pub fn unsent_bytes(&self) -> usize {
        self.slots
            .iter()
            .flatten()
            .map(Connection::unsent_bytes)
            .sum()
    }

    pub fn ids(&self) -> Vec<ConnectionId> {
        self.slots.iter().flatten().map(|c| c.id).collect()
    }
}
