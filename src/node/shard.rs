//! One shard: takes events, answers requests. One owner, one loop: next event, apply, flush.
//!
//! A request that memory can answer is answered in the same turn. Puts wait in `waiters` for their commit group;
//! gets whose value is on disk, and writes whose key must be read first, go on in tasks of their own and come back
//! here.

use super::admin::{self, Answer};
use super::away::Away;
use super::budget::{self, Budget};
use super::config::{Options, Ports};
use super::connection::Connections;
use super::coordinate::{Placement, Quorums};
use super::crossing::{self, Crossings};
use super::epochs::{Agreement, Filled};
use super::flights::Flights;
use super::gathering::{self, Gatherings};
use super::links::{Links, Remote};
use super::mend::Mending;
use super::status::{Counters, Phase};
use super::waiters::{ReplyTo, Waiter, Waiters, Waiting};
use super::{events, explain, fill, forward, gets, keys, puts, reads, writes};
use crate::base::limits;
use crate::base::planted::planted;
use crate::base::units::Nanos;
use crate::causal::actor::Mint;
use crate::coordinator::tally::Tally;
use crate::engine::key::KeyRef;
use crate::engine::{Engine, GroupNumber};
use crate::membership::token::Gate;
use crate::replica::identity::Identity;
use crate::replica::key_queue::KeyQueue;
use crate::ring::member::NodeId;
use crate::ring::owners::{MemberIndex, Ring};
use crate::ring::position::{Position, VirtualNode};
use crate::ring::shard_map::{ShardId, ShardMap};
use crate::runtime::Runtime;
use crate::runtime::log::{Level, Seldom};
use crate::runtime::mailbox::Mailbox;
use crate::runtime::net::{ConnectionId, Event, Net};
use crate::runtime::notify::Notify;
use crate::wire::PROTOCOL_VERSION as PROTOCOL;
use crate::wire::codec::{self, RequestLimits};
use crate::wire::message::{HelloReply, Op, Reply, Request, Status};
use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;

pub const TOO_MANY: &str = "too many requests wait for the disk; send fewer at a time";

pub type SharedShard = Rc<RefCell<Shard>>;

/// What a shard has once its log is open.
pub struct Store {
    pub engine: Engine,
    pub mint: Mint,
    pub key_queue: KeyQueue<writes::Turn>,
}

pub struct Shard {
    pub runtime: Runtime,
    pub net: Net,
    pub mailbox: Mailbox,
    pub identity: Identity,
    /// Whom it lets in.
    pub gate: Gate,
    pub ports: Ports,
    pub request_limits: RequestLimits,
    pub store: Option<Store>,
    pub phase: Phase,
    /// Its data directory.
    pub data: String,
    /// Replay: bytes done, bytes in all.
    pub replayed: (u64, u64),
    pub waiters: Waiters,
    /// Requests whose task reads the disk.
    pub away: Away,
    pub crossings: Crossings,
    pub gatherings: Gatherings,
    pub connections: Connections,
    /// Connections of clients that this shard takes.
    pub connections_max: usize,
    pub counters: Counters,
    /// Whether there is room for puts.
    pub room: events::Room,
    /// Connections beyond the limit.
    pub refusals: Seldom,
    /// Requests under way, of all connections.
    pub in_flight: usize,
    pub started: Nanos,
    /// Set when somebody asked this node to stop.
    pub stopping: Rc<Notify>,
    /// Work of this turn beyond one for each request.
    pub more_work: usize,
    /// Scratch: the context of the reply that is being made.
    pub context: Vec<u8>,
    pub ring: Arc<Ring>,
    pub node: NodeId,
    /// This node's place in the ring.
    pub me: MemberIndex,
    /// Which shard of each member owns a virtual node.
    pub maps: Vec<ShardMap>,
    pub links: Links,
    pub flights: Flights,
    /// Shard 0's part in the agreement on the next ring.
    pub agreement: Option<Rc<Agreement>>,
    pub filled: Filled,
    /// Gets that bring other replicas up to date after their reply.
    pub repairs: usize,
    /// Keys whose values are fetched from other replicas, because the own ones cannot be read.
    pub mending: Mending,
    /// Tasks in the name of other nodes.
    pub peer_tasks: usize,
    pub own: ShardId,
    pub builder: codec::Builder,
}

pub fn begin_serving(shard: &SharedShard, engine: Engine, mint: Mint) {
    let mut state = shard.borrow_mut();
    state.store = Some(Store {
        engine,
        mint,
        key_queue: KeyQueue::default(),
    });
    if state.phase == Phase::Starting {
        state.phase = Phase::Serving;
        state.tell_peers();
        state.flush();
    }
    if state.ring.is_filling(state.node) {
        fill::begin(&mut state, shard);
    }
}

