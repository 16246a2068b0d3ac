//! Both ends of the links between nodes: what comes on those that this shard dialled, and what other nodes ask of it.

use super::coordinate::encoded;
use super::flights::{Answer, Carried, FlightId, Refused, Stored};
use super::links::{Due, Remote};
use super::own;
use super::shard::{Shard, SharedShard};
use super::waiters::ReplyTo;
use crate::base::limits;
use crate::base::marks::mark;
use crate::causal::object::Object;
use crate::causal::object_codec;
use crate::engine::Entry;
use crate::engine::key::Key;
use crate::membership::formation::{self, Candidate};
use crate::membership::proof::Claim;
use crate::ring::codec as ring_codec;
use crate::ring::member::NodeId;
use crate::ring::position::Position;
use crate::runtime::Queue;
use crate::runtime::net::{ConnectionId, Event};
use crate::wire::codec;
use crate::wire::frame::{self, PEER_IDENTIFIER, Split};
use crate::wire::message::{Reply, Status};
use crate::wire::peer::{Kind, NEED, PEER_PROTOCOL_VERSION, Peer};
use std::rc::Rc;

impl Shard {
    /// Takes what happened on a link that this shard dialled; gives back what is of somebody else.
    pub fn on_link_event(&mut self, event: Event) -> Option<Event> {
        let connection = match &event {
            Event::Connected { connection }
            | Event::Chunk { connection, .. }
            | Event::Sent { connection, .. }
            | Event::Ended { connection }
            | Event::Closed { connection, .. } => *connection,
            _ => return Some(event),
        };
        let Some(link) = self.links.find(connection) else {
            return Some(event);
        };
        let now = self.runtime.now();
        match event {
            Event::Connected { .. } => {
                self.links.on_connected(link, now);
                self.send_hello(link);
            }
            Event::Chunk { bytes, .. } => self.on_link_bytes(link, &bytes),
            Event::Sent { buffer, .. } => self.links.on_sent(link, buffer),
            Event::Ended { .. } | Event::Closed { .. } => {
                let remote = self.links.on_closed(&self.net, link, now);
                self.flights.on_lost(remote);
            }
            other => return Some(other),
        }
        None
    }

    /// Looks after the links and all that waits for other nodes.
    pub fn on_peers_tick(&mut self) {
        let now = self.runtime.now();
        for due in self.links.on_tick(&self.net, now) {
            match due {
                Due::Ping(link) => {
                    let ping = Peer {
                        kind: Kind::Ping,
                        ..Peer::default()
                    };
                    let frame = codec::encode_peer(&mut self.builder, &ping);
                    self.links.send(link, frame, now);
                }
                Due::Lost(remote) => {
                    mark!(LinkSilent);
                    self.flights.on_lost(remote);
                }
            }
        }
        self.flights.on_tick(now);
    }

    fn claim(&self, kind: Kind, from: NodeId, to: NodeId) -> Claim {
        Claim {
            kind,
            cluster: self.identity.cluster,
            from,
            to,
            ring_epoch: self.ring.epoch().0,
            ring_digest: self.ring.digest(),
        }
    }

    fn own_id(&self) -> NodeId {
        self.ring.member(self.me).id
    }

