//! What a write makes of a key's state: the join, the mint, and the refusals that come before the mint. Pure.

use crate::base::limits;
use crate::base::units::UnixMillis;
use crate::causal::actor::Mint;
use crate::causal::dot::Dot;
use crate::causal::object::{Kind, Object, OperationId, Sibling};
use crate::causal::value_hash::value_hash;
use crate::causal::version_vector::VersionVector;
use crate::engine::{Entry, GroupNumber, NewValue, Place};

/// What the write supersedes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// What this vector has seen, and nothing else.
    Seen(VersionVector),
    /// All that the replicas asked hold now; this is what the others had seen.
    Overwrite(VersionVector),
    /// Nothing: refused if a value is there. This is what the others hold.
    IfAbsent(Object<()>),
}

/// A put (`value` is there) or a delete.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    pub bucket: &'a [u8],
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
    pub rule: &'a Rule,
    pub operation: OperationId,
    pub expires: UnixMillis,
}

/// What is to be stored.
#[derive(Debug)]
pub struct Minted<'a> {
    pub object: Object<NewValue<'a>>,
    pub dot: Dot,
}

/// What came of a write. All but `Minted` tell of a state that may not be durable yet: the reply waits for `group`.
#[derive(Debug)]
pub enum Planned<'a> {
    Minted(Minted<'a>),
    /// This operation's dot is here already, from an earlier try: it is acked by the votes for that dot.
    Held {
        group: GroupNumber,
    },
    Refused {
        why: Refusal,
        group: GroupNumber,
    },
}

/// Nothing was minted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the key has a value already")]
    Exists,
    #[error(
        "the key has {count} concurrent values (limit {limit}): get it, merge the values, and put the result with the context of that get"
    )]
    TooManySiblings { count: usize, limit: usize },
    #[error(
        "the concurrent values of the key would take {bytes} bytes (limit {limit}): get it, merge the values, and put the result with the context of that get"
    )]
    SiblingsTooLarge { bytes: usize, limit: usize },
    #[error(
        "the history of this key names {count} writers (limit {limit}), and none of them may be forgotten yet: get its value and put it under another key, which begins a history of its own"
    )]
    VectorTooLong { count: usize, limit: usize },
    #[error("this shard has minted all it can in this life")]
    BirthsUsedUp,
    #[error(
        "this operation id was used for another write of the key: draw a new one for each write"
    )]
    OperationReused,
}

/// Joins, mints, and says what to store. `entry` is the key's state including what is pending; nobody else writes
/// the key between the lookup of `entry` and the append of the result.
pub fn plan<'a>(
    entry: Option<&Entry>,
    write: Write<'a>,
    mint: &mut Mint,
    value_bytes_max: usize,
    now: UnixMillis,
) -> Planned<'a> {
    let group = entry.map_or(GroupNumber(0), |e| e.group);
    let refused = |why| Planned::Refused { why, group };
    let current = entry.map(|e| &*e.object);
    if let Some(held) = current.and_then(|o| o.find_operation(write.operation)) {
        return match is_same(held, &write) {
            true => Planned::Held { group },
            false => refused(Refusal::OperationReused),
        };
    }
    let nothing = VersionVector::default();
    let local = current.map_or(&nothing, |o| &o.vector);
    let together;
    let context = match write.rule {
        Rule::Seen(vector) => vector,
        Rule::Overwrite(others) if others.is_empty() => local,
        Rule::Overwrite(others) => {
            together = joined(local, others);
            &together
        }
        Rule::IfAbsent(others) => match is_absent(current, others, write.operation) {
            false => return refused(Refusal::Exists),
            true => {
                together = joined(local, &others.vector);
                &together
            }
        },
    };
    if let Some(why) = siblings_over_limit(current, context, &write, value_bytes_max) {
        return refused(why);
    }
    let mut seen = local.clone();
    seen.join(context);
    let mine = entry.and_then(|e| e.mine);
    let count = seen.entries().len();
    // One that goes on with its own counter adds no actor; what no record holds is refused all the same.
    let grows = count >= limits::VECTOR_ENTRIES_MAX && !mint.continues(mine, &seen);
    if grows || !seen.fits() {
        return refused(Refusal::VectorTooLong {
            count,
            limit: limits::VECTOR_ENTRIES_MAX,
        });
    }
    let Some(dot) = mint.mint(mine, &seen) else {
        return refused(Refusal::BirthsUsedUp);
    };
    assert!(!seen.contains(dot), "a new dot has been seen before");
    let mut object = Object {
        vector: seen,
        siblings: current.map_or_else(Vec::new, |object| kept(&object.siblings)),
    };
    object.write(context, sibling(&write, dot, now));
    Planned::Minted(Minted { object, dot })
}

