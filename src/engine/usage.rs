//! How much of each segment lives, how much disk that may take, and which segment is collected next. A guess to choose
//! by: whether a record is copied is always asked of the index.
//!
//! The space goal is all bytes of disk for a byte of keys and values that users hold. What a table or a record adds to
//! them is not collected away: where that alone comes near the goal, the log keeps a least part for what is dead.
//!
//! A start counts anew, key by key in key order, while writes go on: a write of a key that was counted already moves
//! its bytes, a write of one that was not is met by the count later.

use super::entry::{Location, Place};
use super::key::{Key, KeyRef};
use super::log::segment::Segment;
use crate::base::limits::{
    COLLECT_HELD_PART, COLLECT_LIVE_PERCENT_MAX, GROUP_BYTES_MAX, LOG_PERCENT_MIN,
};
use crate::causal::object::Object;
use std::collections::BTreeMap;

/// Collection is never so far from its goal that it takes less of its time.
const HASTE_PERCENT_MIN: u64 = 10;

/// What the collection of a segment pays, as a number to compare.
fn benefit(bytes: u64, live: u64, age: u64) -> u128 {
    let (dead, cost) = (u128::from(bytes - live), u128::from(bytes + live));
    dead * u128::from(age) * 1_000_000 / cost
}

/// How far the count after a start has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Counted {
    Nothing,
    UpTo(Key),
    All,
}

pub struct Usage {
    live: BTreeMap<u32, u64>,
    /// Of all segments.
    live_sum: u64,
    /// Bytes of keys that have values, and of their values.
    user: u64,
    counted: Counted,
}

/// A segment that may be collected.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    pub segment: Segment,
    /// Where its groups end.
    pub end: u64,
}

impl Candidate {
    /// What copies of as much would take. The rest of a segment that was written to its end is lost to its copy too:
    /// the next record did not fit. One that a start left early is given back whole.
    fn bytes(&self) -> u64 {
        let left_early = self.end <= self.segment.bytes / 2;
        if left_early {
            self.segment.bytes
        } else {
            self.end
        }
    }
}

/// The disk of a shard as the choice sees it.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// Bytes of segments that hold something and are not emptied.
    pub log: u64,
    /// Bytes of emptied segments that are still there.
    pub emptied: u64,
    /// Bytes of all other files, and of segments that nothing was written to.
    pub other: u64,
    /// Percent of user bytes.
    pub goal: u64,
    /// Bytes beside those of users that are allowed in any case.
    pub slack: u64,
    /// The disk budget is nearly used up.
    pub pressed: bool,
}

fn user_bytes(key: KeyRef<'_>, object: &Object<Place>) -> u64 {
    let values: usize = object.siblings.iter().map(|one| one.value.bytes()).sum();
    let key = if values > 0 { key.key.len() } else { 0 };
    (key + values) as u64
}

