//! What a replica makes of a state that another one sends: the join, and nothing else. It never mints. Pure.

use crate::base::limits;
use crate::causal::dot::Dot;
use crate::causal::object::{Kind, Object, Sibling};
use crate::causal::version_vector::VersionVector;
use crate::engine::{Entry, GroupNumber, NewValue, Place};
use std::rc::Rc;

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Joined<'a> {
    /// All of it is here; durable with this group.
    Known(GroupNumber),
    /// The value of a sibling that is to be kept was left out.
    Needs,
    /// To be stored in place of what is here.
    Store(Object<NewValue<'a>>),
    /// The key would have more than can be stored.
    TooLarge(TooLarge),
}

/// Limits that replicas come to only if each has taken all it may, and a client then has superseded little and added
/// much, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    #[error(
        "the replicas of the key hold {count} concurrent values together (limit {limit}): overwrite it, or get it with a read quorum of 1, merge the values, and put the result with the context of that get"
    )]
    Siblings { count: usize, limit: usize },
    #[error(
        "the replicas of the key hold concurrent values of {bytes} bytes together (limit {limit}): overwrite it, or get it with a read quorum of 1, merge the values, and put the result with the context of that get"
    )]
    Bytes { bytes: usize, limit: usize },
    #[error(
        "the history of the key names {count} writers (limit {limit}), and none of them may be forgotten yet: get its value with a read quorum of 1 and put it under another key, which begins a history of its own"
    )]
    Vector { count: usize, limit: usize },
}

/// What is too large of this object.
fn too_large(object: &Object<NewValue<'_>>) -> Option<TooLarge> {
    let count = object.siblings.len();
    let limit = limits::SIBLINGS_JOINED_MAX;
    if count > limit {
        return Some(TooLarge::Siblings { count, limit });
    }
    let bytes = object.siblings.iter().map(|s| value_bytes(&s.value)).sum();
    let limit = limits::JOINED_VALUE_BYTES_MAX;
    if bytes > limit {
        return Some(TooLarge::Bytes { bytes, limit });
    }
    let count = object.vector.entries().len();
    let limit = limits::VECTOR_ENTRIES_JOINED_MAX;
    (!object.vector.fits()).then_some(TooLarge::Vector { count, limit })
}

/// Joins `theirs`, whose values are checked, into what is here. Nobody else writes the key until the result is stored.
/// `bad`: siblings here whose values cannot be read where they are; one that comes is stored in its place.
pub fn plan<'a>(
    entry: Option<&Entry>,
    theirs: &'a Object<Option<Rc<[u8]>>>,
    bad: &[(Dot, Place)],
) -> Joined<'a> {
    let weakened = entry
        .filter(|_| !bad.is_empty())
        .map(|entry| without_mended(&entry.object, theirs, bad));
    let own = weakened
        .as_ref()
        .or_else(|| entry.map(|entry| &*entry.object));
    if let (Some(entry), Some(own)) = (entry, own)
        && own.vector.descends(&theirs.vector)
        && !theirs.siblings.iter().any(|s| heals(own, s))
    {
        return Joined::Known(entry.group);
    }
    if theirs
        .siblings
        .iter()
        .any(|sibling| is_needed(own, sibling))
    {
        return Joined::Needs;
    }
    let nothing = || Object {
        vector: VersionVector::default(),
        siblings: Vec::new(),
    };
    let mut joined = own.map_or_else(nothing, with_new_values);
    joined.join(&Object {
        vector: theirs.vector.clone(),
        siblings: theirs.siblings.iter().map(|s| arrived(own, s)).collect(),
    });
    match too_large(&joined) {
        None => Joined::Store(joined),
        Some(why) => Joined::TooLarge(why),
    }
}

fn value_bytes(value: &NewValue<'_>) -> usize {
    match value {
        NewValue::Put(bytes) => bytes.len(),
        NewValue::Keep(place) => place.bytes(),
    }
}

/// Whether a value comes that was lost here.
fn heals(own: &Object<Place>, their: &Sibling<Option<Rc<[u8]>>>) -> bool {
    let lost = own
        .find_dot(their.dot)
        .is_some_and(|our| our.kind == Kind::ValueLost && is_same(our, their));
    lost && their.kind == Kind::Value && their.value.is_some()
}

/// Whether they are copies of one write. A dot names one value for ever: what carries another hash under it is no value
/// of this key, whoever sends it, and is never taken in place of the one that was minted.
fn is_same<V, W>(one: &Sibling<V>, other: &Sibling<W>) -> bool {
    (one.value_hash, one.operation) == (other.value_hash, other.operation)
}

