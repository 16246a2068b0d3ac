//! Puts and deletes: lookup, join, mint, append; the reply waits for the commit group. Those of a key with several
//! replicas go on in `puts`.

use super::away::Leave;
use super::shard::{Shard, SharedShard};
use super::waiters::{Asker, ReplyTo, Waiter, Waiting};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::base::units::{Nanos, UnixMillis};
use crate::causal::actor::Mint;
use crate::causal::dot::{Dot, Incarnation};
use crate::causal::object::{Object, OperationId};
use crate::causal::version_vector::VersionVector;
use crate::coordinator::put::Put;
use crate::coordinator::quorum::Quorum;
use crate::engine::key::{Key, KeyRef};
use crate::engine::{AppendRefused, Entry, GroupNumber, Lookup, NewValue};
use crate::replica::witness::{self, Minted};
use crate::replica::write::{self, Planned, Refusal, Rule, Write};
use crate::runtime::Queue;
use crate::runtime::notify::Notify;
use crate::wire::message::{Op, PutMode, Request, Status};
use std::rc::Rc;

/// Whose turn it will be to write a key.
pub enum Turn {
    Write(Box<Job>),
    /// A task goes on, and ends the turn itself.
    Task(Rc<Notify>),
}

impl Turn {
    /// The write that is past its deadline.
    pub fn is_late(&self, now: Nanos) -> bool {
        matches!(self, Turn::Write(job) if job.asker.deadline <= now)
    }
}

/// A write that waits for its key's turn: owns what the frame held.
pub struct Job {
    pub asker: Asker,
    quorum: Quorum,
    key: Key,
    value: Option<Vec<u8>>,
    rule: Rule,
    operation: OperationId,
    expires: UnixMillis,
}

impl Job {
    fn write(&self) -> Write<'_> {
        Write {
            bucket: &self.key.bucket,
            key: &self.key.key,
            value: self.value.as_deref(),
            rule: &self.rule,
            operation: self.operation,
            expires: self.expires,
        }
    }
}

pub fn on_write(
    shard: &mut Shard,
    shared: &SharedShard,
    to: ReplyTo,
    key: KeyRef<'_>,
    request: &Request<'_>,
    quorum: Quorum,
) {
    let rule = match rule(shard, request) {
        Ok(rule) => rule,
        Err(message) => {
            return shard.reply_message(to, request.id, Status::ContextRefused, &message);
        }
    };
    let mut asker = shard.begin(to, request);
    let write = write_of(request, &rule);
    let store = shard.store.as_mut().expect("a serving shard has a store");
    if store.key_queue.is_busy(key) && !planted!(JoinWithoutKeyQueue) {
        if !shard.promise(&mut asker, request.value.len() + request.context.len()) {
            return;
        }
        let store = shard.store.as_mut().expect("a serving shard has a store");
        let job = job(asker, quorum, key, &write);
        if store.key_queue.wait(key, Turn::Write(job.into())).is_err() {
            let message = "too many writes of this key wait for each other";
            shard.finish_message(asker, Status::Overloaded, message);
        }
        return;
    }
    match store.engine.lookup(key) {
        Lookup::MustRead => {
            if !shard.promise(&mut asker, request.value.len() + request.context.len()) {
                return;
            }
            let Some(leave) = shard.leave(asker) else {
                return;
            };
            let job = job(asker, quorum, key, &write);
            let store = shard.store.as_mut().expect("a serving shard has a store");
            if !planted!(JoinWithoutKeyQueue) {
                store.key_queue.begin(key);
            }
            spawn(shard, shared, job, leave);
        }
        found => on_lookup(shard, asker, quorum, key, write, found),
    }
}

fn job(asker: Asker, quorum: Quorum, key: KeyRef<'_>, write: &Write<'_>) -> Job {
    Job {
        asker,
        quorum,
        key: Key::from(key),
        value: write.value.map(<[u8]>::to_vec),
        rule: write.rule.clone(),
        operation: write.operation,
        expires: write.expires,
    }
}

pub fn write_of<'a>(request: &Request<'a>, rule: &'a Rule) -> Write<'a> {
    Write {
        bucket: request.bucket,
        key: request.key,
        value: (request.op == Op::Put).then_some(request.value),
        rule,
        operation: request.operation,
        expires: request.expires,
    }
}

