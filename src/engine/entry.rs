//! What the engine keeps of a key, and where the values are.

use crate::causal::dot::Dot;
use crate::causal::object::Object;
use std::rc::Rc;

/// Number of a commit group of one shard, counted for ever; 0 is "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupNumber(pub u64);

/// Where a record lies: segment number, offset in 8-byte units, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    pub segment: u32,
    pub offset_words: u32,
    pub bytes: u32,
}

impl Location {
    /// The offset in its segment, in bytes.
    pub fn offset(self) -> u64 {
        u64::from(self.offset_words) * 8
    }
}

/// Where the value of a sibling is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Tombstones and lost values have none.
    Nowhere,
    /// Values of at most `limits::INLINE_VALUE_BYTES_MAX` bytes stand in the entry.
    Inline(Rc<[u8]>),
    /// Inside the record at `location`, as its sibling number `sibling`, `bytes` long.
    At {
        location: Location,
        sibling: u16,
        bytes: u32,
    },
}

impl Place {
    /// Bytes of the value.
    pub fn bytes(&self) -> usize {
        match self {
            Place::Nowhere => 0,
            Place::Inline(bytes) => bytes.len(),
            Place::At { bytes, .. } => *bytes as usize,
        }
    }
}

/// What memory knows of a key. Whole: it alone answers a get.
#[derive(Clone, Debug)]
pub struct Entry {
    pub object: Rc<Object<Place>>,
    /// The last dot this shard minted for the key, in whatever life; of this disk only, never sent.
    pub mine: Option<Dot>,
    /// The group its record is in; state of a group that is not durable is shown to nobody.
    pub group: GroupNumber,
}

/// The value of a sibling in an object to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewValue<'a> {
    /// It stays where it is.
    Keep(Place),
    /// Goes into this record.
    Put(&'a [u8]),
}
