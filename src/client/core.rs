//! The client's side of one connection, without the connection: bytes and requests in, bytes and replies out.
//!
//! 1. An outcome is never guessed: what was open when the connection broke is unsent if not one byte of it
//!    had left, else unknown. What somebody has taken to send it counts as sent until they say otherwise.
//! 2. A reply is matched by its id alone; replies come in any order.
//! 3. After bytes that are no reply nothing more is read: the connection is to be broken.

use super::error::Cause;
use crate::base::limits::RESPONSE_FRAME_BYTES_MAX;
use crate::wire::codec::{Builder, ReplyView, decode_reply, encode_request};
use crate::wire::frame::{REPLY_IDENTIFIER, Split, split};
use crate::wire::message::{Op, Request};
use std::collections::BTreeMap;

/// An open request of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What is known of a request when its connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// No byte of it left: it did not happen.
    NotSent,
    /// It only asked: nothing was changed.
    NoAnswer,
    /// It may have happened, or may yet.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    op: Op,
    /// Where its frame begins in all that this connection sends.
    begins_at: u64,
}

/// One connection's state.
#[derive(Default)]
pub struct Core {
    builder: Builder,
    last_id: u64,
    pending: BTreeMap<RequestId, Pending>,
    outbound: Vec<u8>,
    outbound_taken: usize,
    sent_bytes: u64,
    /// Bytes behind `sent_bytes` that may be leaving at this moment.
    leaving_bytes: usize,
    inbound: Vec<u8>,
    inbound_taken: usize,
}

impl Core {
    pub fn new() -> Core {
        Core::default()
    }

    /// Queues `request` under an id of its own; the one it carries is not looked at.
    pub fn submit(&mut self, request: &Request<'_>) -> RequestId {
        self.last_id += 1;
        let id = RequestId(self.last_id);
        let begins_at = self.sent_bytes + self.unsent().len() as u64;
        if self.outbound_taken == self.outbound.len() {
            self.outbound.clear();
            self.outbound_taken = 0;
        }
        let request = Request {
            id: id.0,
            ..request.clone()
        };
        self.outbound
            .extend_from_slice(encode_request(&mut self.builder, &request));
        let before = self.pending.insert(
            id,
            Pending {
                op: request.op,
                begins_at,
            },
        );
        assert!(before.is_none(), "an id is used once on a connection");
        id
    }

    /// What is to be sent next.
    pub fn unsent(&self) -> &[u8] {
        &self.outbound[self.outbound_taken..]
    }

    /// Replaces what `into` holds by what is to be sent next, at most `len_max` bytes: for whoever sends while others
    /// use the core. Until `on_sent` tells how much of it left, all of it may have.
    pub fn take_unsent(&mut self, into: &mut Vec<u8>, len_max: usize) {
        into.clear();
        let unsent = self.unsent();
        into.extend_from_slice(&unsent[..unsent.len().min(len_max)]);
        self.leaving_bytes = into.len();
    }

    /// The first `len` bytes of `unsent` left, and no more.
    pub fn on_sent(&mut self, len: usize) {
        assert!(len <= self.unsent().len(), "no more leaves than there is");
        self.outbound_taken += len;
        self.sent_bytes += len as u64;
        self.leaving_bytes = 0;
    }

    /// How many requests are open.
    pub fn open(&self) -> usize {
        self.pending.len()
    }

    /// Takes in what arrived; `next_reply` tells what it was.
    pub fn on_bytes(&mut self, bytes: &[u8]) {
        self.inbound.drain(..self.inbound_taken);
        self.inbound_taken = 0;
        self.inbound.extend_from_slice(bytes);
    }

