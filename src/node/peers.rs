//! What other nodes ask of this shard, on connections that they have dialled.

use super::coordinate::encoded;
use super::fill;
use super::flights::{Carried, Refused, Stored};
use super::formation::nonce;
use super::links::Remote;
use super::own;
use super::shard::{Shard, SharedShard};
use super::waiters::ReplyTo;
use crate::base::limits;
use crate::base::marks::mark;
use crate::causal::object::Object;
use crate::causal::object_codec;
use crate::engine::Entry;
use crate::engine::key::Key;
use crate::membership::formation::{self, Admission, Candidate};
use crate::membership::token::{Asked, JoinToken};
use crate::ring::codec as ring_codec;
use crate::ring::member::NodeId;
use crate::ring::owners::RingEpoch;
use crate::ring::position::Position;
use crate::runtime::Queue;
use crate::runtime::net::ConnectionId;
use crate::wire::codec;
use crate::wire::key_list;
use crate::wire::message::{Reply, Status};
use crate::wire::peer::{Kind, NEED, PEER_PROTOCOL_VERSION, Peer};
use std::rc::Rc;

impl Shard {
    /// A message on a connection that another node dialled.
    pub fn on_peer_frame(&mut self, shared: &SharedShard, id: ConnectionId, frame: &[u8]) {
        let peer = match codec::decode_peer(frame) {
            Ok(peer) => peer,
            Err(_) => {
                self.counters.frames_refused += 1;
                return self.close_after_replies(id);
            }
        };
        let from = self.connections.get(id).and_then(|c| c.peer);
        let known = from.is_some();
        match peer.kind {
            Kind::Hello => self.on_hello_of_peer(shared, id, &peer),
            Kind::Join => self.on_join(shared, id, &peer),
            Kind::Prepare | Kind::Accept if known => self.on_proposal(shared, id, &peer),
            Kind::Scan if known => self.on_scan(shared, id, &peer),
            Kind::Filled if known => {
                let from = from.expect("it is known");
                self.on_filled(shared, from, RingEpoch(peer.ring_epoch));
                let noted = Peer {
                    kind: Kind::Noted,
                    id: peer.id,
                    ..Peer::default()
                };
                self.answer_peer(id, &noted);
            }
            Kind::Ping if known => {
                let pong = Peer {
                    kind: Kind::Pong,
                    id: peer.id,
                    status: self.state_for_peers() as u8,
                    ..Peer::default()
                };
                self.answer_peer(id, &pong);
            }
            Kind::Store if known => self.on_store(shared, id, &peer),
            Kind::Read if known => self.on_read(shared, id, &peer),
            Kind::Forward if known => self.on_forward(shared, id, &peer),
            _ => {
                self.counters.frames_refused += 1;
                self.close_after_replies(id);
            }
        }
    }

    pub fn answer_peer(&mut self, id: ConnectionId, peer: &Peer<'_>) {
        let frame = codec::encode_peer(&mut self.builder, peer);
        if let Some(outbox) = self.connections.outbox(id) {
            outbox.extend_from_slice(frame);
            self.connections.touch(id);
        }
    }

    /// A node without a ring asks for one.
    fn on_join(&mut self, shared: &SharedShard, id: ConnectionId, peer: &Peer<'_>) {
        let challenge = self.connections.get(id).and_then(|c| c.challenge.take());
        let gate = self.gate.clone();
        let token = match gate.ask(peer, challenge) {
            Asked::LetIn(token) => token,
            Asked::Challenge => return self.challenge(id, peer),
            Asked::Refused(why) => {
                mark!(JoinRefused);
                return self.answer_join(id, peer, None, Err(why.into()));
            }
        };
        let admitted = match candidate(peer) {
            None => Err("it does not say where it can be reached".to_owned()),
            Some(asker) => match formation::admit(&self.ring, &asker) {
                Admission::Known => Ok(true),
                // Shard 0 is who is asked by nodes without a ring.
                Admission::New => self.admit(shared, asker, None).map(|()| false),
                Admission::InPlaceOf(other) => {
                    self.admit(shared, asker, Some(other)).map(|()| false)
                }
                Admission::Refused(why) => Err(why),
            },
        };
        self.answer_join(id, peer, token, admitted);
    }

    /// Who asks for a ring is to prove that it knows a token.
    fn challenge(&mut self, id: ConnectionId, peer: &Peer<'_>) {
        let drawn = nonce(&self.runtime);
        if let Some(connection) = self.connections.get(id) {
            connection.challenge = Some(drawn);
        }
        let challenge = Peer {
            kind: Kind::Challenge,
            protocol: PEER_PROTOCOL_VERSION,
            nonce: peer.nonce,
            answer_nonce: drawn,
            ..Peer::default()
        };
        self.answer_peer(id, &challenge);
    }