impl Shard {
    pub fn new(
        runtime: &Runtime,
        options: &Options,
        ports: &Ports,
        identity: &Identity,
        mailbox: Mailbox,
        ring: Arc<Ring>,
        agreement: Option<Agreement>,
    ) -> Shard {
        let me = ring
            .index_of(NodeId(identity.node))
            .expect("a node is of its own ring");
        let maps = ring
            .members()
            .iter()
            .map(|member| ShardMap::even(ring.virtual_nodes(), member.shards));
        let shares = budget::share(options.memory_bytes, options.value_bytes_max);
        Shard {
            runtime: runtime.clone(),
            net: runtime.net(),
            maps: maps.collect(),
            links: Links::new(ring.members(), NodeId(identity.node)),
            node: NodeId(identity.node),
            me,
            flights: Flights::default(),
            agreement: agreement.map(Rc::new),
            filled: Filled::default(),
            repairs: 0,
            mending: Mending::default(),
            peer_tasks: 0,
            ring,
            own: ShardId(mailbox.shard()),
            mailbox,
            identity: identity.clone(),
            data: options.data.display().to_string(),
            gate: options.gate(Some(identity)),
            ports: ports.clone(),
            request_limits: RequestLimits {
                value_bytes_max: options.value_bytes_max,
            },
            store: None,
            phase: Phase::Starting,
            replayed: (0, 0),
            waiters: Waiters::default(),
            away: Away::default(),
            connections: Connections::new(Budget::new(shares.buffer_bytes)),
            connections_max: options.connections_max,
            crossings: Crossings::default(),
            gatherings: Gatherings::default(),
            counters: Counters::default(),
            room: events::Room::default(),
            refusals: Seldom::default(),
            in_flight: 0,
            started: runtime.now(),
            stopping: Rc::new(Notify::default()),
            more_work: 0,
            context: Vec::new(),
            builder: codec::Builder::default(),
        }
    }

    pub fn on_event(&mut self, shared: &SharedShard, event: Event) {
        let event = match self.links.is_empty() {
            true => event,
            false => match self.on_link_event(shared, event) {
                Some(event) => event,
                None => return,
            },
        };
        match event {
            Event::Accepted {
                connection,
                door,
                peer,
            } => {
                if self.runtime.logs(Level::Debug) {
                    self.runtime.log(events::connected(peer, door));
                }
                self.on_accepted(connection, door);
            }
            Event::Chunk { connection, bytes } => self.on_chunk(shared, connection, &bytes),
            Event::Sent { connection, buffer } => self.on_sent(connection, buffer),
            Event::Ended { connection } => self.on_ended(connection),
            Event::Closed { connection, .. } => self.connections.close(connection),
            Event::Connected { connection } => self.net.close(connection),
            Event::Asked {
                ticket,
                deadline,
                bytes,
            } => crossing::on_asked(self, shared, ticket, deadline, &bytes),
            Event::Answered { tag, bytes } => crossing::on_answered(self, tag, &bytes),
            Event::ShardEnded { shard } => crossing::on_shard_ended(self, shard),
            Event::Stop => {
                self.phase = Phase::Stopping;
                self.tell_peers();
                self.net.stop_listening();
                self.stopping.notify();
            }
        }
    }

    /// Sends what this turn gathered.
    pub fn flush(&mut self) {
        self.connections.flush(&self.net);
        if !self.links.is_empty() {
            self.links.flush(&self.net);
        }
    }

    pub fn on_admin(&mut self, id: ConnectionId, bytes: &[u8]) -> usize {
        let Some(connection) = self.connections.get(id) else {
            return bytes.len();
        };
        if connection.in_flight > 0 {
            // One page a connection: what else is asked is not read.
            return bytes.len();
        }
        match admin::answer(bytes) {
            Answer::NeedMore => 0,
            Answer::Page(page) => {
                connection.in_flight += 1;
                gathering::on_page(self, id, page);
                bytes.len()
            }
            Answer::Text(text) => {
                connection.outbox.extend_from_slice(&text);
                connection.close_after_replies();
                self.connections.touch(id);
                bytes.len()
            }
        }
    }

    pub fn on_frame(&mut self, shared: &SharedShard, id: ConnectionId, frame: &[u8]) {
        match codec::decode_request(frame, self.request_limits) {
            Ok(request) => self.on_request(shared, id, &request, frame),
            Err(bad) => {
                self.counters.frames_refused += 1;
                let (status, message) = (bad.reason.status(), bad.reason.to_string());
                let to = ReplyTo::Connection(id);
                self.reply_message(to, bad.id.unwrap_or(0), status, &message);
                if bad.id.is_none() {
                    // Nobody can tell what else of this stream means what it says.
                    self.close_after_replies(id);
                }
            }
        }
    }

