//! One simulated client: a connection, a few requests at a time, and an exact memory of what it was told.

use super::judge::{Got, Judge, Operation, Seen, Supersedes};
use super::workload::{Action, How, Remembered, Terms, Workload, value_of};
use crate::base::limits;
use crate::base::rng::Rng;
use crate::causal::context::ContextKeys;
use crate::causal::dot::{Actor, Dot, Incarnation};
use crate::causal::object::OperationId;
use crate::replica::witness;
use crate::runtime::Runtime;
use crate::runtime::net::{ConnectionId, Event, Net};
use crate::runtime::time::timeout;
use crate::wire::codec::{self, ReplyView};
use crate::wire::frame::{self, REPLY_IDENTIFIER, Split};
use crate::wire::message::{Advice, Op, PutMode, Request, Status};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// What all clients of a world share.
pub struct Shared<J: Judge> {
    pub judge: J,
    pub workload: Workload,
    /// Of the cluster under test: the checker reads contexts with them.
    pub keys: Option<(u128, ContextKeys)>,
    pub operations_left: u64,
    pub operations_done: u64,
    pub gets_answered: u64,
    /// Bytes of each operation's value.
    pub values: BTreeMap<u128, usize>,
    /// Replies by status, for the run's report.
    pub statuses: BTreeMap<u8, u64>,
}

impl<J: Judge> Shared<J> {
    /// Tells the checker what was minted since the last call: always before it hears of what came of it.
    pub fn drain_witness(&mut self) {
        for minted in witness::take() {
            self.judge.on_minted(minted);
        }
    }
}

/// A request that has no reply yet.
struct Pending<F> {
    action: Action,
    /// Of a write.
    operation: u128,
    /// Of a get: what it must not fall behind.
    floor: Option<F>,
}

pub struct Client<J: Judge> {
    runtime: Runtime,
    net: Net,
    /// One of them is asked at a time.
    servers: Vec<SocketAddr>,
    server: usize,
    shared: Rc<RefCell<Shared<J>>>,
    rng: Rng,
    remembered: Vec<Remembered>,
    pending: BTreeMap<u64, Pending<J::Floor>>,
    next_id: u64,
    inbox: Vec<u8>,
    /// Writes whose outcome is unknown, to be tried again under the same operation id.
    retries: VecDeque<(u128, Action)>,
    builder: codec::Builder,
    /// A node asked for this pause.
    pause_ms: u64,
    /// There are no more faults, and no load but its own: nothing may be refused for want of time or room.
    alone: bool,
}

impl<J: Judge> Client<J> {
    pub fn new(
        runtime: Runtime,
        servers: Vec<SocketAddr>,
        shared: Rc<RefCell<Shared<J>>>,
        rng: Rng,
    ) -> Client<J> {
        Client {
            net: runtime.net(),
            runtime,
            servers,
            server: 0,
            shared,
            rng,
            remembered: Vec::new(),
            pending: BTreeMap::new(),
            next_id: 1,
            inbox: Vec::new(),
            retries: VecDeque::new(),
            builder: codec::Builder::default(),
            pause_ms: 0,
            alone: false,
        }
    }

    /// Works until the world has done its operations.
    pub async fn run(mut self) {
        while self.shared.borrow().operations_left > 0 {
            self.move_on();
            if let Some(connection) = self.connect().await {
                self.work(connection).await;
                self.disconnect(connection);
            }
            let pause = self.rng.below(20_000);
            self.runtime.sleep(Duration::from_micros(pause)).await;
        }
    }

    /// To another server, if there is one: its connection broke, or it has had enough of this one.
    fn move_on(&mut self) {
        if self.servers.len() > 1 {
            self.server = self.rng.below(self.servers.len() as u64) as usize;
        }
    }

    /// Reads every key from the first server until each has been answered with its state.
    pub async fn read_all(mut self, keys: Vec<Vec<u8>>, terms: Terms) {
        self.alone = true;
        let mut left: VecDeque<Vec<u8>> = keys.into();
        while let Some(key) = left.front().cloned() {
            let answered = self.shared.borrow().gets_answered;
            if let Some(connection) = self.connect().await {
                let mut bytes = Vec::new();
                self.encode(0, Action::Get { key, terms }, &mut bytes);
                self.exchange(connection, bytes).await;
                self.disconnect(connection);
            }
            if self.shared.borrow().gets_answered > answered {
                left.pop_front();
            } else {
                self.runtime.sleep(Duration::from_millis(5)).await;
            }
        }
    }

    async fn connect(&mut self) -> Option<ConnectionId> {
        let connection = self.net.connect(self.servers[self.server]);
        let mut events = Vec::new();
        loop {
            let wait = self.net.events(&mut events);
            if timeout(&self.runtime, Duration::from_millis(500), wait)
                .await
                .is_none()
            {
                self.net.close(connection);
                return None;
            }
            for event in events.drain(..) {
                match event {
                    Event::Connected { connection: id } if id == connection => {
                        return Some(connection);
                    }
                    Event::Closed { connection: id, .. } if id == connection => return None,
                    Event::Ended { connection: id } if id == connection => {
                        self.net.close(connection);
                        return None;
                    }
                    _ => {}
                }
            }
        }
    }

