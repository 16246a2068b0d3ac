//! One shard: takes events, answers requests. One owner, one loop: next event, apply, flush.
//!
//! A request that memory can answer is answered in the same turn. Puts wait in `waiters` for their commit group;
//! gets whose value is on disk, and writes whose key must be read first, go on in tasks of their own and come back
//! here.

use super::admin::{self, Answer};
use super::away::{Away, Back, Leave};
use super::budget::{self, Budget};
use super::config::{Options, Ports};
use super::connection::Connections;
use super::crossing::{self, Crossings};
use super::gathering::{self, Gatherings};
use super::status::{Counters, Phase};
use super::waiters::{Asker, ReplyTo, Waiter, Waiters, Waiting};
use super::{events, keys, reads, writes};
use crate::base::limits;
use crate::base::planted::planted;
use crate::base::units::Nanos;
use crate::causal::actor::Mint;
use crate::coordinator::put::Verdict;
use crate::engine::key::KeyRef;
use crate::engine::{Engine, GroupNumber};
use crate::replica::identity::Identity;
use crate::replica::key_queue::KeyQueue;
use crate::ring::position::{Position, VirtualNode};
use crate::ring::shard_map::{ShardId, ShardMap};
use crate::runtime::Runtime;
use crate::runtime::log::{Level, Seldom};
use crate::runtime::mailbox::Mailbox;
use crate::runtime::net::{ConnectionId, Event, Net};
use crate::runtime::notify::Notify;
use crate::wire::PROTOCOL_VERSION as PROTOCOL;
use crate::wire::codec::{self, RequestLimits};
use crate::wire::message::{HelloReply, Op, Receipt, Reply, Request, Status};
use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;

const TOO_MANY: &str = "too many requests wait for the disk; send fewer at a time";

pub type SharedShard = Rc<RefCell<Shard>>;

/// What a shard has once its log is open.
pub struct Store {
    pub engine: Engine,
    pub mint: Mint,
    pub key_queue: KeyQueue<writes::Job>,
}

pub struct Shard {
    pub runtime: Runtime,
    pub net: Net,
    pub mailbox: Mailbox,
    pub identity: Identity,
    pub ports: Ports,
    pub request_limits: RequestLimits,
    pub store: Option<Store>,
    pub phase: Phase,
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
    map: ShardMap,
    own: ShardId,
    builder: codec::Builder,
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
    }
}

