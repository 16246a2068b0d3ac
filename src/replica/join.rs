//! What a replica makes of a state that another one sends: the join, and nothing else. It never mints. Pure.

use crate::base::limits;
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
    /// The key would have more siblings, or its vector more entries, than can be stored.
    TooLarge,
}

/// Joins `theirs`, whose values are checked, into what is here. Nobody else writes the key until the result is stored.
pub fn plan<'a>(entry: Option<&Entry>, theirs: &'a Object<Option<Rc<[u8]>>>) -> Joined<'a> {
    let own = entry.map(|entry| &*entry.object);
    if let Some(entry) = entry
        && entry.object.vector.descends(&theirs.vector)
        && !theirs.siblings.iter().any(|s| heals(&entry.object, s))
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
        siblings: theirs.siblings.iter().map(arrived).collect(),
    });
    let bytes: usize = joined.siblings.iter().map(|s| value_bytes(&s.value)).sum();
    // More than one coordinator may have come up to the limit of siblings: what no frame could carry is not stored.
    let fits = joined.vector.fits()
        && joined.siblings.len() <= limits::SIBLINGS_MAX
        && bytes <= limits::SIBLINGS_VALUE_RATIO * limits::VALUE_BYTES_MAX;
    match fits {
        true => Joined::Store(joined),
        false => Joined::TooLarge,
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
        .is_some_and(|our| our.kind == Kind::ValueLost);
    lost && their.kind == Kind::Value && their.value.is_some()
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

fn arrived<'a>(sibling: &'a Sibling<Option<Rc<[u8]>>>) -> Sibling<NewValue<'a>> {
    let value = match &sibling.value {
        Some(bytes) => NewValue::Put(bytes),
        None => NewValue::Keep(Place::Nowhere),
    };
    Sibling {
        dot: sibling.dot,
        operation: sibling.operation,
        kind: sibling.kind,
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
    use crate::causal::dot::{Actor, Dot, Incarnation};
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
        assert_eq!(plan(Some(&own), &old), Joined::Known(GroupNumber(7)));
        let same = object(&[dot(1, 2)], vec![sibling(dot(1, 2), Kind::Value, None)]);
        assert_eq!(plan(Some(&own), &same), Joined::Known(GroupNumber(7)));
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
        let Joined::Store(joined) = plan(Some(&own), &theirs) else {
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
        assert_eq!(plan(None, &theirs), Joined::Needs);
        let held = entry(object(
            &[dot(1, 1)],
            vec![sibling(dot(1, 1), Kind::Value, inline("a"))],
        ));
        assert!(matches!(plan(Some(&held), &theirs), Joined::Store(_)));
        // It was superseded here.
        let gone = entry(object(&[dot(1, 1)], Vec::new()));
        let Joined::Store(joined) = plan(Some(&gone), &theirs) else {
            panic!("there is news")
        };
        assert_eq!(joined.siblings.len(), 1);
        let lost = entry(object(
            &[dot(1, 1)],
            vec![sibling(dot(1, 1), Kind::ValueLost, Place::Nowhere)],
        ));
        assert_eq!(plan(Some(&lost), &theirs), Joined::Needs);
    }

    #[test]
    fn a_value_that_was_lost_elsewhere_is_not_voted_for() {
        let theirs = object(
            &[dot(1, 1)],
            vec![sibling(dot(1, 1), Kind::ValueLost, None)],
        );
        assert_eq!(plan(None, &theirs), Joined::Needs);
        let held = entry(object(
            &[dot(1, 1)],
            vec![sibling(dot(1, 1), Kind::Value, inline("a"))],
        ));
        assert_eq!(plan(Some(&held), &theirs), Joined::Known(GroupNumber(7)));
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
        let Joined::Store(joined) = plan(Some(&lost), &theirs) else {
            panic!("it heals")
        };
        assert_eq!(joined.siblings[0].kind, Kind::Value);
        assert_eq!(joined.siblings[0].value, NewValue::Put(b"a"));
    }
}