/// What is here, with those of the bad values as lost that come now; one that has been moved since is not bad any more.
fn without_mended(
    own: &Object<Place>,
    theirs: &Object<Option<Rc<[u8]>>>,
    bad: &[(Dot, Place)],
) -> Object<Place> {
    let mut own = own.clone();
    for our in &mut own.siblings {
        let comes = theirs.find_dot(our.dot).is_some_and(|their| {
            their.kind == Kind::Value && their.value.is_some() && is_same(our, their)
        });
        let is_bad = bad
            .iter()
            .any(|(dot, place)| (dot, place) == (&our.dot, &our.value));
        if comes && is_bad {
            our.kind = Kind::ValueLost;
            our.value = Place::Nowhere;
        }
    }
    own
}

/// Whether the sibling would be kept, and its value neither came nor is here.
fn is_needed(own: Option<&Object<Place>>, their: &Sibling<Option<Rc<[u8]>>>) -> bool {
    // One that was lost there is not taken as lost: somebody else may have it, and a vote for it would be none.
    if their.kind == Kind::Tombstone || their.value.is_some() {
        return false;
    }
    match own.map(|own| (own, own.find_dot(their.dot))) {
        None => true,
        Some((_, Some(our))) => our.kind == Kind::ValueLost && their.kind == Kind::Value,
        // Seen and no sibling: it was superseded here.
        Some((own, None)) => !own.vector.contains(their.dot),
    }
}

fn with_new_values<'a>(own: &Object<Place>) -> Object<NewValue<'a>> {
    let keep = |sibling: &Sibling<Place>| {
        let place = sibling.value.clone();
        sibling.clone().with_value(NewValue::Keep(place))
    };
    Object {
        vector: own.vector.clone(),
        siblings: own.siblings.iter().map(keep).collect(),
    }
}

