//! How much of each segment lives, and which one is collected next. A guess to choose by: whether a record is copied is
//! always asked of the index.
//!
//! A start counts anew, key by key in key order, while writes go on: a write of a key that was counted already moves
//! its bytes, a write of one that was not is met by the count later.

use super::entry::{Location, Place};
use super::key::{Key, KeyRef};
use super::log::segment::Segment;
use crate::base::limits::{COLLECT_LIVE_PERCENT_MAX, SPACE_GOAL_PERCENT};
use crate::causal::object::Object;
use std::collections::BTreeMap;

/// How far the count after a start has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Counted {
    Nothing,
    UpTo(Key),
    All,
}

pub struct Usage {
    live: BTreeMap<u32, u64>,
    counted: Counted,
}

/// The records that an object's values lie in, each once.
fn locations(object: &Object<Place>) -> impl Iterator<Item = Location> {
    let at = |nth: usize| match &object.siblings[nth].value {
        Place::At { location, .. } => Some(*location),
        Place::Nowhere | Place::Inline(_) => None,
    };
    (0..object.siblings.len()).filter_map(move |nth| {
        let location = at(nth)?;
        let again = (0..nth).any(|before| at(before) == Some(location));
        (!again).then_some(location)
    })
}

impl Usage {
    /// `counted`: there is nothing to count.
    pub fn new(counted: bool) -> Usage {
        Usage {
            live: BTreeMap::new(),
            counted: match counted {
                true => Counted::All,
                false => Counted::Nothing,
            },
        }
    }

    pub fn is_counted(&self) -> bool {
        self.counted == Counted::All
    }

    /// The state of a key was replaced.
    pub fn on_write(
        &mut self,
        key: KeyRef<'_>,
        before: Option<&Object<Place>>,
        after: &Object<Place>,
    ) {
        let counted = match &self.counted {
            Counted::Nothing => false,
            Counted::UpTo(last) => key <= last.as_ref(),
            Counted::All => true,
        };
        if counted {
            for gone in before.into_iter().flat_map(locations) {
                let live = self.live.entry(gone.segment).or_default();
                *live = live.saturating_sub(u64::from(gone.bytes));
            }
            self.add(after);
        }
    }

