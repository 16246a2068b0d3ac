//! Listings: a page of the keys of this shard, in ring order. The values are asked for one by one.

use super::shard::{Shard, SharedShard};
use super::waiters::{Asker, ReplyTo, Waiter, Waiting};
use crate::base::limits::{KEYS_PAGE_BYTES_MAX, KEYS_PAGE_MAX};
use crate::coordinator::get::shown;
use crate::engine::key::{Key, KeyRef};
use crate::engine::{Entry, GroupNumber};
use crate::ring::position::Position;
use crate::runtime::Queue;
use crate::wire::message::{Next, Reply, Request, Status};
use std::ops::RangeInclusive;
use std::rc::Rc;

/// What a listing answers.
#[derive(Debug, PartialEq, Eq)]
pub struct KeysPage {
    keys: Vec<Key>,
    next: Option<Key>,
}

/// `from`: a key behind which the page begins; with an empty one it begins at the position.
pub fn on_keys(
    shard: &mut Shard,
    shared: &SharedShard,
    to: ReplyTo,
    from: KeyRef<'_>,
    request: &Request<'_>,
) {
    let mut asker = shard.begin(to, request);
    if !shard.promise(&mut asker, KEYS_PAGE_BYTES_MAX) {
        return;
    }
    let Some(leave) = shard.leave(asker) else {
        return;
    };
    let after = match from.key {
        [] => Key::last_before(from.position),
        _ => Some(Key::from(from)),
    };
    let own = from.position..=*shard.positions().end();
    let store = shard.store.as_ref().expect("a serving shard has a store");
    let (shared, engine) = (shared.clone(), store.engine.clone());
    // Nobody waits for a whole listing: requests for single keys come first.
    shard.runtime.clone().spawn(Queue::Background, async move {
        let entries = engine.scan(after.as_ref(), KEYS_PAGE_MAX).await;
        let mut shard = shared.borrow_mut();
        if let Some(asker) = shard.back(leave) {
            // A part of the log that is lost may have held keys that the scan cannot know of.
            match engine.unsure(own.clone()).map_or(entries, Err) {
                Ok(entries) => {
                    let (page, group) = page(entries, &own);
                    match group <= engine.durable_group() {
                        true => reply(&mut shard, asker, &page),
                        false => {
                            let waiting = Waiting::Keys(page);
                            shard.waiters.add(group, Waiter { asker, waiting });
                        }
                    }
                }
                Err(why) => shard.finish_message(asker, Status::Unsure, &why.to_string()),
            }
        }
        shard.flush();
    });
}

/// As many of `entries` as fit, and the group with which all that the page tells of is durable. A key without a value
/// is passed over: that it has none must be durable too.
fn page(entries: Vec<(Key, Rc<Entry>)>, own: &RangeInclusive<Position>) -> (KeysPage, GroupNumber) {
    let (mut keys, mut bytes, mut group) = (Vec::new(), 0, GroupNumber(0));
    let mut visited = None;
    let scanned = entries.len();
    for (nth, (key, entry)) in entries.into_iter().enumerate() {
        group = group.max(entry.group);
        if shown(&entry.object.siblings).next().is_some() {
            bytes += key.key.len();
            keys.push(key.clone());
        }
        if bytes >= KEYS_PAGE_BYTES_MAX || nth + 1 == scanned && scanned == KEYS_PAGE_MAX {
            visited = Some(key);
            break;
        }
    }
    let behind = || {
        let first = Position(own.end().0.checked_add(1)?);
        Some(Key {
            position: first,
            bucket: [].as_slice().into(),
            key: [].as_slice().into(),
        })
    };
    let next = visited.or_else(behind);
    (KeysPage { keys, next }, group)
}

pub fn reply(shard: &mut Shard, asker: Asker, page: &KeysPage) {
    shard.end(asker);
    let keys: Vec<&[u8]> = page.keys.iter().map(|key| &*key.key).collect();
    let next = page.next.as_ref().map(|key| Next {
        position: key.position.0,
        key: &key.key,
    });
    let reply = Reply {
        id: asker.request,
        status: Some(Status::Ok),
        keys: &keys,
        next,
        ..Reply::default()
    };
    shard.reply(asker.to, &reply);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::UnixMillis;
    use crate::causal::object::{Kind, Object, OperationId, Sibling};
    use crate::engine::Place;

    fn entry(position: u64, bytes: usize, kind: Kind, group: u64) -> (Key, Rc<Entry>) {
        let sibling = Sibling {
            dot: crate::causal::dot::Dot {
                actor: crate::causal::dot::Actor {
                    incarnation: crate::causal::dot::Incarnation(1),
                    birth: 0,
                },
                counter: 1,
            },
            operation: OperationId(1),
            kind,
            written: UnixMillis(0),
            expires: UnixMillis(0),
            value_hash: 0,
            value: Place::Nowhere,
        };
        let object = Object {
            vector: Default::default(),
            siblings: vec![sibling],
        };
        let key = Key {
            position: Position(position),
            bucket: [].as_slice().into(),
            key: vec![7; bytes].into(),
        };
        let entry = Entry {
            object: Rc::new(object),
            mine: None,
            group: GroupNumber(group),
        };
        (key, Rc::new(entry))
    }

    #[test]
    fn deleted_keys_are_passed_over_and_their_group_is_not() {
        let entries = vec![
            entry(1, 3, Kind::Value, 5),
            entry(2, 3, Kind::Tombstone, 9),
            entry(3, 3, Kind::ValueLost, 0),
        ];
        let (page, group) = page(entries, &(Position(0)..=Position(99)));
        let positions: Vec<u64> = page.keys.iter().map(|key| key.position.0).collect();
        assert_eq!((positions, group), (vec![1, 3], GroupNumber(9)));
        let next = page.next.expect("there are more shards");
        assert_eq!((next.position, next.key.len()), (Position(100), 0));
    }

    #[test]
    fn a_full_page_goes_on_behind_its_last_key() {
        let full = (0..KEYS_PAGE_MAX as u64).map(|n| entry(n, 3, Kind::Tombstone, 0));
        let (by_count, _) = page(full.collect(), &(Position(0)..=Position(u64::MAX)));
        let next = by_count.next.expect("a full page is not the last");
        assert_eq!(next.position.0, KEYS_PAGE_MAX as u64 - 1);
        assert!(by_count.keys.is_empty() && !next.key.is_empty());

        let large = (0..200).map(|n| entry(n, 4096, Kind::Value, 0));
        let (by_bytes, _) = page(large.collect(), &(Position(0)..=Position(u64::MAX)));
        assert_eq!(by_bytes.keys.len(), KEYS_PAGE_BYTES_MAX / 4096);
        assert_eq!(by_bytes.next.as_ref(), by_bytes.keys.last());

        let few = vec![entry(1, 3, Kind::Value, 0)];
        let (last, _) = page(few, &(Position(0)..=Position(u64::MAX)));
        assert_eq!(last.next, None);
    }
}