fn arrived<'a>(
    own: Option<&Object<Place>>,
    sibling: &'a Sibling<Option<Rc<[u8]>>>,
) -> Sibling<NewValue<'a>> {
    let our = own.and_then(|own| own.find_dot(sibling.dot));
    let other = our.is_some_and(|our| !is_same(our, sibling));
    let value = match &sibling.value {
        Some(bytes) if !other => NewValue::Put(bytes),
        _ => NewValue::Keep(Place::Nowhere),
    };
    Sibling {
        dot: sibling.dot,
        operation: sibling.operation,
        kind: match other {
            true => Kind::ValueLost,
            false => sibling.kind,
        },
        written: sibling.written,
        expires: sibling.expires,
        value_hash: sibling.value_hash,
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::UnixMillis;
    use crate::causal::dot::{Actor, Incarnation};
    use crate::causal::object::OperationId;

    fn dot(incarnation: u64, counter: u64) -> Dot {
        let actor = Actor {
            incarnation: Incarnation(incarnation),
            birth: 0,
        };
        Dot { actor, counter }
    }

    fn sibling<V>(dot: Dot, kind: Kind, value: V) -> Sibling<V> {
        Sibling {
            dot,
            operation: OperationId(1),
            kind,
            written: UnixMillis(0),
            expires: UnixMillis(0),
            value_hash: 0,
            value,
        }
    }

    fn object<V>(seen: &[Dot], siblings: Vec<Sibling<V>>) -> Object<V> {
        let mut vector = VersionVector::default();
        seen.iter().for_each(|&dot| vector.add(dot));
        Object { vector, siblings }
    }

    fn entry(object: Object<Place>) -> Entry {
        Entry {
            object: Rc::new(object),
            mine: None,
            group: GroupNumber(7),
        }
    }

    fn bytes(text: &str) -> Option<Rc<[u8]>> {
        Some(text.as_bytes().into())
    }

    fn inline(text: &str) -> Place {
        Place::Inline(text.as_bytes().into())
    }

    #[test]
    fn what_is_known_is_not_stored_again() {
        let own = entry(object(
            &[dot(1, 2)],
            vec![sibling(dot(1, 2), Kind::Value, inline("a"))],
        ));
        let old = object(&[dot(1, 1)], vec![sibling(dot(1, 1), Kind::Value, None)]);
        assert_eq!(plan(Some(&own), &old, &[]), Joined::Known(GroupNumber(7)));
        let same = object(&[dot(1, 2)], vec![sibling(dot(1, 2), Kind::Value, None)]);
        assert_eq!(plan(Some(&own), &same, &[]), Joined::Known(GroupNumber(7)));
    }

    #[test]
    fn concurrent_siblings_stay_and_seen_ones_go() {
        let own = entry(object(
            &[dot(1, 1), dot(2, 1)],
            vec![
                sibling(dot(1, 1), Kind::Value, inline("a")),
                sibling(dot(2, 1), Kind::Value, inline("b")),
            ],
        ));
        // Saw and superseded the first, knows nothing of the second.
        let theirs = object(
            &[dot(1, 1), dot(3, 1)],
            vec![sibling(dot(3, 1), Kind::Value, bytes("c"))],
        );
        let Joined::Store(joined) = plan(Some(&own), &theirs, &[]) else {
            panic!("there is news")
        };
        let dots: Vec<Dot> = joined.siblings.iter().map(|s| s.dot).collect();
        assert_eq!(dots, [dot(2, 1), dot(3, 1)]);
        assert_eq!(joined.siblings[1].value, NewValue::Put(b"c"));
    }

    #[test]
    fn a_value_that_was_left_out_is_asked_for_only_where_it_lacks() {
        let theirs = object(
            &[dot(1, 1), dot(2, 1)],
            vec![
                sibling(dot(1, 1), Kind::Value, None),
                sibling(dot(2, 1), Kind::Value, bytes("b")),
            ],
        );
        assert_eq!(plan(None, &theirs, &[]), Joined::Needs);
        let held = entry(object(
            &[dot(1, 1)],
            vec![sibling(dot(1, 1), Kind::Value, inline("a"))],
        ));
        assert!(matches!(plan(Some(&held), &theirs, &[]), Joined::Store(_)));
        // It was superseded here.
        let gone = entry(object(&[dot(1, 1)], Vec::new()));
        let Joined::Store(joined) = plan(Some(&gone), &theirs, &[]) else {
            panic!("there is news")
        };
        assert_eq!(joined.siblings.len(), 1);
        let lost = entry(object(
            &[dot(1, 1)],
            vec![sibling(dot(1, 1), Kind::ValueLost, Place::Nowhere)],
        ));
        assert_eq!(plan(Some(&lost), &theirs, &[]), Joined::Needs);
    }

    #[test]
    fn a_value_that_was_lost_elsewhere_is_not_voted_for() {
        let theirs = object(
            &[dot(1, 1)],
            vec![sibling(dot(1, 1), Kind::ValueLost, None)],
        );
        assert_eq!(plan(None, &theirs, &[]), Joined::Needs);
        let held = entry(object(
            &[dot(1, 1)],
            vec![sibling(dot(1, 1), Kind::Value, inline("a"))],
        ));
        assert_eq!(
            plan(Some(&held), &theirs, &[]),
            Joined::Known(GroupNumber(7))
        );
    }

    #[test]
    fn a_value_that_was_lost_is_taken_from_who_has_it() {
        let lost = entry(object(
            &[dot(1, 1)],
            vec![sibling(dot(1, 1), Kind::ValueLost, Place::Nowhere)],
        ));
        let theirs = object(
            &[dot(1, 1)],
            vec![sibling(dot(1, 1), Kind::Value, bytes("a"))],
        );
        let Joined::Store(joined) = plan(Some(&lost), &theirs, &[]) else {
            panic!("it heals")
        };
        assert_eq!(joined.siblings[0].kind, Kind::Value);
        assert_eq!(joined.siblings[0].value, NewValue::Put(b"a"));
    }

    /// Siblings of one actor each, `count` of them from `first` on.
    fn crowd<V: Clone>(first: u64, count: u64, value: V) -> Object<V> {
        let dots: Vec<Dot> = (first..first + count).map(|n| dot(n, 1)).collect();
        let siblings = dots
            .iter()
            .map(|&dot| sibling(dot, Kind::Value, value.clone()));
        object(&dots, siblings.collect())
    }

    /// Each replica takes writes up to its limit before it hears of the others: what they acked is joined all the same.
    #[test]
    fn what_all_replicas_took_up_to_their_limits_is_joined() {
        let each = limits::SIBLINGS_MAX as u64;
        let mut own = entry(crowd(0, each, inline("a")));
        for replica in 1..u64::from(limits::REPLICAS_MAX) {
            let theirs = crowd(replica * each, each, bytes("b"));
            let Joined::Store(joined) = plan(Some(&own), &theirs, &[]) else {
                panic!("replica {replica} brings it over the limit")
            };
            own = entry(Object {
                vector: joined.vector,
                siblings: joined
                    .siblings
                    .into_iter()
                    .map(|s| s.with_value(inline("a")))
                    .collect(),
            });
        }
        assert_eq!(own.object.siblings.len(), limits::SIBLINGS_JOINED_MAX);
        let one_more = crowd(1_000_000, 1, bytes("c"));
        let Joined::TooLarge(why) = plan(Some(&own), &one_more, &[]) else {
            panic!("no entry holds it")
        };
        let limit = limits::SIBLINGS_JOINED_MAX;
        let count = limit + 1;
        assert_eq!(why, TooLarge::Siblings { count, limit });
        assert!(why.to_string().contains("overwrite"));
        // Who has merged all there is brings it down.
        let mut merged = crowd(1_000_000, 1, bytes("c"));
        merged.vector.join(&own.object.vector);
        let Joined::Store(joined) = plan(Some(&own), &merged, &[]) else {
            panic!("there is news")
        };
        assert_eq!(joined.siblings.len(), 1);
    }

    #[test]
    fn values_and_vectors_have_a_limit_too() {
        let large = |n: u32| {
            let location = crate::engine::Location {
                segment: n,
                offset_words: 0,
                bytes: 0,
            };
            let bytes = limits::VALUE_BYTES_MAX as u32;
            Place::At {
                location,
                sibling: 0,
                bytes,
            }
        };
        let most = (limits::JOINED_VALUE_BYTES_MAX / limits::VALUE_BYTES_MAX) as u64;
        let own = entry(crowd(0, most, large(1)));
        let Joined::TooLarge(why) = plan(Some(&own), &crowd(most, 1, bytes("c")), &[]) else {
            panic!("no frame holds it")
        };
        assert!(matches!(why, TooLarge::Bytes { .. }));
        let half = limits::VECTOR_ENTRIES_JOINED_MAX as u64 / 2 + 1;
        let seen = |from: u64| (from..from + half).map(|n| dot(n, 1)).collect::<Vec<Dot>>();
        let own = entry(object(&seen(0), Vec::new()));
        let theirs = object(&seen(half), Vec::new());
        let Joined::TooLarge(why) = plan(Some(&own), &theirs, &[]) else {
            panic!("no record holds it")
        };
        assert!(matches!(why, TooLarge::Vector { .. }));
    }

    fn at(segment: u32) -> Place {
        Place::At {
            location: crate::engine::Location {
                segment,
                offset_words: 0,
                bytes: 100,
            },
            sibling: 0,
            bytes: 1,
        }
    }

    #[test]
    fn a_value_that_cannot_be_read_is_written_anew_and_others_are_left_alone() {
        let dots = [dot(1, 1), dot(2, 1), dot(3, 1)];
        let siblings = dots.iter().enumerate();
        let siblings = siblings.map(|(nth, &dot)| sibling(dot, Kind::Value, at(nth as u32)));
        let own = entry(object(&dots, siblings.collect()));
        // The third was moved since it was met.
        let bad = [(dots[0], at(0)), (dots[1], at(1)), (dots[2], at(77))];
        let theirs = object(
            &dots,
            vec![
                sibling(dots[0], Kind::Value, bytes("a")),
                sibling(dots[1], Kind::ValueLost, None),
                sibling(dots[2], Kind::Value, bytes("c")),
            ],
        );
        let Joined::Store(joined) = plan(Some(&own), &theirs, &bad) else {
            panic!("the first is mended")
        };
        let values: Vec<&NewValue<'_>> = joined.siblings.iter().map(|s| &s.value).collect();
        assert_eq!(
            values,
            [
                &NewValue::Put(b"a"),
                &NewValue::Keep(at(1)),
                &NewValue::Keep(at(2))
            ]
        );
        assert!(joined.siblings.iter().all(|s| s.kind == Kind::Value));
        assert_eq!(joined.vector, own.object.vector);
    }

    /// Another value under the same dot is nobody's: it is neither taken for the one that was lost nor for a new one.
    #[test]
    fn a_value_of_another_hash_mends_nothing() {
        let other = Sibling {
            value_hash: 77,
            ..sibling(dot(1, 1), Kind::Value, bytes("z"))
        };
        let theirs = object(&[dot(1, 1)], vec![other.clone()]);
        for (kind, place) in [(Kind::Value, at(0)), (Kind::ValueLost, Place::Nowhere)] {
            let own = entry(object(
                &[dot(1, 1)],
                vec![sibling(dot(1, 1), kind, place.clone())],
            ));
            let planned = plan(Some(&own), &theirs, &[(dot(1, 1), place.clone())]);
            assert_eq!(planned, Joined::Known(GroupNumber(7)), "{kind:?}");
            let news = object(
                &[dot(1, 1), dot(2, 1)],
                vec![other.clone(), sibling(dot(2, 1), Kind::Value, bytes("b"))],
            );
            let Joined::Store(joined) = plan(Some(&own), &news, &[(dot(1, 1), place.clone())])
            else {
                panic!("there is news")
            };
            assert_eq!(joined.siblings[0].kind, kind);
            assert_eq!(joined.siblings[0].value, NewValue::Keep(place));
        }
    }
}