/// The records that an object's values lie in, each once.
pub fn locations(object: &Object<Place>) -> impl Iterator<Item = Location> {
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
            live_sum: 0,
            user: 0,
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
                let gone = u64::from(gone.bytes).min(*live);
                *live -= gone;
                self.live_sum -= gone;
            }
            let gone = before.map_or(0, |object| user_bytes(key, object));
            self.user = self.user.saturating_sub(gone);
            self.add(key, after);
        }
    }

    /// The count met these, up to `last`; `None`: it met all.
    pub fn on_counted<'a>(
        &mut self,
        objects: impl Iterator<Item = (KeyRef<'a>, &'a Object<Place>)>,
        last: Option<Key>,
    ) {
        objects.for_each(|(key, object)| self.add(key, object));
        self.counted = last.map_or(Counted::All, Counted::UpTo);
    }

    fn add(&mut self, key: KeyRef<'_>, object: &Object<Place>) {
        self.user += user_bytes(key, object);
        for location in locations(object) {
            let bytes = u64::from(location.bytes);
            *self.live.entry(location.segment).or_default() += bytes;
            self.live_sum += bytes;
        }
    }

    pub fn on_removed(&mut self, segment: u32) {
        self.live_sum -= self.live.remove(&segment).unwrap_or_default();
    }

    pub fn live_bytes(&self) -> u64 {
        self.live_sum
    }

    fn live_of(&self, one: &Candidate) -> u64 {
        let live = self.live.get(&one.segment.number).copied();
        live.unwrap_or_default().min(one.bytes())
    }

    /// Bytes of emptied segments that may wait until the flips away from them stand in a table.
    pub fn emptied_max(&self) -> u64 {
        (self.live_bytes() / COLLECT_HELD_PART).max(GROUP_BYTES_MAX as u64)
    }

    /// Bytes of segments at which collection has all of its time, and beyond which puts are slowed.
    fn log_max(&self, space: &Space) -> u64 {
        let all = (self.user * space.goal / 100).max(self.user + space.slack);
        let allowed = all.saturating_sub(space.other);
        allowed.max(self.live_bytes() * LOG_PERCENT_MIN / 100)
    }

    /// Bytes of segments beyond which some are collected: what is emptied is still there for a while.
    fn log_begin(&self, space: &Space) -> u64 {
        let most = self.log_max(space);
        let least = self.live_bytes() * (100 + LOG_PERCENT_MIN) / 200;
        most.saturating_sub(self.emptied_max()).max(least)
    }

    /// How much of its time collection should take, in percent.
    pub fn haste(&self, space: &Space) -> u64 {
        let from = self.log_begin(space);
        let band = self.log_max(space).saturating_sub(from).max(1);
        let into = space.log.saturating_sub(from);
        match space.pressed {
            true => 100,
            false => (into * 100 / band).clamp(HASTE_PERCENT_MIN, 100),
        }
    }

    /// How far the log has grown beyond its goal, in hundredths of what lives.
    pub fn excess_percent(&self, space: &Space) -> u64 {
        let log = space.log + space.emptied;
        let most = self.log_max(space) + self.emptied_max();
        log.saturating_sub(most) * 100 / self.live_bytes().max(1)
    }

    /// The segment whose collection pays most: (1 - u) * age / (1 + u), u the part of it that lives (Rosenblum and
    /// Ousterhout, "The design and implementation of a log-structured file system", 1992), age its place in the order
    /// of segments. `sealed` in this order.
    pub fn victim(&self, sealed: &[Candidate], space: &Space) -> Option<u32> {
        if !self.is_counted() {
            return None;
        }
        let wasteful = space.log > self.log_begin(space);
        let pressed = space.pressed;
        let count = sealed.len() as u64;
        let pays = |(nth, one): (usize, &Candidate)| {
            let (live, bytes) = (self.live_of(one), one.bytes());
            let percent = live * 100 / bytes;
            let wanted = live == 0 || (wasteful || pressed) && percent <= COLLECT_LIVE_PERCENT_MAX;
            let age = count - nth as u64;
            wanted.then(|| (benefit(bytes, live, age), one.segment.number))
        };
        let best = sealed.iter().enumerate().filter_map(pays).max();
        best.map(|(_, number)| number)
    }
}

