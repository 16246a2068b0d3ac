//! Values and blocks of tables in memory: they are all on disk too, so any may go at any time.

use super::entry::Location;
use super::table::BlockName;
use quick_cache::unsync;
use std::rc::Rc;

/// Bytes that an entry of the cache takes beside the value: the counts of the `Rc`, its slot, the allocator's rounding.
const OVERHEAD_BYTES: u64 = 96;
/// Guess of a value's size, to size the cache's tables: they, and the names of what was let go that they remember,
/// take more than `OVERHEAD_BYTES` says where it is small (1 KiB values: 512 takes 14 % more than the bound, 2048 takes
/// 4 %).
const VALUE_BYTES_GUESS: usize = 2048;

/// Which sibling of which record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValueName {
    pub location: Location,
    pub sibling: u16,
}

/// What the cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    Value(ValueName),
    Block(BlockName),
}

impl From<ValueName> for Name {
    fn from(name: ValueName) -> Name {
        Name::Value(name)
    }
}

impl From<BlockName> for Name {
    fn from(name: BlockName) -> Name {
        Name::Block(name)
    }
}

#[derive(Clone)]
struct Bytes;

impl quick_cache::Weighter<Name, Rc<[u8]>> for Bytes {
    fn weight(&self, _: &Name, value: &Rc<[u8]>) -> u64 {
        value.len() as u64 + OVERHEAD_BYTES
    }
}

/// Bounded by bytes, and not emptied by one scan. Its order of eviction depends on nothing but the calls.
pub struct Cache {
    values: unsync::Cache<Name, Rc<[u8]>, Bytes, ahash::RandomState>,
}

impl Cache {
    pub fn new(bytes: usize) -> Cache {
        // Fixed seeds: the names are made by this program, nobody can choose them to collide, and a run can be
        // repeated.
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let values = unsync::Cache::with(
            bytes / VALUE_BYTES_GUESS,
            bytes as u64,
            Bytes,
            hasher,
            Default::default(),
        );
        Cache { values }
    }

    pub fn set_bytes_max(&mut self, bytes: usize) {
        if self.values.capacity() != bytes as u64 {
            self.values.set_capacity(bytes as u64);
        }
    }

    pub fn insert(&mut self, name: impl Into<Name>, value: Rc<[u8]>) {
        self.values.insert(name.into(), value);
    }

    /// Counts as a use of the value.
    pub fn get(&mut self, name: impl Into<Name>) -> Option<Rc<[u8]>> {
        self.values.get(&name.into()).cloned()
    }

    /// Nobody will ask for it again.
    pub fn remove(&mut self, name: impl Into<Name>) {
        self.values.remove(&name.into());
    }

    pub fn bytes(&self) -> u64 {
        self.values.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bytes() {
        let mut cache = Cache::new(64 * 1024);
        let name = |n: u32| ValueName {
            location: Location {
                segment: 1,
                offset_words: n,
                bytes: 8,
            },
            sibling: 0,
        };
        for n in 0..1000 {
            cache.insert(name(n), vec![n as u8; 1000].into());
            assert!(cache.bytes() <= 64 * 1024);
        }
        assert_eq!(cache.get(name(999)).as_deref(), Some(&[231u8; 1000][..]));
        cache.set_bytes_max(4 * 1024);
        assert!(cache.bytes() <= 4 * 1024);
    }
}
