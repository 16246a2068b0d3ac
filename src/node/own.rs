//! What this shard's own replica does: reads and joins, for its own coordinator and for those of other nodes.
//!
//! Whatever is answered here is durable: a vote is a synced record, and nobody is told of a state that is not on the
//! medium.

use super::flights::{Carried, Refused, Stored};
use super::mend::{self, Bad};
use super::shard::{Shard, SharedShard};
use super::writes::{self, Turn};
use crate::base::limits::SMALL_BYTES_MAX;
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::base::units::UnixMillis;
use crate::causal::object::{Kind, Object, Sibling};
use crate::engine::key::{Key, KeyRef};
use crate::engine::{AppendRefused, Engine, Entry, GroupNumber, Lookup, NewValue, Place, Unsure};
use crate::replica::join::{self, Joined};
use crate::runtime::notify::Notify;
use crate::wire::message::Status;
use std::rc::Rc;

/// How often a value whose place has moved is looked for anew.
const MOVED_TRIES: usize = 3;

impl From<Unsure> for Refused {
    fn from(why: Unsure) -> Refused {
        Refused::new(Status::Unsure, why)
    }
}

impl From<AppendRefused> for Refused {
    fn from(why: AppendRefused) -> Refused {
        Refused::new(writes::append_status(why), why)
    }
}

/// The engine, if this shard serves.
fn engine(shard: &Shard) -> Result<Engine, Refused> {
    if let Some(why) = shard.phase.refusal() {
        return Err(Refused::new(Status::NotReady, why));
    }
    let store = shard.store.as_ref().expect("a serving shard has a store");
    Ok(store.engine.clone())
}

/// The newest entry of a key, durable or not. `None` in memory only: the disk must be asked.
fn found(lookup: Lookup) -> Option<Result<Option<Rc<Entry>>, Refused>> {
    match lookup {
        Lookup::Absent => Some(Ok(None)),
        Lookup::Found(entry) => Some(Ok(Some(entry))),
        Lookup::Unsure(_) if planted!(UnsureVotes) => Some(Ok(None)),
        Lookup::Unsure(why) => Some(Err(why.into())),
        Lookup::MustRead => None,
    }
}

async fn newest(engine: &Engine, key: KeyRef<'_>) -> Result<Option<Rc<Entry>>, Refused> {
    match found(engine.lookup(key)) {
        Some(found) => found,
        None => found(engine.lookup_slow(key).await).expect("lookup_slow answers"),
    }
}

/// What is held of a key, if memory can tell and it is durable already.
pub fn read_now(shard: &Shard, key: KeyRef<'_>) -> Option<Result<Option<Rc<Entry>>, Refused>> {
    let engine = match engine(shard) {
        Ok(engine) => engine,
        Err(why) => return Some(Err(why)),
    };
    let found = found(engine.lookup(key))?;
    let pending = |entry: &Rc<Entry>| entry.group > engine.durable_group();
    let waits = matches!(&found, Ok(Some(entry)) if pending(entry));
    (!waits || planted!(PeerReadBeforeSync)).then_some(found)
}

/// What is held of a key; on return it is durable.
pub async fn read(shared: &SharedShard, key: &Key) -> Result<Option<Rc<Entry>>, Refused> {
    let engine = engine(&shared.borrow())?;
    let entry = newest(&engine, key.as_ref()).await?;
    if let Some(entry) = &entry
        && !planted!(PeerReadBeforeSync)
    {
        until_durable(shared, entry.group).await?;
    }
    Ok(entry)
}

/// All that is held of a key, with its values.
pub async fn read_whole(
    shared: &SharedShard,
    key: &Key,
) -> Result<Option<Object<Carried>>, Refused> {
    let engine = engine(&shared.borrow())?;
    for _ in 0..MOVED_TRIES {
        let Some(entry) = read(shared, key).await? else {
            return Ok(None);
        };
        match values(&engine, key.as_ref(), &entry.object).await {
            Ok((whole, bad)) => {
                if !bad.is_empty() {
                    mend::begin(shared, key, &entry.object, bad);
                }
                return Ok(Some(whole));
            }
            Err(Unsure::Moved) => {}
            Err(why) => return Err(why.into()),
        }
    }
    Err(Unsure::Moved.into())
}

/// The object with its values, and those that cannot be read: they are told as lost, which they are here; others may
/// have them.
async fn values(
    engine: &Engine,
    key: KeyRef<'_>,
    object: &Object<Place>,
) -> Result<(Object<Carried>, Vec<Bad>), Unsure> {
    let mut bad = Vec::new();
    let mut siblings = Vec::with_capacity(object.siblings.len());
    for sibling in &object.siblings {
        let mut whole = sibling.clone().with_value(None);
        if sibling.kind == Kind::Value {
            let value = match engine.cached_value(&sibling.value) {
                Some(value) => Ok(value),
                None => engine.read_value(key, sibling.dot, &sibling.value).await,
            };
            match value {
                Ok(value) => whole.value = Some(value),
                Err(Unsure::Checksum) => {
                    bad.push((sibling.dot, sibling.value.clone()));
                    whole.kind = Kind::ValueLost;
                }
                Err(why) => return Err(why),
            }
        }
        siblings.push(whole);
    }
    let whole = Object {
        vector: object.vector.clone(),
        siblings,
    };
    Ok((whole, bad))
}

