//! Puts and deletes: lookup, join, mint, append; the reply waits for the commit group.

use super::away::Leave;
use super::reads::{COPIES, MEMBERS};
use super::shard::{Shard, SharedShard};
use super::waiters::{Asker, ReplyTo, Waiter, Waiting};
use crate::base::planted::planted;
use crate::base::units::UnixMillis;
use crate::causal::actor::Mint;
use crate::causal::dot::{Dot, Incarnation};
use crate::causal::object::OperationId;
use crate::causal::version_vector::VersionVector;
use crate::coordinator::put::Put;
use crate::coordinator::quorum::Quorum;
use crate::engine::key::{Key, KeyRef};
use crate::engine::{AppendRefused, Entry, GroupNumber, Lookup};
use crate::replica::witness::{self, Minted};
use crate::replica::write::{self, Planned, Refusal, Rule, Write};
use crate::runtime::Queue;
use crate::wire::message::{Op, PutMode, Request, Status};

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
) {
    let quorum = match Quorum::of(COPIES, MEMBERS, request.read_quorum, request.write_quorum) {
        Ok(quorum) => quorum,
        Err(why) => {
            let message = why.to_string();
            return shard.reply_message(to, request.id, Status::QuorumImpossible, &message);
        }
    };
    let rule = match rule(shard, request) {
        Ok(rule) => rule,
        Err(message) => {
            return shard.reply_message(to, request.id, Status::ContextRefused, &message);
        }
    };
    let mut asker = shard.begin(to, request);
    let write = Write {
        bucket: request.bucket,
        key: request.key,
        value: (request.op == Op::Put).then_some(request.value),
        rule: &rule,
        operation: request.operation,
        expires: request.expires,
    };
    let store = shard.store.as_mut().expect("a serving shard has a store");
    if store.key_queue.is_busy(key) && !planted!(JoinWithoutKeyQueue) {
        if !shard.promise(&mut asker, request.value.len() + request.context.len()) {
            return;
        }
        let store = shard.store.as_mut().expect("a serving shard has a store");
        let job = job(asker, quorum, key, &write);
        if store.key_queue.wait(key, job).is_err() {
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

/// What the write supersedes; the context of a client is opened here, at the door.
fn rule(shard: &Shard, request: &Request<'_>) -> Result<Rule, String> {
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
        PutMode::Overwrite => Ok(Rule::Overwrite),
        PutMode::IfAbsent => Ok(Rule::IfAbsent),
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

/// The write of the key whose turn it is now.
fn next(shard: &mut Shard, key: KeyRef<'_>) -> Option<(Job, Leave)> {
    loop {
        let store = shard.store.as_mut().expect("a serving shard has a store");
        let job = store.key_queue.next(key)?;
        if let Some(leave) = shard.leave(job.asker) {
            return Some((job, leave));
        }
    }
}

/// Ends a turn that somebody else than a write had: the next write of the key, if one waits, has its turn.
pub fn end_turn(shard: &mut Shard, shared: &SharedShard, key: KeyRef<'_>) {
    if let Some((job, leave)) = next(shard, key) {
        spawn(shard, shared, job, leave);
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
    let entry = match found {
        Lookup::Absent => None,
        Lookup::Found(entry) => Some(entry),
        Lookup::Unsure(why) => {
            return shard.finish_message(asker, Status::Unsure, &why.to_string());
        }
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
    let (group, waiting) = match planned {
        Planned::Minted(minted) => {
            let after: Vec<Dot> = minted.object.siblings.iter().map(|s| s.dot).collect();
            match store
                .engine
                .append(key, stored, minted.object, Some(minted.dot), now)
            {
                Ok(group) => {
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
                    (group, Waiting::Put(Put::minted(quorum)))
                }
                Err(why) => return append_refused(shard, asker, why),
            }
        }
        Planned::Held { group } => (group, Waiting::Put(Put::minted(quorum))),
        Planned::Refused { why, group } => (group, Waiting::Refused(why)),
    };
    wait(shard, asker, group, waiting, durable);
}

/// What the write's context covers.
fn superseded(rule: &Rule, stored: Option<&Entry>) -> VersionVector {
    match rule {
        Rule::Seen(vector) => vector.clone(),
        Rule::Overwrite | Rule::IfAbsent => {
            stored.map_or_else(VersionVector::default, |e| e.object.vector.clone())
        }
    }
}

fn dots(entry: &Entry) -> Vec<Dot> {
    entry.object.siblings.iter().map(|s| s.dot).collect()
}

fn wait(
    shard: &mut Shard,
    asker: Asker,
    group: GroupNumber,
    waiting: Waiting,
    durable: GroupNumber,
) {
    match waiting {
        Waiting::Refused(why) if group <= durable => refuse(shard, asker, why),
        Waiting::Put(mut put) if group <= durable => {
            let verdict = put.on_vote().expect("one replica, one vote");
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

/// Nothing was stored: the dot was shown to nobody, so the next mint of the key may use it again.
fn append_refused(shard: &mut Shard, asker: Asker, why: AppendRefused) {
    if let Some(event) = shard.room.on_refused(why, shard.runtime.now()) {
        shard.runtime.log(event);
    }
    let status = match why {
        AppendRefused::MemoryFull | AppendRefused::DiskFull => Status::Full,
        AppendRefused::RecordTooLarge => Status::ValueTooLarge,
        AppendRefused::Overloaded => Status::Overloaded,
        AppendRefused::Unsure(_) => Status::Unsure,
    };
    shard.finish_message(asker, status, &why.to_string());
}
