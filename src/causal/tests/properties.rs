//! Laws of vectors and objects, on random histories.

use super::twin::{Cluster, Replica, events_of, sibling};
use crate::causal::dot::{Actor, Dot, Incarnation};
use crate::causal::object::{Kind, Object, OperationId};
use crate::causal::version_vector::VersionVector;
use proptest::prelude::*;

fn dot() -> impl Strategy<Value = Dot> {
    (0..3u64, 0..3u32, 1..5u64).prop_map(|(incarnation, birth, counter)| Dot {
        actor: Actor {
            incarnation: Incarnation(incarnation),
            birth,
        },
        counter,
    })
}

pub fn vector() -> impl Strategy<Value = VersionVector> {
    prop::collection::vec(dot(), 0..8).prop_map(|dots| {
        let mut vector = VersionVector::default();
        dots.into_iter().for_each(|dot| vector.add(dot));
        vector
    })
}

fn joined<T: Clone>(one: &T, other: &T, join: impl Fn(&mut T, &T)) -> T {
    let mut result = one.clone();
    join(&mut result, other);
    result
}

#[derive(Clone, Debug)]
enum Step {
    Get(usize, usize),
    Put(usize, usize, bool),
    Exchange(usize, usize),
    Restart(usize),
    /// Back to an older state of its own.
    Forget(usize, usize, bool),
    /// Started from an older copy of all it had.
    Image(usize, usize),
    Keep(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..3usize, 0..3usize).prop_map(|(client, at)| Step::Get(client, at)),
        5 => (0..3usize, 0..3usize, prop::bool::weighted(0.3))
            .prop_map(|(client, at, blind)| Step::Put(client, at, blind)),
        3 => (0..3usize, 0..3usize).prop_map(|(from, to)| Step::Exchange(from, to)),
        1 => (0..3usize).prop_map(Step::Restart),
        1 => (0..3usize, 0..8usize, any::<bool>())
            .prop_map(|(at, which, mine_too)| Step::Forget(at, which, mine_too)),
        1 => (0..3usize, 0..4usize).prop_map(|(at, which)| Step::Image(at, which)),
        2 => (0..3usize).prop_map(Step::Keep),
    ];
    prop::collection::vec(step, 0..40)
}

/// Runs a history; each step is compared with the twins.
fn run(steps: &[Step]) -> Cluster {
    let mut cluster = Cluster::new(3, 3);
    let mut kept = vec![Vec::<Replica>::new(); 3];
    for step in steps {
        match *step {
            Step::Get(client, at) => cluster.get(client, at),
            Step::Put(client, at, blind) => cluster.put(client, at, blind),
            Step::Exchange(from, to) => cluster.exchange(from, to),
            Step::Restart(at) => cluster.restart(at),
            Step::Keep(at) => kept[at].push(cluster.replicas[at].clone()),
            Step::Forget(at, which, mine_too) => {
                let older = kept[at].get(which).cloned().unwrap_or_default();
                cluster.forget(at, &older, mine_too);
            }
            Step::Image(at, which) => {
                if let Some(older) = kept[at].get(which).cloned() {
                    cluster.start_from_image(at, older);
                }
            }
        }
        cluster.check();
    }
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn vectors_are_sets_of_events(one in vector(), other in vector(), dot in dot()) {
        let (events, others) = (events_of(&one), events_of(&other));
        prop_assert_eq!(one.contains(dot), events.contains(&dot));
        prop_assert_eq!(one.descends(&other), events.is_superset(&others));
        prop_assert_eq!(one.is_empty(), events.is_empty());
        let both = joined(&one, &other, VersionVector::join);
        prop_assert_eq!(events_of(&both), &events | &others);
        prop_assert!(both.entries().is_sorted_by(|a, b| a.0 < b.0));
        for incarnation in (0..3).map(Incarnation) {
            let of_it = events.iter().filter(|event| event.actor.incarnation == incarnation);
            let last = of_it.map(|event| event.actor.birth).max();
            prop_assert_eq!(one.last_birth(incarnation), last);
        }
    }

    #[test]
    fn joins_of_vectors_obey_the_laws(a in vector(), b in vector(), c in vector()) {
        let join = |one: &VersionVector, other: &_| joined(one, other, VersionVector::join);
        prop_assert_eq!(join(&a, &a), a.clone());
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        prop_assert!(join(&a, &b).descends(&a) && join(&a, &b).descends(&b));
    }

    #[test]
    fn objects_tell_what_their_twins_tell_and_joins_obey_the_laws(steps in steps()) {
        let cluster = run(&steps);
        let join = |one: &Object<()>, other: &_| joined(one, other, Object::join);
        let [a, b, c] = [0, 1, 2].map(|at| cluster.replicas[at].object.clone());
        prop_assert_eq!(join(&a, &a), a.clone());
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        prop_assert_eq!(join(&join(&a, &b), &a), join(&a, &b));
        // Whoever holds all the archive holds changes nothing by sending it again.
        let archive = &cluster.archive.object;
        prop_assert_eq!(&join(archive, archive), archive);
    }

    #[test]
    fn a_write_supersedes_exactly_what_its_context_saw(steps in steps(), context in vector()) {
        let mut object = run(&steps).archive.object;
        let before = object.clone();
        let actor = Actor { incarnation: Incarnation(u64::MAX), birth: 0 };
        let fresh = Dot { actor, counter: 1 };
        object.write(&context, sibling(fresh));
        for held in &before.siblings {
            prop_assert_eq!(object.find_dot(held.dot).is_none(), context.contains(held.dot));
        }
        prop_assert!(object.find_dot(fresh).is_some());
        prop_assert!(object.vector.descends(&context) && object.vector.descends(&before.vector));
        prop_assert!(object.siblings.len() <= before.siblings.len() + 1);
    }
}