impl Shard {
    pub fn new(
        runtime: &Runtime,
        options: &Options,
        ports: &Ports,
        identity: &Identity,
        mailbox: Mailbox,
    ) -> Shard {
        let shares = budget::share(options.memory_bytes, options.value_bytes_max);
        Shard {
            runtime: runtime.clone(),
            net: runtime.net(),
            map: ShardMap::even(identity.virtual_nodes, identity.shards),
            own: ShardId(mailbox.shard()),
            mailbox,
            identity: identity.clone(),
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
                self.net.stop_listening();
                self.stopping.notify();
            }
        }
    }

    /// Sends what this turn gathered.
    pub fn flush(&mut self) {
        self.connections.flush(&self.net);
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
        if matches!(request.op, Op::Status | Op::Flush) {
            return gathering::on_status(self, id, request);
        }
        let key = self.key(request);
        let owner = self.owner(key);
        if owner == self.own {
            return self.serve(shared, to, key, request);
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

    fn owner(&self, key: KeyRef<'_>) -> ShardId {
        self.map
            .owner(key.position.virtual_node(self.identity.virtual_nodes))
    }

    /// The positions of the virtual nodes of this shard.
    pub fn positions(&self) -> RangeInclusive<Position> {
        let (run, count) = (self.map.run(self.own), self.identity.virtual_nodes);
        let (first, last) = (VirtualNode(run.start), VirtualNode(run.end - 1));
        *first.arc(count).start()..=*last.arc(count).end()
    }

    /// Serves a get, put or delete of a key of this shard, or lists keys from there on.
    pub fn serve(
        &mut self,
        shared: &SharedShard,
        to: ReplyTo,
        key: KeyRef<'_>,
        request: &Request<'_>,
    ) {
        assert_eq!(self.owner(key), self.own, "a key has one owner");
        if let Some(message) = self.phase.refusal() {
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
        match request.op {
            Op::Get => reads::on_get(self, shared, to, key, request),
            Op::Keys => keys::on_keys(self, shared, to, key, request),
            _ => writes::on_write(self, shared, to, key, request),
        }
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
            ring_epoch: 1,
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
                    let verdict = put.on_vote();
                    self.finish_put(asker, verdict.expect("one replica, one vote"));
                }
                Waiting::Refused(why) => writes::refuse(self, asker, why),
                Waiting::Get { key, entry, quorum } => {
                    reads::answer(self, shared, asker, key.as_ref(), Some(entry), quorum);
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
        }
        for Waiter { asker, waiting } in self.waiters.all() {
            match waiting {
                Waiting::Put(mut put) => {
                    let verdict = put.on_unsure();
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

    pub fn finish_put(&mut self, asker: Asker, verdict: Verdict) {
        let message = match verdict.status {
            Status::Ok => "",
            Status::Timeout => "the disk did not answer in time; the write may still happen",
            _ => "the log failed while the write was under way; it may or may not be there",
        };
        self.finish(asker, verdict.status, message, verdict.receipt);
    }

    /// Registers a request that is answered later.
    pub fn begin(&mut self, to: ReplyTo, request: &Request<'_>) -> Asker {
        self.in_flight += 1;
        let (began, deadline) = match to {
            ReplyTo::Shard { deadline, .. } => (None, deadline),
            ReplyTo::Connection(id) => {
                if let Some(connection) = self.connections.get(id) {
                    connection.in_flight += 1;
                }
                let timeout_ms = match u64::from(request.timeout_ms) {
                    0 => limits::TIMEOUT_MS_DEFAULT,
                    ms => ms.min(limits::TIMEOUT_MS_MAX),
                };
                // It came with this turn: what it waited for those before it counts.
                let now = self.connections.now;
                (Some(now), Nanos(now.0 + timeout_ms * 1_000_000))
            }
        };
        Asker {
            to,
            request: request.id,
            op: request.op,
            began,
            deadline,
            promised: 0,
        }
    }

    /// Answers what waits for the disk, or for its key's turn, past its deadline. Nothing of it was minted.
    fn end_late(&mut self) {
        let now = self.runtime.now();
        let message = "the disk did not answer in time; nothing was changed";
        for asker in self.away.expired(now) {
            // What its task holds is given back by the task.
            self.release(asker);
            self.reply_message(asker.to, asker.request, Status::Overloaded, message);
        }
        let Some(store) = &mut self.store else {
            return;
        };
        for job in store.key_queue.take(|job| job.asker.deadline <= now) {
            let message =
                "other writes of this key were before it until its deadline; nothing was changed";
            self.finish_message(job.asker, Status::Overloaded, message);
        }
    }

    /// The reply, or the waiting request, will hold so many bytes of values: until then they count for the connection
    /// as unsent, and for the shard's budget. False: there is no room for them, and the request has been answered.
    pub fn promise(&mut self, asker: &mut Asker, bytes: usize) -> bool {
        let more = bytes.saturating_sub(asker.promised);
        if !self.connections.budget.has_room_for_values(more) {
            let message = "no memory is left for the values of this request; \
                           ask for fewer at a time, read the replies faster, or raise --memory";
            self.finish_message(*asker, Status::Overloaded, message);
            return false;
        }
        self.connections.budget.change(0, more);
        asker.promised += more;
        let ReplyTo::Connection(id) = asker.to else {
            // Its door counts it for the connection.
            return true;
        };
        if let Some(connection) = self.connections.get(id) {
            connection.promised += more;
            // It may be clogged now.
            self.connections.touch(id);
        }
        true
    }

    /// The request goes on in a task that waits for the disk. `None`: too many do, and it has been answered.
    pub fn leave(&mut self, asker: Asker) -> Option<Leave> {
        if self.away.len() >= limits::DISK_TASKS_MAX {
            let message = "too many requests wait for the disk; send fewer at a time";
            self.finish_message(asker, Status::Overloaded, message);
            return None;
        }
        Some(self.away.leave(asker))
    }

    /// The task is back. `None`: its request was answered when its deadline passed.
    pub fn back(&mut self, leave: Leave) -> Option<Asker> {
        match self.away.back(leave) {
            Back::InTime(asker) => Some(asker),
            Back::TooLate(asker) => {
                self.connections.budget.change(asker.promised, 0);
                None
            }
        }
    }

    /// Ends what `begin` registered; the reply itself is the caller's.
    pub fn end(&mut self, asker: Asker) {
        if !planted!(BudgetLeaked) {
            self.connections.budget.change(asker.promised, 0);
        }
        self.release(asker);
    }

    fn release(&mut self, asker: Asker) {
        assert!(self.in_flight > 0, "a request ended that was not begun");
        self.in_flight -= 1;
        if let Some(began) = asker.began {
            let took = self.runtime.now().0.saturating_sub(began.0);
            self.counters.latency[asker.op as usize].record_ns(took);
        }
        if let ReplyTo::Connection(id) = asker.to
            && let Some(connection) = self.connections.get(id)
        {
            connection.in_flight -= 1;
            connection.promised -= asker.promised;
        }
    }

    pub fn finish_message(&mut self, asker: Asker, status: Status, message: &str) {
        self.finish(asker, status, message, None);
    }

    fn finish(&mut self, asker: Asker, status: Status, message: &str, receipt: Option<Receipt>) {
        self.end(asker);
        let reply = Reply {
            id: asker.request,
            status: Some(status),
            message,
            receipt,
            ..Reply::default()
        };
        self.reply(asker.to, &reply);
    }

    pub fn reply_message(&mut self, to: ReplyTo, request: u64, status: Status, message: &str) {
        let reply = Reply {
            id: request,
            status: Some(status),
            message,
            ..Reply::default()
        };
        self.reply(to, &reply);
    }

    /// Puts a reply into the connection's outbox, which `flush` sends; or into the mail of the shard that asked.
    pub fn reply(&mut self, to: ReplyTo, reply: &Reply<'_>) {
        self.counters.on_reply(reply.status);
        match to {
            ReplyTo::Connection(id) => {
                if let Some(outbox) = self.connections.outbox(id) {
                    codec::encode_reply_into(outbox, &mut self.builder, reply);
                    self.connections.touch(id);
                }
            }
            ReplyTo::Shard { ticket, .. } => {
                let frame = codec::encode_reply(&mut self.builder, reply);
                self.mailbox.answer(ticket, frame);
            }
        }
    }

    /// Nothing is under way and every reply has left.
    pub fn is_drained(&self) -> bool {
        self.in_flight == 0 && self.connections.unsent_bytes() == 0
    }

    pub fn close_all(&mut self) {
        for id in self.connections.ids() {
            self.net.close(id);
        }
    }
}