    fn on_request(
        &mut self,
        shared: &SharedShard,
        id: ConnectionId,
        request: &Request<'_>,
        frame: &[u8],
    ) {
        self.counters.requests[request.op as usize] += 1;
        let to = ReplyTo::Connection(id);
        if request.op == Op::Hello {
            return self.on_hello(to, request);
        }
        let in_flight = self.connections.get(id).map_or(0, |c| c.in_flight);
        if in_flight >= limits::CONNECTION_REQUESTS_MAX {
            return self.reply_message(to, request.id, Status::Overloaded, TOO_MANY);
        }
        if request.op.is_of_all_shards() {
            return gathering::on_status(self, id, request);
        }
        let key = self.key(request);
        if request.op.is_of_a_key() && !self.may_coordinate(key) {
            return forward::forward(self, shared, to, key, request, frame);
        }
        let owner = self.owner(key);
        if owner == self.own {
            return self.serve(shared, to, key, request, frame);
        }
        // Another shard may serve while this one replays, or has lost its log.
        if self.phase == Phase::Stopping {
            let message = self.phase.refusal().unwrap_or_default();
            return self.reply_message(to, request.id, Status::NotReady, message);
        }
        if self.in_flight >= limits::SHARD_REQUESTS_MAX {
            return self.reply_message(to, request.id, Status::Overloaded, TOO_MANY);
        }
        crossing::cross(self, id, request, frame, owner);
    }