    /// `admitted`: whether it is in the ring, and may have it now.
    fn answer_join(
        &mut self,
        id: ConnectionId,
        asked: &Peer<'_>,
        token: Option<&JoinToken>,
        admitted: Result<bool, String>,
    ) {
        let mut joined = Peer {
            kind: Kind::Joined,
            protocol: PEER_PROTOCOL_VERSION,
            cluster: self.identity.cluster,
            node: self.node.0,
            nonce: asked.nonce,
            answer_nonce: asked.answer_nonce,
            ..Peer::default()
        };
        let (mut ring, mut secret) = (Vec::new(), self.identity.keys.current.0);
        match &admitted {
            Ok(true) => {
                ring_codec::encode(self.ring.value(), &mut ring);
                if let Some(token) = token {
                    secret = token.masked((asked.nonce, asked.answer_nonce), secret);
                }
                joined.ring = &ring;
                joined.secret = &secret;
            }
            Ok(false) => joined.status = Status::NotReady as u8,
            Err(why) => {
                joined.status = Status::BadRequest as u8;
                joined.message = why;
            }
        }
        joined.proof = token.map_or(0, |token| token.proof(&joined));
        self.answer_peer(id, &joined);
        self.close_after_replies(id);
    }

    /// The key that another node asks about, if this shard owns it and it may be one.
    fn key_of(&self, peer: &Peer<'_>) -> Result<Key, Refused> {
        let refused = |why| Err(Refused::new(Status::BadRequest, why));
        if peer.key.is_empty() || peer.key.len() > limits::KEY_BYTES_MAX {
            return refused("no key");
        }
        let key = key_named(peer.bucket, peer.key);
        let position = key.position;
        let own = Remote {
            node: self.node,
            shard: self.own,
        };
        match self.placement(position).all.contains(&own) {
            true => Ok(key),
            false => refused("not mine: this shard is no replica of the key"),
        }
    }

    fn on_store(&mut self, shared: &SharedShard, id: ConnectionId, peer: &Peer<'_>) {
        self.counters.peer_stores += 1;
        let object = carried(peer.bucket, peer.key, peer.object);
        let object = object.ok_or_else(|| Refused::new(Status::BadRequest, "a damaged object"));
        let asked = self
            .key_of(peer)
            .and_then(|key| object.map(|object| (key, object)));
        let (key, object) = match asked {
            Ok(asked) => asked,
            Err(why) => return self.answer_stored(id, peer.id, Err(why)),
        };
        let held = peer.object.len();
        let frame = self.connections.get(id).map_or(0, |c| c.charged());
        if !self.begin_for_peer(held, held.min(frame)) {
            let why = Refused::new(Status::Overloaded, "no memory is left for it");
            return self.answer_stored(id, peer.id, Err(why));
        }
        let (shared, flight) = (shared.clone(), peer.id);
        let runtime = self.runtime.clone();
        runtime.spawn(Queue::Foreground, async move {
            let stored = own::store(&shared, &key, &object).await;
            let mut shard = shared.borrow_mut();
            shard.end_for_peer(held);
            shard.answer_stored(id, flight, stored);
            shard.flush();
        });
    }

    fn answer_stored(&mut self, id: ConnectionId, flight: u64, stored: Result<Stored, Refused>) {
        let (status, message) = match &stored {
            Ok(Stored::Durable) => (Status::Ok as u8, ""),
            Ok(Stored::Needs) => (NEED, ""),
            Err(why) => (why.status as u8, &why.message[..]),
        };
        let answer = Peer {
            kind: Kind::Stored,
            id: flight,
            status,
            message,
            ..Peer::default()
        };
        self.answer_peer(id, &answer);
    }

    fn on_read(&mut self, shared: &SharedShard, id: ConnectionId, peer: &Peer<'_>) {
        self.counters.peer_reads += 1;
        let key = match self.key_of(peer) {
            Ok(key) => key,
            Err(why) => return self.answer_found(id, peer, Err(why)),
        };
        if !peer.values
            && let Some(found) = own::read_now(self, key.as_ref())
        {
            return self.answer_found(id, peer, found.map(without_values));
        }
        if !self.begin_for_peer(0, 0) {
            let why = Refused::new(Status::Overloaded, super::shard::TOO_MANY);
            return self.answer_found(id, peer, Err(why));
        }
        let (shared, flight, values) = (shared.clone(), peer.id, peer.values);
        let runtime = self.runtime.clone();
        runtime.spawn(Queue::Foreground, async move {
            let found = match values {
                true => {
                    let whole = own::read_whole(&shared, &key).await;
                    whole.map(|whole| whole.map(|w| encoded(&w, |value| value.as_deref())))
                }
                false => own::read(&shared, &key).await.map(without_values),
            };
            let mut shard = shared.borrow_mut();
            shard.end_for_peer(0);
            let asked = Peer {
                id: flight,
                bucket: &key.bucket,
                key: &key.key,
                ..Peer::default()
            };
            shard.answer_found(id, &asked, found);
            shard.flush();
        });
    }