    /// The next whole reply, if there is one. It borrows from the core: nothing is copied. After an error
    /// break the connection.
    pub fn next_reply(&mut self) -> Result<Option<(RequestId, ReplyView<'_>)>, Cause> {
        let bytes = &self.inbound[self.inbound_taken..];
        let len = match split(bytes, REPLY_IDENTIFIER, RESPONSE_FRAME_BYTES_MAX) {
            Split::NeedMore { .. } => return Ok(None),
            Split::Frame { len } => len,
            Split::Bad(reason) => return Err(reason.into()),
        };
        let reply = decode_reply(&bytes[..len])?;
        let id = RequestId(reply.id);
        if reply.id == 0 {
            // The node speaks of the connection: it takes no more of them, or could not read what was sent.
            let (status, message) = (reply.status, reply.message.to_string());
            return Err(Cause::Said { status, message });
        }
        if self.pending.remove(&id).is_none() {
            return Err(Cause::Stranger(reply.id));
        }
        self.inbound_taken += len;
        Ok(Some((id, reply)))
    }

    /// What is known of a request if nothing more is heard of it; `None`: it has been answered, or was never open.
    pub fn fate(&self, id: RequestId) -> Option<Fate> {
        Some(self.fate_of(self.pending.get(&id)?))
    }

    fn fate_of(&self, pending: &Pending) -> Fate {
        if pending.begins_at >= self.sent_bytes + self.leaving_bytes as u64 {
            Fate::NotSent
        } else if pending.op.writes() {
            Fate::Unknown
        } else {
            Fate::NoAnswer
        }
    }

    /// The connection broke, or is given up: the fate of all that was open, in the order it was submitted.
    pub fn on_broken(self) -> impl Iterator<Item = (RequestId, Fate)> {
        let fates = self.pending.iter();
        let fates: Vec<_> = fates
            .map(|(id, pending)| (*id, self.fate_of(pending)))
            .collect();
        fates.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec::encode_reply;
    use crate::wire::message::{Reply, Status};

    fn request(op: Op) -> Request<'static> {
        Request {
            op,
            key: b"k",
            ..Request::default()
        }
    }

    fn reply(id: RequestId) -> Vec<u8> {
        let reply = Reply {
            id: id.0,
            status: Some(Status::Ok),
            ..Reply::default()
        };
        encode_reply(&mut Builder::new(), &reply).to_vec()
    }

    #[test]
    fn replies_in_any_order_and_in_any_pieces_find_their_requests() {
        let mut core = Core::new();
        let ids: Vec<RequestId> = (0..5).map(|_| core.submit(&request(Op::Get))).collect();
        core.on_sent(core.unsent().len());
        let bytes: Vec<u8> = ids.iter().rev().flat_map(|id| reply(*id)).collect();
        let mut got = Vec::new();
        for piece in bytes.chunks(7) {
            core.on_bytes(piece);
            while let Some((id, _)) = core.next_reply().expect("good replies") {
                got.push(id);
            }
        }
        got.reverse();
        assert_eq!(got, ids);
        assert_eq!(core.open(), 0);
    }

    #[test]
    fn a_broken_connection_never_guesses() {
        let mut core = Core::new();
        let read = core.submit(&request(Op::Get));
        let answered = core.submit(&request(Op::Put));
        core.on_sent(core.unsent().len());
        let whole = core.submit(&request(Op::Put));
        core.on_sent(core.unsent().len());
        let begun = core.submit(&request(Op::Delete));
        core.on_sent(1);
        let unsent = core.submit(&request(Op::Put));
        core.on_bytes(&reply(answered));
        assert!(core.next_reply().expect("a good reply").is_some());
        let fates: Vec<_> = core.on_broken().collect();
        let expected = [
            (read, Fate::NoAnswer),
            (whole, Fate::Unknown),
            (begun, Fate::Unknown),
            (unsent, Fate::NotSent),
        ];
        assert_eq!(fates, expected);
    }

    #[test]
    fn strangers_and_rubbish_are_errors() {
        let mut core = Core::new();
        core.on_bytes(&reply(RequestId(9)));
        assert!(matches!(core.next_reply(), Err(Cause::Stranger(9))));
        let mut core = Core::new();
        core.on_bytes(b"HTTP/1.1 400 Bad Request\r\n");
        assert!(matches!(core.next_reply(), Err(Cause::BadFrame(_))));
    }
}