    /// What has no reply now has none for ever: a write may have happened.
    fn disconnect(&mut self, connection: ConnectionId) {
        self.net.close(connection);
        self.inbox.clear();
        for (_, pending) in std::mem::take(&mut self.pending) {
            if matches!(pending.action, Action::Write { .. }) && self.rng.chance(0.5) {
                self.retries.push_back((pending.operation, pending.action));
            }
        }
    }

    /// Works on one connection until it breaks or the work is done.
    async fn work(&mut self, connection: ConnectionId) {
        loop {
            let mut bytes = Vec::new();
            for _ in 0..1 + self.rng.below(4) {
                if !self.take_one() {
                    break;
                }
                let (operation, action) = match self.retries.pop_front() {
                    Some(retry) => retry,
                    None => {
                        let fresh = (u128::from(self.rng.u64()) << 64) | u128::from(self.rng.u64());
                        let shared = self.shared.borrow();
                        (fresh, shared.workload.next(&mut self.rng, &self.remembered))
                    }
                };
                self.encode(operation, action, &mut bytes);
            }
            if bytes.is_empty() || !self.exchange(connection, bytes).await {
                return;
            }
            if self.pause_ms > 0 {
                let pause = Duration::from_millis(std::mem::take(&mut self.pause_ms));
                self.runtime.sleep(pause).await;
            }
            if self.rng.chance(0.2) {
                let pause = self.rng.below(3_000);
                self.runtime.sleep(Duration::from_micros(pause)).await;
            }
            if self.servers.len() > 1 && self.rng.chance(0.05) {
                return;
            }
        }
    }

    fn take_one(&self) -> bool {
        let mut shared = self.shared.borrow_mut();
        let some = shared.operations_left > 0;
        shared.operations_left = shared.operations_left.saturating_sub(1);
        some
    }

    /// Sends, and waits until everything pending is answered. False: the connection is of no more use.
    async fn exchange(&mut self, connection: ConnectionId, bytes: Vec<u8>) -> bool {
        self.net.send(connection, bytes);
        let mut sent = false;
        let mut events = Vec::new();
        while !sent || !self.pending.is_empty() {
            let patience = Duration::from_millis(300 + self.rng.below(2_000));
            let wait = self.net.events(&mut events);
            if timeout(&self.runtime, patience, wait).await.is_none() {
                return false;
            }
            for event in events.drain(..) {
                match event {
                    Event::Chunk {
                        connection: id,
                        bytes,
                    } if id == connection => {
                        self.inbox.extend_from_slice(&bytes);
                        self.on_bytes();
                    }
                    Event::Sent { connection: id, .. } if id == connection => sent = true,
                    // A node that ends its stream has said all it will.
                    Event::Closed { connection: id, .. } | Event::Ended { connection: id }
                        if id == connection =>
                    {
                        return false;
                    }
                    _ => {}
                }
            }
        }
        true
    }

    fn on_bytes(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut used = 0;
        loop {
            match frame::split(
                &inbox[used..],
                REPLY_IDENTIFIER,
                limits::RESPONSE_FRAME_BYTES_MAX,
            ) {
                Split::NeedMore { .. } => break,
                Split::Frame { len } => {
                    let frame = &inbox[used..used + len];
                    match codec::decode_reply(frame) {
                        Ok(reply) => self.on_reply(&reply),
                        Err(error) => self.violation(format!("a reply is not one: {error}")),
                    }
                    used += len;
                }
                Split::Bad(why) => {
                    self.violation(format!("a reply's frame is not one: {why}"));
                    break;
                }
            }
        }
        inbox.drain(..used);
        self.inbox = inbox;
    }

    fn violation(&self, what: String) {
        let what = format!("wire: {what}");
        self.shared.borrow_mut().judge.violation(what);
    }