    /// A hello to that node, or a welcome of it.
    fn introduction(&self, kind: Kind, to: NodeId) -> Peer<'static> {
        let claim = self.claim(kind, self.own_id(), to);
        Peer {
            kind,
            protocol: PEER_PROTOCOL_VERSION,
            cluster: claim.cluster,
            node: claim.from.0,
            ring_epoch: claim.ring_epoch,
            ring_digest: claim.ring_digest,
            proof: claim.proof(&self.identity.keys.current),
            ..Peer::default()
        }
    }

    /// Why an introduction to this node is not believed; else who it is from.
    fn introduced(&self, peer: &Peer<'_>) -> Result<NodeId, String> {
        if peer.protocol != PEER_PROTOCOL_VERSION {
            return Err(format!(
                "nodes speak protocol {PEER_PROTOCOL_VERSION} here, not {}",
                peer.protocol
            ));
        }
        if peer.cluster != self.identity.cluster {
            return Err("this node is of another cluster".into());
        }
        let from = NodeId(peer.node);
        let known = self.ring.index_of(from).is_some();
        let claim = self.claim(peer.kind, from, self.own_id());
        if !known || !claim.is_proved(&self.identity.keys.current, peer.proof) {
            return Err("this node has another ring, or another secret".into());
        }
        Ok(from)
    }

    fn send_hello(&mut self, link: usize) {
        let member = self.links.remote(link).member;
        let hello = self.introduction(Kind::Hello, self.ring.member(member).id);
        let frame = codec::encode_peer(&mut self.builder, &hello);
        self.links.send(link, frame, self.runtime.now());
    }

    fn on_link_bytes(&mut self, link: usize, bytes: &[u8]) {
        let inbox = self.links.on_bytes(link, bytes, self.runtime.now());
        let mut used = 0;
        loop {
            let len_max = match self.links.is_greeting(link) {
                true => limits::STRANGER_FRAME_BYTES_MAX,
                false => limits::PEER_FRAME_BYTES_MAX,
            };
            let taken = match frame::split(&inbox[used..], PEER_IDENTIFIER, len_max) {
                Split::NeedMore { .. } => break,
                Split::Frame { len } => {
                    let frame = &inbox[used..used + len];
                    used += len;
                    self.on_link_frame(link, frame)
                }
                Split::Bad(why) => Err(why.to_string()),
            };
            if let Err(why) = taken {
                let now = self.runtime.now();
                let remote = self.links.give_up(&self.net, link, &why, now);
                self.flights.on_lost(remote);
                return;
            }
        }
        self.links.keep(link, inbox, used);
    }

    /// An answer of another node. `Err`: the link is of no more use.
    fn on_link_frame(&mut self, link: usize, frame: &[u8]) -> Result<(), String> {
        let peer = codec::decode_peer(frame).map_err(|why| why.to_string())?;
        let from = self.links.remote(link);
        self.links.on_answer(link, self.runtime.now());
        if self.links.is_greeting(link) {
            return match peer.kind {
                Kind::Welcome => {
                    let node = self.introduced(&peer)?;
                    if self.ring.index_of(node) != Some(from.member) {
                        return Err("another node answers at its address".into());
                    }
                    self.links.on_welcome(link);
                    Ok(())
                }
                Kind::Refused => Err(format!("it refuses this node: {}", peer.message)),
                _ => Err("it does not say who it is".into()),
            };
        }
        let id = FlightId(peer.id);
        match peer.kind {
            Kind::Pong => {}
            Kind::Stored if peer.status == Status::Ok as u8 => {
                self.flights.on_answer(id, from, |replica| Answer::Stored {
                    replica,
                    what: Stored::Durable,
                });
            }
            Kind::Stored if peer.status == NEED => {
                self.flights.on_answer(id, from, |replica| Answer::Stored {
                    replica,
                    what: Stored::Needs,
                });
            }
            Kind::Found if peer.status == Status::Ok as u8 => {
                let object = match peer.object {
                    [] => None,
                    bytes => {
                        let object = carried(peer.bucket, peer.key, bytes);
                        Some(Box::new(object.ok_or("it sent a damaged object")?))
                    }
                };
                self.flights
                    .on_answer(id, from, |replica| Answer::Found { replica, object });
            }
            Kind::Stored | Kind::Found => {
                let why = Refused::new(Status::from_wire(peer.status), peer.message);
                self.flights
                    .on_answer(id, from, |replica| Answer::Refused { replica, why });
            }
            Kind::Forwarded => {
                codec::decode_reply(peer.frame).map_err(|why| why.to_string())?;
                let frame = peer.frame.to_vec();
                self.flights
                    .on_answer(id, from, |_| Answer::Forwarded { frame });
            }
            _ => return Err("it asks where it should answer".into()),
        }
        Ok(())
    }

    /// A message on a connection that another node dialled.
    pub fn on_peer_frame(&mut self, shared: &SharedShard, id: ConnectionId, frame: &[u8]) {
        let peer = match codec::decode_peer(frame) {
            Ok(peer) => peer,
            Err(_) => {
                self.counters.frames_refused += 1;
                return self.close_after_replies(id);
            }
        };
        let known = self.connections.get(id).and_then(|c| c.peer).is_some();
        match peer.kind {
            Kind::Hello => self.on_hello_of_peer(id, &peer),
            Kind::Join => self.on_join(id, &peer),
            Kind::Ping if known => {
                let pong = Peer {
                    kind: Kind::Pong,
                    id: peer.id,
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

    fn on_hello_of_peer(&mut self, id: ConnectionId, peer: &Peer<'_>) {
        match self.introduced(peer) {
            Ok(node) => {
                if let Some(connection) = self.connections.get(id) {
                    connection.peer = self.ring.index_of(node);
                }
                let welcome = self.introduction(Kind::Welcome, node);
                self.answer_peer(id, &welcome);
            }
            Err(why) => {
                let refused = Peer {
                    kind: Kind::Refused,
                    message: &why,
                    ..Peer::default()
                };
                self.answer_peer(id, &refused);
                self.close_after_replies(id);
            }
        }
    }

    /// A node without a ring asks for one.
    fn on_join(&mut self, id: ConnectionId, peer: &Peer<'_>) {
        let asker = candidate(peer);
        let agreed = self.identity.agreed_ring.as_ref();
        let admitted = match (&asker, agreed) {
            (None, _) => Err("it does not say where it can be reached".to_owned()),
            (Some(_), None) => {
                Err("it was started alone, without --join, and takes no other node in yet".into())
            }
            (Some(asker), Some(ring)) => formation::admit(ring, asker),
        };
        let (mut ring, mut secret) = (Vec::new(), &[][..]);
        let mut message = String::new();
        match admitted {
            Ok(()) => {
                ring_codec::encode(self.ring.value(), &mut ring);
                secret = &self.identity.keys.current.0;
            }
            Err(why) => message = why,
        }
        let secret = secret.to_vec();
        let joined = Peer {
            kind: Kind::Joined,
            protocol: PEER_PROTOCOL_VERSION,
            cluster: self.identity.cluster,
            node: self.own_id().0,
            message: &message,
            ring: &ring,
            secret: &secret,
            ..Peer::default()
        };
        self.answer_peer(id, &joined);
        self.close_after_replies(id);
    }

    /// The key that another node asks about, if this shard owns it and it may be one.
    fn key_of(&self, peer: &Peer<'_>) -> Result<Key, Refused> {
        let refused = |why| Err(Refused::new(Status::BadRequest, why));
        if peer.key.is_empty() || peer.key.len() > limits::KEY_BYTES_MAX {
            return refused("no key");
        }
        let position = Position::of(peer.bucket, peer.key);
        let key = Key {
            position,
            bucket: peer.bucket.into(),
            key: peer.key.into(),
        };
        let own = Remote {
            member: self.me,
            shard: self.own,
        };
        match self.replicas(position).contains(&own) {
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
        if !self.begin_for_peer(held) {
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
        if !self.begin_for_peer(0) {
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

    /// A task begins in the name of another node, and holds so many bytes. False: there is no room.
    fn begin_for_peer(&mut self, bytes: usize) -> bool {
        let room = self.connections.budget.has_room_for_values(bytes);
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
            member: self.me,
            shard: self.own,
        };
        if !request.op.is_of_a_key() || !self.replicas(key.position).contains(&own) {
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

/// Who asks for a ring, if it says where it can be reached.
pub fn candidate(peer: &Peer<'_>) -> Option<Candidate> {
    Some(Candidate {
        node: NodeId(peer.node),
        address: peer.address.parse().ok()?,
        shards: peer.shards,
    })
}

/// The object that another node sent, with its own copy of the values; `None` if it is damaged.
fn carried(bucket: &[u8], key: &[u8], bytes: &[u8]) -> Option<Object<Carried>> {
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