fn actors_dot(birth: u32, counter: u64) -> Dot {
    let incarnation = Incarnation(1);
    let actor = Actor { incarnation, birth };
    Dot { actor, counter }
}

#[test]
fn of_two_copies_ours_stays_where_it_is() {
    let held = sibling(actors_dot(0, 1));
    let mut ours = Object::default();
    ours.write(&VersionVector::default(), held.clone().with_value("ours"));
    let mut theirs = Object::default();
    theirs.write(&VersionVector::default(), held.with_value("theirs"));
    assert_eq!(joined(&ours, &theirs, Object::join), ours);
    assert_eq!(joined(&theirs, &ours, Object::join), theirs);
    ours.siblings[0].kind = Kind::ValueLost;
    assert_eq!(joined(&ours, &theirs, Object::join), theirs);
}

#[test]
fn a_lost_value_is_found_again_by_its_dot() {
    let mut whole = Object::default();
    whole.write(&VersionVector::default(), sibling(actors_dot(0, 1)));
    let mut lost = whole.clone();
    lost.siblings[0].kind = Kind::ValueLost;
    assert_eq!(joined(&lost, &whole, Object::join), whole);
    assert_eq!(joined(&whole, &lost, Object::join), whole);
    // It is a sibling like any other: only a write that saw it drops it.
    let mut superseded = lost.clone();
    let context = lost.vector.clone();
    superseded.write(&context, sibling(actors_dot(0, 2)));
    assert_eq!(superseded.siblings.len(), 1);
    assert_eq!(joined(&lost, &superseded, Object::join), superseded);
}

#[test]
fn an_operation_is_found_and_zero_is_none() {
    let mut object = Object::default();
    for counter in 1..=3 {
        let mut held = sibling(actors_dot(0, counter));
        held.operation = OperationId(u128::from(counter) - 1);
        object.write(&VersionVector::default(), held);
    }
    assert_eq!(object.siblings[0].operation, OperationId(0));
    assert!(object.find_operation(OperationId(0)).is_none());
    let found = object.find_operation(OperationId(2)).map(|held| held.dot);
    assert_eq!(found, Some(actors_dot(0, 3)));
    assert!(object.find_operation(OperationId(3)).is_none());
}

#[test]
fn parts_that_cannot_be_an_object_are_refused() {
    let mut vector = VersionVector::default();
    vector.add(actors_dot(0, 2));
    let (one, two) = (sibling(actors_dot(0, 1)), sibling(actors_dot(0, 2)));
    let checked = |siblings: &[_]| Object::checked(vector.clone(), siblings.to_vec());
    assert!(checked(&[]).is_some());
    assert!(checked(&[one.clone(), two.clone()]).is_some());
    assert!(checked(&[two.clone(), one.clone()]).is_none(), "unsorted");
    assert!(checked(&[one.clone(), one.clone()]).is_none(), "twice");
    assert!(checked(&[sibling(actors_dot(0, 3))]).is_none(), "unseen");
}