#[cfg(test)]
mod simulation;

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

    fn full(number: u32, bytes: u64) -> Candidate {
        Candidate {
            segment: Segment { number, bytes },
            end: bytes,
        }
    }

    fn segments(count: u32) -> Vec<Candidate> {
        (0..count)
            .map(|number| full(number, SEGMENT_BYTES))
            .collect()
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
        assert_eq!(
            usage.victim(&segments(2), &space(2 * SEGMENT_BYTES, true)),
            None
        );
        usage.on_counted([(key(1).as_ref(), &one)].into_iter(), Some(key(5)));
        assert_eq!(usage.live_bytes(), 100);
        usage.on_write(key(3).as_ref(), Some(&one), &two);
        assert_eq!(usage.live_bytes(), 200);
        usage.on_counted([(key(9).as_ref(), &two)].into_iter(), None);
        assert!(usage.is_counted());
        assert_eq!(usage.live_bytes(), 400);
    }

    /// A log of so many bytes, and nothing else.
    fn space(log: u64, pressed: bool) -> Space {
        Space {
            log,
            emptied: 0,
            other: 0,
            goal: 160,
            slack: 0,
            pressed,
        }
    }

    /// Segments of a megabyte, this many of whose bytes live, all of them a user's.
    fn living(percents: &[u64]) -> (Usage, Vec<Candidate>) {
        let mut usage = Usage::new(true);
        let segment = |number| full(number, 100 * PERCENT_BYTES);
        for (number, percent) in percents.iter().enumerate() {
            let bytes = percent * PERCENT_BYTES;
            usage.live.insert(number as u32, bytes);
            usage.live_sum += bytes;
            usage.user += bytes;
        }
        (usage, (0..percents.len() as u32).map(segment).collect())
    }

    const PERCENT_BYTES: u64 = 1 << 20;

    #[test]
    fn the_emptiest_and_oldest_go_first_and_full_ones_never() {
        let (usage, four) = living(&[99, 50, 50, 40]);
        let all = 400 * PERCENT_BYTES;
        assert_eq!(usage.victim(&four, &space(all, false)), Some(1));
        assert_eq!(usage.victim(&four[..1], &space(all, true)), None);
        // Within the space goal only what is all dead goes.
        let within = space(350 * PERCENT_BYTES, false);
        assert_eq!(usage.victim(&four, &within), None);
        let (usage, five) = living(&[99, 50, 50, 40, 0]);
        assert_eq!(usage.victim(&five, &within), Some(4));
    }

    /// Or a disk that is nearly full would be copied round and round: three records of a megabyte, 75 % of a segment.
    #[test]
    fn what_no_copy_could_pack_better_is_left_alone() {
        let (usage, mut all) = living(&[75, 75, 30]);
        let pressed = space(300 * PERCENT_BYTES, true);
        (all[0].end, all[1].end) = (76 * PERCENT_BYTES, 90 * PERCENT_BYTES);
        assert_eq!(usage.victim(&all[..1], &pressed), None);
        assert_eq!(usage.victim(&all[..2], &pressed), Some(1));
        all[2].end = 31 * PERCENT_BYTES;
        assert_eq!(usage.victim(&all, &pressed), Some(2), "left early");
    }

    #[test]
    fn haste_and_brake_grow_with_the_way_beyond_the_goal() {
        let (usage, _) = living(&[100; 100]);
        let log = |percent: u64| space(percent * 100 * PERCENT_BYTES, false);
        let lives = 100 * 100 * PERCENT_BYTES;
        let begin = lives / 100 * 160 - lives / COLLECT_HELD_PART;
        assert_eq!(usage.log_begin(&log(0)), begin);
        assert_eq!(usage.haste(&log(150)), HASTE_PERCENT_MIN);
        assert!((50..100).contains(&usage.haste(&log(159))));
        assert_eq!(usage.haste(&log(160)), 100);
        assert_eq!(usage.excess_percent(&log(163)), 0);
        assert_eq!(usage.excess_percent(&log(173)), 9);
        // A store that is small takes what it likes.
        let slack = 70 * 100 * PERCENT_BYTES;
        let small = Space { slack, ..log(165) };
        assert_eq!(usage.log_max(&small), 17_000 * PERCENT_BYTES);
        // What the tables take is not the log's.
        let other = Space {
            other: 2000 * PERCENT_BYTES,
            ..log(145)
        };
        assert_eq!(usage.haste(&other), 100);
        assert_eq!(usage.log_max(&other), 14_000 * PERCENT_BYTES);
        // Some room for what is dead is left in any case.
        let most = Space {
            other: 9000 * PERCENT_BYTES,
            ..log(145)
        };
        assert_eq!(usage.log_max(&most), LOG_PERCENT_MIN * 100 * PERCENT_BYTES);
    }
}