    /// A node that fills asks which keys there are.
    fn on_scan(&mut self, shared: &SharedShard, id: ConnectionId, peer: &Peer<'_>) {
        let positions = Position(peer.position)..=Position(peer.position_last);
        let behind = key_list::decode(peer.object);
        let sound = behind.is_some() && positions.start() <= positions.end();
        if !sound || !self.begin_for_peer(0, 0) {
            let refused = Peer {
                kind: Kind::Scanned,
                id: peer.id,
                status: Status::Overloaded as u8,
                message: super::shard::TOO_MANY,
                ..Peer::default()
            };
            return self.answer_peer(id, &refused);
        }
        let behind = behind.and_then(|keys| Some(key_named(keys.first()?.0, keys.first()?.1)));
        let (shared, flight) = (shared.clone(), peer.id);
        let runtime = self.runtime.clone();
        runtime.spawn(Queue::Background, async move {
            let page = fill::page(&shared, positions, behind).await;
            let mut list = Vec::new();
            let mut scanned = Peer {
                kind: Kind::Scanned,
                id: flight,
                ..Peer::default()
            };
            match &page {
                Ok((keys, more)) => {
                    let all = keys.iter();
                    all.for_each(|key| key_list::encode(&key.bucket, &key.key, &mut list));
                    scanned.object = &list;
                    scanned.more = *more;
                }
                Err(why) => {
                    scanned.status = why.status as u8;
                    scanned.message = &why.message;
                }
            }
            let mut shard = shared.borrow_mut();
            shard.end_for_peer(0);
            shard.answer_peer(id, &scanned);
            shard.flush();
        });
    }

    fn answer_found(
        &mut self,
        id: ConnectionId,
        asked: &Peer<'_>,
        found: Result<Option<Vec<u8>>, Refused>,
    ) {
        let mut answer = Peer {
            kind: Kind::Found,
            id: asked.id,
            bucket: asked.bucket,
            key: asked.key,
            ..Peer::default()
        };
        match &found {
            Ok(object) => answer.object = object.as_deref().unwrap_or_default(),
            Err(why) => {
                answer.status = why.status as u8;
                answer.message = &why.message;
            }
        }
        self.answer_peer(id, &answer);
    }

    /// A task begins in the name of another node, and holds so many bytes; the budget counts `leaving` of them already.
    /// False: there is no room.
    fn begin_for_peer(&mut self, bytes: usize, leaving: usize) -> bool {
        let budget = &self.connections.budget;
        let room = budget.has_room_for_values_of(bytes, leaving);
        if !room || self.peer_tasks >= limits::DISK_TASKS_MAX {
            return false;
        }
        self.peer_tasks += 1;
        self.connections.budget.change(0, bytes);
        true
    }

    fn end_for_peer(&mut self, bytes: usize) {
        self.peer_tasks -= 1;
        self.connections.budget.change(bytes, 0);
    }

    /// A client's request that another node has taken, of a key that it does not hold.
    fn on_forward(&mut self, shared: &SharedShard, id: ConnectionId, peer: &Peer<'_>) {
        let to = ReplyTo::Peer {
            connection: id,
            id: peer.id,
        };
        let mut request = match codec::decode_request(peer.frame, self.request_limits) {
            Ok(request) => request,
            Err(bad) => {
                let (status, message) = (bad.reason.status(), bad.reason.to_string());
                return self.reply_message(to, bad.id.unwrap_or(0), status, &message);
            }
        };
        request.timeout_ms = peer.timeout_ms;
        let key = self.key(&request);
        let own = Remote {
            node: self.node,
            shard: self.own,
        };
        if !request.op.is_of_a_key() || !self.placement(key.position).full().contains(&own) {
            let message = "forwarded to a node that does not hold the key; ask again";
            return self.reply_message(to, request.id, Status::NotReady, message);
        }
        self.counters.forwarded_in += 1;
        self.serve(shared, to, key, &request, peer.frame);
    }

    /// The reply to a request that another node forwarded.
    pub fn reply_to_peer(&mut self, connection: ConnectionId, id: u64, reply: &Reply<'_>) {
        let frame = codec::encode_reply(&mut self.builder, reply).to_vec();
        let forwarded = Peer {
            kind: Kind::Forwarded,
            id,
            frame: &frame,
            ..Peer::default()
        };
        self.answer_peer(connection, &forwarded);
    }
}

pub fn key_named(bucket: &[u8], key: &[u8]) -> Key {
    Key {
        position: Position::of(bucket, key),
        bucket: bucket.into(),
        key: key.into(),
    }
}

/// Who asks for a ring, if it says where it can be reached.
pub fn candidate(peer: &Peer<'_>) -> Option<Candidate> {
    Some(Candidate {
        node: NodeId(peer.node),
        address: peer.address.parse().ok()?,
        shards: peer.shards,
    })
}

/// The object that another node sent, with its own copy of the values; `None` if it is damaged.
pub fn carried(bucket: &[u8], key: &[u8], bytes: &[u8]) -> Option<Object<Carried>> {
    let object = object_codec::decode(bytes)?;
    if !object_codec::is_intact(bucket, key, &object) {
        return None;
    }
    let siblings = object.siblings.into_iter();
    Some(Object {
        vector: object.vector,
        siblings: siblings
            .map(|sibling| {
                let value = sibling.value.map(Rc::from);
                sibling.with_value(value)
            })
            .collect(),
    })
}

fn without_values(entry: Option<Rc<Entry>>) -> Option<Vec<u8>> {
    entry.map(|entry| encoded(&entry.object, |_| None))
}
