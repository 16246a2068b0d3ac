//! Values that this node's index names and its disk cannot give: another replica has them. A get is answered with what
//! another one sends, and the value is written anew here, under the dot that it has always had.
//!
//! A value is taken only if its hash is the one that was made when it was minted, and that this node's own entry holds:
//! the hash covers key, dot, operation and value, so nobody can put another value in its place, and none is signed
//! again. What no other replica has stays as it is, and is told as lost.

use super::coordinate::Coordinated;
use super::epochs::plain;
use super::flights::{Answer, Carried, Replicas};
use super::own;
use super::shard::SharedShard;
use crate::base::limits::{MEND_PAUSE_MS, REPAIRS_MAX, TIMEOUT_MS_MAX};
use crate::base::marks::mark;
use crate::base::units::Nanos;
use crate::causal::dot::Dot;
use crate::causal::object::{Kind, Object, Sibling};
use crate::engine::key::Key;
use crate::engine::{Place, Unsure};
use crate::ring::position::Position;
use crate::runtime::Queue;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A sibling whose value cannot be read, and where it should have been.
pub type Bad = (Dot, Place);

/// Positions of keys that are being mended by themselves, or were a moment ago. Two replicas that find the same value
/// bad would ask each other without end.
#[derive(Default)]
pub struct Mending {
    until: BTreeMap<Position, Nanos>,
}

impl Mending {
    /// False: it is not to be begun now.
    fn begin(&mut self, position: Position, now: Nanos) -> bool {
        self.until.retain(|_, until| *until > now);
        let begins = self.until.len() < REPAIRS_MAX && !self.until.contains_key(&position);
        if begins {
            let until = Nanos(now.0 + MEND_PAUSE_MS * 1_000_000);
            self.until.insert(position, until);
        }
        begins
    }
}

/// Whether another replica may help.
pub fn is_mendable(why: Unsure) -> bool {
    match why {
        Unsure::Checksum | Unsure::Read | Unsure::Lost => true,
        Unsure::Poisoned | Unsure::Damaged | Unsure::Moved => false,
    }
}

/// The object, with those of its values that were told to be lost and that another replica has.
pub fn completed(object: &Object<Carried>, theirs: &Object<Carried>) -> Object<Carried> {
    let mut whole = object.clone();
    let lost = |sibling: &&mut Sibling<Carried>| sibling.kind == Kind::ValueLost;
    for sibling in whole.siblings.iter_mut().filter(lost) {
        if let Some(value) = value_of(theirs, sibling) {
            sibling.kind = Kind::Value;
            sibling.value = Some(value);
        }
    }
    whole
}

/// The value of this sibling, if the object holds the very one.
fn value_of<V>(object: &Object<Carried>, ours: &Sibling<V>) -> Option<Rc<[u8]>> {
    let theirs = object.find_dot(ours.dot)?;
    let same = theirs.kind == Kind::Value
        && (theirs.value_hash, theirs.operation) == (ours.value_hash, ours.operation);
    theirs.value.clone().filter(|_| same)
}

/// The values of the bad siblings of an object, as far as other replicas have them; what was found is written anew in a
/// task of its own.
pub async fn fetch(
    shared: &SharedShard,
    key: &Key,
    object: &Object<Place>,
    bad: &[Bad],
    deadline: Nanos,
) -> BTreeMap<Dot, Rc<[u8]>> {
    let mut found = BTreeMap::new();
    let Some(on) = others(shared, key, deadline) else {
        return found;
    };
    // One after another: values may be large, and the next one has them most likely.
    for replica in on.others_up() {
        if !on.ask_read(replica, true) {
            continue;
        }
        let Some(theirs) = answer_of(&on, replica).await else {
            continue;
        };
        let lacking = bad.iter().filter(|(dot, _)| !found.contains_key(dot));
        let ours = lacking.filter_map(|(dot, _)| object.find_dot(*dot));
        let values: Vec<(Dot, Rc<[u8]>)> = ours
            .filter_map(|ours| Some((ours.dot, value_of(&theirs, ours)?)))
            .collect();
        if !values.is_empty() {
            found.extend(values);
            write_anew(shared, key, theirs, bad);
        }
        if found.len() == bad.len() {
            break;
        }
    }
    on.close();
    found
}

/// The other replicas of the key that hold all of their keys.
fn others(shared: &SharedShard, key: &Key, deadline: Nanos) -> Option<Coordinated> {
    let mut shard = shared.borrow_mut();
    let placement = shard.placement(key.position);
    let mut replicas: Replicas = placement.full().into();
    replicas.retain(|remote| remote.node != shard.node);
    if replicas.is_empty() {
        return None;
    }
    let now = shard.runtime.now();
    let flight = shard.flights.open(replicas.clone(), now, deadline)?;
    drop(shard);
    let mut on = plain(shared, flight, replicas);
    on.key = key.clone();
    Some(on)
}

async fn answer_of(on: &Coordinated, asked: usize) -> Option<Box<Object<Carried>>> {
    loop {
        match on.next().await? {
            Answer::Found { replica, object } if replica == asked => return object,
            Answer::Refused { replica, .. } if replica == asked => return None,
            _ => {}
        }
    }
}

fn write_anew(shared: &SharedShard, key: &Key, theirs: Box<Object<Carried>>, bad: &[Bad]) {
    let runtime = shared.borrow().runtime.clone();
    let (shared, key, bad) = (shared.clone(), key.clone(), bad.to_vec());
    runtime.spawn(Queue::Background, async move {
        // What fails is met again by the next get.
        if own::store_over(&shared, &key, &theirs, &bad).await.is_ok() {
            mark!(ValueMended);
        }
        shared.borrow_mut().flush();
    });
}

/// Somebody else has met values of this key that cannot be read: they are fetched and written anew, unless that was
/// tried a moment ago.
pub fn begin(shared: &SharedShard, key: &Key, object: &Rc<Object<Place>>, bad: Vec<Bad>) {
    let (runtime, deadline) = {
        let mut shard = shared.borrow_mut();
        let now = shard.runtime.now();
        if !shard.mending.begin(key.position, now) {
            return;
        }
        let deadline = Nanos(now.0 + TIMEOUT_MS_MAX * 1_000_000);
        (shard.runtime.clone(), deadline)
    };
    let (shared, key, object) = (shared.clone(), key.clone(), object.clone());
    runtime.spawn(Queue::Background, async move {
        fetch(&shared, &key, &object, &bad, deadline).await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_mended_once_in_a_while_and_few_at_a_time() {
        let mut mending = Mending::default();
        let ms = |ms: u64| Nanos(ms * 1_000_000);
        assert!(mending.begin(Position(1), ms(0)));
        assert!(!mending.begin(Position(1), ms(MEND_PAUSE_MS - 1)));
        assert!(mending.begin(Position(1), ms(MEND_PAUSE_MS)));
        let begun = (2..).take_while(|&n| mending.begin(Position(n), ms(MEND_PAUSE_MS)));
        assert_eq!(begun.count(), REPAIRS_MAX - 1);
    }
}
