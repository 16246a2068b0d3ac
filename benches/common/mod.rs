//! Keys and entries that the benches of the engine share.

use armilla::base::units::UnixMillis;
use armilla::causal::dot::{Actor, Dot, Incarnation};
use armilla::causal::object::{Kind, Object, OperationId, Sibling};
use armilla::causal::version_vector::VersionVector;
use armilla::engine::key::{Key, KeyRef};
use armilla::engine::{Entry, GroupNumber, Location, Place};
use armilla::ring::position::Position;
use std::rc::Rc;

/// Names of keys as YCSB makes them, in key order.
pub fn keys(count: u64) -> Vec<Key> {
    let one = |n: u64| {
        let key = format!("user{}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Key::from(KeyRef {
            position: Position::of(b"", key.as_bytes()),
            bucket: b"",
            key: key.as_bytes(),
        })
    };
    let mut keys: Vec<Key> = (0..count).map(one).collect();
    keys.sort();
    keys
}

/// The state of a key that was written once.
pub fn object<V>(value: V) -> Object<V> {
    let actor = Actor {
        incarnation: Incarnation(7),
        birth: 0,
    };
    let dot = Dot { actor, counter: 1 };
    let mut vector = VersionVector::default();
    vector.add(dot);
    let sibling = Sibling {
        dot,
        operation: OperationId(1),
        kind: Kind::Value,
        written: UnixMillis(0),
        expires: UnixMillis(0),
        value_hash: 0,
        value,
    };
    Object {
        vector,
        siblings: vec![sibling],
    }
}

/// A value of 1 KiB in the log.
pub fn place(nth: u32) -> Place {
    let location = Location {
        segment: 1,
        offset_words: nth,
        bytes: 1200,
    };
    Place::At {
        location,
        sibling: 0,
        bytes: 1024,
    }
}

#[allow(dead_code, reason = "not every bench keeps entries")]
pub fn entry(nth: u32) -> Entry {
    Entry {
        object: Rc::new(object(place(nth))),
        mine: None,
        group: GroupNumber(1),
    }
}
