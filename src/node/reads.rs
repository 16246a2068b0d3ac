//! Gets: from memory in the same turn, from the disk in a task, never from a state that is not durable. `receipt` says
//! who has voted for what this replica holds; those of a key with several replicas come here from `gets`.

use super::mend;
use super::shard::{Shard, SharedShard};
use super::waiters::{Asker, ReplyTo, Waiter, Waiting};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::base::units::Nanos;
use crate::causal::object::{Kind, Object, Sibling};
use crate::coordinator::get::shown;
use crate::engine::key::{Key, KeyRef};
use crate::engine::{Engine, Entry, Lookup, Place, Unsure};
use crate::runtime::Queue;
use crate::wire::message::{DotView, Receipt, Reply, Request, SiblingView, Status};
use smallvec::SmallVec;
use std::rc::Rc;

/// What became of the value of a sibling that is shown.
type Value = Result<Rc<[u8]>, Unsure>;
/// Nearly every key has one sibling: its values and views stand on the stack.
type Values = SmallVec<[Value; 1]>;

pub fn on_get(
    shard: &mut Shard,
    shared: &SharedShard,
    to: ReplyTo,
    key: KeyRef<'_>,
    request: &Request<'_>,
    receipt: Receipt,
) {
    let asker = shard.begin(to, request);
    let lookup = engine(shard).lookup(key);
    match lookup {
        Lookup::MustRead => {
            let Some(leave) = shard.leave(asker) else {
                return;
            };
            let (shared, key, engine) = (shared.clone(), Key::from(key), engine(shard).clone());
            shard.runtime.clone().spawn(Queue::Foreground, async move {
                let found = engine.lookup_slow(key.as_ref()).await;
                let mut shard = shared.borrow_mut();
                if let Some(asker) = shard.back(leave) {
                    on_lookup(&mut shard, &shared, asker, key.as_ref(), found, receipt);
                }
                shard.flush();
            });
        }
        found => on_lookup(shard, shared, asker, key, found, receipt),
    }
}

fn engine(shard: &Shard) -> &Engine {
    &shard
        .store
        .as_ref()
        .expect("a serving shard has a store")
        .engine
}

fn on_lookup(
    shard: &mut Shard,
    shared: &SharedShard,
    mut asker: Asker,
    key: KeyRef<'_>,
    found: Lookup,
    receipt: Receipt,
) {
    match found {
        Lookup::Absent => answer(shard, shared, asker, key, None, receipt),
        Lookup::Found(entry) => {
            let engine = engine(shard);
            let served_poisoned = planted!(UnsureServed) && engine.poisoned().is_some();
            let durable = entry.group <= engine.durable_group() || served_poisoned;
            if durable || planted!(ReadBeforeSync) {
                return answer(shard, shared, asker, key, Some(entry), receipt);
            }
            let group = entry.group;
            if !shard.promise(&mut asker, value_bytes(&entry.object)) {
                return;
            }
            let waiting = Waiting::Get {
                key: Key::from(key),
                entry,
                receipt,
            };
            shard.waiters.add(group, Waiter { asker, waiting });
        }
        Lookup::Unsure(why) => shard.finish_message(asker, Status::Unsure, &why.to_string()),
        Lookup::MustRead => unreachable!("lookup_slow answers"),
    }
}

/// Answers from the durable state `entry`; its values come from memory now or from the disk in a task.
pub fn answer(
    shard: &mut Shard,
    shared: &SharedShard,
    mut asker: Asker,
    key: KeyRef<'_>,
    entry: Option<Rc<Entry>>,
    receipt: Receipt,
) {
    let Some(object) = entry.map(|entry| entry.object.clone()) else {
        return reply(shard, asker, key, None, &[], receipt);
    };
    let store = engine(shard);
    let cached: Option<Values> = shown(&object.siblings)
        .map(|s| match s.kind {
            Kind::ValueLost => Some(Err(Unsure::Checksum)),
            Kind::Value | Kind::Tombstone => store.cached_value(&s.value).map(Ok),
        })
        .collect();
    // In memory or not: the reply is made of them.
    let bytes = value_bytes(&object);
    if !shard.promise(&mut asker, bytes) {
        return;
    }
    if let Some(values) = cached.filter(|values| values.iter().all(Result::is_ok)) {
        return reply(shard, asker, key, Some(&object), &values, receipt);
    }
    let Some(leave) = shard.leave(asker) else {
        return;
    };
    let deadline = asker.deadline;
    let (shared, key, engine) = (shared.clone(), Key::from(key), engine(shard).clone());
    shard.runtime.clone().spawn(Queue::Foreground, async move {
        let mut values = read_values(&engine, key.as_ref(), &object).await;
        if values.contains(&Err(Unsure::Moved)) {
            mark!(ValueMoved);
            let mut found = engine.lookup_slow(key.as_ref()).await;
            // A place in a segment that is gone, and still what the index says: asking again would never end.
            if matches!(&found, Lookup::Found(entry) if entry.object == object) {
                found = Lookup::Unsure(Unsure::Lost);
            }
            let mut shard = shared.borrow_mut();
            if let Some(asker) = shard.back(leave) {
                on_lookup(&mut shard, &shared, asker, key.as_ref(), found, receipt);
            }
            return shard.flush();
        }
        if values.iter().any(Result::is_err) {
            fetch_bad(&shared, &key, &object, &mut values, deadline).await;
        }
        let mut shard = shared.borrow_mut();
        if let Some(asker) = shard.back(leave) {
            let object = Some(&*object);
            reply(&mut shard, asker, key.as_ref(), object, &values, receipt);
        }
        shard.flush();
    });
}