/// What the write supersedes, as far as this node alone can tell; the context of a client is opened here, at the door.
pub fn rule(shard: &Shard, request: &Request<'_>) -> Result<Rule, String> {
    let refused = |why: &dyn std::fmt::Display| {
        format!("the context is refused: {why}; get the key again and use that context")
    };
    let identity = &shard.identity;
    match request.mode {
        PutMode::ByContext => identity
            .keys
            .open(
                identity.cluster,
                request.bucket,
                request.key,
                request.context,
            )
            .map(Rule::Seen)
            .map_err(|why| refused(&why)),
        PutMode::Overwrite => Ok(Rule::Overwrite(VersionVector::default())),
        PutMode::IfAbsent => Ok(Rule::IfAbsent(Object::default())),
    }
}

/// Reads the key, writes, and goes on with the writes of the key that came meanwhile.
fn spawn(shard: &Shard, shared: &SharedShard, first: Job, leave: Leave) {
    let shared = shared.clone();
    let engine = shard
        .store
        .as_ref()
        .expect("a serving shard has a store")
        .engine
        .clone();
    shard.runtime.spawn(Queue::Foreground, async move {
        let (mut job, mut leave) = (first, leave);
        loop {
            let found = engine.lookup_slow(job.key.as_ref()).await;
            let mut shard = shared.borrow_mut();
            // One that came back too late has been answered: nothing of it may be minted now.
            if let Some(asker) = shard.back(leave) {
                let (key, write) = (job.key.as_ref(), job.write());
                on_lookup(&mut shard, asker, job.quorum, key, write, found);
            }
            let next = match planted!(JoinWithoutKeyQueue) {
                true => None,
                false => next(&mut shard, job.key.as_ref()),
            };
            shard.flush();
            match next {
                Some(next) => (job, leave) = next,
                None => return,
            }
        }
    });
}

/// The write of the key whose turn it is now. A task whose turn it is goes on by itself.
fn next(shard: &mut Shard, key: KeyRef<'_>) -> Option<(Job, Leave)> {
    loop {
        let store = shard.store.as_mut().expect("a serving shard has a store");
        match store.key_queue.next(key)? {
            Turn::Write(job) => {
                if let Some(leave) = shard.leave(job.asker) {
                    return Some((*job, leave));
                }
            }
            Turn::Task(turn) => {
                turn.notify();
                return None;
            }
        }
    }
}

/// Ends a turn that somebody else than a write had: the next write of the key, if one waits, has its turn.
pub fn end_turn(shard: &mut Shard, shared: &SharedShard, key: KeyRef<'_>) {
    if let Some((job, leave)) = next(shard, key) {
        spawn(shard, shared, job, leave);
    }
}

/// What became of a write in its turn. Nothing leaves before its group is durable.
pub enum Written {
    /// The write was minted here, or is held from an earlier try.
    Done { group: GroupNumber, minted: bool },
    /// It may not be; this tells of a state that may not be durable yet.
    Refused { why: Refusal, group: GroupNumber },
    /// There is no room for it, or nobody knows what is held. Nothing was stored: the dot was shown to nobody, so the
    /// next mint of the key may use it again.
    Failed(AppendRefused),
}

