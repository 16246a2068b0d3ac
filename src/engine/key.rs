//! The name of an object in a shard, in key order: position, bucket, key.

use crate::base::limits::{BUCKET_BYTES_MAX, KEY_BYTES_MAX};
use crate::ring::position::Position;
use std::rc::Rc;

/// Borrowed; the position is computed once, at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRef<'a> {
    pub position: Position,
    pub bucket: &'a [u8],
    pub key: &'a [u8],
}

/// Owned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub position: Position,
    pub bucket: Rc<[u8]>,
    pub key: Rc<[u8]>,
}

impl Key {
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef {
            position: self.position,
            bucket: &self.bucket,
            key: &self.key,
        }
    }
}

impl Key {
    /// Behind every key whose position is smaller, before every other one. `None`: the first of all is behind it.
    pub fn last_before(position: Position) -> Option<Key> {
        Some(Key {
            position: Position(position.0.checked_sub(1)?),
            bucket: [u8::MAX; BUCKET_BYTES_MAX].as_slice().into(),
            key: [u8::MAX; KEY_BYTES_MAX].as_slice().into(),
        })
    }
}

impl From<KeyRef<'_>> for Key {
    fn from(key: KeyRef<'_>) -> Key {
        Key {
            position: key.position,
            bucket: key.bucket.into(),
            key: key.key.into(),
        }
    }
}