/// Bytes of the values that a reply shows.
fn value_bytes(object: &Object<Place>) -> usize {
    shown(&object.siblings).map(|s| s.value.bytes()).sum()
}

async fn read_values(engine: &Engine, key: KeyRef<'_>, object: &Object<Place>) -> Values {
    let mut values = Values::new();
    for sibling in shown(&object.siblings) {
        values.push(match engine.cached_value(&sibling.value) {
            Some(value) => Ok(value),
            None if sibling.kind == Kind::ValueLost => Err(Unsure::Checksum),
            None => engine.read_value(key, sibling.dot, &sibling.value).await,
        });
    }
    values
}

/// Puts values of other replicas in the place of those that cannot be read here.
async fn fetch_bad(
    shared: &SharedShard,
    key: &Key,
    object: &Object<Place>,
    values: &mut Values,
    deadline: Nanos,
) {
    let bad = shown(&object.siblings).zip(&*values);
    let bad = bad.filter(|(_, value)| value.as_ref().is_err_and(|&why| mend::is_mendable(why)));
    let bad: Vec<mend::Bad> = bad
        .map(|(sibling, _)| (sibling.dot, sibling.value.clone()))
        .collect();
    if bad.is_empty() {
        return;
    }
    let mut found = mend::fetch(shared, key, object, &bad, deadline).await;
    for (sibling, value) in shown(&object.siblings).zip(values) {
        if let Some(theirs) = found.remove(&sibling.dot) {
            mark!(ValueFetched);
            *value = Ok(theirs);
        }
    }
}

/// `values` are those of the siblings shown, in their order.
fn reply(
    shard: &mut Shard,
    asker: Asker,
    key: KeyRef<'_>,
    object: Option<&Object<Place>>,
    values: &[Value],
    receipt: Receipt,
) {
    shard.end(asker);
    let failed = values
        .iter()
        .find_map(|v| v.as_ref().err().filter(|e| **e != Unsure::Checksum));
    if let Some(why) = failed {
        let message = why.to_string();
        return shard.reply_message(asker.to, asker.request, Status::Unsure, &message);
    }
    let mut context = std::mem::take(&mut shard.context);
    context.clear();
    let mut views: SmallVec<[SiblingView<'_>; 1]> = SmallVec::with_capacity(values.len());
    if let Some(object) = object {
        let identity = &shard.identity;
        let vector = &object.vector;
        identity
            .keys
            .seal(identity.cluster, key.bucket, key.key, vector, &mut context);
        views.extend(shown(&object.siblings).zip(values).map(view));
    }
    let status = match views.as_slice() {
        [] => Status::NotFound,
        views if views.iter().all(|v| v.lost) => Status::ValueLost,
        _ => Status::Ok,
    };
    let message = match status {
        Status::ValueLost => {
            "the value fails its checksum and cannot be read; a put with this context replaces it"
        }
        _ => "",
    };
    let reply = Reply {
        id: asker.request,
        status: Some(status),
        message,
        siblings: &views,
        context: &context,
        receipt: Some(receipt),
        ..Reply::default()
    };
    shard.reply(asker.to, &reply);
    shard.context = context;
}

fn view<'a>((sibling, value): (&Sibling<Place>, &'a Value)) -> SiblingView<'a> {
    SiblingView {
        value: value.as_deref().unwrap_or_default(),
        lost: value.is_err(),
        written: sibling.written,
        expires: sibling.expires,
        value_hash: sibling.value_hash,
        dot: DotView {
            incarnation: sibling.dot.actor.incarnation.0,
            birth: sibling.dot.actor.birth,
            counter: sibling.dot.counter,
        },
        operation: sibling.operation,
    }
}