/// The caller holds the key's turn, and `found` is what a lookup in it said. `before_append` sees what is going to be
/// stored.
pub fn write_in_turn(
    shard: &mut Shard,
    key: KeyRef<'_>,
    write: Write<'_>,
    found: Lookup,
    before_append: impl FnOnce(&Object<NewValue<'_>>),
) -> Written {
    let entry = match found {
        Lookup::Absent => None,
        Lookup::Found(entry) => Some(entry),
        Lookup::Unsure(why) => return Written::Failed(why.into()),
        Lookup::MustRead => unreachable!("lookup_slow answers"),
    };
    let now = shard.runtime.unix_time();
    let value_bytes_max = shard.request_limits.value_bytes_max;
    let store = shard.store.as_mut().expect("a serving shard has a store");
    let durable = store.engine.durable_group();
    let stored = entry.as_deref();
    let entry = match planted!(TwoMintsOneCommit) {
        true => stored.filter(|e| e.group <= durable),
        false => stored,
    };
    let mut planned = write::plan(entry, write, &mut store.mint, value_bytes_max, now);
    if matches!(
        planned,
        Planned::Refused {
            why: Refusal::BirthsUsedUp,
            ..
        }
    ) {
        store.mint = Mint::new(Incarnation(shard.runtime.random_u64()));
        planned = write::plan(entry, write, &mut store.mint, value_bytes_max, now);
    }
    let minted = match planned {
        Planned::Minted(minted) => minted,
        Planned::Held { group } => {
            return Written::Done {
                group,
                minted: false,
            };
        }
        Planned::Refused { why, group } => return Written::Refused { why, group },
    };
    before_append(&minted.object);
    let after: Vec<Dot> = minted.object.siblings.iter().map(|s| s.dot).collect();
    let appended = store
        .engine
        .append(key, stored, minted.object, Some(minted.dot), now);
    let group = match appended {
        Ok(group) => group,
        Err(why) => {
            if let Some(event) = shard.room.on_refused(why, shard.runtime.now()) {
                shard.runtime.log(event);
            }
            return Written::Failed(why);
        }
    };
    witness::record(|| Minted {
        key: key.key.to_vec(),
        operation: write.operation.0,
        dot: minted.dot,
        before: stored.map_or_else(Vec::new, dots),
        after,
        superseded: superseded(write.rule, stored),
        group,
    });
    if write.value.is_some()
        && let Some(event) = shard.room.on_taken()
    {
        shard.runtime.log(event);
    }
    Written::Done {
        group,
        minted: true,
    }
}

/// The caller holds the key's turn.
fn on_lookup(
    shard: &mut Shard,
    asker: Asker,
    quorum: Quorum,
    key: KeyRef<'_>,
    write: Write<'_>,
    found: Lookup,
) {
    // It was alone when the request came: who has joined since must be given what is written now.
    if shard.ring.members().len() > 1 {
        mark!(RingChangedUnderWrite);
        let message = "the ring has just changed; nothing was changed of the key; ask again";
        return shard.finish_message(asker, Status::NotReady, message);
    }
    let (group, waiting) = match write_in_turn(shard, key, write, found, |_| {}) {
        Written::Done { group, .. } => (group, Waiting::Put(Put::minted(quorum))),
        Written::Refused { why, group } => (group, Waiting::Refused(why)),
        Written::Failed(why) => {
            return shard.finish_message(asker, append_status(why), &why.to_string());
        }
    };
    wait(shard, asker, group, waiting);
}

/// What the write's context covers.
fn superseded(rule: &Rule, stored: Option<&Entry>) -> VersionVector {
    match rule {
        Rule::Seen(vector) => vector.clone(),
        Rule::Overwrite(others) => with(stored, others),
        Rule::IfAbsent(others) => with(stored, &others.vector),
    }
}

fn with(stored: Option<&Entry>, others: &VersionVector) -> VersionVector {
    let mut all = others.clone();
    if let Some(entry) = stored {
        all.join(&entry.object.vector);
    }
    all
}

fn dots(entry: &Entry) -> Vec<Dot> {
    entry.object.siblings.iter().map(|s| s.dot).collect()
}

fn wait(shard: &mut Shard, asker: Asker, group: GroupNumber, waiting: Waiting) {
    let store = shard.store.as_ref().expect("a serving shard has a store");
    let durable = store.engine.durable_group();
    match waiting {
        Waiting::Refused(why) if group <= durable => refuse(shard, asker, why),
        Waiting::Put(mut put) if group <= durable => {
            let verdict = put.on_vote(true).expect("one replica, one vote");
            shard.finish_put(asker, verdict);
        }
        waiting => shard.waiters.add(group, Waiter { asker, waiting }),
    }
}

pub fn refuse(shard: &mut Shard, asker: Asker, why: Refusal) {
    let status = match why {
        Refusal::Exists => Status::Exists,
        Refusal::TooManySiblings { .. } | Refusal::SiblingsTooLarge { .. } => {
            Status::TooManySiblings
        }
        Refusal::VectorTooLong { .. } => Status::TooManySiblings,
        Refusal::BirthsUsedUp => Status::Overloaded,
        Refusal::OperationReused => Status::BadRequest,
    };
    shard.finish_message(asker, status, &why.to_string());
}

pub fn append_status(why: AppendRefused) -> Status {
    match why {
        AppendRefused::MemoryFull | AppendRefused::DiskFull => Status::Full,
        AppendRefused::RecordTooLarge => Status::ValueTooLarge,
        AppendRefused::Overloaded => Status::Overloaded,
        AppendRefused::Unsure(_) => Status::Unsure,
    }
}