fn joined(one: &VersionVector, other: &VersionVector) -> VersionVector {
    let mut joined = one.clone();
    joined.join(other);
    joined
}

/// Whether no value is there, but for what an earlier try of this operation put.
fn is_absent(current: Option<&Object<Place>>, others: &Object<()>, operation: OperationId) -> bool {
    let mut all = others.clone();
    if let Some(current) = current {
        all.join(&Object {
            vector: current.vector.clone(),
            siblings: current
                .siblings
                .iter()
                .map(|sibling| sibling.clone().with_value(()))
                .collect(),
        });
    }
    let ours = |sibling: &Sibling<()>| {
        operation != OperationId::default() && sibling.operation == operation
    };
    all.siblings.iter().all(|s| !s.is_shown() || ours(s))
}

/// Whether the sibling is what this write made on an earlier try: acking another one would lose it.
fn is_same(held: &Sibling<Place>, write: &Write<'_>) -> bool {
    let bytes = write.value.unwrap_or_default();
    let hash = value_hash(write.bucket, write.key, held.dot, write.operation, bytes);
    held.is_shown() == write.value.is_some() && held.value_hash == hash
}

fn sibling<'a>(write: &Write<'a>, dot: Dot, now: UnixMillis) -> Sibling<NewValue<'a>> {
    let bytes = write.value.unwrap_or_default();
    Sibling {
        dot,
        operation: write.operation,
        kind: if write.value.is_some() {
            Kind::Value
        } else {
            Kind::Tombstone
        },
        written: now,
        expires: write.expires,
        value_hash: value_hash(write.bucket, write.key, dot, write.operation, bytes),
        value: match write.value {
            Some(bytes) => NewValue::Put(bytes),
            None => NewValue::Keep(Place::Nowhere),
        },
    }
}

fn kept<'a>(siblings: &[Sibling<Place>]) -> Vec<Sibling<NewValue<'a>>> {
    let kept = siblings.iter().map(|s| Sibling {
        dot: s.dot,
        operation: s.operation,
        kind: s.kind,
        written: s.written,
        expires: s.expires,
        value_hash: s.value_hash,
        value: NewValue::Keep(s.value.clone()),
    });
    kept.collect()
}