    /// The count met these, up to `last`; `None`: it met all.
    pub fn on_counted<'a>(
        &mut self,
        objects: impl Iterator<Item = &'a Object<Place>>,
        last: Option<Key>,
    ) {
        objects.for_each(|object| self.add(object));
        self.counted = last.map_or(Counted::All, Counted::UpTo);
    }

    fn add(&mut self, object: &Object<Place>) {
        for location in locations(object) {
            *self.live.entry(location.segment).or_default() += u64::from(location.bytes);
        }
    }

    pub fn on_removed(&mut self, segment: u32) {
        self.live.remove(&segment);
    }

    pub fn live_bytes(&self) -> u64 {
        self.live.values().sum()
    }

    fn live_of(&self, segment: &Segment) -> u64 {
        let live = self.live.get(&segment.number).copied().unwrap_or_default();
        live.min(segment.bytes)
    }

    /// The segment whose collection pays most: (1 - u) * age / (1 + u), u the part of it that lives (Rosenblum and
    /// Ousterhout, "The design and implementation of a log-structured file system", 1992). `sealed` in order of age,
    /// `all_bytes` of all segments; `pressed`: the disk budget is nearly used up.
    pub fn victim(&self, sealed: &[Segment], all_bytes: u64, pressed: bool) -> Option<u32> {
        if !self.is_counted() {
            return None;
        }
        let wasteful = all_bytes > self.live_bytes() * SPACE_GOAL_PERCENT / 100;
        let count = sealed.len() as u64;
        let pays = |(nth, segment): (usize, &Segment)| {
            let live = self.live_of(segment);
            let percent = live * 100 / segment.bytes;
            let wanted = live == 0 || (wasteful || pressed) && percent <= COLLECT_LIVE_PERCENT_MAX;
            let age = u128::from(count - nth as u64);
            let dead = u128::from(segment.bytes - live);
            let cost = u128::from(segment.bytes + live);
            wanted.then_some((dead * age * 1_000_000 / cost, segment.number))
        };
        let best = sealed.iter().enumerate().filter_map(pays).max();
        best.map(|(_, number)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::UnixMillis;
    use crate::causal::object::{Kind, OperationId, Sibling};
    use crate::engine::log::record::tests::dot;
    use crate::ring::position::Position;

    const SEGMENT_BYTES: u64 = 1000;

    fn object(places: &[(u32, u32, u32)]) -> Object<Place> {
        let siblings = places.iter().enumerate();
        let siblings = siblings.map(|(nth, &(segment, offset_words, bytes))| Sibling {
            dot: dot(nth as u64 + 1, 1),
            operation: OperationId(0),
            kind: Kind::Value,
            written: UnixMillis(0),
            expires: UnixMillis(0),
            value_hash: 0,
            value: Place::At {
                location: Location {
                    segment,
                    offset_words,
                    bytes,
                },
                sibling: nth as u16,
                bytes: 100,
            },
        });
        Object {
            vector: Default::default(),
            siblings: siblings.collect(),
        }
    }

    fn key(position: u64) -> Key {
        Key {
            position: Position(position),
            bucket: b"".as_slice().into(),
            key: b"k".as_slice().into(),
        }
    }

    fn segments(count: u32) -> Vec<Segment> {
        let segment = |number| Segment {
            number,
            bytes: SEGMENT_BYTES,
        };
        (0..count).map(segment).collect()
    }

    #[test]
    fn a_record_counts_once_and_while_anything_points_at_it() {
        let mut usage = Usage::new(true);
        let two_in_one = object(&[(1, 0, 300), (1, 0, 300), (2, 0, 50)]);
        usage.on_write(key(1).as_ref(), None, &two_in_one);
        assert_eq!(usage.live_bytes(), 350);
        usage.on_write(key(1).as_ref(), Some(&two_in_one), &object(&[(2, 0, 50)]));
        assert_eq!(usage.live_bytes(), 50);
    }

    #[test]
    fn a_count_and_the_writes_meanwhile_make_one_sum() {
        let mut usage = Usage::new(false);
        let (one, two) = (object(&[(0, 0, 100)]), object(&[(1, 0, 200)]));
        // Not yet counted: the count will meet the new state.
        usage.on_write(key(9).as_ref(), Some(&one), &two);
        assert_eq!(usage.victim(&segments(2), 2 * SEGMENT_BYTES, true), None);
        usage.on_counted([&one].into_iter(), Some(key(5)));
        assert_eq!(usage.live_bytes(), 100);
        usage.on_write(key(3).as_ref(), Some(&one), &two);
        assert_eq!(usage.live_bytes(), 200);
        usage.on_counted([&two].into_iter(), None);
        assert!(usage.is_counted());
        assert_eq!(usage.live_bytes(), 400);
    }

    #[test]
    fn the_emptiest_and_oldest_go_first_and_full_ones_never() {
        let mut usage = Usage::new(true);
        let mut write = |segment, bytes| {
            usage.on_write(key(1).as_ref(), None, &object(&[(segment, 0, bytes)]));
        };
        for (segment, bytes) in [(0, 990), (1, 500), (2, 500), (3, 400)] {
            write(segment, bytes);
        }
        let all = 4 * SEGMENT_BYTES;
        assert_eq!(usage.victim(&segments(4), all, false), Some(1));
        assert_eq!(usage.victim(&segments(1), all, true), None);
        // Within the space goal only what is all dead goes.
        assert_eq!(usage.victim(&segments(4), 2500, false), None);
        assert_eq!(usage.victim(&segments(5), 2500, false), Some(4));
    }
}
