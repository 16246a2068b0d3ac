//! The name of an object in a shard, in key order: position, bucket, key.

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

impl From<KeyRef<'_>> for Key {
    fn from(key: KeyRef<'_>) -> Key {
        Key {
            position: key.position,
            bucket: key.bucket.into(),
            key: key.key.into(),
        }
    }
}