    fn encode(&mut self, operation: u128, action: Action, out: &mut Vec<u8>) {
        let id = self.next_id;
        self.next_id += 1;
        let mut request = Request {
            id,
            op: Op::Get,
            ..Request::default()
        };
        let mut shared = self.shared.borrow_mut();
        let value;
        let floor = match &action {
            Action::Get { key, terms } => {
                request.key = key;
                ask(&mut request, *terms);
                Some(shared.judge.on_get_called(key))
            }
            Action::Write {
                key,
                terms,
                deletes,
                how,
                value_bytes,
            } => {
                request.op = if *deletes { Op::Delete } else { Op::Put };
                request.key = key;
                ask(&mut request, *terms);
                request.operation = OperationId(operation);
                value = value_of(operation, if *deletes { 0 } else { *value_bytes });
                request.value = &value;
                (request.mode, request.context) = match how {
                    How::Context(remembered) => (PutMode::ByContext, &remembered.token[..]),
                    How::Foreign(remembered) => (PutMode::ByContext, &remembered.token[..]),
                    How::Concurrent => (PutMode::ByContext, &[][..]),
                    How::Overwrite => (PutMode::Overwrite, &[][..]),
                    How::IfAbsent => (PutMode::IfAbsent, &[][..]),
                };
                shared.values.insert(operation, value.len());
                let supersedes = match how {
                    How::Context(remembered) => Supersedes::Seen(remembered.seen.clone()),
                    How::Foreign(_) | How::Concurrent => Supersedes::Seen(Default::default()),
                    How::Overwrite => Supersedes::Everything,
                    How::IfAbsent => Supersedes::Nothing,
                };
                let asked = Operation {
                    key: key.clone(),
                    deletes: *deletes,
                    supersedes,
                    terms: *terms,
                };
                shared.judge.on_call(operation, asked);
                None
            }
        };
        out.extend_from_slice(codec::encode_request(&mut self.builder, &request));
        drop(shared);
        self.pending.insert(
            id,
            Pending {
                action,
                operation,
                floor,
            },
        );
    }

    fn on_reply(&mut self, reply: &ReplyView<'_>) {
        let status = reply.status;
        if reply.id == 0 && status == Status::Overloaded {
            // For the connection, not for a request: it is closed behind this.
            return;
        }
        let Some(pending) = self.pending.remove(&reply.id) else {
            return self.violation(format!("a reply to {}, which nobody asked", reply.id));
        };
        let shared = self.shared.clone();
        let mut shared = shared.borrow_mut();
        shared.drain_witness();
        *shared.statuses.entry(status as u8).or_default() += 1;
        let late = matches!(
            status,
            Status::Overloaded | Status::NotReady | Status::QuorumUnavailable | Status::Timeout
        );
        if self.alone && late {
            let why = reply.message;
            let what =
                format!("liveness: a healed node with one client answered {status:?}: {why}");
            shared.judge.violation(what);
        }
        let done = status.advice() == Advice::Done;
        if status.advice() == Advice::Retry {
            // It did nothing, so it does not count; and who is told to come back later does.
            shared.operations_left += 1;
            self.pause_ms = 1 + self.rng.below(10);
        } else {
            shared.operations_done += 1;
        }
        let receipt = reply.receipt.unwrap_or_default();
        match pending.action {
            Action::Get { key, terms } if done => {
                shared.gets_answered += 1;
                if let Some(floor) = pending.floor {
                    self.on_get(&mut shared, key, terms, &floor, reply);
                }
            }
            Action::Get { .. } => {}
            Action::Write {
                how: How::Foreign(_),
                ..
            } if status != Status::ContextRefused => {
                if done {
                    let what = "7 siblings: a context of another key was taken";
                    shared.judge.violation(what.into());
                }
            }
            Action::Write { .. } => match status.advice() {
                Advice::Done => shared.judge.on_acked(pending.operation, receipt),
                Advice::Retry | Advice::DoNotRetry => shared.judge.on_refused(pending.operation),
                Advice::Unknown => {}
            },
        }
    }

    fn on_get(
        &mut self,
        shared: &mut Shared<J>,
        key: Vec<u8>,
        terms: Terms,
        floor: &J::Floor,
        reply: &ReplyView<'_>,
    ) {
        let siblings: Vec<Seen> = reply
            .siblings
            .iter()
            .map(|s| {
                let operation = s.operation.0;
                let bytes = shared.values.get(&operation).copied().unwrap_or(usize::MAX);
                Seen {
                    dot: Dot {
                        actor: Actor {
                            incarnation: Incarnation(s.dot.incarnation),
                            birth: s.dot.birth,
                        },
                        counter: s.dot.counter,
                    },
                    operation,
                    intact: s.value.len() == bytes && s.value == value_of(operation, bytes),
                }
            })
            .collect();
        let Some((cluster, keys)) = &shared.keys else {
            return;
        };
        let vector = match keys.open(*cluster, b"", &key, reply.context) {
            Ok(vector) => vector,
            Err(why) => return shared.judge.violation(format!("a context is bad: {why}")),
        };
        let got = Got {
            key: &key,
            terms,
            siblings: &siblings,
            context: &vector,
            receipt: reply.receipt.unwrap_or_default(),
        };
        shared.judge.on_get(got, floor);
        self.remembered.push(Remembered {
            key,
            token: reply.context.to_vec(),
            seen: vector,
        });
        if self.remembered.len() > 40 {
            self.remembered.remove(0);
        }
    }
}

fn ask(request: &mut Request<'_>, terms: Terms) {
    request.read_quorum = terms.read;
    request.write_quorum = terms.write;
    request.strict = terms.strict;
    request.timeout_ms = terms.timeout_ms;
}