/// Joins the state of another replica into this one's; on return it is durable.
pub async fn store(
    shared: &SharedShard,
    key: &Key,
    object: &Object<Carried>,
) -> Result<Stored, Refused> {
    store_over(shared, key, object, &[]).await
}

/// The same; what it has of the values that were bad here, where they still are, is written anew.
pub async fn store_over(
    shared: &SharedShard,
    key: &Key,
    object: &Object<Carried>,
    bad: &[Bad],
) -> Result<Stored, Refused> {
    let engine = engine(&shared.borrow())?;
    take_turn(shared, key).await?;
    let joined = store_in_turn(shared, &engine, key, object, bad).await;
    writes::end_turn(&mut shared.borrow_mut(), shared, key.as_ref());
    match joined? {
        Some(group) => {
            if !planted!(VoteBeforeDurable) {
                until_durable(shared, group).await?;
            }
            Ok(Stored::Durable)
        }
        None => Ok(Stored::Needs),
    }
}

/// The group with which it is durable; `None`: a value is needed.
async fn store_in_turn(
    shared: &SharedShard,
    engine: &Engine,
    key: &Key,
    object: &Object<Carried>,
    bad: &[Bad],
) -> Result<Option<GroupNumber>, Refused> {
    let entry = newest(engine, key.as_ref()).await?;
    let now = shared.borrow().runtime.unix_time();
    let known = entry.as_deref();
    let seen = match planted!(StoreReplaces) {
        true => None,
        false => known,
    };
    match join::plan(seen, object, bad) {
        Joined::Known(group) => Ok(Some(group)),
        Joined::Needs => Ok(None),
        Joined::TooLarge(why) => {
            mark!(JoinTooLarge);
            Err(Refused::new(Status::TooManySiblings, why))
        }
        Joined::Store(mut joined) => {
            mark!(Joined);
            if planted!(RepairMints)
                && let Some(first) = joined.siblings.first_mut()
            {
                first.dot.counter += 1;
                joined.vector.add(first.dot);
            }
            append_joined(engine, key.as_ref(), known, joined, now)
                .await
                .map(Some)
        }
    }
}

/// Appends a joined state, however large its new values are. The caller holds the key's turn.
async fn append_joined(
    engine: &Engine,
    key: KeyRef<'_>,
    known: Option<&Entry>,
    joined: Object<NewValue<'_>>,
    now: UnixMillis,
) -> Result<GroupNumber, Refused> {
    let mine = known.and_then(|entry| entry.mine);
    let new_bytes: usize = joined.siblings.iter().map(new_bytes).sum();
    // What is small fits one record.
    let whole = (new_bytes > SMALL_BYTES_MAX).then(|| joined.clone());
    let appended = engine.append(key, known, joined, mine, now);
    match (appended, whole) {
        (Err(AppendRefused::RecordTooLarge), Some(whole)) => {
            Ok(engine.append_apart(key, known, whole, mine).await?)
        }
        (appended, _) => Ok(appended?),
    }
}

fn new_bytes(sibling: &Sibling<NewValue<'_>>) -> usize {
    match sibling.value {
        NewValue::Put(bytes) => bytes.len(),
        NewValue::Keep(_) => 0,
    }
}

/// Waits until it is this task's turn to write the key; `writes::end_turn` ends it.
pub async fn take_turn(shared: &SharedShard, key: &Key) -> Result<(), Refused> {
    let turn = {
        let mut shard = shared.borrow_mut();
        let store = shard.store.as_mut().expect("a serving shard has a store");
        if !store.key_queue.is_busy(key.as_ref()) {
            store.key_queue.begin(key.as_ref());
            return Ok(());
        }
        let turn: Rc<Notify> = Rc::default();
        let waits = store.key_queue.wait(key.as_ref(), Turn::Task(turn.clone()));
        if waits.is_err() {
            let message = "too many writes of this key wait for each other";
            return Err(Refused::new(Status::Overloaded, message));
        }
        turn
    };
    turn.notified().await;
    Ok(())
}

/// Waits until the group is on the medium.
pub async fn until_durable(shared: &SharedShard, group: GroupNumber) -> Result<(), Refused> {
    loop {
        let durable = {
            let mut shard = shared.borrow_mut();
            let store = shard.store.as_ref().expect("a serving shard has a store");
            if store.engine.durable_group() >= group {
                return Ok(());
            }
            if store.engine.poisoned().is_some() {
                return Err(Unsure::Poisoned.into());
            }
            shard.waiters.signal(group)
        };
        durable.notified().await;
    }
}