/// A write that leaves fewer siblings, or fewer bytes of them, is never refused for that: it is how a client gets back
/// under the limit. But one that removes a small sibling and adds a large one would let the key grow without bound.
fn siblings_over_limit(
    current: Option<&Object<Place>>,
    context: &VersionVector,
    write: &Write<'_>,
    value_bytes_max: usize,
) -> Option<Refusal> {
    let siblings = current.map_or(&[][..], |o| &o.siblings);
    let (seen, kept): (Vec<_>, Vec<_>) = siblings.iter().partition(|s| context.contains(s.dot));
    if kept.is_empty() {
        return None;
    }
    let count = kept.len() + 1;
    if count > limits::SIBLINGS_MAX && seen.is_empty() {
        return Some(Refusal::TooManySiblings {
            count,
            limit: limits::SIBLINGS_MAX,
        });
    }
    let value_bytes = |of: &[&Sibling<Place>]| of.iter().map(|s| s.value.bytes()).sum::<usize>();
    let added = write.value.map_or(0, <[u8]>::len);
    let bytes = value_bytes(&kept) + added;
    let limit = limits::SIBLINGS_VALUE_RATIO * value_bytes_max;
    let grows = added > value_bytes(&seen);
    (bytes > limit && grows).then_some(Refusal::SiblingsTooLarge { bytes, limit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causal::dot::Incarnation;
    use std::rc::Rc;
    use std::sync::LazyLock;

    const LIMIT: usize = 100;
    static OVERWRITE: LazyLock<Rule> = LazyLock::new(|| Rule::Overwrite(VersionVector::default()));
    static IF_ABSENT: LazyLock<Rule> = LazyLock::new(|| Rule::IfAbsent(Object::default()));

    fn write<'a>(value: &'a [u8], rule: &'a Rule, operation: u128) -> Write<'a> {
        Write {
            bucket: b"",
            key: b"k",
            value: Some(value),
            rule,
            operation: OperationId(operation),
            expires: UnixMillis(0),
        }
    }

    fn mint() -> Mint {
        Mint::new(Incarnation(1))
    }

    /// The entry that a minted write leaves, as the engine would keep it.
    fn stored(planned: Planned<'_>, group: u64) -> Entry {
        let Planned::Minted(Minted { object, dot }) = planned else {
            panic!("{planned:?}")
        };
        let siblings = object.siblings.into_iter().map(|s| {
            let place = match &s.value {
                NewValue::Keep(place) => place.clone(),
                NewValue::Put(bytes) => Place::Inline((*bytes).into()),
            };
            s.with_value(place)
        });
        let object = Object {
            vector: object.vector,
            siblings: siblings.collect(),
        };
        Entry {
            object: Rc::new(object),
            mine: Some(dot),
            group: GroupNumber(group),
        }
    }

    fn plan_on<'a>(entry: Option<&Entry>, write: Write<'a>, mint: &mut Mint) -> Planned<'a> {
        plan(entry, write, mint, LIMIT, UnixMillis(5))
    }

    #[test]
    fn overwrite_supersedes_what_is_there_and_concurrent_does_not() {
        let mut mint = mint();
        let one = stored(plan_on(None, write(b"1", &OVERWRITE, 1), &mut mint), 1);
        let two = stored(
            plan_on(Some(&one), write(b"2", &OVERWRITE, 2), &mut mint),
            2,
        );
        assert_eq!(two.object.siblings.len(), 1);
        let nothing = Rule::Seen(VersionVector::default());
        let three = stored(plan_on(Some(&two), write(b"3", &nothing, 3), &mut mint), 3);
        assert_eq!(three.object.siblings.len(), 2);
        let seen = Rule::Seen(three.object.vector.clone());
        let four = stored(plan_on(Some(&three), write(b"4", &seen, 4), &mut mint), 4);
        assert_eq!(four.object.siblings.len(), 1);
    }

    #[test]
    fn an_operation_that_is_held_mints_nothing_and_waits_for_its_group() {
        let mut mint = mint();
        let one = stored(plan_on(None, write(b"1", &OVERWRITE, 9), &mut mint), 7);
        let again = plan_on(Some(&one), write(b"1", &OVERWRITE, 9), &mut mint);
        assert!(
            matches!(
                again,
                Planned::Held {
                    group: GroupNumber(7)
                }
            ),
            "{again:?}"
        );
        let other = plan_on(Some(&one), write(b"2", &OVERWRITE, 9), &mut mint);
        let delete = Write {
            value: None,
            ..write(b"", &OVERWRITE, 9)
        };
        let delete = plan_on(Some(&one), delete, &mut mint);
        for reused in [other, delete] {
            let refused = matches!(
                reused,
                Planned::Refused {
                    why: Refusal::OperationReused,
                    ..
                }
            );
            assert!(refused, "{reused:?}");
        }
    }

    #[test]
    fn if_absent_meets_values_but_not_tombstones() {
        let mut mint = mint();
        let one = stored(plan_on(None, write(b"1", &IF_ABSENT, 1), &mut mint), 1);
        let refused = plan_on(Some(&one), write(b"2", &IF_ABSENT, 2), &mut mint);
        assert!(
            matches!(
                refused,
                Planned::Refused {
                    why: Refusal::Exists,
                    ..
                }
            ),
            "{refused:?}"
        );
        let delete = Write {
            value: None,
            ..write(b"", &OVERWRITE, 3)
        };
        let gone = stored(plan_on(Some(&one), delete, &mut mint), 2);
        let back = stored(
            plan_on(Some(&gone), write(b"4", &IF_ABSENT, 4), &mut mint),
            3,
        );
        assert_eq!(back.object.siblings.len(), 1);
    }

    #[test]
    fn too_many_sibling_bytes_are_refused_but_never_a_write_that_resolves() {
        let mut mint = mint();
        let nothing = Rule::Seen(VersionVector::default());
        let value = [7; LIMIT];
        let mut entry = stored(plan_on(None, write(&value, &nothing, 1), &mut mint), 1);
        for n in 2..=limits::SIBLINGS_VALUE_RATIO as u64 {
            let planned = plan_on(Some(&entry), write(&value, &nothing, n.into()), &mut mint);
            entry = stored(planned, n);
        }
        let refused = plan_on(Some(&entry), write(&value, &nothing, 99), &mut mint);
        let too_large = matches!(
            refused,
            Planned::Refused {
                why: Refusal::SiblingsTooLarge { .. },
                ..
            }
        );
        assert!(too_large, "{refused:?}");
        let resolving = plan_on(Some(&entry), write(&value, &OVERWRITE, 100), &mut mint);
        assert_eq!(stored(resolving, 9).object.siblings.len(), 1);
    }

    #[test]
    fn small_siblings_are_not_traded_for_large_ones_beyond_the_limit() {
        let mut mint = mint();
        let nothing = Rule::Seen(VersionVector::default());
        let mut entry = stored(plan_on(None, write(b"s", &nothing, 1), &mut mint), 1);
        let mut contexts = vec![Rule::Seen(entry.object.vector.clone())];
        for n in 2..20 {
            let planned = plan_on(Some(&entry), write(b"s", &nothing, n), &mut mint);
            entry = stored(planned, n as u64);
            contexts.push(Rule::Seen(entry.object.vector.clone()));
        }
        let value = [7; LIMIT];
        // Each context has seen one more of the small ones, and the last one all of them.
        for (n, context) in contexts.iter().enumerate() {
            let planned = plan_on(
                Some(&entry),
                write(&value, context, 100 + n as u128),
                &mut mint,
            );
            if matches!(planned, Planned::Minted(_)) {
                entry = stored(planned, 100 + n as u64);
            }
            let bytes: usize = entry.object.siblings.iter().map(|s| s.value.bytes()).sum();
            assert!(bytes <= limits::SIBLINGS_VALUE_RATIO * LIMIT, "{bytes}");
        }
        let resolving = Rule::Seen(entry.object.vector.clone());
        let resolved = plan_on(Some(&entry), write(&value, &resolving, 999), &mut mint);
        assert_eq!(stored(resolved, 999).object.siblings.len(), 1);
    }

    /// A full vector refuses new actors and says what to do; the actor that wrote last goes on.
    #[test]
    fn a_full_vector_takes_writes_of_its_last_actor_only() {
        let mut mint = mint();
        let mut entry = stored(plan_on(None, write(b"1", &OVERWRITE, 1), &mut mint), 1);
        let mut object = (*entry.object).clone();
        for n in 1..limits::VECTOR_ENTRIES_MAX as u64 {
            let actor = crate::causal::dot::Actor {
                incarnation: Incarnation(1_000 + n),
                birth: 0,
            };
            object.vector.add(Dot { actor, counter: 1 });
        }
        entry.object = Rc::new(object);
        let again = plan_on(Some(&entry), write(b"2", &OVERWRITE, 2), &mut mint);
        let entry = stored(again, 2);
        assert!(entry.object.vector.fits());
        let mut other = Mint::new(Incarnation(2));
        let refused = plan_on(Some(&entry), write(b"3", &OVERWRITE, 3), &mut other);
        let Planned::Refused { why, .. } = refused else {
            panic!("{refused:?}")
        };
        assert!(why.to_string().contains("another key"), "{why}");
    }

    /// A context and what is here may name more writers together than any record holds, each of them few enough.
    #[test]
    fn a_vector_that_no_record_holds_is_refused_though_the_counter_goes_on() {
        let mut mint = mint();
        let seen = |first: u64| {
            let mut vector = VersionVector::default();
            for n in first..first + limits::VECTOR_ENTRIES_JOINED_MAX as u64 / 2 + 1 {
                vector.add(Dot {
                    actor: crate::causal::dot::Actor {
                        incarnation: Incarnation(n),
                        birth: 0,
                    },
                    counter: 1,
                });
            }
            vector
        };
        let mut vector = seen(1_000);
        let mine = mint.mint(None, &vector).expect("a birth is left");
        vector.add(mine);
        let entry = Entry {
            object: Rc::new(Object {
                vector,
                siblings: Vec::new(),
            }),
            mine: Some(mine),
            group: GroupNumber(1),
        };
        let rule = Rule::Seen(seen(100_000));
        let planned = plan(
            Some(&entry),
            write(b"v", &rule, 1),
            &mut mint,
            LIMIT,
            UnixMillis(0),
        );
        let refused = matches!(
            planned,
            Planned::Refused {
                why: Refusal::VectorTooLong { .. },
                ..
            }
        );
        assert!(refused, "{planned:?}");
    }
}