    pub fn key<'a>(&self, request: &Request<'a>) -> KeyRef<'a> {
        let position = match request.op == Op::Keys && request.key.is_empty() {
            true => Position(request.position),
            false => Position::of(request.bucket, request.key),
        };
        KeyRef {
            position,
            bucket: request.bucket,
            key: request.key,
        }
    }

    fn map(&self) -> &ShardMap {
        &self.maps[usize::from(self.me.0)]
    }

    fn owner(&self, key: KeyRef<'_>) -> ShardId {
        self.map()
            .owner(key.position.virtual_node(self.identity.virtual_nodes))
    }

    /// Whether this node may coordinate requests of the key: it holds it, or should.
    fn may_coordinate(&self, key: KeyRef<'_>) -> bool {
        let ring = &self.ring;
        ring.members().len() == 1
            || ring
                .preference_list(ring.virtual_node(key.position), ring.value().replicas)
                .contains(&self.me)
                && !ring.is_filling(self.node)
    }

    /// The positions of the virtual nodes of this shard.
    pub fn positions(&self) -> RangeInclusive<Position> {
        let (run, count) = (self.map().run(self.own), self.identity.virtual_nodes);
        let (first, last) = (VirtualNode(run.start), VirtualNode(run.end - 1));
        *first.arc(count).start()..=*last.arc(count).end()
    }

    /// Serves a get, put or delete of a key that this shard should hold, or lists keys from there on. `frame` is that
    /// of the request.
    pub fn serve(
        &mut self,
        shared: &SharedShard,
        to: ReplyTo,
        key: KeyRef<'_>,
        request: &Request<'_>,
        frame: &[u8],
    ) {
        assert_eq!(self.owner(key), self.own, "a key has one owner on a node");
        let placement = self.placement(key.position);
        if let Some(message) = self.phase.refusal() {
            let others: &[Remote] = match (self.phase, to) {
                // Another replica may serve while this one replays its log.
                (Phase::Starting, ReplyTo::Connection(_) | ReplyTo::Shard { .. }) => {
                    placement.full()
                }
                _ => &[],
            };
            let mut others = others.iter().filter(|remote| remote.node != self.node);
            if request.op.is_of_a_key() && others.any(|&remote| self.is_up(remote)) {
                return forward::forward(self, shared, to, key, request, frame);
            }
            return self.reply_message(to, request.id, Status::NotReady, message);
        }
        if self.in_flight >= limits::SHARD_REQUESTS_MAX {
            return self.reply_message(to, request.id, Status::Overloaded, TOO_MANY);
        }
        if !request.bucket.is_empty() {
            let message = "this node has no buckets but the default one, whose name is empty";
            return self.reply_message(to, request.id, Status::BucketUnknown, message);
        }
        if request.expires.0 != 0 {
            let message = "this node does not expire values; leave expires_ms out";
            return self.reply_message(to, request.id, Status::Unsupported, message);
        }
        if request.op == Op::Keys {
            return self.list(shared, to, key, request, &placement);
        }
        if request.op == Op::Explain {
            return explain::on_explain(self, shared, to, key, request);
        }
        // The ring may have changed on the way here.
        if !self.may_coordinate(key) {
            let message = "this node does not hold the key, or not yet; ask another node";
            return self.reply_message(to, request.id, Status::NotReady, message);
        }
        let quorums = match Quorums::of(&placement, request) {
            Ok(quorums) => quorums,
            Err(message) => {
                return self.reply_message(to, request.id, Status::QuorumImpossible, &message);
            }
        };
        let quorum = quorums.full;
        match (request.op, placement.all.len()) {
            (Op::Get, 1) => {
                let mut tally = Tally::new(quorum.read, quorum.replicas);
                tally.on_vote();
                reads::on_get(self, shared, to, key, request, tally.receipt());
            }
            (Op::Get, _) => {
                gets::on_get(self, shared, to, key, request, frame, (placement, quorums));
            }
            (_, 1) => writes::on_write(self, shared, to, key, request, quorum),
            _ => puts::on_write(self, shared, to, key, request, frame, (placement, quorums)),
        }
    }

    /// A page of keys: only where one node alone knows them all.
    fn list(
        &mut self,
        shared: &SharedShard,
        to: ReplyTo,
        from: KeyRef<'_>,
        request: &Request<'_>,
        placement: &Placement,
    ) {
        let whole = placement.all.len() == self.ring.members().len();
        if !whole || self.ring.is_filling(self.node) {
            let message = "this node does not hold all keys, and a listing over several is not there yet; \
                           ask a node that does";
            return self.reply_message(to, request.id, Status::Unsupported, message);
        }
        keys::on_keys(self, shared, to, from, request);
    }

    fn on_hello(&mut self, to: ReplyTo, request: &Request<'_>) {
        if request.protocol > PROTOCOL {
            let message = format!("this node speaks protocol {} at most", PROTOCOL);
            return self.reply_message(to, request.id, Status::ProtocolVersion, &message);
        }
        let shard_ports: Vec<u16> = self.ports.shards.iter().map(|a| a.port()).collect();
        let hello = HelloReply {
            protocol: PROTOCOL,
            features: 0,
            cluster: self.identity.cluster,
            node: self.identity.node,
            ring_epoch: self.ring.epoch().0,
            virtual_nodes: self.identity.virtual_nodes,
            shard_ports: &shard_ports,
            value_bytes_max: self.request_limits.value_bytes_max as u32,
        };
        let reply = Reply {
            id: request.id,
            status: Some(Status::Ok),
            hello: Some(hello),
            ..Reply::default()
        };
        self.reply(to, &reply);
    }

    /// All groups up to this one are durable: their replies may leave.
    pub fn on_durable(&mut self, shared: &SharedShard, group: GroupNumber) {
        for waiter in self.waiters.durable(group) {
            let asker = waiter.asker;
            match waiter.waiting {
                Waiting::Put(mut put) => {
                    let verdict = put.on_vote(true);
                    self.finish_put(asker, verdict.expect("one replica, one vote"));
                }
                Waiting::Refused(why) => writes::refuse(self, asker, why),
                Waiting::Get {
                    key,
                    entry,
                    receipt,
                } => {
                    reads::answer(self, shared, asker, key.as_ref(), Some(entry), receipt);
                }
                Waiting::Keys(page) => keys::reply(self, asker, &page),
            }
        }
    }

    /// The log is closed for good: what was under way is unknown, what only read is unsure.
    pub fn on_poisoned(&mut self) {
        // A stop that has begun goes on: its refusal says more to a client than ours.
        if self.phase != Phase::Stopping {
            self.phase = Phase::Poisoned;
            self.tell_peers();
        }
        for Waiter { asker, waiting } in self.waiters.all() {
            match waiting {
                Waiting::Put(mut put) => {
                    let verdict = put.on_unsure(true);
                    self.finish_put(asker, verdict.expect("one replica, one refusal"));
                }
                Waiting::Refused(_) | Waiting::Get { .. } | Waiting::Keys(_) => {
                    let message = crate::engine::Unsure::Poisoned.to_string();
                    self.finish_message(asker, Status::Unsure, &message);
                }
            }
        }
    }

    /// Looks for requests past their deadline.
    pub fn on_tick(&mut self) {
        if !planted!(DeadlineIgnored) {
            self.end_late();
        }
        crossing::on_tick(self);
        if !self.links.is_empty() {
            self.on_peers_tick();
        }
        for Waiter { asker, waiting } in self.waiters.expired(self.runtime.now()) {
            match waiting {
                Waiting::Put(put) => self.finish_put(asker, put.on_deadline()),
                Waiting::Refused(_) | Waiting::Get { .. } | Waiting::Keys(_) => {
                    let message = "the disk did not answer in time; nothing was changed";
                    self.finish_message(asker, Status::Overloaded, message);
                }
            }
        }
    }

    /// Nothing is under way and every reply has left.
    pub fn is_drained(&self) -> bool {
        self.in_flight == 0 && self.peer_tasks == 0 && self.connections.unsent_bytes() == 0
    }

    pub fn close_all(&mut self) {
        for id in self.connections.ids() {
            self.net.close(id);
        }
        self.links.close_all(&self.net);
    }
}
